"""Outer products summed over pairs by batched products of rows of similar length, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.sparse.engines.portable.plans import RowPlan, budget, host, moved
from spheregeo.sparse.forms.segment import A, G, SegmentStructure


def segment(
    structure: SegmentStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``."""
    a, b, g = arguments
    plan = made_of([structure.indptr], ("segments", structure.num_pairs), lambda: _Plan.of(structure.indptr))
    found = []
    for slot in wanted:
        if slot == G:
            assert a is not None and b is not None
            found.append(_outer(plan, a, b))
        elif slot == A:
            assert b is not None and g is not None
            found.append(_apply(plan, g, b))
        else:
            assert a is not None and g is not None
            found.append(_apply(plan, g.transpose(1, 2), a))
    return found


@dataclass(frozen=True)
class _Plan:
    """Targets in classes of one number of pairs; ``whole`` where all have as many, in order."""

    rows: RowPlan
    pair: Tensor  # of each padded entry
    there: Tensor  # (entries, 1) whether there is one
    targets: Tensor  # in the plan's order
    place: Tensor  # of each target in the plan
    entry: Tensor  # of each pair
    whole: int

    @classmethod
    def of(cls, indptr: Tensor) -> _Plan:
        ends = host(indptr)
        rows = RowPlan.of(ends)
        entry = np.zeros(int(ends[-1]), dtype=np.int64)
        there = ~rows.blank
        entry[rows.entry[there]] = np.nonzero(there)[0]
        lengths = np.unique(np.diff(ends))
        whole = int(lengths[0]) if len(lengths) == 1 else 0
        filled = torch.from_numpy(there)[:, None].to(indptr.device)
        tables = (moved(n, indptr) for n in (rows.entry, rows.order, rows.place, entry))
        pair, targets, place, of_pair = tables
        return cls(rows, pair, filled, targets, place, of_pair, whole)


def _outer(plan: _Plan, a: Tensor, b: Tensor) -> Tensor:
    targets = plan.targets.shape[0]
    if a.shape[0] == 0 or targets == 0:
        return a.new_zeros(targets, a.shape[1], b.shape[1])
    if plan.whole:
        rows = (targets, plan.whole)
        return torch.bmm(a.reshape(*rows, -1).transpose(1, 2), b.reshape(*rows, -1))
    out = a.new_empty(targets, a.shape[1], b.shape[1])
    for classes in plan.rows.chunks((a.shape[1] + b.shape[1]) * a.element_size(), 0, budget(a, b, out)):
        for c in classes:
            at = slice(c.start, c.start + (c.last - c.first) * c.length)
            left = (a.index_select(0, plan.pair[at]) * plan.there[at]).view(-1, c.length, a.shape[1])
            right = b.index_select(0, plan.pair[at]).view(-1, c.length, b.shape[1])
            torch.bmm(left.mT, right, out=out[c.first : c.last])
    return out.index_select(0, plan.place)


def _apply(plan: _Plan, g: Tensor, b: Tensor) -> Tensor:
    targets, pairs = plan.targets.shape[0], b.shape[0]
    if pairs == 0 or targets == 0:
        return b.new_zeros(pairs, g.shape[1])
    if plan.whole:
        out = torch.bmm(b.reshape(targets, plan.whole, -1), g.transpose(1, 2))
        return out.reshape(pairs, g.shape[1])
    parts = []
    width = (g.shape[1] + g.shape[2]) * g.element_size()
    for classes in plan.rows.chunks(width, g.shape[1] * g.shape[2] * g.element_size(), budget(g, b)):
        for c in classes:
            near = b.index_select(0, plan.pair[c.start : c.start + (c.last - c.first) * c.length])
            own = g.index_select(0, plan.targets[c.first : c.last])
            parts.append(torch.bmm(near.view(-1, c.length, b.shape[1]), own.mT).flatten(0, 1))
    return torch.cat(parts).index_select(0, plan.entry)
