"""Rotations and rotated signals on grids: (R f)(p) = f(R⁻¹ p)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.groups import from_quaternion
from spheregeo.sampling.directions import check_sphere
from spheregeo.sampling.fields import check_floating, flatten, unflatten
from spheregeo.sampling.interpolation import apply_stencils, build_map, check_method
from spheregeo.sampling.missing import check_missing, renormalized
from spheregeo.sparse import SparseMap


def rotation_matrix(rotation: Tensor | Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Rotation as float64 matrices, checked.

    Args:
        rotation: matrices (..., 3, 3), or unit quaternions (..., 4) in the order (w, x, y, z).

    Shape: (..., 3, 3) or (..., 4) -> (..., 3, 3).
    Raises: ValueError where it is no proper rotation to 1e-4; within that it is made one to 1e-15.
    """
    r = torch.as_tensor(rotation, dtype=torch.float64).detach().cpu()
    if r.ndim >= 2 and r.shape[-2:] == (3, 3):
        error = (r @ r.mT - torch.eye(3, dtype=torch.float64)).abs().max()
        if not float(error) <= 1e-4:
            raise ValueError(
                f"rotation is not orthonormal: R R^T is off the identity by {float(error):.3g}, at most 1e-4"
            )
        if bool((torch.linalg.det(r) < 0).any()):
            raise ValueError("rotation has determinant -1, a reflection; expected +1 (did you flip an axis?)")
        u, _, vh = torch.linalg.svd(r)  # the nearest orthonormal matrix takes float32's rounding away
        return r if float(error) < 1e-14 else u @ vh
    if r.ndim >= 1 and r.shape[-1] == 4:
        norm = r.norm(dim=-1, keepdim=True)
        if not bool(((norm - 1).abs() < 1e-4).all()):
            raise ValueError(
                f"rotation is a quaternion of length {float(norm.min()):g}, expected 1; order (w, x, y, z)"
            )
        return from_quaternion(r)
    raise ValueError(
        f"rotation has shape {tuple(r.shape)}, expected (3, 3) or a quaternion (4,) as (w, x, y, z)"
    )


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
    x: Tensor, grid: Grid, rotation: Tensor, method: str = "linear", missing: str = "propagate"
) -> Tensor:
    """Signal turned by a rotation: (R f)(p) = f(R⁻¹ p). Differentiable in x.

    Args:
        x: field on the grid; integers and booleans (labels) with "nearest" only.
        grid: the grid x is on.
        rotation: matrix (3, 3) or unit quaternion (w, x, y, z).
        method: "linear" or "nearest".
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it.

    Shape: (..., *grid.shape) -> the same.
    Equivariance: exact for rotations that permute the grid (``grid.symmetry``; whole columns of a lat-lon grid), else
        with the error of the interpolation, second order in the spacing. Scalars only: vectors need their components turned, too.
    Raises: ValueError where x does not fit the grid or the rotation is none; TypeError where labels would be mixed.
    """
    check_method(method, ("linear", "nearest"))
    check_missing(missing)
    if missing == "renormalize":
        return renormalized(x, lambda field: rotate(field, grid, rotation, method))
    check_sphere(grid, "grid")
    matrix = _single(rotation)
    flat = flatten(x, grid)
    if method != "nearest":
        check_floating(x, method)
    return unflatten(apply_stencils(flat, grid, grid, method, matrix), grid)
