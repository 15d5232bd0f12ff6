"""The tangent form: carried and summed by frequency in the loops over pairs, mixed by one matrix product for each output order.

What a pair does to a field of order m on its way into the contractions of order n is a complex number that depends on geometry
alone: coefficient times a power of the transport. As real matrices these are made once for each row of the coefficient table.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spheregeo.sparse.engines.tangent import TangentEngine, ends_of
from spheregeo.sparse.engines.triton import pairs
from spheregeo.sparse.engines.triton.pairs import PairBlock, Weights
from spheregeo.sparse.forms.orders import Orders, layout, width
from spheregeo.sparse.forms.tangent import Direction, TangentStructure

CHUNK_BYTES = 1 << 28


class TritonTangent(TangentEngine):
    """Contractions of a chunk of rows in one launch for each order of the source."""

    def contract(
        self, structure: TangentStructure, rows: Direction, x: Tensor
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        source, target = ends_of(structure, rows)
        wide = layout(source, target, structure.rings)[1][-1]
        blocks, matrices, indptr, indices, row_of = _prepared(structure, rows)
        x, number = x.contiguous(), rows.num_rows
        step = max(1, CHUNK_BYTES // max(1, wide * x.element_size()))
        every = (0, len(rows.indices))
        for first in range(0, number, step):
            last = min(first + step, number)
            z = x.new_empty(last - first, wide)
            for block, a in zip(blocks, matrices, strict=True):
                own = block._replace(place=_shifted(block.place, first, wide))
                pairs.add(own, x.view(-1), a, Weights(), z, (indptr, indices, row_of), (first, last), every)
            yield slice(first, last), z


def _shifted(place: Tensor, first: int, wide: int) -> Tensor:
    """Places in a chunk whose first row is not row 0."""
    if not first:
        return place
    moved = place.clone()
    moved[:, 0] -= first * wide
    return moved


def _prepared(
    structure: TangentStructure, rows: Direction
) -> tuple[list[PairBlock], list[Tensor], Tensor, Tensor, Tensor]:
    """Functions of each order of the source, their matrices by row of the table, and the pairs; made once."""
    key = ("triton", rows.adjoint)
    if key in structure.memo:
        found: tuple[list[PairBlock], list[Tensor], Tensor, Tensor, Tensor] = structure.memo[key]
        return found
    source, target = ends_of(structure, rows)
    rings, device = structure.rings, structure.table.device
    with torch.inference_mode(False):
        lengths = rows.indptr.diff()
        row = torch.repeat_interleave(
            torch.arange(rows.num_rows, device=device), lengths, output_size=len(rows.indices)
        )
        column = rows.start[row] + torch.arange(len(row), device=device) - rows.indptr[row]
        if rows.order.numel():
            column = rows.order[column].long()
        offsets, ends = layout(source, target, rings)
        blocks, matrices = [], []
        for i, (m, begin, count) in enumerate(source.blocks):
            places = []
            for n, row_offsets in enumerate(offsets):
                parts = width(target.blocks[n][0]) * width(m)
                places += [
                    [row_offsets[i] + (part * rings + r) * count, ends[-1], 0, 0]
                    for part in range(parts)
                    for r in range(rings)
                ]
            table, vector = pairs.places(places, device)
            blocks.append(PairBlock(begin, source.dim, count, width(m), count, table, vector=vector))
            matrices.append(_matrices(structure.table, target, m, rings, rows.adjoint))
        found = blocks, matrices, rows.indptr.int(), rows.indices.int(), column.int()
    structure.memo[key] = found
    return found


def _matrices(table: Tensor, target: Orders, m: int, rings: int, adjoint: bool) -> Tensor:
    """Of each row of the table the real matrix of each function and ring of fields of order m: (T, functions * width(m))."""
    turn = torch.complex(table[:, -2], table[:, -1])
    turn = turn.conj() if adjoint else turn

    def factor(j: int) -> Tensor:
        """(T, R): the coefficient of frequency j, and the transport."""
        first = rings * (2 * abs(j) - 1)
        if j == 0:
            c = torch.complex(table[:, :rings], torch.zeros_like(table[:, :rings]))
        else:
            c = torch.complex(table[:, first : first + rings], table[:, first + rings : first + 2 * rings])
        power = m + abs(j) if adjoint else m  # the adjoint's coefficients are turned as well
        if j < 0:
            c = c.conj()
            power = m - abs(j) if adjoint else m
        z: Tensor = c * turn[:, None] ** power
        return z

    parts = []
    for n, _, _ in target.blocks:
        if m == 0:
            z = factor(n)
            parts += [z.real] if n == 0 else [z.real, z.imag]
            continue
        for j in (-m,) if n == 0 else (n - m, -n - m):
            z = factor(j)
            parts += [torch.stack([z.real, -z.imag], -1), torch.stack([z.imag, z.real], -1)]
    return torch.stack(parts, 1).flatten(1).float().contiguous()
