r"""Converters between this library's grids and the layouts that data arrive in; none of them resamples.

* HEALPix maps: ring ↔ nested order, and the twelve faces as square images.
* torch-harmonics: its "equiangular" grid has pole rows, "legendre-gauss" is Gauss–Legendre; fields share our layout.
* Panorama photos: the first column is centred half a pixel after −π, i.e. ``Equiangular(h, w, offset=(1 − w)/2)``. Columns
  of that grid never coincide with those of ``Equiangular(h, w)`` when w is even, so a photo is *declared* to lie on the
  grid it does lie on; rolling it by half a turn (``panorama_to_grid``) leaves an offset of half a column.
* Earth fields: latitudes south-up or north-up, longitudes −180…180 or 0…360, with or without a repeated last column.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.latlon import Equiangular, GaussLegendre, LatLon

# ---- HEALPix


def ring_to_nested(x: Tensor) -> Tensor:
    """A HEALPix map brought from ring to nested order.

    Shape: (..., 12 nside²) -> the same. Raises: ValueError unless nside is a power of two.
    """
    import healpy

    nside = _nside(x.shape[-1], power=True)
    return x[..., torch.from_numpy(healpy.nest2ring(nside, np.arange(x.shape[-1]))).to(x.device)]


def nested_to_ring(x: Tensor) -> Tensor:
    """A HEALPix map brought from nested to ring order.

    Shape: (..., 12 nside²) -> the same. Raises: ValueError unless nside is a power of two.
    """
    import healpy

    nside = _nside(x.shape[-1], power=True)
    return x[..., torch.from_numpy(healpy.ring2nest(nside, np.arange(x.shape[-1]))).to(x.device)]


def healpix_to_faces(x: Tensor, order: str = "ring") -> Tensor:
    """A HEALPix map cut into its twelve base pixels, each a square image indexed [face, y, x]: +x north-east, +y north-west.

    Shape: (..., 12 nside²) -> (..., 12, nside, nside). Raises: ValueError for another length or order.
    """
    return x[..., torch.from_numpy(_face_pixels(_nside(x.shape[-1]), order)).to(x.device)]


def faces_to_healpix(faces: Tensor, order: str = "ring") -> Tensor:
    """The inverse of ``healpix_to_faces``.

    Shape: (..., 12, nside, nside) -> (..., 12 nside²). Raises: ValueError for another shape or order.
    """
    if faces.ndim < 3 or faces.shape[-3] != 12 or faces.shape[-1] != faces.shape[-2]:
        raise ValueError(f"faces has shape {tuple(faces.shape)}, expected (..., 12, nside, nside)")
    inverse = np.argsort(_face_pixels(faces.shape[-1], order).ravel())
    return faces.flatten(-3)[..., torch.from_numpy(inverse).to(faces.device)]


def _face_pixels(nside: int, order: str) -> np.ndarray:
    """Pixel number at [face, y, x]."""
    import healpy

    if order not in ("ring", "nested"):
        raise ValueError(f"order is {order!r}, expected 'ring' or 'nested'")
    if order == "nested" and nside & (nside - 1):
        raise ValueError(f"nested order needs nside to be a power of two, got {nside}")
    face, y, x = np.meshgrid(np.arange(12), np.arange(nside), np.arange(nside), indexing="ij")
    pixels: np.ndarray = healpy.xyf2pix(nside, x, y, face, nest=order == "nested")
    return pixels


def _nside(length: int, power: bool = False) -> int:
    nside = math.isqrt(length // 12)
    if nside < 1 or 12 * nside**2 != length:
        raise ValueError(f"the last axis has {length} entries, expected 12 nside² of a HEALPix map")
    if power and nside & (nside - 1):
        raise ValueError(f"nside is {nside}; nested order exists for powers of two only")
    return nside


# ---- torch-harmonics


def to_torch_harmonics(grid: LatLon) -> tuple[int, int, str]:
    """Arguments (nlat, nlon, grid) that name this grid in torch-harmonics; fields need no change.

    Raises: ValueError for cell-centred rows or a first longitude other than 0, which it does not have.
    """
    if not grid.offset and isinstance(grid, GaussLegendre):
        return grid.nlat, grid.nlon, "legendre-gauss"
    if not grid.offset and isinstance(grid, Equiangular) and grid.poles:
        return grid.nlat, grid.nlon, "equiangular"
    raise ValueError(f"torch-harmonics has no {grid!r}: use GaussLegendre or poles=True, with offset=0")


def from_torch_harmonics(nlat: int, nlon: int, grid: str = "equiangular") -> LatLon:
    """The grid that torch-harmonics calls by this name.

    Raises: ValueError for a name other than "equiangular" or "legendre-gauss".
    """
    if grid == "equiangular":
        return Equiangular(nlat, nlon, poles=True)
    if grid == "legendre-gauss":
        return GaussLegendre(nlat, nlon)
    raise ValueError(
        f"grid is {grid!r}, expected 'equiangular' or 'legendre-gauss'; resample other grids to one of these"
    )


def torch_harmonics_weights(grid: LatLon) -> Tensor:
    """Row weights as torch-harmonics' ``precompute_latitudes`` has them: they sum to 2. Shape: (nlat,)."""
    return grid.row_areas * (grid.nlon / (2 * math.pi))


# ---- lat-lon images and fields


def roll_columns(x: Tensor, source: LatLon, target: LatLon) -> Tensor:
    """A field moved between lat-lon grids that differ by whole columns in where they start.

    Shape: (..., nlat, nlon) -> the same.
    Raises: ValueError where rows differ or the offsets differ by a part of a column (resample then).
    """
    if replace(source, offset=0.0) != replace(target, offset=0.0):
        raise ValueError(
            f"source {source!r} and target {target!r} differ in more than offset; use sampling.resample"
        )
    if tuple(x.shape[-2:]) != source.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected (..., {source.nlat}, {source.nlon}) on {source!r}"
        )
    shift = source.offset - target.offset
    if shift != round(shift):
        raise ValueError(
            f"offsets {source.offset} and {target.offset} differ by part of a column; use sampling.resample"
        )
    return x.roll(round(shift) % source.nlon, dims=-1)


def panorama_grid(height: int, width: int) -> Equiangular:
    """The grid a panorama photo lies on: longitudes from −π + half a pixel going east, row 0 in the north, no pole rows."""
    return Equiangular(height, width, offset=(1 - width) / 2)


def panorama_to_grid(image: Tensor) -> tuple[Tensor, Equiangular]:
    """A photo rolled by half a turn, so that its first column comes at or just after longitude 0, and the grid it then lies on.

    Shape: (..., height, width) -> the same, with ``Equiangular(height, width, offset=½)`` (offset 0 for odd widths).
    Raises: ValueError for fewer than two axes.
    """
    if image.ndim < 2:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (..., height, width)")
    source = panorama_grid(image.shape[-2], image.shape[-1])
    target = replace(source, offset=source.offset % 1.0)
    return roll_columns(image, source, target), target


def grid_to_panorama(x: Tensor, grid: Equiangular) -> Tensor:
    """The inverse of ``panorama_to_grid``: columns from −π + half a pixel.

    Shape: (..., nlat, nlon) -> the same. Raises: ValueError where that is no whole number of columns away.
    """
    return roll_columns(x, grid, panorama_grid(grid.nlat, grid.nlon))


def earth_field(x: Tensor, latitudes: Any, longitudes: Any) -> tuple[Tensor, LatLon]:
    """A field on regular latitudes and longitudes turned north-up and eastward, and the grid it lies on.

    Recognises cell centres, pole rows and Gaussian latitudes; drops a last column that repeats the first; flips
    south-up rows and westward columns. The first column stays first: the grid's offset says where it is.

    Shape: x (..., nlat, nlon), latitudes (nlat,), longitudes (nlon,) -> (..., nlat, nlon'), grid.
    Units: degrees, latitudes −90…90, longitudes of any range.
    Raises: ValueError where the shapes disagree or the coordinates fit none of those grids (to 1 % of a step, as float32
    coordinates in files are); resample a regional or stretched field as scattered points instead.
    """
    lat, lon = (np.asarray(a, dtype=np.float64) for a in (latitudes, longitudes))
    if lat.ndim != 1 or lon.ndim != 1 or tuple(x.shape[-2:]) != (len(lat), len(lon)):
        raise ValueError(f"x has shape {tuple(x.shape)}, latitudes {lat.shape}, longitudes {lon.shape}: expected "
                         "(..., nlat, nlon), (nlat,), (nlon,)")  # fmt: skip
    if len(lat) < 2 or len(lon) < 2:
        raise ValueError(
            f"a field needs at least 2 latitudes and 2 longitudes, got {len(lat)} and {len(lon)}"
        )
    if lat[0] < lat[-1]:
        lat, x = lat[::-1], x.flip(-2)
    if (lon[1] - lon[0] + 180) % 360 < 180:
        lon, x = lon[::-1], x.flip(-1)
    steps = (np.diff(lon) + 180) % 360 - 180  # going east, across the date line too
    if abs(steps.sum() - 360) < 0.01 * abs(steps[0]):
        lon, x, steps = lon[:-1], x[..., :-1], steps[:-1]
    nlat, nlon = len(lat), len(lon)
    step = 360 / nlon
    if nlon < 2 or np.abs(np.cumsum(steps) - step * np.arange(1, nlon)).max() > 0.01 * step:
        raise ValueError(
            f"longitudes from {lon[0]} to {lon[-1]} are not {nlon} equal steps round the whole globe"
        )
    columns = float(lon[0]) / step
    halves = round(2 * columns) / 2
    # float32 coordinates miss the half column by a little
    offset = halves if abs(columns - halves) < 0.01 else columns
    candidates = (
        Equiangular(nlat, nlon, offset=offset),
        Equiangular(nlat, nlon, poles=True, offset=offset),
        GaussLegendre(nlat, nlon, offset=offset),
    )
    for grid in candidates:
        if np.abs(90 - np.degrees(grid.colatitudes.numpy()) - lat).max() < 0.01 * 180 / nlat:
            return x, grid
    raise ValueError(
        f"latitudes from {lat[0]} to {lat[-1]} are neither {nlat} cell centres, nor pole rows, nor Gaussian"
    )
