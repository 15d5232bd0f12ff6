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
from spheregeo.spectral import rotate_field


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
    lmax: int | None = None,
) -> Tensor:
    """Signal turned by a rotation: (R f)(p) = f(R⁻¹ p). Differentiable in x.

    Args:
        x: field on the grid; integers and booleans (labels) with "nearest" only.
        grid: the grid x is on.
        rotation: matrix (3, 3) or unit quaternion (w, x, y, z).
        method: "linear", "nearest", or "harmonic" (through spherical harmonics: without error for fields of low degrees, which
            masks and edges are not).
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it; "propagate" alone with "harmonic".
        fields: type of the channels before the points, such as "1x0 + 1x1": tangent fields turn with the points that they are
            at. None for scalars.
        lmax: largest degree of "harmonic"; all that the grid resolves where absent.

    Shape: (..., *grid.shape) -> the same; with ``fields`` (..., dim, *grid.shape).
    Equivariance: exact for rotations that permute the grid (``grid.symmetry``; whole columns of a lat-lon grid), and with
        "harmonic" for fields of degrees to ``lmax``; else with the error of the interpolation, second order in the spacing.
    Raises: ValueError where x does not fit the grid or the rotation is none; TypeError where labels would be mixed.
    """
    check_method(method, ("linear", "nearest", "harmonic"))
    check_missing(missing)
    if method == "harmonic":
        return _by_harmonics(x, grid, rotation, missing, lmax, fields)
    if lmax is not None:
        raise ValueError(f"lmax is {lmax} with method {method!r}; only 'harmonic' has degrees")
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


def _by_harmonics(
    x: Tensor, grid: Grid, rotation: Tensor, missing: str, lmax: int | None, fields: str | FieldType | None
) -> Tensor:
    """Each order of the fields by harmonics of its spin."""
    if missing != "propagate":
        raise ValueError(
            "missing is 'renormalize' with method 'harmonic', where every value enters everywhere; fill them"
        )
    check_sphere(grid, "grid")
    matrix = _single(rotation)
    if fields is None:
        flat = flatten(x, grid)
        check_floating(x, "harmonic")
        return rotate_field(unflatten(flat, grid), grid, matrix, lmax)
    kind = FieldType.of(fields)
    flat = flatten_fields(x, grid, kind)
    check_floating(x, "harmonic")
    parts = []
    for channels, count, order in kind.blocks:
        part = unflatten(flat[..., channels, :], grid)
        axis = part.ndim - len(grid.shape) - 1
        if order:
            part = part.unflatten(axis, (count, 2))
        made = rotate_field(part, grid, matrix, lmax, order)
        parts.append(made.flatten(axis, axis + 1) if order else made)
    return torch.cat(parts, axis)
