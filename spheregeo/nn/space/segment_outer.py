r"""Outer products summed over the pairs of each target, and the adjoint, as operators of their own.

    outer(a, b)_i = sum over pairs e of i of a_e b_e^T            apply(g, b)_e = g_{i(e)} b_e

Both are derivatives of sum_e a_e^T g_{i(e)} b_e, linear in each argument, so each one's derivatives are the two again: gradients
of any order keep only the arguments, and outer products exist a block of pairs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

ENTRIES = 1 << 21  # of outer products that exist at once where targets have different numbers of pairs


def segment_outer(a: Tensor, b: Tensor, indptr: Tensor) -> Tensor:
    """Sum of a_e b_eᵀ over the pairs e = indptr[i] … indptr[i + 1] − 1 of each target i.

    Shape: a (E, A), b (E, B), indptr (N + 1,) -> (N, A, B); zero where there are no pairs.
    """
    return cast(Tensor, _outer(a, b, indptr))


def segment_apply(g: Tensor, b: Tensor, indptr: Tensor) -> Tensor:
    """The matrix of each pair's target times the pair's vector.

    Shape: g (N, A, B), b (E, B), indptr (N + 1,) -> (E, A).
    """
    return cast(Tensor, _apply(g, b, indptr))


class _Blocks:
    """Pairs in rows of equal length, each of one target; ``whole`` where every target has just one full row."""

    def __init__(self, indptr: Tensor, pairs: int) -> None:
        degree = indptr.diff()
        self.indptr, self.pairs = indptr, pairs
        self.targets = len(degree)
        self.size = max(1, -(-pairs // max(int((degree > 0).sum()), 1)))
        self.whole = bool((degree == self.size).all())
        if self.whole:
            return
        rows = (degree + self.size - 1).div(self.size, rounding_mode="floor")
        self.target = torch.repeat_interleave(torch.arange(self.targets, device=indptr.device), rows)
        rank = torch.arange(len(self.target), device=indptr.device) - (rows.cumsum(0) - rows)[self.target]
        self.start = indptr[self.target] + rank * self.size

    def chunks(self, entries: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(target, pair, whether there is one) of as many rows as make ``entries`` numbers or fewer at a time."""
        step = max(1, ENTRIES // max(entries, 1))
        along = torch.arange(self.size, device=self.start.device)
        for begin in range(0, len(self.target), step):
            target = self.target[begin : begin + step]
            pair = self.start[begin : begin + step, None] + along
            inside = pair < self.indptr[target + 1, None]
            yield target, pair.clamp_(max=self.pairs - 1), inside


@torch.library.custom_op("spheregeo::segment_outer", mutates_args=())
def _outer(a: Tensor, b: Tensor, indptr: Tensor) -> Tensor:
    targets, pairs = len(indptr) - 1, len(a)
    if pairs == 0 or targets == 0:
        return a.new_zeros(targets, a.shape[1], b.shape[1])
    blocks = _Blocks(indptr, pairs)
    if blocks.whole:
        rows = (targets, blocks.size)
        return torch.bmm(a.reshape(*rows, -1).transpose(1, 2), b.reshape(*rows, -1))
    out = a.new_zeros(targets, a.shape[1], b.shape[1])
    for target, pair, inside in blocks.chunks(a.shape[1] * b.shape[1]):
        left = a[pair] * inside[..., None]
        out.index_add_(0, target, torch.bmm(left.transpose(1, 2), b[pair]))
    return out


@torch.library.custom_op("spheregeo::segment_apply", mutates_args=())
def _apply(g: Tensor, b: Tensor, indptr: Tensor) -> Tensor:
    targets, pairs = len(indptr) - 1, len(b)
    if pairs == 0 or targets == 0:
        return b.new_zeros(pairs, g.shape[1])
    blocks = _Blocks(indptr, pairs)
    if blocks.whole:
        out = torch.bmm(b.reshape(targets, blocks.size, -1), g.transpose(1, 2))
        return out.reshape(pairs, g.shape[1])
    out = b.new_empty(pairs, g.shape[1])
    for target, pair, inside in blocks.chunks(g.shape[1] * g.shape[2]):
        product = torch.bmm(b[pair], g[target].transpose(1, 2))
        out[pair[inside]] = product[inside]
    return out


@_outer.register_fake
def _(a: Tensor, b: Tensor, indptr: Tensor) -> Tensor:
    return a.new_empty(indptr.shape[0] - 1, a.shape[1], b.shape[1])


@_apply.register_fake
def _(g: Tensor, b: Tensor, indptr: Tensor) -> Tensor:
    return b.new_empty(b.shape[0], g.shape[1])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _outer_back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    a, b, indptr = ctx.saved_tensors
    wants = ctx.needs_input_grad
    return (
        segment_apply(grad, b, indptr) if wants[0] else None,
        segment_apply(grad.transpose(1, 2), a, indptr) if wants[1] else None,
        None,
    )


def _apply_back(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    g, b, indptr = ctx.saved_tensors
    wants = ctx.needs_input_grad
    return (
        segment_outer(grad, b, indptr) if wants[0] else None,
        segment_apply(g.transpose(1, 2), grad, indptr) if wants[1] else None,
        None,
    )


_outer.register_autograd(_outer_back, setup_context=_save)
_apply.register_autograd(_apply_back, setup_context=_save)
