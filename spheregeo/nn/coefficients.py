"""Coefficients of DISCO layers: kernel values times areas for one representative pair per symmetry class."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.grids.latlon import LatLon
from spheregeo.kernels import Kernel, correct_moments, normalize
from spheregeo.nn.averaged import averaged_map
from spheregeo.sampling.relation import Relation, relation
from spheregeo.sparse import RingPattern, SparseMap

ROUNDING = 1e-15  # of a function's largest coefficient


def disco_map(
    source: Grid,
    target: Grid,
    kernel: Kernel,
    radius: float,
    *,
    moments: int | None,
    normalization: str | None,
    transposed: bool,
    dtype: torch.dtype,
    engine: str | None,
    polar: str = "exact",
) -> SparseMap:
    """The sparse map of a DISCO layer, K = kernel.num_functions; layers of equal geometry share its tensors."""
    if transposed and kernel.isotropic and normalization is None:
        transposed = False  # filters that depend on the distance alone are centred at both ends
    if transposed:
        moments = None
    key = ("disco", source, target, kernel, radius, moments, normalization, transposed, dtype, polar)

    def build() -> SparseMap:
        can = not transposed and normalization is None
        if polar == "averaged" and can and isinstance(source, LatLon) and isinstance(target, LatLon):
            averaged = averaged_map(source, target, kernel, radius, moments, dtype)
            if averaged is not None:
                return averaged
        found, values = coefficients(source, target, kernel, radius, moments, normalization, transposed)
        # Rounding residues (sin of multiples of pi) would turn into subnormal numbers, which CPUs multiply slowly.
        if values.shape[1]:
            values[values.abs() < ROUNDING * values.abs().amax(1, keepdim=True)] = 0.0
        keep = (values != 0).any(0)
        map_ = SparseMap.from_pattern(found.pattern.prune(keep), values[:, keep], dtype=dtype)
        return map_.transpose() if transposed else map_

    return geometry.get(key, build).shared(engine)


def coefficients(
    source: Grid,
    target: Grid,
    kernel: Kernel,
    radius: float,
    moments: int | None,
    normalization: str | None,
    transposed: bool,
    transport: bool = False,
) -> tuple[Relation, Tensor]:
    """Pairs and their coefficients (K, pairs); rows are the points at which filters are centred.

    Those are the target's, and the source's areas are the measure; or, ``transposed``, the source's with their own
    areas, and the pairs' columns are target points.
    """
    rows, columns = (source, target) if transposed else (target, source)
    found = relation(columns, rows, radius, isotropic=kernel.isotropic and not transport, transport=transport)
    near = found.neighborhood
    values = kernel(near.distance, near.angle, radius)
    weights = (
        areas_at(rows, found.representatives)[near.rows] if transposed else areas_at(columns, near.indices)
    )
    if normalization is not None:
        support = kernel.support(near.distance, near.angle, radius)
        run = _normalize_columns if transposed else _normalize_rows
        values = run(found, columns, values, weights, support, kernel, radius, normalization)
    elif moments is not None:
        values = correct_moments(
            values, near.distance, near.angle, weights, near.indptr, kernel, radius, moments
        )
    return found, values * weights


def _normalize_rows(
    found: Relation,
    columns: Grid,
    values: Tensor,
    weights: Tensor,
    support: Tensor,
    kernel: Kernel,
    radius: float,
    mode: str,
) -> Tensor:
    """torch-harmonics' normalisation of filters that are centred at the output points."""
    near = found.neighborhood
    if mode == "mean":  # over all output points, of which each representative stands for several
        size = values.new_zeros(len(values), len(found.representatives))
        size.index_add_(1, near.rows, values.abs() * weights)
        mean = (size * found.multiplicity).sum(1) / found.multiplicity.sum()
        return values / mean.clamp(min=1e-9)[:, None]
    isotropic = [order == 0 for order in kernel.orders]
    return normalize(values, weights, near.indptr, radius, mode, support=support, isotropic=isotropic)


def _normalize_columns(
    found: Relation,
    columns: Grid,
    values: Tensor,
    weights: Tensor,
    support: Tensor,
    kernel: Kernel,
    radius: float,
    mode: str,
) -> Tensor:
    """torch-harmonics' normalisation of transposed layers: sums over the filters that reach an output point.

    They are averaged over each row of a lat-lon grid of output points; on other grids each point stands alone.
    """
    pattern = found.pattern
    if isinstance(pattern, RingPattern):
        turned, pair = pattern.adjoint()
        indptr, width = turned.indptr, columns.shape[-1] // pattern.columns
    else:
        _, point, pair = pattern.coo()
        order = torch.argsort(point, stable=True)
        pair, counts = pair[order], torch.bincount(point, minlength=columns.num_points)
        indptr, width = torch.cat([counts.new_zeros(1), counts.cumsum(0)]), columns.shape[-1]
    ring = torch.arange(len(indptr) - 1) // width if isinstance(columns, LatLon) else None
    normalized = normalize(
        values[:, pair],
        weights[pair],
        indptr,
        radius,
        mode,
        support=support[:, pair],
        isotropic=[order == 0 for order in kernel.orders],
        ring=ring,
    )
    out = torch.empty_like(values)
    out[:, pair] = normalized  # a pair that several equivalent points share gets equal values from each
    return out


def areas_at(grid: Grid, index: Tensor) -> Tensor:
    """Areas of some points; row by row on lat-lon grids, so that a huge grid's full table is never built."""
    if isinstance(grid, LatLon):
        return grid.row_areas[index // grid.nlon]
    return grid.areas[index]
