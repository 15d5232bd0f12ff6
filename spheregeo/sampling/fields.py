"""Checks of a field's shape against its grid, with a guess at what the caller meant."""

from __future__ import annotations

import math

from torch import Tensor

from spheregeo.grids import Grid, HEALPix, Icosahedral, LatLon


def flatten(x: Tensor, grid: Grid, name: str = "grid") -> Tensor:
    """(..., *grid.shape) -> (..., num_points), or an error that says what came and what was expected."""
    shape, last = tuple(grid.shape), tuple(x.shape[-len(grid.shape) :])
    if last != shape:
        has = f"{last[0]} on its last axis" if len(shape) == 1 and last else f"shape {tuple(x.shape)}"
        expected = f"{shape[0]} points" if len(shape) == 1 else f"shape {shape}"
        raise ValueError(f"x has {has}, {name} has {expected}{_guess(tuple(x.shape), grid)}")
    return x.reshape(*x.shape[: -len(shape)], grid.num_points)


def unflatten(x: Tensor, grid: Grid) -> Tensor:
    """(..., num_points) -> (..., *grid.shape)."""
    return x.reshape(*x.shape[:-1], *grid.shape)


def check_floating(x: Tensor, method: str) -> None:
    """Refuse to mix labels."""
    if not x.is_floating_point():
        raise TypeError(
            f"x is {x.dtype} and {method!r} mixes values; labels need 'nearest' (or pooling by 'max')"
        )


def _guess(shape: tuple[int, ...], grid: Grid) -> str:
    n = shape[-1] if shape else 0
    if isinstance(grid, HEALPix):
        nside = math.isqrt(n // 12)
        if n and 12 * nside * nside == n:
            return f"; did you build the grid with nside={nside}?"
    if isinstance(grid, Icosahedral):
        level = round(math.log((n - 2) / 10, 4)) if n >= 12 else -1
        if level >= 0 and 10 * 4**level + 2 == n:
            return f"; did you build the grid with level={level}?"
    if isinstance(grid, LatLon) and len(shape) >= 2:
        if n == grid.num_points:
            return f"; reshape x to (..., {grid.shape[0]}, {grid.shape[1]})"
        if shape[-2:] == (grid.shape[1], grid.shape[0]):
            return "; latitude is the axis before the last: did you transpose x?"
        return f"; did you build the grid with nlat={shape[-2]}, nlon={shape[-1]}?"
    return "; the last axes must be the grid's shape"
