"""One global field from a file, set upright: NetCDF, GRIB, Zarr, GeoTIFF, npz, npy, text, or a picture.

Whatever the file's order, the field comes out north first and eastwards, as cells with edges in degrees; centres become
edges halfway between them, the first and last rows reach half a cell further (to the pole at most), and longitudes close
the circle. A meridian that the file holds twice is taken once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spheregeo.data.files import read_array
from spheregeo.data.sphere.files import IMAGE_SUFFIXES, read_image
from spheregeo.data.sphere.gridded.coordinates import (
    COLATITUDE_NAMES,
    LATITUDE_NAMES,
    LONGITUDE_NAMES,
    as_axes,
    check_not_indices,
    check_not_radians,
    in_degrees,
    level_index,
)
from spheregeo.data.sphere.gridded.dataset import SUFFIXES, choose, open_dataset, read_variable
from spheregeo.data.sphere.gridded.geotiff import read_geotiff
from spheregeo.data.sphere.gridded.points import PointField
from spheregeo.data.sphere.resize import AreaMap
from spheregeo.files import reading
from spheregeo.sampling.missing import is_unseen

__all__ = ["Field", "FieldSource", "read_field"]

PACKED = (".gz", ".bz2", ".xz")


@dataclass(frozen=True)
class FieldSource:
    """Where a field lies and how it lies.

    Args:
        path: file, with ``:variable`` for NetCDF and npz, relative to the root.
        latitudes: file (``:variable``) with the rows' latitudes in degrees; found by name if None.
        longitudes: file (``:variable``) with the columns' longitudes in degrees; found by name if None.
        north_up: whether row 0 is the northernmost, for files without latitudes.
        west: longitude of the left edge (of the first column, if not cell-centred), for files without longitudes.
        cell_centred: False for grids with rows at the poles, for files without coordinates.
        level: indices into the dimensions other than latitude and longitude (time, depth ...) that are longer than 1.
        missing: values that stand for "no data", beside NaN, the file's own fill values and healpy's UNSEEN.
        units: "degrees" or "radians", units of the coordinates where the file states none, or wrong ones.

    Units: degrees.

    Example:
        >>> from spheregeo.data import FieldSource
        >>> FieldSource("climate.npz:koppen", west=0.0, missing=(-9999.0,)).north_up
        True
    """

    path: str
    latitudes: str | None = None
    longitudes: str | None = None
    north_up: bool = True
    west: float = -180.0
    cell_centred: bool = True
    level: tuple[int, ...] = ()
    missing: tuple[float, ...] = ()
    units: str | None = None


@dataclass(frozen=True)
class Field:
    """Values of a field on a lat-lon grid of the planet, north first.

    Args:
        values: NaN where missing.
        latitude_edges: edges of the rows.
        longitude_edges: edges of the columns.

    Shape: values (C, H, W); latitude_edges (H + 1,); longitude_edges (W + 1,).
    Units: edges in degrees; values in the file's units.

    Example:
        >>> import numpy as np
        >>> from spheregeo.data import Field
        >>> Field(np.zeros((1, 2, 4)), np.linspace(90, -90, 3), np.linspace(-180, 180, 5)).values.shape
        (1, 2, 4)
    """

    values: np.ndarray
    latitude_edges: np.ndarray
    longitude_edges: np.ndarray

    def map_to(self, size: tuple[int, int]) -> AreaMap:
        """The area map from this field's cells to an image of the given size."""
        return AreaMap(self.latitude_edges, self.longitude_edges, size)


def _split_path(text: str) -> tuple[str, str | None]:
    match = re.fullmatch(r"(.*\.(?:nc|nc4|cdf|grib|grb|grib2|grb2|zarr|npz)):([^:\\]+)", text)
    return (match[1], match[2]) if match else (text, None)


def _find(names: Sequence[str], candidates: tuple[str, ...]) -> str | None:
    return next((name for name in names if name.lower() in candidates), None)


def _from_arrays(
    path: Path, variable: str | None, source: FieldSource, given: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Values with leading dimensions, and the coordinates that are there, of npz, npy and text."""
    if path.suffix not in (".npz", ".npy"):
        return _read_table(path), given
    stored = read_array(path)
    if not isinstance(stored, dict):
        return np.asarray(stored, np.float64), given
    names = list(stored)
    keys = {
        "latitude": _find(names, (*LATITUDE_NAMES, *COLATITUDE_NAMES)), "longitude": _find(names, LONGITUDE_NAMES),
    }  # fmt: skip
    gridded = [name for name in names if stored[name].ndim >= 2 and name not in keys.values()]
    values = np.asarray(stored[choose(path, variable, names, gridded)], np.float64)
    for kind, key in keys.items():
        if key is not None and key.lower() in ("x", "y") and source.units is None and kind not in given:
            check_not_indices(path, key, stored[key], kind)
    found = {
        k: in_degrees(path, key, stored[key], {}, source.units) for k, key in keys.items() if key is not None
    }
    return values, found | given


def _is_points(values: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> bool:
    """Whether latitudes and longitudes are those of single points, along the last axis or the last two."""
    if lat.shape != lon.shape or values.shape[-lat.ndim :] != lat.shape:
        return False
    return lat.ndim == 2 or (lat.ndim == 1 and values.shape[-2:] != (lat.size, lon.size))


def _at_level(path: Path, values: np.ndarray, spatial: int, level: Sequence[int]) -> np.ndarray:
    leading = values.ndim - spatial
    if leading < 0:
        raise ValueError(
            f"{path} has shape {values.shape} and level has {len(level)} indices; expected rows and columns, or one value for "
            "each of the latitudes and longitudes"
        )
    dims = [(f"axis {k}", values.shape[k]) for k in range(leading)]
    return values[level_index(path, dims, level)] if leading else values[()]


def _edges(path: Path, values: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> Field:
    """Puts the north first and closes the circle of longitudes; centres become edges halfway between them."""
    if lat.shape != values.shape[-2:-1] or lon.shape != values.shape[-1:]:
        raise ValueError(
            f"{path} has {values.shape[-2]} rows and {values.shape[-1]} columns but {lat.size} latitudes "
            f"and {lon.size} longitudes; expected one of each: is the field transposed, or on another grid?"
        )
    if (
        np.abs(lat).max() > 90.001
        or lat.size < 2
        or not (np.all(np.diff(lat) > 0) or np.all(np.diff(lat) < 0))
    ):
        raise ValueError(
            f"{path}: latitudes run {lat[0]:g} ... {lat[-1]:g}; expected degrees in -90 ... 90, in order"
        )
    if lat[0] < lat[-1]:
        lat, values = lat[::-1], values[..., ::-1, :]
    if np.all(np.diff(lon) < 0):
        lon, values = lon[::-1], values[..., ::-1]
    if lon[-1] - lon[0] > 360 - 1e-3:  # the first meridian again at the end
        lon, values = lon[:-1], values[..., :-1]
    lon = lon[0] + np.mod(lon - lon[0], 360)  # 0 ... 180, -180 ... 0 becomes one run
    if not np.all(np.diff(lon) > 0):
        raise ValueError(
            f"{path}: longitudes are not in order; expected one turn, eastwards or westwards, in degrees"
        )
    middle = (lat[1:] + lat[:-1]) / 2
    ends = np.clip([lat[0] + (lat[0] - lat[1]) / 2, lat[-1] - (lat[-2] - lat[-1]) / 2], -90, 90)
    lat_edges = np.concatenate([ends[:1], middle, ends[1:]])
    step = np.median(np.diff(lon))
    closed = 360 - (lon[-1] - lon[0]) < 1.5 * step
    first = (lon[0] + lon[-1] - 360) / 2 if closed else lon[0] - step / 2
    last = first + 360 if closed else lon[-1] + step / 2
    lon_edges = np.concatenate([[first], (lon[1:] + lon[:-1]) / 2, [last]])
    lon_edges -= 360 * np.round((lon_edges.mean()) / 360)
    return Field(values.reshape(-1, *values.shape[-2:]), lat_edges, lon_edges)


def read_field(source: FieldSource | str, root: str | Path = ".") -> Field | PointField:
    """Read a field and set it upright, north first.

    Args:
        source: a path (``PATH:VARIABLE`` in NetCDF and npz, ``PATH:GROUP/VARIABLE`` in groups), or a :class:`FieldSource`.
        root: folder to which the path is relative.

    Returns a :class:`Field` on a lat-lon grid, or a :class:`PointField` for curvilinear and unstructured coordinates.

    Raises: FileNotFoundError; ImportError naming the extra for NetCDF; ValueError for variables, coordinates and levels
        that do not fit.
    """
    source = FieldSource(source) if isinstance(source, str) else source
    if source.units not in (None, "degrees", "radians"):
        raise ValueError(f"units of {source.path} is {source.units!r}; expected 'degrees' or 'radians'")
    file, variable = _split_path(source.path)
    path = Path(root) / file
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; expected a NetCDF, GRIB, Zarr, npz, npy, text or image file there"
        )
    wanted = {"latitude": source.latitudes, "longitude": source.longitudes}
    given = {kind: _read_axis(root, text, source.units) for kind, text in wanted.items() if text is not None}
    if path.suffix.lower() in SUFFIXES:
        read = read_variable(path, variable, source.level, source.units, given)
        values, coordinates, points = (
            read.values,
            {"latitude": read.latitude, "longitude": read.longitude},
            read.points,
        )
        stated = read.stated
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        stored = read_geotiff(path) if path.suffix.lower() in (".tif", ".tiff") else None
        values, found = (read_image(path), {}) if stored is None else stored
        coordinates, points, stated = found | given, False, bool(found) or source.units is not None
    else:
        values, coordinates = _from_arrays(path, variable, source, given)
        points = len(coordinates) == 2 and _is_points(
            values, coordinates["latitude"], coordinates["longitude"]
        )
        values = _at_level(path, values, coordinates["latitude"].ndim if points else 2, source.level)
        stated = source.units is not None
    if len(coordinates) == 2:
        check_not_radians(path, coordinates["latitude"], coordinates["longitude"], stated)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and missing
        values = values.astype(np.float32)
    values = np.where(is_unseen(values), np.float32(np.nan), values)
    for missing in source.missing:
        values = np.where(
            np.isclose(values, np.float32(missing), rtol=1e-6, atol=0), np.float32(np.nan), values
        )
    lat, lon = _complete(source, values.shape, coordinates)
    axes = as_axes(lat, lon) if points and lat.ndim == 2 else None
    if axes is not None:
        lat, lon, swapped = axes
        return _edges(path, values.swapaxes(-1, -2) if swapped else values, lat, lon)
    return _points(path, values, lat, lon) if points else _edges(path, values, lat, lon)


def _complete(
    source: FieldSource, shape: tuple[int, ...], coordinates: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes, as the source describes them where the file has none."""
    height, width = shape[-2:] if len(shape) > 1 else (1, shape[0])
    lat, lon = coordinates.get("latitude"), coordinates.get("longitude")
    if lat is None:
        lat = (
            np.linspace(90, -90, height)
            if not source.cell_centred
            else 90 - (np.arange(height) + 0.5) * 180 / height
        )
        lat = lat if source.north_up else lat[::-1]
    if lon is None:
        # A grid-registered file has its first meridian once or, with an odd number of columns, at both ends.
        step = 360 / width if source.cell_centred or width % 2 == 0 else 360 / (width - 1)
        lon = source.west + (np.arange(width) + 0.5 * source.cell_centred) * step
    return lat, lon


def _points(path: Path, values: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> PointField:
    """A field on points, without those that have no coordinates."""
    there = np.isfinite(lat) & np.isfinite(lon)
    if not there.any() or np.abs(lat[there]).max() > 90.001:
        raise ValueError(
            f"{path}: latitudes run {np.nanmin(lat):g} ... {np.nanmax(lat):g}; expected degrees in -90 ... 90"
        )
    flat = values.reshape(-1, lat.size)[:, there.reshape(-1)]
    return PointField(flat, lat[there], lon[there])


def _read_axis(root: str | Path, text: str, units: str | None) -> np.ndarray:
    """Latitudes or longitudes in degrees from a file of their own."""
    file, variable = _split_path(text)
    path = Path(root) / file
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a file of latitudes or longitudes there")
    if path.suffix.lower() in SUFFIXES:
        with open_dataset(path) as data:
            names = [str(name) for name in data.variables]
            found = data[choose(path, variable, names)]
            return in_degrees(path, str(found.name), found.values, found.attrs, units).squeeze()
    if path.suffix in (".npz", ".npy"):
        stored = read_array(path)
        key = choose(path, variable, list(stored)) if isinstance(stored, dict) else path.stem
        values = stored[key] if isinstance(stored, dict) else stored
        return in_degrees(path, key, values, {}, units).squeeze()
    return in_degrees(path, path.stem, _read_table(path), {}, units).squeeze()


def _read_table(path: Path) -> np.ndarray:
    if not path.is_file():
        raise ValueError(f"{path} is a folder; expected a field: .nc, .zarr, .npz, .npy, .png, .jpg or text")
    what = "a table of numbers (no table of numbers: expected .nc, .npz, .npy, .png, .jpg or text)"
    with reading(path, what):
        return np.loadtxt(path, dtype=np.float64, encoding="utf-8-sig" if path.suffix not in PACKED else None)
