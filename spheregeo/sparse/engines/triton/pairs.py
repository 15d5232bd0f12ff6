"""Launches of the loops over pairs: what a block of features is, and how many pairs go at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.sparse.engines.triton.kernels.pairs import pairs_back, pairs_slope, pairs_sum, pairs_weights
from spheregeo.sparse.engines.triton.runtime import tile

BUDGET = 1 << 28  # bytes of matrices and weights made for pairs at once
NONE, SHARED, CHANNEL = range(3)


class PairBlock(NamedTuple):
    """A block of the source's features: (rows, D, C) from ``begin`` on, and the functions that read it."""

    begin: int
    row: int  # numbers from row to row
    step: int  # and from component to component
    components: int
    channels: int
    place: Tensor  # (F, 4), see the kernels
    paths: Tensor | None = None  # (n, 2) first and last function of those that share weights
    vector: bool = False  # whether all places are multiples of four
    width: int = 0  # of a row of matrices of all blocks, where those of one block are part of it

    @property
    def functions(self) -> int:
        return len(self.place)


class Weights(NamedTuple):
    """Weights of pairs: their kind, the numbers, a row's length, heads."""

    kind: int = NONE
    values: Tensor | None = None
    row: int = 0
    heads: int = 1


def stretches(pairs: int, numbers: int) -> Iterator[tuple[int, int]]:
    """Pairs first to last - 1 for which ``numbers`` each fit the budget."""
    step = max(1, BUDGET // (4 * max(numbers, 1)))
    for first in range(0, max(pairs, 1), step):
        yield first, min(first + step, pairs)


def places(rows: list[list[int]], device: torch.device) -> tuple[Tensor, bool]:
    """Places of functions as a table, and whether all are multiples of four."""
    table = torch.tensor(rows, device=device, dtype=torch.int64).view(-1, 4)
    return table, all(number % 4 == 0 for row in rows for number in row)


def _row(block: PairBlock, a: Tensor) -> int:
    """Numbers from one matrix to the next."""
    return block.width or a.shape[-1]


def _warps(numbers: int) -> int:
    return max(1, min(4, numbers // 256))


def add(
    block: PairBlock, x: Tensor, a: Tensor, weights: Weights, z: Tensor, rows: tuple[Tensor, Tensor, Tensor | None],
    targets: tuple[int, int], stretch: tuple[int, int], again: bool = False,
) -> None:  # fmt: skip
    """Sum pairs into targets; ``rows`` are boundaries, sources, and the matrices' rows where they are not in order."""
    indptr, source, row_of = rows
    bf, bc = tile(block.functions, 16, 1), tile(block.channels, 64, 1)
    across = -(-block.functions // bf) * -(-block.channels // bc)
    if targets[1] <= targets[0]:
        return
    pairs_sum[(targets[1] - targets[0], across, weights.heads)](
        x[block.begin :], a, a if weights.values is None else weights.values, z, block.place, indptr, source,
        source if row_of is None else row_of, block.row, block.step, _row(block, a), weights.row, block.channels,
        targets[0], *stretch, F=block.functions, D=block.components, HEADS=weights.heads, KIND=weights.kind, VECTOR=block.vector,
        MAPPED=row_of is not None, AGAIN=again, BF=bf, BC=bc, num_warps=_warps(bf * bc),
    )  # fmt: skip


def add_back(
    block: PairBlock, g: Tensor, a: Tensor, weights: Weights, gx: Tensor, back: tuple[Tensor, Tensor, Tensor],
    sources: int, stretch: tuple[int, int], placed: bool, again: bool = False,
) -> None:  # fmt: skip
    """Sum pairs into their sources; ``back`` are boundaries, pairs by source, and the pairs' targets."""
    bd, bc = tile(block.components, 64, 1), tile(block.channels, 64, 1)
    if not sources:
        return
    pairs_back[(sources, -(-block.channels // bc))](
        g, a, a if weights.values is None else weights.values, gx[block.begin :], block.place, *back, block.row, block.step,
        _row(block, a), weights.row, block.channels, *stretch, F=block.functions, D=block.components, HEADS=weights.heads,
        KIND=weights.kind, VECTOR=block.vector, PLACED=placed, AGAIN=again, BD=bd, BC=bc, num_warps=_warps(bd * bc),
    )  # fmt: skip


def slope(
    block: PairBlock, x: Tensor, g: Tensor, weights: Weights, ga: Tensor, ends: tuple[Tensor, Tensor], stretch: tuple[int, int]
) -> None:  # fmt: skip
    """Write the matrices' gradient for some pairs; ``ends`` are sources and targets of all pairs."""
    bf, bc = tile(block.functions, 16, 1), tile(block.channels, 64, 1)
    if stretch[1] <= stretch[0]:
        return
    pairs_slope[(stretch[1] - stretch[0], -(-block.functions // bf))](
        x[block.begin :], g, ga if weights.values is None else weights.values, ga, block.place, *ends, block.row, block.step,
        _row(block, ga), weights.row, block.channels, stretch[0], F=block.functions, D=block.components, HEADS=weights.heads,
        KIND=weights.kind, VECTOR=block.vector, BF=bf, BC=bc, num_warps=_warps(bf * bc),
    )  # fmt: skip


def weights_slope(
    block: PairBlock, x: Tensor, g: Tensor, a: Tensor, weights: Weights, gw: Tensor, ends: tuple[Tensor, Tensor],
    stretch: tuple[int, int],
) -> None:  # fmt: skip
    """Write the weights' gradient for some pairs."""
    assert block.paths is not None
    bc = tile(block.channels, 64, 1)
    if stretch[1] <= stretch[0]:
        return
    wide = (len(block.paths), -(-block.channels // bc)) if weights.kind == CHANNEL else (weights.heads, 1)
    pairs_weights[(stretch[1] - stretch[0], *wide)](
        x[block.begin :], g, a, gw, block.place, block.paths, *ends, block.row, block.step, _row(block, a), weights.row,
        block.channels, stretch[0], F=block.functions, D=block.components, HEADS=weights.heads, KIND=weights.kind,
        VECTOR=block.vector, BC=bc,
        num_warps=1,
    )  # fmt: skip


def by_source(sources: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Boundaries and pairs in the order of their sources, without a host copy."""
    order = torch.argsort(sources, stable=True)
    ends = torch.arange(number + 1, device=sources.device)
    return torch.searchsorted(sources[order].contiguous(), ends).int(), order.int()
