"""Coefficients of DISCO layers: kernel values times areas for one representative pair per symmetry class."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.grids._cache import geometry
from spheregeo.kernels import Kernel, correct_moments, normalise
from spheregeo.sampling.relation import Relation, relation
from spheregeo.sparse import SparseMap

ROUNDING = 1e-15  # of a function's largest coefficient


def disco_map(
    source: Grid,
    target: Grid,
    kernel: Kernel,
    radius: float,
    *,
    moments: int | None,
    normalization: str,
    transposed: bool,
    dtype: torch.dtype,
    engine: str | None,
) -> SparseMap:
    """The sparse map of a DISCO layer, K = kernel.num_functions; layers of equal geometry share its tensors."""
    if transposed and kernel.isotropic and normalization == "none":
        transposed = False  # filters that depend on the distance alone are centred at both ends
    if transposed:
        moments = None
    key = ("disco", source, target, kernel, radius, moments, normalization, transposed, dtype)

    def build() -> SparseMap:
        rows, columns = (target, source) if not transposed else (source, target)
        found = relation(columns, rows, radius, isotropic=kernel.isotropic)
        values = _coefficients(found, columns, rows, kernel, radius, moments, normalization, transposed)
        # Rounding residues (sin of multiples of pi) would turn into subnormal numbers, which CPUs multiply slowly.
        values[values.abs() < ROUNDING * values.abs().amax(1, keepdim=True)] = 0.0
        keep = (values != 0).any(0)
        map_ = SparseMap.from_pattern(found.pattern.prune(keep), values[:, keep].to(dtype))
        return map_.transpose() if transposed else map_

    return geometry.get(key, build).shared(engine)


def _coefficients(
    found: Relation,
    columns: Grid,
    rows: Grid,
    kernel: Kernel,
    radius: float,
    moments: int | None,
    normalization: str,
    transposed: bool,
) -> Tensor:
    near = found.neighborhood
    values = kernel(near.distance, near.angle, radius)
    if transposed:
        # Filters sit at the rows, which are the source points: their area, not the column's, is the measure.
        weights = _areas(rows, found.representatives)[near.rows]
        return values * weights
    weights = _areas(columns, near.indices)
    if normalization != "none":
        values = normalise(values, weights, near.indptr, kernel, radius, normalization)
    if moments is not None:
        values = correct_moments(
            values, near.distance, near.angle, weights, near.indptr, kernel, radius, moments
        )
    return values * weights


def _areas(grid: Grid, index: Tensor) -> Tensor:
    """Areas of some points; row by row on lat-lon grids, so that a huge grid's full table is never built."""
    if hasattr(grid, "row_areas"):
        return grid.row_areas[index // grid.shape[1]]
    return grid.areas[index]
