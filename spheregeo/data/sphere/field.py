"""One global field from a file, set upright: NetCDF, npz, npy, text, or a picture of the planet.

Whatever the file's order, the field comes out north first and eastwards, as cells with edges in degrees; centres become
edges halfway between them, the first and last rows reach half a cell further (to the pole at most), and longitudes close
the circle. A meridian that the file holds twice is taken once.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.files import read_array
from spheregeo.data.sphere.files import IMAGE_SUFFIXES, read_image
from spheregeo.data.sphere.resize import AreaMap

__all__ = ["Field", "FieldSource", "read_field"]

LATITUDE_NAMES = ("lat", "lats", "latitude", "latitudes", "nav_lat", "y")
LONGITUDE_NAMES = ("lon", "lons", "longitude", "longitudes", "nav_lon", "x")


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
        level: indices into the dimensions before latitude and longitude (time, depth ...).
        missing: values that stand for "no data".

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
    match = re.fullmatch(r"(.*\.(?:nc|nc4|npz)):([^:/\\]+)", text)
    return (match[1], match[2]) if match else (text, None)


def _open_dataset(path: Path) -> Any:
    try:
        import xarray
    except ImportError as error:
        raise ImportError(
            f"{path} is NetCDF, which needs xarray: pip install 'spheregeo[climate]'"
        ) from error
    try:
        return xarray.open_dataset(path, decode_times=False)
    except Exception as error:  # each of xarray's engines raises its own kinds for a file that it cannot read
        raise ValueError(
            f"{path} cannot be read as NetCDF ({' '.join(str(error).split())}); it may be truncated: copy it again"
        ) from error


def _choose(path: Path, wanted: str | None, names: Sequence[str], gridded: Sequence[str] = ()) -> str:
    if wanted is not None and wanted in names:
        return wanted
    if wanted is None and len(gridded) == 1:
        return gridded[0]
    if not names:
        raise ValueError(f"{path} holds no array of numbers; is the file complete?")
    said = "no variable is named" if wanted is None else f"there is no variable {wanted!r}"
    raise ValueError(f"{path}: {said}; expected PATH:VARIABLE with one of {', '.join(names)}")


def _find(names: Sequence[str], candidates: tuple[str, ...]) -> str | None:
    return next((name for name in names if name.lower() in candidates), None)


def _load(path: Path, variable: str | None) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Values (..., H, W) or (C, H, W) with latitudes and longitudes where the file has them."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; expected a NetCDF, npz, npy, text or image file there"
        )
    if path.suffix in (".nc", ".nc4"):
        with _open_dataset(path) as data:
            names = [str(name) for name in data.data_vars]
            array = data[_choose(path, variable, names, [name for name in names if data[name].ndim >= 2])]
            values = np.asarray(array.values, np.float64)
            found = [
                np.asarray(data[d].values, np.float64) if d in data.coords else None for d in array.dims[-2:]
            ]
            lat, lon = found if len(found) == 2 else (None, None)
        return values, lat, lon
    if path.suffix in (".npz", ".npy"):
        stored = read_array(path)
        if not isinstance(stored, dict):
            return np.asarray(stored, np.float64), None, None
        names = list(stored)
        gridded = [name for name in names if stored[name].ndim >= 2]
        values = np.asarray(stored[_choose(path, variable, names, gridded)], np.float64)
        keys = [_find(names, known) for known in (LATITUDE_NAMES, LONGITUDE_NAMES)]
        lat, lon = (None if key is None else np.asarray(stored[key], np.float64) for key in keys)
        return values, lat, lon
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return read_image(path), None, None
    return _read_table(path), None, None


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


def read_field(source: FieldSource | str, root: str | Path = ".") -> Field:
    """Read a field and set it upright, north first.

    Args:
        source: a path (``PATH:VARIABLE`` in NetCDF and npz), or a :class:`FieldSource`.
        root: folder to which the path is relative.

    Raises: FileNotFoundError; ImportError naming the extra for NetCDF; ValueError for variables, coordinates and levels
        that do not fit.
    """
    source = FieldSource(source) if isinstance(source, str) else source
    file, variable = _split_path(source.path)
    path = Path(root) / file
    values, lat, lon = _load(path, variable)
    is_picture = path.suffix.lower() in IMAGE_SUFFIXES
    leading = values.ndim - 2 - int(is_picture)
    if values.ndim < 2 or len(source.level) != leading:
        raise ValueError(
            f"{path} has shape {values.shape} and level has {len(source.level)} indices; expected one for each "
            "dimension before latitude and longitude (scattered and geodesic fields have to be resampled first)"
        )
    for dimension, index in enumerate(source.level):
        if not 0 <= index < values.shape[0]:
            raise ValueError(
                f"level[{dimension}] is {index}; expected 0 ... {values.shape[0] - 1} for {path}"
            )
        values = values[index]
    for name, given in (("latitudes", source.latitudes), ("longitudes", source.longitudes)):
        if given is not None:
            coordinate_file, coordinate = _split_path(given)
            axis = _read_axis(Path(root) / coordinate_file, coordinate)
            lat, lon = (axis, lon) if name == "latitudes" else (lat, axis)
    height, width = values.shape[-2:]
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
    values = values.astype(np.float32)
    for missing in source.missing:
        values = np.where(values == np.float32(missing), np.float32(np.nan), values)
    return _edges(path, values, lat, lon)


def _read_axis(path: Path, variable: str | None) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file of latitudes or longitudes there")
    if path.suffix in (".nc", ".nc4"):
        with _open_dataset(path) as data:
            names = [str(name) for name in data.variables]
            return np.asarray(data[_choose(path, variable, names)].values, np.float64).ravel()
    if path.suffix in (".npz", ".npy"):
        stored = read_array(path)
        values = stored[_choose(path, variable, list(stored))] if isinstance(stored, dict) else stored
        return values.astype(np.float64).ravel()
    return _read_table(path).ravel()


def _read_table(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path, dtype=np.float64)
    except (ValueError, OSError, EOFError, zlib.error) as error:  # the last three: torn .gz
        raise ValueError(
            f"{path} is no table of numbers ({error}); expected .nc, .npz, .npy, .png, .jpg or text"
        ) from error
