"""Variables of NetCDF, GRIB and Zarr with their coordinates, found by CF attributes whatever the order of dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.sphere.gridded.classic import check_classic
from spheregeo.data.sphere.gridded.coordinates import (
    LATITUDE_NAMES,
    LONGITUDE_NAMES,
    check_not_indices,
    in_degrees,
    kind_of,
    level_index,
)
from spheregeo.files import reading

SUFFIXES = (".nc", ".nc4", ".cdf", ".grib", ".grb", ".grib2", ".grb2", ".zarr")
NEVER_WRITTEN = 9.969209968386869e36  # what the NetCDF library stores where nothing was written
NAMES = {"latitude": LATITUDE_NAMES, "longitude": LONGITUDE_NAMES}
KINDS = tuple(NAMES)
MISTAKE = "NetCDF (it may be truncated)"


@dataclass(frozen=True)
class Variable:
    """Values with coordinates in degrees: axes (H,) and (W,) of values (H, W), or of points, alike in shape with the values."""

    values: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    points: bool
    stated: bool  # whether file or caller state the coordinates' units


def choose(path: Path, wanted: str | None, names: Sequence[str], gridded: Sequence[str] = ()) -> str:
    """The name of the variable to read. Raises: ValueError listing the names when none is named, or one that is not there."""
    if wanted is not None and wanted in names:
        return wanted
    if wanted is None and len(gridded) == 1:
        return gridded[0]
    if not names:
        raise ValueError(f"{path} holds no array of numbers; is the file complete?")
    said = "no variable is named" if wanted is None else f"there is no variable {wanted!r}"
    raise ValueError(f"{path}: {said}; expected PATH:VARIABLE with one of {', '.join(names)}")


def open_dataset(path: Path, group: str | None = None) -> Any:
    """Open a NetCDF or GRIB file or a Zarr store; times stay numbers, fill values become NaN.

    Raises: ImportError naming the package that reads the format; ValueError for files that cannot be read.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError(
            f"{path} is NetCDF, which needs xarray: pip install 'spheregeo[climate]'"
        ) from error
    options: dict[str, Any] = {}
    if path.suffix == ".zarr":
        _need("zarr", path, "a Zarr store")
        options["engine"] = "zarr"
    elif path.suffix.startswith((".gr",)):
        _need("cfgrib", path, "GRIB")
        options.update(engine="cfgrib", backend_kwargs={"indexpath": ""})  # no index beside the user's file
    elif not {"netcdf4", "h5netcdf"} & set(xarray.backends.list_engines()):
        raise ImportError(f"{path} is NetCDF, which needs netCDF4: pip install 'spheregeo[climate]'")
    elif path.is_file():
        check_classic(path)
    if group:
        options["group"] = group
    with reading(path, MISTAKE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several fill values in one variable, all of which become NaN
        return xarray.open_dataset(path, decode_times=False, **options)


def _need(package: str, path: Path, what: str) -> None:
    if find_spec(package) is None:
        raise ImportError(f"{path} is {what}, which needs {package}: pip install {package}")


def read_variable(
    path: Path, name: str | None, level: Sequence[int], told: str | None, given: dict[str, np.ndarray]
) -> Variable:
    """Read one variable, at the given indices of the dimensions other than latitude and longitude.

    Args:
        path: the file or store.
        name: name of the variable, ``GROUP/VARIABLE`` in a group; None where only one is a field.
        level: indices of the other dimensions.
        told: units of the coordinates, in place of those of the file.
        given: "latitude" and "longitude" in degrees from other files, in place of those of the file.

    Raises: ImportError; ValueError naming variables, dimensions or coordinates that do not fit.
    """
    group, _, variable = (name or "").rpartition("/")
    with open_dataset(path, group or None) as data, reading(path, MISTAKE):
        numbers = [str(n) for n, v in data.data_vars.items() if v.dtype.kind in "biuf"]
        helpers = {str(v.attrs.get(k)) for v in data.variables.values() for k in ("bounds", "grid_mapping")}
        fields = [n for n in numbers if n not in helpers and data[n].ndim >= 2]
        if not numbers and not group:
            numbers = _in_groups(path)
        array = data[choose(path, variable or None, numbers, fields)]
        found = _coordinates(path, data, array, told, [kind for kind in KINDS if kind not in given])
        for kind in sorted(given, reverse=True):  # longitude, the faster axis, first
            taken = [dim for other in found.values() if given[kind].ndim == 1 for dim in other.dims]
            dims = _dims_of(path, array, given[kind], kind, taken)
            found[kind] = _Coordinate(kind, dims, given[kind], True)
        return _placed(path, array, found["latitude"], found["longitude"], level)


def _in_groups(path: Path) -> list[str]:
    """Names of all variables as GROUP/VARIABLE, for a file whose root holds none."""
    import xarray

    if path.suffix not in (".nc", ".nc4", ".cdf") or not hasattr(xarray, "open_groups"):
        return []
    groups = xarray.open_groups(path, decode_times=False)
    names = [f"{group.strip('/')}/{n}" for group, part in groups.items() for n in part.data_vars]
    for part in groups.values():
        part.close()
    return names


@dataclass(frozen=True)
class _Coordinate:
    name: str
    dims: tuple[str, ...]
    values: np.ndarray
    stated: bool


def _coordinates(
    path: Path, data: Any, array: Any, told: str | None, kinds: Sequence[str]
) -> dict[str, _Coordinate]:
    """Latitudes and longitudes of a variable: those that are surest, among them its own dimensions first."""
    ranked: dict[str, list[tuple[int, int, str]]] = {kind: [] for kind in KINDS}
    for key, variable in {**data.variables, **{n: c.variable for n, c in array.coords.items()}}.items():
        known = kind_of(str(key), variable.attrs)
        if known is None or variable.dtype.kind not in "iuf" or not set(variable.dims) <= set(array.dims):
            continue
        listed = int(
            str(key) in array.coords
        )  # a dimension of its own, or named by the attribute "coordinates"
        ranked[known[0]].append((known[1], listed, str(key)))
    found = {}
    for kind in kinds:
        candidates = ranked[kind]
        if not candidates:
            dims = ", ".join(f"{d} ({array.sizes[d]})" for d in array.dims)
            raise ValueError(
                f"{path}: {array.name} has dimensions {dims} and no {kind}s; expected a coordinate with standard_name {kind} "
                f"or units such as degrees_{'north' if kind == 'latitude' else 'east'}, or files of "
                "latitudes and longitudes (scattered and geodesic fields need those of their points)"
            )
        best = max(candidates)[:2]
        names = [name for *rank, name in candidates if tuple(rank) == best]
        if len(names) > 1:
            raise ValueError(
                f"{path}: {array.name} has several {kind}s ({', '.join(sorted(names))}); say which by the field's {kind}s"
            )
        variable = data[names[0]]
        if best[0] == 0 and told is None and "units" not in variable.attrs:
            check_not_indices(path, names[0], variable.values, kind)
        values = in_degrees(path, names[0], variable.values, variable.attrs, told)
        stated = told is not None or "units" in variable.attrs
        found[kind] = _Coordinate(names[0], tuple(map(str, variable.dims)), values, stated)
    return found


def _dims_of(path: Path, array: Any, values: np.ndarray, kind: str, taken: Sequence[str]) -> tuple[str, ...]:
    """Dimensions of coordinates from another file: by length, then by name, then as (..., latitude, longitude)."""
    if values.ndim > 1:
        return tuple(map(str, array.dims[-values.ndim :]))
    fitting = [str(d) for d in array.dims if array.sizes[d] == values.size]
    if not fitting:
        raise ValueError(
            f"{path}: {array.name} has shape {array.shape} and {values.size} {kind}s are given; expected one for "
            "each row or column"
        )
    if len(fitting) == 1:  # also that of the other coordinate, for points
        return (fitting[0],)
    free = [d for d in fitting if d not in taken]
    named = [d for d in free if d.lower() in NAMES[kind]]
    long = [str(d) for d in array.dims if array.sizes[d] != 1]
    before = [a for a, b in pairwise(long) if b in taken] if kind == "latitude" else long[-1:]
    for chosen in (named, [d for d in before if d in free], free if len(long) == 2 else []):
        if len(chosen) == 1:
            return (chosen[0],)
    raise ValueError(
        f"{path}: the {values.size} {kind}s of the field's {kind}s fit the dimensions {', '.join(fitting)} of {array.name}; "
        f"expected one, one named {kind}, or latitude and longitude as the last two: without {kind}s the file's own are read"
    )


def _placed(path: Path, array: Any, lat: _Coordinate, lon: _Coordinate, level: Sequence[int]) -> Variable:
    """The variable with its own dimensions in front, at the level; latitude and longitude behind."""
    spatial = tuple(dict.fromkeys((*lat.dims, *lon.dims)))
    if not 1 <= len(spatial) <= 2:
        raise ValueError(
            f"{path}: {lat.name} and {lon.name} depend on {', '.join(spatial)}; expected one or two dimensions"
        )
    leading = [str(d) for d in array.dims if d not in spatial]
    index = level_index(path, [(d, array.sizes[d]) for d in leading], level)
    chosen = array.isel(dict(zip(leading, index, strict=True))).transpose(*spatial)
    values = _valid(np.asarray(chosen.values, np.float64), array)
    stated = lat.stated and lon.stated
    if len(lat.dims) == len(lon.dims) == 1 and len(spatial) == 2:
        return Variable(values, lat.values, lon.values, False, stated)
    shape = tuple(array.sizes[d] for d in spatial)
    spread = [_spread(c, spatial, shape) for c in (lat, lon)]
    return Variable(values, spread[0], spread[1], True, stated)


def _spread(coordinate: _Coordinate, spatial: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    """A coordinate on all spatial dimensions, in their order."""
    order = sorted(range(len(coordinate.dims)), key=lambda k: spatial.index(coordinate.dims[k]))
    values = coordinate.values.transpose(order)
    missing = [k for k, d in enumerate(spatial) if d not in coordinate.dims]
    return np.broadcast_to(np.expand_dims(values, missing), shape)


def _valid(values: np.ndarray, array: Any) -> np.ndarray:
    """NaN where values lie outside valid_min, valid_max or valid_range, or were never written."""
    attributes, packing = array.attrs, array.encoding
    low, high = attributes.get("valid_range", (attributes.get("valid_min"), attributes.get("valid_max")))
    stored = np.dtype(packing.get("dtype", values.dtype))
    for bound, outside in ((low, np.less), (high, np.greater)):
        if bound is None:
            continue
        limit = float(bound)
        # CF: a limit of the packed type is one of packed values
        if "scale_factor" in packing and np.asarray(bound).dtype.kind == stored.kind:
            scale = float(packing["scale_factor"])
            limit = limit * scale + float(packing.get("add_offset", 0.0))
            if scale < 0:  # the lowest packed value is the highest
                outside = np.greater if outside is np.less else np.less
        slack = 1e-6 * max(abs(limit), 1e-30)  # scaled values are rounded
        values = np.where(outside(values, limit + (-slack if outside is np.less else slack)), np.nan, values)
    return np.where(np.isclose(values, NEVER_WRITTEN, rtol=1e-6), np.nan, values)
