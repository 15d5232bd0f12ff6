r"""How the components of an irreps feature lie in memory, and the few moves that layers make of them.

``mul_ir``, e3nn's layout, has component m of copy u at u (2l + 1) + m within a block, ``ir_mul`` at m · mul + u. A *stack* is
all copies of one irrep, wherever they lie, as (rows, 2l + 1, copies): matrices that mix copies are one product a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

LAYOUTS = ("mul_ir", "ir_mul")
EVEN = Irrep(0, 1)


def as_irreps(irreps: str | Irreps, name: str = "irreps") -> Irreps:
    """The irreps, without empty terms. Raises: ValueError for text that is none, or no component at all."""
    try:
        found = Irreps(irreps)
    except (ValueError, TypeError) as fault:
        raise ValueError(f"{name} is {irreps!r}; expected irreps such as '16x0e + 8x1o'") from fault
    found = Irreps([(mul, ir) for mul, ir in found if mul > 0])
    if found.dim == 0:
        raise ValueError(f"{name} is {str(irreps)!r}, which has no components; expected some, as in '16x0e'")
    return found


def check_layout(layout: str) -> str:
    """The layout. Raises: ValueError for another name."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected 'mul_ir' or 'ir_mul'")
    return layout


def check_features(x: Tensor, irreps: Irreps, name: str = "x") -> None:
    """Raises: ValueError where the last axis is not the irreps' components. Compiled code is not checked."""
    if torch.compiler.is_compiling():  # a compiler does not see through e3nn's classes
        return
    if x.ndim < 1 or x.shape[-1] != irreps.dim:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; expected (..., {irreps.dim}), features of {irreps}"
        )


class Block(NamedTuple):
    """One term of the irreps: where each of its components lies, and which irreps (counted one a copy) it holds."""

    ir: Irrep
    mul: int
    start: int
    stop: int
    first: int  # number of copies in the blocks before
    components: tuple[slice, ...]  # of the last axis; one slice with ``mul`` entries for each m


def blocks(irreps: Irreps, layout: str = "mul_ir") -> list[Block]:
    """The terms of irreps, in order."""
    check_layout(layout)
    found, start, first = [], 0, 0
    for mul, ir in irreps:
        stop = start + mul * ir.dim
        if layout == "mul_ir":
            parts = tuple(slice(start + m, stop, ir.dim) for m in range(ir.dim))
        else:
            parts = tuple(slice(start + m * mul, start + (m + 1) * mul) for m in range(ir.dim))
        found.append(Block(ir, mul, start, stop, first, parts))
        start, first = stop, first + mul
    return found


def copy_of(irreps: Irreps, layout: str = "mul_ir") -> Tensor:
    """Which copy, counted through all blocks, each component belongs to. Shape: (irreps.dim,) int64."""
    index = torch.empty(irreps.dim, dtype=torch.int64)
    for block in blocks(irreps, layout):
        for part in block.components:
            index[part] = torch.arange(block.first, block.first + block.mul)
    return index


def is_scalar(irreps: Irreps) -> Tensor:
    """Which components are even scalars, in either layout. Shape: (irreps.dim,) bool."""
    return torch.cat([torch.full((mul * ir.dim,), ir == EVEN) for mul, ir in irreps])


def kinds(irreps: Irreps) -> list[Irrep]:
    """The distinct irreps, in order of appearance."""
    return list(dict.fromkeys(ir for _, ir in irreps))


def stack_index(irreps: Irreps, ir: Irrep, layout: str = "mul_ir") -> Tensor:
    """Where component m of copy u of all terms of one irrep lies, m-major. Shape: ((2l + 1) · copies,) int64."""
    every = torch.arange(irreps.dim)
    mine = [block for block in blocks(irreps, layout) if block.ir == ir]
    return torch.cat([every[block.components[m]] for m in range(ir.dim) for block in mine])


def change_layout(x: Tensor, irreps: str | Irreps, source: str, target: str) -> Tensor:
    """Features from one layout to the other.

    Shape: (..., irreps.dim) -> the same.
    Raises: ValueError for another layout or number of components.
    """
    irreps = as_irreps(irreps)
    check_features(x, irreps)
    every = torch.arange(irreps.dim)
    order = torch.empty_like(every)
    for a, b in zip(blocks(irreps, source), blocks(irreps, target), strict=True):
        for from_, to in zip(a.components, b.components, strict=True):
            order[to] = every[from_]
    return x.index_select(-1, order.to(x.device))


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
        self.irs, self.layout = kinds(irreps), layout
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


def _sum(x: Tensor, parts: Sequence[Sequence[slice]]) -> Tensor:
    sums = []
    for components in parts:
        total = x[:, components[0]]
        if len(components) > 1:
            total = total + x[:, components[1]]
            for part in components[2:]:
                total.add_(x[:, part])
        sums.append(total)
    return torch.cat(sums, 1)


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
        self.parts = tuple(block.components for block in every)
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
