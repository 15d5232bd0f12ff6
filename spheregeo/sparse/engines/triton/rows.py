"""Matrices of rows: loops over pairs, of which each row is one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.engines.triton import pairs
from spheregeo.sparse.engines.triton.pairs import PairBlock, Weights
from spheregeo.sparse.forms.rows import G, K, RowStructure, X


def rows(structure: RowStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``, a loop each."""
    return [_partial(structure, arguments, slot) for slot in wanted]


def _partial(structure: RowStructure, arguments: Sequence[Tensor | None], slot: int) -> Tensor:
    x, k, g = arguments
    tables, number = structure.tables, structure.num_rows
    blocks, index, indptr, order, each = _prepared(structure)
    if slot == G:
        assert x is not None and k is not None
        out = x.new_empty(number * tables.outputs)
        for block, begin in blocks:
            pairs.add(
                block, x, k.view(-1)[begin:], Weights(), out, (each, index, None), (0, number), (0, number)
            )
    elif slot == X:
        assert k is not None and g is not None
        out = g.new_zeros(structure.points * tables.inputs)
        for block, begin in blocks:
            back = (indptr, order, each)
            pairs.add_back(
                block, g, k.view(-1)[begin:], Weights(), out, back, structure.points, (0, number), False
            )
    else:
        assert slot == K and x is not None and g is not None
        out = x.new_zeros(number, tables.width, dtype=torch.float32)
        for block, begin in blocks:
            pairs.slope(block, x, g, Weights(), out.view(-1)[begin:], (index, each), (0, number))
    return out


def _prepared(
    structure: RowStructure,
) -> tuple[list[tuple[PairBlock, int]], Tensor, Tensor, Tensor, Tensor]:
    """Blocks with their first coefficients, points of rows, boundaries and rows by point, and 0, 1, 2, ...; made once."""
    memo = structure.memo
    if "triton" in memo:
        found: tuple[list[tuple[PairBlock, int]], Tensor, Tensor, Tensor, Tensor] = memo["triton"]
        return found
    tables, number, device = structure.tables, structure.num_rows, structure.index.device
    with torch.inference_mode(False):
        kept = tables.memo
        if "lists" not in kept:
            kept["lists"] = tables.blocks.tolist(), tables.functions.tolist()
        listed, functions = kept["lists"]
        blocks = []
        for column, d, mul, first, last, begin in listed:
            places = [
                [number * base + component * columns + place, wide, 0, 0]
                for base, wide, component, columns, place in functions[first:last]
            ]
            table, vector = pairs.places(places, device)
            blocks.append(
                (
                    PairBlock(
                        structure.points * column, d * mul, mul, d, mul, table, None, vector, tables.width
                    ),
                    begin,
                )
            )
        each = torch.arange(number + 1, device=device, dtype=torch.int32)
        found = blocks, structure.index.int(), structure.indptr.int(), structure.order.int(), each
    memo["triton"] = found
    return found
