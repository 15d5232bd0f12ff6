"""Matrices of rows by compiled loops."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.runtime import array, remembered, threads
from spheregeo.sparse.forms.rows import G, K, RowStructure, X


def rows(structure: RowStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``, a loop each."""
    return [_partial(structure, arguments, slot) for slot in wanted]


def _partial(structure: RowStructure, arguments: Sequence[Tensor | None], slot: int) -> Tensor:
    x, k, g = arguments
    tables, points, number = structure.tables, structure.points, structure.num_rows
    fixed = remembered(tables.memo, "arrays", (tables.blocks, tables.functions))
    index, indptr, order = remembered(
        structure.memo, "rows", (structure.index, structure.indptr, structure.order)
    )
    if slot == G:
        assert x is not None and k is not None
        out = x.new_empty(number * tables.outputs)
        with threads():
            kernels.rows_apply(array(x), array(k), index, *fixed, points, out.numpy())
    elif slot == X:
        assert k is not None and g is not None
        out = g.new_zeros(points * tables.inputs)
        with threads():
            kernels.rows_adjoint(array(g), array(k), indptr, order, *fixed, points, out.numpy())
    else:
        assert slot == K and x is not None and g is not None
        out = x.new_zeros(number, tables.width)
        with threads():
            kernels.rows_coefficients(array(x), array(g), index, *fixed, points, out.numpy())
    return out
