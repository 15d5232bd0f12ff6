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
    lengths = structure.indptr.diff() if slot == X else None
    for x, k, z in _parts(structure, first, second, third):
        if slot == G:
            if len(z) == 1:
                torch.bmm(k, x.index_select(0, index), out=z[0])
                continue
            made, at = torch.bmm(k, x.index_select(0, index)), 0
            for goal in z:
                goal.copy_(made[:, at : at + goal.shape[1]])
                at += goal.shape[1]
        elif slot == X:
            terms = torch.bmm(k.mT, _joined(z))
            x.copy_(summed(terms.index_select(0, structure.order), lengths, structure.points))
        else:
            assert slot == K
            k.copy_(torch.bmm(_joined(z), x.index_select(0, index).mT))
    return out


def _joined(z: list[Tensor]) -> Tensor:
    return z[0] if len(z) == 1 else torch.cat(z, 1)


def _parts(
    structure: RowStructure, x: Tensor, k: Tensor, z: Tensor
) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
    """Of each block views of the source (N, d, C), of coefficients (R, F, d), and of its functions' rows (R, F, C), those whose
    components follow one another together.
    """
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
        groups: list[list[int]] = []
        for base, width, component, columns, place in functions[first:last]:
            same = groups[-1] if groups else None
            if same is not None and [*same[:4], same[4] + same[5]] == [
                base,
                width,
                columns,
                place,
                component,
            ]:
                same[5] += 1
            else:
                groups.append([base, width, columns, place, component, 1])
        views = []
        for base, width, columns, place, component, count in groups:
            group = z[number * base : number * (base + width)].view(number, width)
            group = group.narrow(1, component * columns, count * columns).unflatten(1, (count, columns))
            views.append(group.narrow(2, place, n))
        yield source, matrix, views
