"""The coupling form by compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.runtime import array, remembered, threads
from spheregeo.sparse.forms.coupling import CHANNEL, FACTORED, CouplingStructure, G, V, W, X, Y

_LEAST_CHANNELS = 8
_ROWS = 8  # of one task
_SUMS = 32  # of factors' gradients, each over a range of rows; no more threads than that then work


def coupling(
    structure: CouplingStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``."""
    found: dict[int, Tensor] = {}
    if G in wanted:
        found[G] = _couple(structure, arguments)
    if X in wanted:
        found[X] = _couple_back(structure, arguments)
    rest = [slot for slot in wanted if slot not in (G, X)]
    if rest:
        found.update(_couple_pairs(structure, arguments, rest))
    return [found[slot] for slot in wanted]


def _couple(structure: CouplingStructure, arguments: Sequence[Tensor | None]) -> Tensor:
    x, y, w, v, _ = arguments
    assert x is not None and y is not None
    z = x.new_empty(structure.num_target * structure.own.outputs * structure.own.heads)
    given, fixed = _flat(x, y, w, v), _fixed(structure, x.dtype, _inner(structure, w, v))
    with threads():
        kernels.couple(given, *fixed, z.numpy())
    return z


def _couple_back(structure: CouplingStructure, arguments: Sequence[Tensor | None]) -> Tensor:
    _, y, w, v, g = arguments
    assert y is not None and g is not None
    gx = g.new_zeros(structure.num_source * structure.own.inputs)
    given, fixed = _flat(g, y, w, v), _fixed(structure, g.dtype, _inner(structure, w, v))
    with threads() as count:
        kernels.couple_back(given, *fixed, _tasks(structure, count), gx.numpy())
    return gx


def _couple_pairs(
    structure: CouplingStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> dict[int, Tensor]:
    """Those of the gradients of y, w and v that are wanted, of which each reads all arguments but its own."""
    x, y, w, v, g = arguments
    assert x is not None and g is not None
    own, inner = structure.own, _inner(structure, w, v)
    want_y, want_w, want_v = (slot in wanted for slot in (Y, W, V))
    gy = x.new_zeros(structure.num_pairs, own.dim) if want_y else x.new_empty(0)
    fresh = x.new_empty if own.kind == CHANNEL else x.new_zeros
    gw = (
        fresh(structure.num_pairs, inner if own.kind == FACTORED else own.width) if want_w else x.new_empty(0)
    )
    tasks = max(1, -(-structure.num_target // _ROWS))
    gv = x.new_zeros(min(tasks, _SUMS), inner * own.width) if want_v else x.new_empty(tasks, 0)
    given, fixed = (*_flat(x, gy if y is None else y, w, v), array(g)), _fixed(structure, x.dtype, inner)
    results = (gy.view(-1).numpy(), gw.view(-1).numpy(), gv.numpy())
    with threads():
        kernels.couple_pairs(given, *fixed, (want_y, want_w, want_v), results)
    found = {}
    if want_y:
        found[Y] = gy
    if want_w:
        found[W] = gw
    if want_v:
        found[V] = gv.sum(0).view(inner, own.width)
    return found


def _flat(x: Tensor, y: Tensor, w: Tensor | None, v: Tensor | None) -> tuple[np.ndarray, ...]:
    """Arguments as the kernels take them, empty where there are none."""
    none = x.new_empty(0)
    return tuple(array(none if t is None else t.reshape(-1)) for t in (x, y, w, v))


def _inner(structure: CouplingStructure, w: Tensor | None, v: Tensor | None) -> int:
    """K of factored weights; 0 for others."""
    if structure.own.kind != FACTORED:
        return 0
    if v is not None:
        return v.shape[0]
    assert w is not None
    return w.shape[1]


def _fixed(structure: CouplingStructure, dtype: torch.dtype, inner: int) -> tuple[tuple[Any, ...], ...]:
    """The kernels' rows, tables and sizes."""
    tables, own = structure.tables, structure.own
    rows = remembered(structure.memo, "rows", (structure.indptr, structure.sources, structure.order))
    found: tuple[np.ndarray, ...] | None = tables.memo.get(dtype)
    if found is None:
        constants = (*tables.tensors[:3], tables.values.to(dtype))
        found = tables.memo[dtype] = tuple(array(t) for t in constants)
    sizes = (own.kind, own.heads, inner, own.width, own.dim, structure.num_source, structure.num_target)
    return rows, found, sizes


def _tasks(structure: CouplingStructure, threads: int) -> np.ndarray:
    """(n, 3) blocks and ranges of their channels: a range for each thread, down to 8 channels; the dearest blocks first."""
    memo = structure.tables.memo
    tasks: np.ndarray | None = memo.get(("tasks", threads))
    if tasks is None:
        found = []
        for b, (_, d, mul, first, last, *_) in enumerate(structure.tables.blocks.tolist()):
            parts = max(1, min(threads, mul // _LEAST_CHANNELS))
            bounds = [mul * k // parts for k in range(parts + 1)]
            found += [(-(last - first) * d, b, low, high) for low, high in pairwise(bounds)]
        ordered = [task[1:] for task in sorted(found)]
        tasks = memo["tasks", threads] = np.array(ordered, dtype=np.int64).reshape(-1, 3)
    return tasks
