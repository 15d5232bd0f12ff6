"""Interpolation between any two grids as a sparse linear map: each target point takes a few source points' mean.

*linear* reproduces constants exactly and smooth functions to second order in the spacing: bilinear in colatitude and
longitude on lat-lon grids, barycentric in the containing spherical triangle on all others. *nearest* takes the
nearest source point. *average* takes the mean over the target's cell (:mod:`spheregeo.sampling.average`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import overload

import torch
from torch import Tensor

from spheregeo.grids import Grid, HEALPix, LatLon
from spheregeo.grids.base import frames_of
from spheregeo.grids.cache import geometry
from spheregeo.groups import FieldType
from spheregeo.sampling.average import average_rows
from spheregeo.sampling.cache import cached_map
from spheregeo.sampling.directions import Directions, check_points, check_sphere, directions
from spheregeo.sampling.fields import FieldMap, turn_between
from spheregeo.sampling.healpix import LinearHEALPix, NearestHEALPix
from spheregeo.sampling.latlon import BilinearLatLon, NearestLatLon
from spheregeo.sampling.triangles import NearestInTree, triangulation
from spheregeo.sparse import SparseMap

METHODS = ("linear", "nearest", "average")
NEGLIGIBLE = (
    1e-12  # a weight below this is rounding: a point that sits on a source point reads that one alone
)

Stencil = Callable[[Directions], tuple[Tensor, Tensor]]  # (m,) directions -> (m, k) indices, (m, k) weights


def stencil(source: Grid, method: str) -> Stencil:
    """How a direction reads a grid: a function from directions to source indices and weights."""
    if method == "nearest":
        if isinstance(source, LatLon):
            return NearestLatLon(source)
        return NearestHEALPix(source) if isinstance(source, HEALPix) else NearestInTree(source)
    if isinstance(source, LatLon):
        return BilinearLatLon(source)
    return LinearHEALPix(source) if isinstance(source, HEALPix) else triangulation(source)


def stencils(
    source: Grid, target: Grid | Tensor, method: str, rotation: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of (m, k) source indices and weights that sum to 1, for the target's points in order."""
    read = stencil(source, method)
    for at in directions(target, rotation):
        indices, weights = read(at)
        weights = weights.masked_fill(weights < NEGLIGIBLE, 0.0)
        yield indices, weights / weights.sum(dim=1, keepdim=True)


def apply_stencils(
    x: Tensor, source: Grid, target: Grid, method: str, rotation: Tensor | None = None
) -> Tensor:
    """Interpolate (..., Q) -> (..., P) chunk by chunk, with no map built: for maps used once, and for the largest ones."""
    parts = []
    compute = x.dtype if x.dtype == torch.float64 or method == "nearest" else torch.float32
    flat = x.to(compute)
    for index, weights in stencils(source, target, method, rotation):
        index = index.to(x.device)
        if method == "nearest":
            parts.append(flat.index_select(-1, index[:, 0]))
            continue
        weights = weights.to(device=x.device, dtype=compute)
        terms = (flat.index_select(-1, index[:, k]) * weights[:, k] for k in range(index.shape[1]))
        parts.append(sum(terms, start=flat.new_zeros(())))  # (..., m)
    return torch.cat(parts, dim=-1).to(x.dtype)


def check_method(method: str, allowed: tuple[str, ...] = METHODS) -> None:
    """Refuse a method that does not exist, naming those that do."""
    if method not in allowed:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(map(repr, allowed))}")


def compressed_rows(
    source: Grid, target: Grid | Tensor, method: str, rotation: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(indptr, indices, values) of linear or nearest interpolation, zero weights left out."""
    counts, columns, values = [torch.zeros(1, dtype=torch.int64)], [], []
    for indices, weights in stencils(source, target, method, rotation):
        kept = weights != 0
        counts.append(kept.sum(dim=1))
        columns.append(indices[kept].to(torch.int32))
        values.append(weights[kept])
    if not columns:
        return (
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(0, dtype=torch.int32),
            torch.zeros(0, dtype=torch.float64),
        )
    return torch.cat(counts).cumsum(0), torch.cat(columns), torch.cat(values)


def build_map(source: Grid, target: Grid | Tensor, method: str, rotation: Tensor | None = None) -> SparseMap:
    """The map itself, checked and built anew."""
    check_sphere(source, "source")
    if isinstance(target, Grid):
        check_sphere(target, "target")
        if target == source and rotation is None:
            n = source.num_points
            return SparseMap(torch.arange(n + 1), torch.arange(n), torch.ones(n, dtype=torch.float64), n)
    if method == "average":
        if isinstance(target, Tensor):
            raise ValueError(
                "method 'average' needs a target grid with cells, got points; use method='linear'"
            )
        return SparseMap(*average_rows(source, target, compressed_rows), source.num_points)
    return SparseMap(*compressed_rows(source, target, method, rotation), source.num_points)


def build_field_map(
    source: Grid, target: Grid | Tensor, method: str, fields: FieldType, rotation: Tensor | None = None
) -> FieldMap:
    """The map that carries tangent fields with their frames, built anew; a rotation turns them along with the points."""
    check_sphere(source, "source")
    if isinstance(target, Grid):
        check_sphere(target, "target")
    if method == "average":
        if isinstance(target, Tensor):
            raise ValueError(
                "method 'average' needs a target grid with cells, got points; use method='linear'"
            )
        rows = average_rows(source, target, compressed_rows)
    else:
        rows = compressed_rows(source, target, method, rotation)
    indptr, indices, _ = rows
    row = torch.arange(len(indptr) - 1).repeat_interleave(indptr.diff())
    frames = frames_of(target) if isinstance(target, Tensor) else target.frames
    if rotation is not None:
        frames = frames @ rotation  # at R^-1 p: the frame of p turned back with it
    turn = turn_between(frames[row], source.frames[indices.long()])
    return FieldMap(rows, turn, source.num_points, fields)


def ready_field_map(source: Grid, target: Grid, method: str, fields: FieldType, x: Tensor) -> FieldMap:
    """The map on x's device and in the dtype to contract x in, kept by value; never to be handed to a user."""
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    key = ("fields", source, target, method, fields, dtype, x.device)
    # built anew for each type: ``to`` converts a map in place, and a float64 map kept beside would be converted with it
    return geometry.get(
        key, lambda: build_field_map(source, target, method, fields).to(device=x.device, dtype=dtype)
    )


@overload
def interpolation_map(
    source: Grid, target: Grid | Tensor, method: str = ..., fields: None = ...
) -> SparseMap: ...
@overload
def interpolation_map(
    source: Grid, target: Grid | Tensor, method: str = ..., *, fields: str | FieldType
) -> FieldMap: ...
def interpolation_map(
    source: Grid, target: Grid | Tensor, method: str = "linear", fields: str | FieldType | None = None
) -> SparseMap | FieldMap:
    """Sparse map from values at the source's points to values at the target's points.

    Args:
        source: grid on the sphere.
        target: grid on the sphere, or unit vectors (M, 3).
        method: "linear", "nearest", or, between grids, "average".
        fields: type of tangent fields, such as "8x0 + 8x1", to be carried with their frames; None for scalars.

    Shape: (..., source.num_points) -> (..., target.num_points), flat on both sides; with ``fields`` as
        :class:`~spheregeo.sampling.FieldMap`, with their channels before the points.
    Units: weights have none; each row sums to 1 (constants are kept to 1e-15).
    Equivariance: exact under rotations that permute both grids, approximate (second order in the spacing) under others.
    Raises: ValueError for an unknown method, a plane, points that are not unit vectors.
    Reference: Górski et al. 2005 (HEALPix rings); Brown 1979 (Delaunay triangulation on the sphere by convex hull).
    """
    check_method(method)
    if fields is not None:
        at = check_points(target) if isinstance(target, Tensor) else target
        return build_field_map(source, at, method, FieldType.of(fields))
    if isinstance(target, Tensor):
        return build_map(source, check_points(target), method)
    return cached_map((source, target, method), lambda: build_map(source, target, method))
