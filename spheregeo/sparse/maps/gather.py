"""``Gather``: a sparse map whose rows copy one source point each, for padding and reordering."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse.forms.gather import GATHER, G, GatherStructure, Table
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.multilinear import is_traced

# of a table, as in :class:`spheregeo.sparse.forms.gather.Table`
_NAMES = ("index", "empty", "target", "source", "weight")
_TABLES = tuple(prefix + name for prefix in ("", "adjoint_") for name in _NAMES)


def _table(
    index: Tensor, target: Tensor, source: Tensor, weight: Tensor, rows: int, columns: int
) -> list[Tensor]:
    kind = torch.int32 if max(rows, columns) < 2**31 else torch.int64
    empty = (index < 0).nonzero()[:, 0]
    # rows that are written stay int64, which torch adds to three times as fast as by int32
    return [index.clamp_min(0).to(kind), empty, target, source.to(kind), weight]


class Gather(FixedMap):
    """Copies of source points, in any order and number, with a few weighted extras; exact adjoint, any derivative.

    A :class:`~spheregeo.sparse.SparseMap` does the same; this one is for maps that are all but a permutation, and costs
    a copy. Tables are non-persistent buffers, which copies of the module share.

    Args:
        index: (M,) source point of each row, -1 for none.
        num_source: Q.
        extras: (target rows, source points, weights), each (E,), added to the copies.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None for the first that runs.

    Shape: (B, C, Q) -> (B, C, M), channels last in memory.
    Raises: ValueError for an index outside the source, or an input with another number of points.
    """

    def __init__(
        self,
        index: Any,
        num_source: int,
        extras: tuple[Any, Any, Any] | None = None,
        *,
        engine: str | None = None,
    ) -> None:
        super().__init__(engine)
        index = torch.as_tensor(index).long().reshape(-1)
        target, source, weight = map(torch.as_tensor, ([], [], []) if extras is None else extras)
        target, source, weight = target.long(), source.long(), weight.to(torch.get_default_dtype())
        for name, t, size in (
            ("index", index, num_source),
            ("source", source, num_source),
            ("target", target, len(index)),
        ):
            if len(t) and not (-1 * (name == "index") <= int(t.min()) and int(t.max()) < size):
                raise ValueError(
                    f"{name} runs from {int(t.min())} to {int(t.max())}; expected 0 to {size - 1}"
                )
        self.num_source, self.num_target = num_source, len(index)
        copies = (index >= 0).nonzero()[:, 0]
        first = torch.full((num_source,), -1).scatter_reduce_(
            0, index[copies], copies, "amin", include_self=False
        )
        again = copies[first[index[copies]] != copies]
        ahead = _table(index, target, source, weight, len(index), num_source)
        back = _table(
            first,
            torch.cat([index[again], source]),
            torch.cat([again, target]),
            torch.cat([weight.new_ones(len(again)), weight]),
            len(index),
            num_source,
        )
        for name, tensor in zip(_TABLES, [*ahead, *back], strict=True):
            self._keep(name, tensor)

    def _structure(self) -> GatherStructure:
        found: GatherStructure | None = self._made.get("structure")
        if found is None or found.ahead.index is not self._buffers["index"]:
            tables = self._given(_TABLES)
            found = self._made["structure"] = GatherStructure(Table(*tables[:5]), Table(*tables[5:]))
        return found

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self.num_source:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, channels, {self.num_source}); "
                "did you build the layer for another grid?"
            )
        rows = x.transpose(1, 2)
        if is_traced(x):
            y = GATHER.traced(self.engine, (self._given(_TABLES), []), (rows, None), (G,))[0]
        else:
            y = GATHER.direct(self.engine, self._structure(), (rows, None), G)
        return y.transpose(1, 2)  # (B, C, M), channels last in memory

    def extra_repr(self) -> str:
        return f"{self.num_source} -> {self.num_target}"
