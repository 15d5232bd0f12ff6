r"""Functional activations: irreps read as functions on the sphere or on SO(3), sampled, acted on pointwise, projected back.

    y = S^-1 B^T W f(B S x),   B: (samples, K) orthonormal functions on a grid, W: quadrature weights of sum 1, S: diagonal.

S gives each degree the same share of a sample's variance, which is 1 for features of unit component variance whatever the band
limit (e3nn's "component" normalisation of grids). A rotation moves the function under the grid, so all
that can break equivariance is aliasing: what f creates beyond the grid's degree folds back. The error is measured, not
estimated; it is zero for polynomials of degree d on grids that integrate products of d + 1 functions. Samples exist for a block
of rows at a time, forward and backward alike, so a layer keeps its input alone.
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130; Poulenard & Guibas 2021, "A functional approach to rotation
equivariant non-linearities for tensor field networks"; Franzen & Wand 2021, arXiv:2109.06861.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.autograd import is_watched
from spheregeo.nn.activations import Activation, activation_name
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.activations import NormalizedActivation, parity
from spheregeo.nn.irreps.layout import check_features
from spheregeo.nn.irreps.sample_grids import (
    Shape,
    Signal,
    grid_for,
    grid_shape,
    sampling_error,
    sampling_matrices,
)
from spheregeo.nn.irreps.stacks import ByRows, Features, Stacks

BLOCK = 150_000  # samples at a time on a CPU: they stay in its cache


class Channels(NamedTuple):
    """Channels of one kind: where coefficient k of channel c lies, and whether the values change sign under inversion."""

    places: Tensor  # (channels, size)
    signal: Signal
    odd: bool


def _act(x: Tensor, order: Tensor, inverse: Tensor, groups: Groups) -> Tensor:
    """All rows at once, by differentiable operations. Shape: (rows, dim) -> the same."""
    parts = x.index_select(1, order).split([width * to.shape[1] for width, _, to, _ in groups], 1)
    out = []
    for part, (_, act, to, back) in zip(parts, groups, strict=True):
        if len(to) == 1:  # scalars
            out.append(act(part))
        else:
            samples = act(part.reshape(-1, to.shape[1]) @ to.T)
            out.append((samples @ back.T).view(part.shape))
    return (out[0] if len(out) == 1 else torch.cat(out, 1)).index_select(1, inverse)


Groups = list[
    tuple[int, nn.Module, Tensor, Tensor]
]  # channels, activation, coefficients to samples, and back


def _blocks(x: Tensor, groups: Groups) -> int:
    """Rows at a time."""
    width = sum(count * len(to) for count, _, to, _ in groups)
    return max(8, (BLOCK if x.device.type == "cpu" else 64 * BLOCK) // width)


class _Sampled(torch.autograd.Function):
    """``_act`` a block of rows at a time, forward and backward; saves x alone."""

    @staticmethod
    def forward(x: Tensor, order: Tensor, inverse: Tensor, groups: Groups) -> Tensor:
        y, length = torch.empty_like(x), _blocks(x, groups)
        for into, block in zip(y.split(length), x.split(length), strict=True):
            into.copy_(_act(block, order, inverse, groups))
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, order, inverse, ctx.groups = inputs
        ctx.save_for_backward(x, order, inverse)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        x, order, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again
            y = _act(x, order, inverse, ctx.groups)
            (dx,) = torch.autograd.grad(y, x, g, create_graph=True)
            return dx, None, None, None
        dx, length = torch.empty_like(x), _blocks(x, ctx.groups)
        with torch.autocast(x.device.type, enabled=False):
            for into, block, at in zip(dx.split(length), x.split(length), g.split(length), strict=True):
                torch.index_select(_slope(block, at, order, ctx.groups), 1, inverse, out=into)
        return dx, None, None, None


def _slope(x: Tensor, g: Tensor, order: Tensor, groups: Groups) -> Tensor:
    """The backward pass of some rows, before they are put in order again."""
    widths, out = [width * to.shape[1] for width, _, to, _ in groups], []
    parts, grads = x.index_select(1, order).split(widths, 1), g.index_select(1, order).split(widths, 1)
    for part, at, (_, act, to, back) in zip(parts, grads, groups, strict=True):
        samples, along = part.detach(), at
        if len(to) > 1:
            samples = part.reshape(-1, to.shape[1]) @ to.T
            along = at.reshape(-1, to.shape[1]) @ back
        with torch.enable_grad():
            samples = samples.requires_grad_()
            (slope,) = torch.autograd.grad(act(samples), samples, along)
        out.append((slope @ to).view(part.shape) if len(to) > 1 else slope)
    return out[0] if len(out) == 1 else torch.cat(out, 1)


class FunctionalActivation(ExactBuffers):
    """Base of the activations on the sphere, on SO(3) and of spin fields: channels, their grids, and the call."""

    order: Tensor
    inverse: Tensor

    def __init__(
        self,
        irreps: Irreps,
        channels: list[Channels],
        act: str | Activation,
        odd_act: str | Activation | None,
        *,
        on_group: bool,
        resolution: Shape | None,
        tolerance: float | None,
        amplitude: float,
        normalize: bool,
        layout: str,
    ) -> None:
        super().__init__()
        self.irreps, self.layout, self.dim = irreps, layout, irreps.dim
        self.by_rows = ByRows(irreps, layout)
        self.on_group, self.amplitude = on_group, amplitude
        if not amplitude > 0:
            raise ValueError(f"amplitude is {amplitude}; expected the positive size of a field's components")
        if resolution is not None and tolerance is not None:
            raise ValueError("resolution and tolerance are both given; expected one of them")
        if any(group.odd for group in channels) and (odd_act is None or parity(odd_act) != -1):
            name = None if odd_act is None else activation_name(odd_act)
            raise ValueError(
                f"{irreps} has signals that change sign under inversion and odd_act is {name}, which is not odd; "
                "use 'tanh', or leave such irreps (0o, 1e, 2o, ...) to a gate"
            )
        self._acts: list[str | Activation] = [
            odd_act if group.odd and odd_act is not None else act for group in channels
        ]
        self.signals = [group.signal for group in channels]
        self._odd = [group.odd for group in channels]
        self._widths = [len(group.places) for group in channels]
        self.acts = nn.ModuleList(NormalizedActivation(f, normalize=normalize) for f in self._acts)
        self._plain = any(True for _ in self.acts.parameters())
        self.shapes: list[Shape] = []
        for f, signal in zip(self._acts, self.signals, strict=True):
            self.shapes.append(self._shape(f, signal, resolution, tolerance))
        order = torch.cat([group.places.flatten() for group in channels])
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)
        for i, (signal, shape) in enumerate(zip(self.signals, self.shapes, strict=True)):
            for name, matrix in zip(("to", "back"), sampling_matrices(signal, shape), strict=True):
                self.keep(f"{name}{i}", matrix)

    def _shape(
        self, act: str | Activation, signal: Signal, resolution: Shape | None, tolerance: float | None
    ) -> Shape:
        if signal.degree == 0 and signal.order == 0:
            return (1, 1, 1) if self.on_group else (1, 1)
        if tolerance is not None:
            return grid_for(act, signal, tolerance, on_group=self.on_group, amplitude=self.amplitude)
        if resolution is None:
            return grid_shape(signal, 4 * signal.degree, self.on_group)
        least = grid_shape(signal, 2 * signal.degree, self.on_group)
        if len(resolution) != len(least) or any(n < m for n, m in zip(resolution, least, strict=True)):
            raise ValueError(
                f"resolution is {tuple(resolution)}; expected at least {least} for degree {signal.degree}, below which even "
                "the identity is not kept"
            )
        return tuple(resolution)

    @property
    def samples(self) -> int:
        """Largest number of samples that a channel has."""
        return max(math.prod(shape) for shape in self.shapes)

    @property
    def error(self) -> float:
        """Largest measured relative equivariance error of a channel, see ``sampling_error``; acts as they are now."""
        return max(
            0.0 if math.prod(shape) == 1 else sampling_error(act, signal, shape, amplitude=self.amplitude)
            for act, signal, shape in zip(self._acts, self.signals, self.shapes, strict=True)
        )

    def forward(self, x: Features) -> Features:
        if isinstance(x, Stacks):
            return self.by_rows(self.forward, x)
        check_features(x, self.irreps)
        dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        groups: Groups = [
            (width, act, self.get_buffer(f"to{i}").to(dtype), self.get_buffer(f"back{i}").to(dtype))
            for i, (width, act) in enumerate(zip(self._widths, self.acts, strict=True))
        ]
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, self.dim).to(dtype)
            if self._plain or is_watched():
                y = _act(rows, self.order, self.inverse, groups)
            else:
                y = _Sampled.apply(rows, self.order, self.inverse, groups)
        return y.to(x.dtype).reshape(x.shape)

    def extra_repr(self) -> str:
        grids = ", ".join("×".join(map(str, shape)) for shape in dict.fromkeys(self.shapes))
        return f"'{self.irreps}', grid={grids}, error={self.error:.1e}"
