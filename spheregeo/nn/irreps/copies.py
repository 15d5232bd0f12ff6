"""Numbers that belong to whole copies of irreps, given to all components of each or summed over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.autograd import is_watched
from spheregeo.nn.irreps.layout import blocks, copy_of, places_of

Pieces = tuple[
    tuple[int, int, int, bool], ...
]  # of each block: where it starts, copies, components of each, mul_ir


def _sum(x: Tensor, pieces: Pieces, other: Tensor | None = None) -> Tensor:
    """Sums over the components of each copy, of x or of x times ``other``; neighbours in memory by a product with ones."""
    sums = []
    for start, copies, degree, together in pieces:
        part = x.narrow(1, start, copies * degree)
        if other is not None:
            part = part * other.narrow(1, start, copies * degree)
        if degree == 1:
            sums.append(part)
        elif together:
            total = part.reshape(-1, degree).mv(part.new_ones(degree))
            sums.append(total.view(-1, copies))
        else:
            sums.append(part.reshape(-1, degree, copies).sum(1))
    return sums[0] if len(sums) == 1 else torch.cat(sums, 1)


class _Spread(torch.autograd.Function):
    """One number a copy to all its components."""

    @staticmethod
    def forward(x: Tensor, index: Tensor, parts: Any) -> Tensor:
        return x.index_select(1, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.parts = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Collect.apply(grad, ctx.saved_tensors[0], ctx.parts), None, None


class _Collect(torch.autograd.Function):
    """The sum over the components of each copy: the adjoint of :class:`_Spread`."""

    @staticmethod
    def forward(x: Tensor, index: Tensor, parts: Any) -> Tensor:
        return _sum(x, parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.parts = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Spread.apply(grad, ctx.saved_tensors[0], ctx.parts), None, None


class Copies(nn.Module):
    """Numbers that belong to whole copies: given to all their components, or summed over them.

    Shape: ``spread``: (rows, irreps.num_irreps) -> (rows, irreps.dim); ``collect``: the adjoint.
    """

    index: Tensor

    def __init__(self, irreps: Irreps, layout: str = "mul_ir") -> None:
        super().__init__()
        self.register_buffer("index", copy_of(irreps, layout), persistent=False)
        every = blocks(irreps, layout)
        self.layout, self._pieces = layout, [(block.first, block.mul, block.ir.dim) for block in every]
        together = layout == "mul_ir"
        self.parts = tuple((block.start, block.mul, block.ir.dim, together) for block in every)
        self.trivial = irreps.dim == irreps.num_irreps

    def spread(self, x: Tensor) -> Tensor:
        if is_watched():
            return self.spread_plain(x)
        return x if self.trivial else _Spread.apply(x, self.index, self.parts)

    def spread_plain(self, x: Tensor) -> Tensor:
        """``spread`` by views, which a compiler sees through."""
        out = []
        for first, copies, degree in self._pieces:
            axis = 1 if self.layout == "ir_mul" else 2
            part = x.narrow(1, first, copies).unsqueeze(axis)
            out.append(torch.cat([part] * degree, axis).flatten(1))
        return torch.cat(out, 1)

    def collect(self, x: Tensor) -> Tensor:
        if is_watched():
            return self.collect_plain(x)
        return x if self.trivial else _Collect.apply(x, self.index, self.parts)

    def collect_plain(self, x: Tensor) -> Tensor:
        """``collect`` by views."""
        axis = 1 if self.layout == "ir_mul" else 2
        parts = x.split([copies * degree for _, copies, degree in self._pieces], 1)
        shapes = [(d, u) if axis == 1 else (u, d) for _, u, d in self._pieces]
        return torch.cat([p.unflatten(1, s).sum(axis) for p, s in zip(parts, shapes, strict=True)], 1)

    @torch.no_grad()
    def collect_product(self, a: Tensor, b: Tensor) -> Tensor:
        """``collect(a * b)`` without the product in one piece; not differentiable."""
        return _sum(a, self.parts, b)


class PerCopy(nn.Module):
    """Numbers of copies from the order of the irreps' terms, in which parameters lie, to the order of stacks, and back.

    Shape: ``by_stack``, ``by_term``: (..., irreps.num_irreps) -> the same; ``split``: to one (..., copies) for each stack.
    """

    index: Tensor | None
    inverse: Tensor | None

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        places = places_of(irreps)
        stacks = 1 + max(which for _, _, which in places)
        self.copies = [sum(mul for mul, _, which in places if which == i) for i in range(stacks)]
        of = torch.cat([torch.full((mul,), which) for mul, _, which in places])
        index = torch.argsort(of, stable=True)
        same = len(places) == stacks  # each irrep is one term
        self.register_buffer("index", None if same else index, persistent=False)
        self.register_buffer("inverse", None if same else torch.argsort(index), persistent=False)

    def by_stack(self, x: Tensor) -> Tensor:
        return x if self.index is None else x.index_select(-1, self.index)

    def by_term(self, x: Tensor) -> Tensor:
        return x if self.inverse is None else x.index_select(-1, self.inverse)

    def split(self, x: Tensor) -> Sequence[Tensor]:
        return self.by_stack(x).split(self.copies, -1)
