"""Which products of features and harmonics a steerable convolution has, and the numbers that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor

from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.irreps.layout import distinct_irreps
from spheregeo.sparse import Coupling, Path, RowMaps


class CGPath(NamedTuple):
    """One product: the stack ``source`` of irrep l1 with the harmonics of degree l2 into the output stack ``target``.

    Args:
        source: place of the stack among those of the input.
        degree: l2.
        target: place of the stack among those of the output.
        row: first row of the product in the target's weight matrix.
        copies: number of rows.

    Example:
        >>> CGPath(source=0, degree=1, target=1, row=0, copies=8).degree
        1
    """

    source: int
    degree: int
    target: int
    row: int
    copies: int


class PathTable(NamedTuple):
    """All products between two features, by output stack; e3nn's order where irreps are distinct and sorted. See
    :func:`path_table`.

    Args:
        sources: irreps of the input stacks.
        source_copies: number of copies of each.
        targets: irreps of the output stacks.
        target_copies: number of copies of each.
        paths: the products.
        rows: rows of each target's weight matrix, zero where no product reaches it.
        lmax: largest degree of harmonics.

    Example:
        >>> from e3nn.o3 import Irreps
        >>> path_table(Irreps("8x0e"), Irreps("4x0e + 2x1o"), lmax=1).rows
        (8, 8)
    """

    sources: tuple[Irrep, ...]
    source_copies: tuple[int, ...]
    targets: tuple[Irrep, ...]
    target_copies: tuple[int, ...]
    paths: tuple[CGPath, ...]
    rows: tuple[int, ...]
    lmax: int

    @property
    def reached(self) -> tuple[int, ...]:
        """Output stacks that some product gives."""
        return tuple(t for t, n in enumerate(self.rows) if n)


@lru_cache(maxsize=256)
def path_table(irreps_in: Irreps, irreps_out: Irreps, lmax: int) -> PathTable:
    """The products that O(3) allows: |l1 - l2| <= l3 <= l1 + l2, p3 = p1 (-1)^l2, l2 <= lmax."""
    sources, targets = distinct_irreps(irreps_in), distinct_irreps(irreps_out)
    copies = [irreps_in.count(ir) for ir in sources]
    paths, rows = [], [0] * len(targets)
    for t, out in enumerate(targets):
        for s, ir in enumerate(sources):
            for degree in range(lmax + 1):
                if abs(ir.l - degree) <= out.l <= ir.l + degree and out.p == ir.p * (-1) ** degree:
                    paths.append(CGPath(s, degree, t, rows[t], copies[s]))
                    rows[t] += copies[s]
    return PathTable(
        tuple(sources), tuple(copies), tuple(targets), tuple(irreps_out.count(ir) for ir in targets), tuple(paths),
        tuple(rows), lmax,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _constants(l1: int, l2: int, l3: int, lmax: int) -> Tensor:
    """(2 l3 + 1, 2 l1 + 1, (lmax + 1)²): √(2 l3 + 1) C, so that unit components in give unit components out."""
    c = torch.zeros(2 * l3 + 1, 2 * l1 + 1, (lmax + 1) ** 2, dtype=torch.float64)
    c[:, :, l2 * l2 : (l2 + 1) ** 2] = clebsch_gordan(l1, l2, l3).permute(2, 0, 1) * (2 * l3 + 1) ** 0.5
    return c


def coupling_of(table: PathTable, weights: str | None, heads: int, engine: str | None) -> Coupling:
    """The contraction of a path table: groups are the reached output stacks, in order."""
    group = {t: g for g, t in enumerate(table.reached)}
    return Coupling(
        [(ir.dim, mul) for ir, mul in zip(table.sources, table.source_copies, strict=True)],
        [table.targets[t].dim for t in table.reached],
        [
            Path(p.source, group[p.target], _constants_of(table, p)) for p in table.paths
        ],
        (table.lmax + 1) ** 2,
        weights=weights,
        heads=heads,
        engine=engine,
    )  # fmt: skip


def row_maps_of(table: PathTable, paths: Sequence[CGPath]) -> RowMaps:
    """These products of a path table with one attribute a point: blocks are the sources, groups the output stacks."""
    return RowMaps(
        [(ir.dim, mul) for ir, mul in zip(table.sources, table.source_copies, strict=True)],
        [ir.dim for ir in table.targets],
        [Path(p.source, p.target, _constants_of(table, p)) for p in paths],
        (table.lmax + 1) ** 2,
    )


def transposed_row_maps_of(table: PathTable, paths: Sequence[CGPath]) -> RowMaps:
    """Products of a path table from output stacks to sources: the adjoint takes mixed sources to sums over products."""
    return RowMaps(
        [(ir.dim, mul) for ir, mul in zip(table.targets, table.target_copies, strict=True)],
        [ir.dim for ir in table.sources],
        [Path(p.target, p.source, _constants_of(table, p).transpose(0, 1)) for p in paths],
        (table.lmax + 1) ** 2,
    )


def _constants_of(table: PathTable, path: CGPath) -> Tensor:
    return _constants(table.sources[path.source].l, path.degree, table.targets[path.target].l, table.lmax)
