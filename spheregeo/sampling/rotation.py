"""Rotations and rotated signals on grids: (R f)(p) = f(R⁻¹ p)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.groups import FieldType, rotation_matrix
from spheregeo.sampling.directions import check_sphere
from spheregeo.sampling.fields import carried, check_floating, flatten, flatten_fields, unflatten
from spheregeo.sampling.interpolation import apply_stencils, build_field_map, build_map, check_method
from spheregeo.sampling.missing import check_missing, renormalized, renormalized_fields
from spheregeo.sparse import SparseMap


def _single(rotation: Tensor | Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    matrix = rotation_matrix(rotation)
    if matrix.ndim != 2:
        raise ValueError(
            f"rotation holds {matrix.shape[:-2].numel()} rotations, expected one: (3, 3) or (4,)"
        )
    return matrix


def rotation_map(grid: Grid, rotation: Tensor, method: str = "linear") -> SparseMap:
    """Sparse map of :func:`rotate`, flat on both sides: for many signals under one rotation; not cached."""
    check_method(method, ("linear", "nearest"))
    return build_map(grid, grid, method, _single(rotation))


def rotate(
    x: Tensor,
    grid: Grid,
    rotation: Tensor,
    method: str = "linear",
    missing: str = "propagate",
    fields: str | FieldType | None = None,
) -> Tensor:
    """Signal turned by a rotation: (R f)(p) = f(R⁻¹ p). Differentiable in x.

    Args:
        x: field on the grid; integers and booleans (labels) with "nearest" only.
        grid: the grid x is on.
        rotation: matrix (3, 3) or unit quaternion (w, x, y, z).
        method: "linear" or "nearest".
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it.
        fields: type of the channels before the points, such as "1x0 + 1x1": tangent fields turn with the points that they are
            at. None for scalars.

    Shape: (..., *grid.shape) -> the same; with ``fields`` (..., dim, *grid.shape).
    Equivariance: exact for rotations that permute the grid (``grid.symmetry``; whole columns of a lat-lon grid), else
        with the error of the interpolation, second order in the spacing.
    Raises: ValueError where x does not fit the grid or the rotation is none; TypeError where labels would be mixed.
    """
    check_method(method, ("linear", "nearest"))
    check_missing(missing)
    if fields is not None:
        kind = FieldType.of(fields)
        matrix = _single(rotation)
        flat = flatten_fields(x, grid, kind)
        check_floating(x, method)
        if missing == "renormalize":
            return renormalized_fields(
                x,
                lambda field: rotate(field, grid, matrix, method, fields=kind),
                lambda mask: rotate(mask, grid, matrix, method),
                kind,
                flat.ndim - 2,
            )
        dtype = x.dtype if x.dtype == torch.float64 else torch.float32
        map_ = build_field_map(grid, grid, method, kind, matrix).to(device=x.device, dtype=dtype)
        return carried(flat, map_, grid)
    if missing == "renormalize":
        return renormalized(x, lambda field: rotate(field, grid, rotation, method))
    check_sphere(grid, "grid")
    matrix = _single(rotation)
    flat = flatten(x, grid)
    if method != "nearest":
        check_floating(x, method)
    return unflatten(apply_stencils(flat, grid, grid, method, matrix), grid)
