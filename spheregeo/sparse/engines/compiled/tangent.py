"""The tangent form by compiled loops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.runtime import array, remembered, threads
from spheregeo.sparse.engines.tangent import TangentEngine, ends_of
from spheregeo.sparse.forms.orders import layout
from spheregeo.sparse.forms.tangent import Direction, TangentStructure

CHUNK_BYTES = 1 << 22
_BLOCK = 32


class CompiledTangent(TangentEngine):
    """Rows with the same coefficients side by side, contractions of a chunk of rows in cache."""

    def contract(
        self, structure: TangentStructure, rows: Direction, x: Tensor
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        fields, contractions, longest = _prepared(structure, rows)
        number = rows.num_rows
        step = max(_BLOCK, min(number, CHUNK_BYTES // max(1, contractions * x.element_size())))
        z = x.new_empty(step, contractions)
        flat, table = array(x.reshape(-1)), array(structure.table.to(x.dtype))
        pairs = remembered(rows.memo, "arrays", rows.tensors)
        sizes = (structure.rings, rows.adjoint, longest, _BLOCK)
        for first in range(0, number, step):
            last = min(first + step, number)
            with threads():
                kernels.tangent_contract(flat, table, pairs, fields, sizes, (first, last), z.numpy())
            members = rows.members[first:last]
            yield members.long() if len(members) else slice(first, last), z[: last - first]


def _prepared(structure: TangentStructure, rows: Direction) -> tuple[tuple[np.ndarray, ...], int, int]:
    """Fields on both sides and where contractions go, their number, and pairs of the longest row; made once."""
    key = ("contractions", rows.adjoint)
    found: tuple[tuple[np.ndarray, ...], int, int] | None = structure.memo.get(key)
    if found is None:
        source, target = ends_of(structure, rows)
        offsets, ends = layout(source, target, structure.rings)
        fields = tuple(np.array(t, dtype=np.int64) for t in (source.blocks, target.blocks, offsets))
        longest = int(rows.indptr.diff().max()) if rows.num_rows else 0
        found = structure.memo[key] = (fields, ends[-1], longest)
    return found
