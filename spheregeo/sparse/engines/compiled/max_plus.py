"""Largest sums by compiled loops: planes in a margin of −∞, all taps of a stretch of places while it is in cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spheregeo.sparse.engines import kernels
from spheregeo.sparse.engines.compiled.runtime import array, remembered, threads
from spheregeo.sparse.forms.max_plus import MaxRows, Stencil, tap_type


def max_plus(
    structure: Stencil | MaxRows, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Largest sums and their taps."""
    x, k = arguments
    assert x is not None and k is not None
    y = x.new_empty(structure.result(x, k))
    taps = torch.empty(y.shape, dtype=tap_type(structure))
    with threads() as count:
        if isinstance(structure, Stencil):
            steps, margins = np.array(structure.shifts, np.int64), np.array(structure.margins, np.int64)
            kernels.max_planes(array(x), array(k), steps, margins, count, y.numpy(), taps.numpy())
        else:
            rows = remembered(structure.memo, "rows", structure.tensors)
            kernels.max_rows(array(x), array(k), *rows, y.numpy(), taps.numpy())
    return [y, taps]


def max_plus_gradients(
    structure: Stencil | MaxRows, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Gradients of values and coefficients; those of coefficients are made for each sample, so that no two threads add to one."""
    g, taps = arguments
    assert g is not None and taps is not None
    of_x, of_k = structure.given(g)
    dx, dk = g.new_zeros(of_x), g.new_zeros(len(g), *of_k)
    with threads() as count:
        if isinstance(structure, Stencil):
            steps = np.array(structure.shifts, np.int64)
            kernels.max_planes_back(array(g), array(taps), steps, count, dx.numpy(), dk.numpy())
        else:
            _, source, column = remembered(structure.memo, "rows", structure.tensors)
            kernels.max_rows_back(array(g), array(taps), source, column, dx.numpy(), dk.numpy())
    return [dx, dk.sum(0)]
