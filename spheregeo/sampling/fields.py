"""Fields on grids: checks of shapes, with a guess at what the caller meant, and maps that carry tangent fields with their frames.

Interpolation of a tangent field first turns each source's components into the target's frame, along the geodesic between the two
points, and then takes the mean. Components interpolated as scalars would be means of numbers that belong to different directions:
near a pole, where frames turn fast, they are wrong by as much as they are large.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid, HEALPix, Icosahedral, LatLon
from spheregeo.groups import FieldType
from spheregeo.sparse import SparseMap

Rows = tuple[Tensor, Tensor, Tensor]  # indptr, indices, weights


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


def turn_between(e: Tensor, f: Tensor) -> Tensor:
    """Angle that carries a field from frames f to frames e along the smallest rotation of their normals. Shape: (N, 2, 3)."""
    across = (e[:, 1] * f[:, 0]).sum(1) - (e[:, 0] * f[:, 1]).sum(1)
    along = (e[:, 0] * f[:, 0]).sum(1) + (e[:, 1] * f[:, 1]).sum(1)
    return torch.atan2(across, along)


class FieldMap(nn.Module):
    """Weighted means of tangent fields over a few source points, each carried to the target's frame first.

    Args:
        rows: (indptr, indices, weights), as of a :class:`~spheregeo.sparse.SparseMap`.
        turn: (nnz,) angle by which a field turns on its way from the source's frame to the target's.
        num_source: number of source points.
        fields: the field type, such as ``"8x0 + 8x1"``: 8 scalars and 8 vector fields in frames (south, east).

    Shape: (..., fields.dim, num_source) -> (..., fields.dim, num_target), flat on both sides.
    Equivariance: frames turned by any angles at any points: exact.
    Raises: ValueError for another number of channels or points.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular, HEALPix
        >>> from spheregeo.sampling import interpolation_map
        >>> carry = interpolation_map(Equiangular(8, 16), HEALPix(4), fields="1x0 + 1x1")
        >>> carry(torch.randn(2, 3, 128)).shape
        torch.Size([2, 3, 192])
    """

    def __init__(self, rows: Rows, turn: Tensor, num_source: int, fields: str | FieldType) -> None:
        super().__init__()
        self.fields = FieldType.of(fields)
        indptr, indices, weights = rows
        self.num_source, self.num_target = num_source, len(indptr) - 1
        self.orders = sorted({order for _, _, order in self.fields.blocks})
        self.maps = nn.ModuleList()
        for m in self.orders:
            values = (
                weights
                if m == 0
                else torch.stack([weights * torch.cos(m * turn), weights * torch.sin(m * turn)])
            )
            self.maps.append(SparseMap(indptr, indices, values, num_source))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or tuple(x.shape[-2:]) != (self.fields.dim, self.num_source):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (..., {self.fields.dim}, {self.num_source}), fields of type "
                f"'{self.fields}'"
            )
        parts = []
        for channels, _, order in self.fields.blocks:
            part = x[..., channels, :]
            map_ = self.maps[self.orders.index(order)]
            z: Tensor = map_(part)
            if order:  # (..., channels, 2, P): products with cos and sin
                c, s = z[..., 0::2, :, :], z[..., 1::2, :, :]
                z = torch.stack([c[..., 0, :] - s[..., 1, :], c[..., 1, :] + s[..., 0, :]], -2).flatten(
                    -3, -2
                )
            parts.append(z)
        return torch.cat(parts, -2)


def flatten_fields(x: Tensor, grid: Grid, fields: FieldType, name: str = "grid") -> Tensor:
    """(..., dim, *grid.shape) -> (..., dim, num_points). Raises: ValueError for other channels or points."""
    flat = flatten(x, grid, name)
    if flat.ndim < 2 or flat.shape[-2] != fields.dim:
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected {fields.dim} channels before the points, fields of type '{fields}'"
        )
    return flat


def carried(x: Tensor, run: Callable[[Tensor], Tensor], grid: Grid) -> Tensor:
    """``run`` on flat fields in the type to contract in, its result in that of x and on a grid."""
    wide = x.dtype if x.dtype == torch.float64 else torch.float32
    return unflatten(run(x.to(wide)).to(x.dtype), grid)


def tangent_from_wind(u: Tensor, v: Tensor, grid: Grid) -> Tensor:
    """Tangent field of order 1 from components towards east and north: the pair (south, east) is (-v, u).

    Args:
        u: component towards the east, such as a zonal wind.
        v: component towards the north, such as a meridional wind.
        grid: the grid that both are on.

    Shape: (..., *grid.shape) each -> (..., 2, *grid.shape).
    Units: those of u and v.
    Raises: ValueError for shapes that do not fit.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.sampling import tangent_from_wind
        >>> tangent_from_wind(torch.ones(4, 8), torch.zeros(4, 8), Equiangular(4, 8))[:, 0, 0]
        tensor([-0., 1.])
    """
    if u.shape != v.shape:
        raise ValueError(f"v has shape {tuple(v.shape)}; expected {tuple(u.shape)}, that of u")
    south, east = flatten(-v, grid), flatten(u, grid)
    return unflatten(torch.stack([south, east], -2), grid)


def wind_from_tangent(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Components (u, v) towards east and north of a tangent field of order 1; undoes :func:`tangent_from_wind`.

    Args:
        x: the field, pairs (south, east).
        grid: the grid that it is on.

    Shape: (..., 2, *grid.shape) -> (..., *grid.shape) twice.
    Units: those of x.
    Raises: ValueError for another shape.
    """
    south, east = flatten_fields(x, grid, FieldType("1x1")).unbind(-2)
    return unflatten(east, grid), unflatten(-south, grid)


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
