"""Every channel with each of a few shared masks: a depthwise convolution whose derivatives are depthwise convolutions too.

Masks of rings equal their own mirror image in every axis, so the gradient of the input is a convolution with the masks again,
and that of a ring's width one with the mask's derivative: both run on a library's fast forward kernel, in the memory order in
which channels lie side by side, while the general backward of a depthwise convolution is several times as slow on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.autograd import Function, is_watched
from spheregeo.nn.plane.rings.masks import CONV

Build = Callable[
    [Tensor, bool], Tensor
]  # masks of the rings' parameter, or with True their derivatives by it

_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _last(x: Tensor) -> Tensor:
    """Channels side by side in memory, where torch has such an order."""
    orders = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=orders[x.ndim]) if x.ndim in orders else x.contiguous()


def _each(x: Tensor, masks: Tensor, stride: Sequence[int], padding: Sequence[int]) -> list[Tensor]:
    """One depthwise convolution for each mask."""
    conv, channels = CONV[x.ndim - 2], x.shape[1]
    rows = masks.to(x.dtype)[:, None, None].expand(-1, channels, 1, *masks.shape[1:])
    return [conv(x, row, None, stride, padding, 1, channels) for row in rows]


def ring_maps_plain(x: Tensor, masks: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Correlate every channel with each mask, by torch's own operators.

    Args:
        x: the input.
        masks: the masks.
        stride, padding: one number for each axis; padding is with zeros.

    Shape: (B, C, ...), (rings, ...) -> (B, rings · C, ...), the channels of the first ring first.
    """
    return torch.cat(_each(x, masks, stride, padding), 1)


class _RingMaps(Function):
    """``ring_maps_plain`` whose first derivatives are forward convolutions; further ones are those of the plain form."""

    @staticmethod
    def forward(x: Tensor, spread: Tensor, build: Build, stride: Any, padding: Any) -> Tensor:
        return ring_maps_plain(_last(x), build(spread, False), stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, spread, ctx.build, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, spread)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, spread = ctx.saved_tensors
        need_x, need_spread, *_ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # derivatives of derivatives
            wanted = [t for t, needed in ((x, need_x), (spread, need_spread)) if needed]
            y = ring_maps_plain(x, ctx.build(spread, False), ctx.stride, ctx.padding)
            found = list(torch.autograd.grad(y, wanted, grad, create_graph=True))
            return found.pop(0) if need_x else None, found.pop(0) if need_spread else None, None, None, None
        parts = [_last(part) for part in grad.chunk(len(spread), 1)]
        grad_x = grad_spread = None
        if need_x:
            masks = ctx.build(spread, False).to(grad.dtype)
            for part, mask in zip(parts, masks):
                one = _scatter(part, mask, ctx.stride, ctx.padding, x.shape[2:])
                grad_x = one if grad_x is None else grad_x.add_(one)
        if need_spread:
            maps = _each(_last(x), ctx.build(spread, True), ctx.stride, ctx.padding)
            sums = [(part * one).sum(dtype=spread.dtype) for part, one in zip(parts, maps)]
            grad_spread = torch.stack(sums)
        return grad_x, grad_spread, None, None, None


def _scatter(g: Tensor, mask: Tensor, stride: Sequence[int], padding: Sequence[int], size: Any) -> Tensor:
    """The adjoint of a depthwise correlation with a symmetric mask."""
    channels, dims = g.shape[1], g.ndim - 2
    row = mask.expand(channels, 1, *mask.shape)
    rest = [k - 1 - p for k, p in zip(mask.shape, padding)]
    if all(s == 1 for s in stride) and min(rest) >= 0:
        return CONV[dims](g, row, None, 1, rest, 1, channels)
    over = [
        n - ((m - 1) * s - 2 * p + k) for n, m, s, p, k in zip(size, g.shape[2:], stride, padding, mask.shape)
    ]
    return _TRANSPOSE[dims](g, row, None, stride, padding, over, channels)


def ring_maps(
    x: Tensor, spread: Tensor, build: Build, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Correlate every channel with each mask, with fast derivatives where autograd alone follows along.

    Args:
        x: the input.
        spread: the rings' parameter, one number for each ring, on which that ring's mask depends.
        build: function of ``spread`` and of whether derivatives are meant, that makes the masks or their derivatives.
        stride, padding: one number for each axis; padding is with zeros.

    Shape: (B, C, ...) -> (B, rings · C, ...), the channels of the first ring first.
    """
    if is_watched() or torch.is_autocast_enabled(x.device.type):
        return ring_maps_plain(x, build(spread, False), stride, padding)
    y: Tensor = _RingMaps.apply(x, spread, build, tuple(stride), tuple(padding))
    return y
