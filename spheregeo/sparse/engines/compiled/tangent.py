"""The tangent form by compiled loops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.runtime import array, remembered, threads
from spheregeo.sparse.engines.tangent import TangentEngine, ends_of
from spheregeo.sparse.forms.orders import layout, width
from spheregeo.sparse.forms.tangent import Direction, TangentStructure

CHUNK_BYTES = 1 << 20
_TASK = 256  # rows
_MOST, _FEWEST, _COLUMNS = (
    32,
    8,
    384,
)  # rows done at once, such that their fields of one order make about so many columns


class CompiledTangent(TangentEngine):
    """Rows with the same coefficients side by side, contractions of a chunk of rows in cache."""

    planar = False

    def contract(
        self, structure: TangentStructure, rows: Direction, x: Tensor
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        made = _prepared(structure, rows)
        number, points = rows.num_rows, x.shape[0]
        step = max(1, CHUNK_BYTES // (_TASK * max(1, made.contractions * x.element_size()))) * _TASK
        z = x.new_empty(min(step, number), made.contractions)
        table, given = array(structure.table.to(x.dtype)), x.detach().numpy()
        pairs = remembered(rows.memo, "arrays", rows.tensors)
        sizes = (structure.rings, rows.adjoint, made.longest, made.most, _TASK, points, made.scratch)
        with threads() as count:
            planar = np.empty(x.numel() + count * made.scratch, table.dtype)
            kernels.tangent_planar(given, made.channels, made.fields[0], made.place, planar)
        for first in range(0, number, step):
            last = min(first + step, number)
            with threads():
                structured = table, pairs, made.runs, made.fields, sizes
                kernels.tangent_contract(planar, made.place, *structured, (first, last), z.numpy())
            where = slice(first, last) if made.in_order else rows.members[first:last].long()
            yield where, z[: last - first]


class _Prepared(NamedTuple):
    """What one direction of a map needs beside its tensors."""

    fields: tuple[np.ndarray, ...]  # on both sides, and where contractions go
    channels: np.ndarray  # of the features as they are given, for each planar one
    place: np.ndarray  # where source points go; in their own order if empty
    runs: tuple[np.ndarray, ...]  # of rows that are done side by side
    contractions: int
    longest: int  # pairs of the longest row
    most: int  # rows of a run
    scratch: int  # numbers that a thread may gather
    in_order: bool  # whether rows are done one after another


def _prepared(structure: TangentStructure, rows: Direction) -> _Prepared:
    """Made once."""
    key = ("contractions", rows.adjoint)
    found: _Prepared | None = structure.memo.get(key)
    if found is None:
        source, target = ends_of(structure, rows)
        offsets, ends = layout(source, target, structure.rings)
        fields = tuple(np.array(t, dtype=np.int64) for t in (source.blocks, target.blocks, offsets))
        longest = int(rows.indptr.diff().max()) if rows.num_rows else 0
        widest = max([1, *(count * width(order) for order, _, count in source.blocks)])
        shared = len(rows.members) > 0
        most = max(_FEWEST, min(_MOST, _COLUMNS // widest)) if shared else 1
        in_order = len(_places(rows)) == 0
        place = _places(structure.forward if rows.adjoint else structure.backward)
        given = fields, source.permutation.numpy(), place, _runs(rows, place, most)
        found = _Prepared(*given, ends[-1], longest, most, longest * widest * most, in_order)
        structure.memo[key] = found
    return found


def _places(rows: Direction) -> np.ndarray:
    """Where each row stands among the members, which follow one another as neighbours of shared rows do; empty for 0, 1, 2, ...

    Made once.
    """
    found: np.ndarray | None = rows.memo.get("places")
    if found is None:
        in_order = len(rows.members) == 0 or bool((rows.members.diff() == 1).all())
        found = np.empty(0, np.int32) if in_order else array(torch.argsort(rows.members).to(torch.int32))
        rows.memo["places"] = found
    return found


def _runs(rows: Direction, place: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
    """Runs of at most so many rows that share coefficients, see ``tangent_runs``, by task; made once."""
    key = ("runs", most)
    found: tuple[np.ndarray, ...] | None = rows.memo.get(key)
    if found is None:
        given = remembered(rows.memo, "arrays", rows.tensors)[:4]
        none = np.empty(0, np.int64)
        few = np.empty(0, np.int32)
        number, taps = kernels.tangent_runs(*given, place, (most, _TASK), none, none, few)
        first, taps_of = np.zeros(number + 1, np.int64), np.zeros(number, np.int64)
        begins = np.empty(taps, np.int32)
        kernels.tangent_runs(*given, place, (most, _TASK), first, taps_of, begins)
        tasks = np.arange(0, len(rows.members) + _TASK, _TASK)
        found = np.searchsorted(first, np.minimum(tasks, len(rows.members))), first, taps_of, begins
        rows.memo[key] = found
    return found
