r"""The few moves that layers make of irreps features: to stacks of one irrep each and back, and between copies and components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn.irreps.layout import (
    EVEN,
    LAYOUTS,
    IrrepsTerm,
    as_irreps,
    blocks,
    change_layout,
    check_features,
    check_layout,
    copy_of,
    distinct_irreps,
    is_scalar,
    stack_index,
)

__all__ = [
    "EVEN",
    "LAYOUTS",
    "Copies",
    "IrrepsTerm",
    "Stacks",
    "as_irreps",
    "blocks",
    "change_layout",
    "check_features",
    "check_layout",
    "copy_of",
    "distinct_irreps",
    "is_scalar",
    "stack_index",
]


class _Part(torch.autograd.Function):
    """Rows to stacks: columns by index, each a matrix of its own; the adjoint puts them back in one pass."""

    @staticmethod
    def forward(x: Tensor, inverse: Tensor, *indices: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.index_select(1, index) for index in indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inverse, *indices = ctx.saved_tensors
        return _Join.apply(inverse, len(indices), *indices, *grads), *[None] * (1 + len(indices))


class _Join(torch.autograd.Function):
    """Stacks to rows, the inverse and the adjoint of :class:`_Part`."""

    @staticmethod
    def forward(inverse: Tensor, count: int, *given: Tensor) -> Tensor:
        return torch.cat(given[count:], 1).index_select(1, inverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], *inputs[2 : 2 + inputs[1]])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        inverse, *indices = ctx.saved_tensors
        return *[None] * (2 + len(indices)), *_Part.apply(grad, inverse, *indices)


class Stacks(nn.Module):
    """Features to one (rows, 2l + 1, copies) array for each distinct irrep, and back.

    Shape: ``split``: (rows, irreps.dim) -> list of (rows, 2l + 1, copies); ``join``: the inverse.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, irreps: Irreps, layout: str = "mul_ir") -> None:
        super().__init__()
        self.irs, self.layout = distinct_irreps(irreps), layout
        self.degrees = [ir.dim for ir in self.irs]
        self._pieces = [
            (block.start, block.mul, block.ir.dim, self.irs.index(block.ir))
            for block in blocks(irreps, layout)
        ]
        indices = [stack_index(irreps, ir, layout) for ir in self.irs]
        order = torch.cat(indices)
        self.in_order = bool((order == torch.arange(irreps.dim)).all())
        self.widths = [len(index) for index in indices]
        self.copies = [width // ir.dim for width, ir in zip(self.widths, self.irs, strict=True)]
        self.starts = [sum(self.widths[:i]) for i in range(len(self.widths))]
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Which component comes next in the order of stacks, and the inverse."""
        return self.order, self.inverse

    def _indices(self) -> list[Tensor]:
        return list(self.order.split(self.widths))

    def split(self, x: Tensor) -> list[Tensor]:
        if torch.compiler.is_compiling():
            return self.split_plain(x)
        parts: Sequence[Tensor]
        if self.in_order:
            parts = x.split(self.widths, 1)
        else:
            parts = _Part.apply(x, self.inverse, *self._indices())
        return [part.unflatten(1, (d, -1)) for part, d in zip(parts, self.degrees, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        if torch.compiler.is_compiling():
            return self.join_plain(parts)
        flat = [part.flatten(1) for part in parts]
        if self.in_order:
            return flat[0] if len(flat) == 1 else torch.cat(flat, 1)
        y: Tensor = _Join.apply(self.inverse, len(flat), *self._indices(), *flat)
        return y

    def split_plain(self, x: Tensor) -> list[Tensor]:
        """``split`` by views, which a compiler sees through."""
        found: list[list[Tensor]] = [[] for _ in self.widths]
        for start, copies, degree, which in self._pieces:
            part = x.narrow(1, start, copies * degree)
            if self.layout == "mul_ir":
                found[which].append(part.unflatten(1, (copies, degree)).transpose(1, 2))
            else:
                found[which].append(part.unflatten(1, (degree, copies)))
        return [torch.cat(parts, 2) for parts in found]

    def join_plain(self, parts: Sequence[Tensor]) -> Tensor:
        """``join`` by views."""
        used, out = [0] * len(parts), []
        for _, copies, _, which in self._pieces:
            part = parts[which].narrow(2, used[which], copies)
            used[which] += copies
            out.append((part.transpose(1, 2) if self.layout == "mul_ir" else part).flatten(1))
        return torch.cat(out, 1)


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
        if torch.compiler.is_compiling():
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
        if torch.compiler.is_compiling():
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
