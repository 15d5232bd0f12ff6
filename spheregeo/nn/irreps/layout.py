r"""How the components of an irreps feature lie in memory.

``mul_ir``, e3nn's layout, has component m of copy u at u (2l + 1) + m within a block, ``ir_mul`` at m · mul + u. A *stack* is
all copies of one irrep, wherever they lie, as (rows, 2l + 1, copies): matrices that mix copies are one product a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from spheregeo.checks import check_tensor
from spheregeo.harmonics import to_ir_mul, to_mul_ir

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


def couples(left: Irrep, right: Irrep, out: Irrep, parity: bool) -> bool:
    """Whether ``out`` is part of ``left`` ⊗ ``right``; parities count with ``parity`` only."""
    return abs(left.l - right.l) <= out.l <= left.l + right.l and (not parity or left.p * right.p == out.p)


def check_layout(layout: str) -> str:
    """The layout. Raises: ValueError for another name."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected 'mul_ir' or 'ir_mul'")
    return layout


def check_features(x: Tensor, irreps: Irreps, name: str = "x") -> None:
    """Raises: ValueError where the last axis is not the irreps' components. Compiled code is not checked."""
    check_tensor(x, name)
    if torch.compiler.is_compiling():  # a compiler does not see through e3nn's classes
        return
    if x.ndim < 1 or x.shape[-1] != irreps.dim:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}; expected (..., {irreps.dim}), features of {irreps}"
        )


class IrrepsTerm(NamedTuple):
    """One term of the irreps: where each of its components lies, and which irreps (counted one a copy) it holds."""

    ir: Irrep
    mul: int
    start: int
    stop: int
    first: int  # number of copies in the blocks before
    components: tuple[slice, ...]  # of the last axis; one slice with ``mul`` entries for each m


def blocks(irreps: Irreps, layout: str = "mul_ir") -> list[IrrepsTerm]:
    """The terms of irreps, in order."""
    check_layout(layout)
    found, start, first = [], 0, 0
    for mul, ir in irreps:
        stop = start + mul * ir.dim
        if layout == "mul_ir":
            parts = tuple(slice(start + m, stop, ir.dim) for m in range(ir.dim))
        else:
            parts = tuple(slice(start + m * mul, start + (m + 1) * mul) for m in range(ir.dim))
        found.append(IrrepsTerm(ir, mul, start, stop, first, parts))
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


def distinct_irreps(irreps: Irreps) -> list[Irrep]:
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
    if check_layout(source) == check_layout(target):
        return x
    return to_ir_mul(x, irreps) if target == "ir_mul" else to_mul_ir(x, irreps)


Places = tuple[tuple[int, int, int], ...]  # of each term of irreps: copies, components of each, which stack


def places_of(irreps: Irreps) -> Places:
    """Return, for each term of irreps, the number of copies, of components of each, and the place of the stack they go to."""
    every = distinct_irreps(irreps)
    return tuple((mul, ir.dim, every.index(ir)) for mul, ir in irreps)


def split_rows(x: Tensor, places: Places, layout: str = "mul_ir") -> list[Tensor]:
    """The stacks of rows, as views where each irrep is one term. Shape: (..., dim) -> list of (..., 2l + 1, copies)."""
    found: dict[int, list[Tensor]] = {}
    for part, (mul, dim, which) in zip(
        x.split([mul * dim for mul, dim, _ in places], -1), places, strict=True
    ):
        if dim == 1:
            part = part.unsqueeze(-2)
        elif layout == "mul_ir":
            part = part.unflatten(-1, (mul, dim)).mT
        else:
            part = part.unflatten(-1, (dim, mul))
        found.setdefault(which, []).append(part)
    return [parts[0] if len(parts) == 1 else torch.cat(parts, -1) for parts in found.values()]


def join_rows(parts: Sequence[Tensor], places: Places, layout: str = "mul_ir") -> Tensor:
    """Rows of stacks, the inverse of :func:`split_rows`. Shape: list of (..., 2l + 1, copies) -> (..., dim)."""
    used, out = [0] * len(parts), []
    for mul, dim, which in places:
        part = parts[which]
        if part.shape[-1] > mul:  # several terms of one irrep
            part = part.narrow(-1, used[which], mul)
            used[which] += mul
        if dim > 1:
            out.append((part.mT if layout == "mul_ir" else part).flatten(-2))
        else:
            out.append(part.squeeze(-2))
    return out[0] if len(out) == 1 else torch.cat(out, -1)
