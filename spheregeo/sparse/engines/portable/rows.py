"""Matrices of rows by batched products, anywhere torch runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.sparse.engines.portable.plans import summed
from spheregeo.sparse.forms.rows import G, K, RowStructure, X


def rows(structure: RowStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``, one after another."""
    return [_partial(structure, arguments, slot) for slot in wanted]


def _partial(structure: RowStructure, arguments: Sequence[Tensor | None], slot: int) -> Tensor:
    tables, index = structure.tables, structure.index
    given = next(t for s, t in enumerate(arguments) if t is not None and s != slot)
    number = structure.num_rows
    shapes = ((structure.points * tables.inputs,), (number, tables.width), (number * tables.outputs,))
    out = given.new_zeros(shapes[slot])
    first, second, third = (out if s == slot else t for s, t in enumerate(arguments))
    assert first is not None and second is not None and third is not None
    for x, k, z in _parts(structure, first, second, third):
        if slot == G:
            for goal, part in zip(z, (k @ x[index]).unbind(1), strict=True):
                goal.copy_(part)
        elif slot == X:
            terms = torch.bmm(k.mT, torch.stack(z, 1))
            x.copy_(summed(terms.index_select(0, structure.order), structure.indptr.diff(), structure.points))
        else:
            assert slot == K
            k.copy_(torch.stack(z, 1) @ x[index].mT)
    return out


def _parts(
    structure: RowStructure, x: Tensor, k: Tensor, z: Tensor
) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
    """Of each block views of the source (N, d, C), of coefficients (R, F, d), and of each function's rows (R, C)."""
    number, points = structure.num_rows, structure.points
    tables = structure.tables
    functions, blocks = made_of(
        [tables.functions, tables.blocks],
        "lists",
        lambda: (tables.functions.tolist(), tables.blocks.tolist()),
    )
    for column, d, n, first, last, at in blocks:
        source = x[points * column : points * (column + d * n)].view(points, d, n)
        matrix = k[:, at : at + (last - first) * d].unflatten(1, (last - first, d))
        groups = []
        for base, width, component, columns, place in functions[first:last]:
            group = z[number * base : number * (base + width)].view(number, width)
            groups.append(group.narrow(1, component * columns + place, n))
        yield source, matrix, groups
