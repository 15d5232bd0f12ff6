"""Copies of rows by ``index_select``, the rest added."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.gather import G, GatherStructure, Table, X


def gather(
    structure: GatherStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``."""
    x, g = arguments
    found = []
    for slot in wanted:
        table, rows = (structure.ahead, x) if slot == G else (structure.back, g)
        assert slot in (G, X) and rows is not None
        found.append(_copied(table, rows))
    return found


def _copied(table: Table, x: Tensor) -> Tensor:
    """(B, Q, C) -> (B, M, C)."""
    batch, points, channels = x.shape
    number = table.num_rows
    if batch * points * channels == 0:
        return x.new_zeros(batch, number, channels)
    rows = x.reshape(batch * points, channels)
    y = rows.index_select(0, _flat(table.index, batch, points))
    if len(table.empty):
        y.index_fill_(0, _flat(table.empty, batch, number), 0.0)
    if len(table.target):
        extra = rows.index_select(0, _flat(table.source, batch, points)).view(batch, -1, channels)
        extra = (extra * table.weight.to(x.dtype)[:, None]).view(-1, channels)
        y.index_add_(0, _flat(table.target, batch, number), extra)
    return y.view(batch, number, channels)


def _flat(rows: Tensor, batch: int, length: int) -> Tensor:
    """Row numbers in ``batch`` tables of ``length`` rows laid one after another."""
    if batch == 1:
        return rows
    starts = length * torch.arange(batch, device=rows.device)  # int64: the sum may exceed 31 bits
    return (starts[:, None] + rows).view(-1)
