"""Series of fields from files: NetCDF, GRIB, Zarr and npz, at every time that the files hold, set upright on the working grid.

Components of vectors are averaged as vectors of space: near a pole the directions east and north differ within one cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.files import read_stored
from spheregeo.data.sphere.field import FieldSource, _edges, _find, _points, _split_path
from spheregeo.data.sphere.gridded.coordinates import (
    COLATITUDE_NAMES,
    LATITUDE_NAMES,
    LONGITUDE_NAMES,
    as_axes,
    check_not_radians,
    in_degrees,
    level_index,
)
from spheregeo.data.sphere.gridded.dataset import (
    KINDS,
    MISTAKE,
    SUFFIXES,
    _coordinates,
    _spread,
    _valid,
    choose,
    open_dataset,
)
from spheregeo.data.sphere.gridded.points import PointField
from spheregeo.files import reading
from spheregeo.grids import Equiangular
from spheregeo.sampling.missing import is_unseen

TIME_NAMES = ("time", "times", "valid_time", "t", "date")
HOURS = {
    "second": 1 / 3600, "sec": 1 / 3600, "s": 1 / 3600, "minute": 1 / 60, "min": 1 / 60, "hour": 1.0, "hr": 1.0, "h": 1.0,
    "day": 24.0, "d": 24.0, "week": 168.0, "month": 730.5, "year": 8766.0,
}  # fmt: skip
_SINCE = re.compile(
    r"(\w+) since (-?\d{1,5})-(\d{1,2})-(\d{1,2})(?:[T ]+(\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2}))?)?"
)
LONGEST = 1e10  # hours, a million years
CHUNK = 1 << 23  # values that are read at once


@dataclass(frozen=True)
class Frames:
    """One variable at all times of its files, on the working grid.

    Args:
        values: values, NaN where missing; of a vector along south and east.
        hours: time of each frame; None for a field without time.
        units: units of the values.
        standard_names: names of the variables by the CF conventions, empty if not stated.

    Shape: values (T, 1 or 2, H, W) float32; hours (T,).
    Units: hours since 1970, or since any moment where the file names none.
    """

    values: np.ndarray
    hours: np.ndarray | None
    units: str = ""
    standard_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """Some frames of one file on its own grid: values (T, ...) beside latitudes and longitudes in degrees."""

    path: Path
    values: np.ndarray
    hours: np.ndarray | None
    latitude: np.ndarray
    longitude: np.ndarray
    points: bool
    attributes: Mapping[str, Any]


def files_of(source: FieldSource, root: str | Path) -> tuple[list[Path], str | None]:
    """The files that a source's path or pattern names, in order, and the variable. Raises: FileNotFoundError."""
    file, variable = _split_path(source.path)
    base = Path(root)
    if base.is_file() or base.suffix == ".zarr":
        return [base], variable or (file if file != base.name else None)
    path = base / file
    found = [path] if path.exists() else sorted(base.glob(file)) if not Path(file).is_absolute() else []
    if not found:
        raise FileNotFoundError(f"{path} does not exist; expected a NetCDF, GRIB, Zarr or npz file there")
    return found, variable


def read_frames(source: FieldSource | str, root: str | Path, grid: Equiangular) -> Frames:
    """Read a scalar at all times and average it onto a grid.

    Args:
        source: ``PATH:VARIABLE``, where the path may be a pattern such as ``z_*.nc``, or a :class:`FieldSource`, whose level has
            indices into the dimensions other than time, latitude and longitude.
        root: folder to which the path is relative, or the one file, of which ``source`` then names the variable alone.
        grid: the working grid.

    Raises: FileNotFoundError; ImportError naming the extra for NetCDF; ValueError for variables, coordinates and times that do
        not fit.
    """
    source = FieldSource(source) if isinstance(source, str) else source
    found = [(one.values[:, None], one) for one in _parts(source, root)]
    return _joined(source, [(_averaged(v, one, grid), one) for v, one in found])


def read_vector_frames(sources: Sequence[FieldSource | str], root: str | Path, grid: Equiangular) -> Frames:
    """Read a vector field at all times, average it onto a grid as vectors of space, and return components along south and east.

    Args:
        sources: components along east and along north, as for :func:`read_frames`.
        root: folder to which the paths are relative, or the one file.
        grid: the working grid.

    Raises: as :func:`read_frames`, and ValueError for components on different grids or at different times.
    """
    if len(sources) != 2:
        raise ValueError(f"a vector has {len(sources)} sources; expected two, along east and along north")
    east, north = (FieldSource(s) if isinstance(s, str) else s for s in sources)
    target = grid.points.numpy(), grid.frames.numpy()  # (N, 3), (N, 2, 3)
    found = []
    for u, v in zip_longest(_parts(east, root), _parts(north, root)):
        if u is None or v is None or not _same(u, v):
            raise ValueError(
                f"{east.path} and {north.path} have different grids or times; expected components of one vector"
            )
        a, b = np.radians(u.latitude), np.radians(u.longitude)
        if not u.points:
            a, b = np.broadcast_arrays(a[:, None], b[None, :])
        to_east = np.stack([-np.sin(b), np.cos(b), np.zeros_like(b)])
        to_north = np.stack([-np.sin(a) * np.cos(b), -np.sin(a) * np.sin(b), np.cos(a)])
        space = u.values[:, None] * to_east + v.values[:, None] * to_north  # (T, 3, ...)
        mean = _averaged(space.astype(np.float32), u, grid)
        frames = target[1].reshape(*grid.shape, 2, 3)
        found.append((np.einsum("tchw,hwkc->tkhw", mean, frames).astype(np.float32), u))
        units = [str(one.attributes.get("units", "")).strip() for one in (u, v)]
        if all(units) and units[0] != units[1]:
            raise ValueError(
                f"{east.path} is in {units[0]!r} and {north.path} in {units[1]!r}; expected one unit for both components"
            )
        names = [str(one.attributes.get("standard_name", "")) for one in (u, v)]
    return replace(_joined(east, found), standard_names=tuple(names) if all(names) else ())


def _same(u: _Part, v: _Part) -> bool:
    """Whether two parts have the same places and times."""
    pairs = [(u.latitude, v.latitude), (u.longitude, v.longitude)]
    if u.hours is not None and v.hours is not None:
        pairs.append((u.hours, v.hours))
    alike = u.values.shape == v.values.shape and (u.hours is None) == (v.hours is None)
    return alike and all(a.shape == b.shape and np.allclose(a, b, equal_nan=True) for a, b in pairs)


def _joined(source: FieldSource, parts: list[tuple[np.ndarray, _Part]]) -> Frames:
    """Frames of all files in the order of time."""
    values = np.concatenate([v for v, _ in parts])
    attributes = parts[0][1].attributes
    name = str(attributes.get("standard_name", ""))
    said: dict[str, Any] = {
        "units": str(attributes.get("units", "")),
        "standard_names": (name,) if name else (),
    }
    if any(one.hours is None for _, one in parts):
        if len(values) > 1:
            raise ValueError(
                f"{source.path} has {len(values)} files without time; expected a time in each, or one file"
            )
        return Frames(values, None, **said)
    hours = np.concatenate([one.hours for _, one in parts if one.hours is not None])
    order = np.argsort(hours, kind="stable")
    order = order[np.append(True, np.diff(hours[order]) > 0)]  # a time that comes twice is taken once
    return Frames(values[order], hours[order], **said)


def _averaged(values: np.ndarray, part: _Part, grid: Equiangular) -> np.ndarray:
    """Values (T, C, ...) averaged onto the working grid, (T, C, H, W) float32."""
    path = part.path
    flat = values.reshape(-1, *values.shape[2:])
    # an image's columns begin half a cell east of -180 degrees, the grid's at 0
    shift = -180 + 180 / grid.shape[1]
    if part.points:
        field: Any = _points(path, flat, part.latitude, part.longitude)
        field = PointField(field.values, field.latitude, field.longitude + shift)
    else:
        field = _edges(path, flat, part.latitude, part.longitude)
        field = replace(field, longitude_edges=field.longitude_edges + shift)
    mean = field.map_to(tuple(grid.shape)).average(field.values)
    return np.asarray(mean).reshape(*values.shape[:2], *grid.shape)


def _parts(source: FieldSource, root: str | Path) -> Iterator[_Part]:
    if source.latitudes is not None or source.longitudes is not None:
        raise ValueError(
            f"{source.path} has latitudes or longitudes from another file; expected them in the file of a series itself"
        )
    if source.units not in (None, "degrees", "radians"):
        raise ValueError(f"units of {source.path} is {source.units!r}; expected 'degrees' or 'radians'")
    paths, variable = files_of(source, root)
    for path in paths:
        if path.suffix.lower() in SUFFIXES:
            read = _of_dataset(path, variable, source)
        elif path.suffix.lower() == ".npz":
            read = _of_arrays(path, variable, source)
        else:
            raise ValueError(f"{path} is no file of series; expected {', '.join(SUFFIXES)} or .npz")
        for part in read:
            check_not_radians(path, part.latitude, part.longitude, source.units is not None)
            yield _without_missing(source, part)


def _without_missing(source: FieldSource, part: _Part) -> _Part:
    with np.errstate(over="ignore"):
        values = part.values.astype(np.float32)
    gaps = is_unseen(values) | np.isinf(values)
    for missing in source.missing:
        gaps |= np.isclose(values, np.float32(missing), rtol=1e-6, atol=0)
    values = np.where(gaps, np.float32(np.nan), values)
    return _Part(part.path, values, part.hours, part.latitude, part.longitude, part.points, part.attributes)


def _of_dataset(path: Path, variable: str | None, source: FieldSource) -> Iterator[_Part]:
    group, _, name = (variable or "").rpartition("/")
    with open_dataset(path, group or None) as data, reading(path, MISTAKE):
        numbers = [str(n) for n, v in data.data_vars.items() if v.dtype.kind in "biuf"]
        helpers = {str(v.attrs.get(k)) for v in data.variables.values() for k in ("bounds", "grid_mapping")}
        fields = [n for n in numbers if n not in helpers and data[n].ndim >= 2]
        array = data[choose(path, name or None, numbers, fields)]
        found = _coordinates(path, data, array, source.units, KINDS)
        lat, lon = found["latitude"], found["longitude"]
        spatial = tuple(dict.fromkeys((*lat.dims, *lon.dims)))
        leading = [str(d) for d in array.dims if d not in spatial]
        time = next((d for d in leading if _is_time(d, data.variables.get(d))), None)
        others = [d for d in leading if d != time]
        index = _level(path, [(d, array.sizes[d]) for d in others], source.level)
        chosen = array.isel(dict(zip(others, index, strict=True)))
        chosen = chosen.transpose(*([time] if time else []), *spatial)
        hours = None
        if time is not None:
            if time not in data.variables:
                raise ValueError(
                    f"{path}: dimension {time} of {array.name} has no values; expected a time for each frame"
                )
            hours = hours_of(path, time, data[time].values, data[time].attrs)
        elif (one := _single_time(array)) is not None:  # a coordinate without dimension: the file's one time
            hours = hours_of(path, one, array.coords[one].values, array.coords[one].attrs)
        points = not (len(lat.dims) == len(lon.dims) == 1 and len(spatial) == 2)
        shape = tuple(array.sizes[d] for d in spatial)
        places = [_spread(c, spatial, shape) for c in (lat, lon)] if points else [lat.values, lon.values]
        for part in _slices(len(hours) if hours is not None else 1, int(np.prod(shape))):
            some = chosen.isel({time: part}) if time else chosen
            values = _valid(np.asarray(some.values, np.float64), array).reshape(-1, *shape)
            yield _placed(path, values, None if hours is None else hours[part], places, points, array.attrs)


def _of_arrays(path: Path, variable: str | None, source: FieldSource) -> Iterator[_Part]:
    stored = read_stored(path, "arrays of fields")
    assert isinstance(stored, dict)
    with reading(path, "arrays of fields"):
        names = [n for n, a in stored.items() if a.dtype.kind in "biuf"]
        keys = {
            "latitude": _find(names, (*LATITUDE_NAMES, *COLATITUDE_NAMES)), "longitude": _find(names, LONGITUDE_NAMES),
        }  # fmt: skip
        absent = [kind for kind, key in keys.items() if key is None]
        if absent:
            raise ValueError(
                f"{path} has no {' and no '.join(f'{k}s' for k in absent)}; expected arrays lat and lon in degrees"
            )
        time = _find(list(stored), TIME_NAMES)
        gridded = [n for n in names if stored[n].ndim >= 2 and n not in keys.values()]
        values = np.asarray(stored[choose(path, variable, names, gridded)], np.float64)
        lat, lon = (in_degrees(path, str(k), stored[str(k)], {}, source.units) for k in keys.values())
        points = (
            lat.shape == lon.shape
            and values.shape[-lat.ndim :] == lat.shape
            and values.shape[-2:] != (lat.size, lon.size)
        )
        spatial = values.shape[-lat.ndim :] if points else (lat.size, lon.size)
        if values.shape[values.ndim - len(spatial) :] != spatial:
            raise ValueError(
                f"{path} has shape {values.shape}; expected ({'T, ' if time else ''}{lat.size}, {lon.size})"
            )
        leading = list(values.shape[: values.ndim - len(spatial)])
        hours = None
        if time is not None and leading and leading[0] == stored[time].size:
            hours = hours_of(path, time, stored[time], {})
        dims = [(f"axis {k}", n) for k, n in enumerate(leading)][0 if hours is None else 1 :]
        index = _level(path, dims, source.level)
        values = values[index] if hours is None else np.stack([frame[index] for frame in values])
        yield _placed(path, values.reshape(-1, *spatial), hours, [lat, lon], points, {})


def _placed(
    path: Path,
    values: np.ndarray,
    hours: np.ndarray | None,
    places: Sequence[np.ndarray],
    points: bool,
    attributes: Mapping[str, Any],
) -> _Part:
    """A part whose points are flat, unless they form axes of a lat-lon grid after all."""
    lat, lon = places
    if points and lat.ndim == 2:
        axes = as_axes(lat, lon)
        if axes is not None:
            values = values.swapaxes(-1, -2) if axes[2] else values
            return _Part(path, values, hours, axes[0], axes[1], False, attributes)
    if points:
        return _Part(
            path, values.reshape(len(values), -1), hours, lat.reshape(-1), lon.reshape(-1), True, attributes
        )
    return _Part(path, values, hours, lat, lon, False, attributes)


def _level(path: Path, dims: Sequence[tuple[str, int]], level: Sequence[int]) -> tuple[int, ...]:
    """The index into each other dimension; none is looked up where the file holds one level alone."""
    return level_index(path, dims, level if any(size != 1 for _, size in dims) else ())


def _slices(frames: int, each: int) -> Iterator[slice]:
    step = max(1, CHUNK // max(each, 1))
    return (slice(start, start + step) for start in range(0, frames, step))


def _is_time(name: str, variable: Any) -> bool:
    attributes = {} if variable is None else variable.attrs
    if variable is not None and variable.ndim > 1:
        return False
    stated = (
        str(attributes.get("standard_name", "")).lower() == "time"
        or str(attributes.get("axis", "")).upper() == "T"
    )
    return stated or " since " in str(attributes.get("units", "")) or name.lower() in TIME_NAMES


def _single_time(array: Any) -> str | None:
    """The coordinate without dimension that is a variable's time: one that says so before one that is called so."""
    found = [str(n) for n, c in array.coords.items() if c.ndim == 0 and _is_time(str(n), c)]
    found.sort(key=lambda n: str(array.coords[n].attrs.get("standard_name", "")).lower() != "time")
    return found[0] if found else None


def hours_of(path: Path, name: str, values: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Times in hours since 1970 (CF units "days since ...", or dates of numpy), or as numbers of hours where nothing is said.

    Calendars are not told apart: steps between frames are right in all of them. A month counts 730.5 hours, a year 8766.

    Raises: ValueError for units of another kind, or times that are missing.
    """
    values = np.asarray(values).reshape(-1)
    if values.dtype.kind == "M":
        hours = values.astype("datetime64[s]").astype(np.int64) / 3600
        if np.isnat(values).any():
            raise ValueError(f"{path}: {name} has missing times")
        return np.asarray(hours, np.float64)
    if values.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: {name} holds values of type {values.dtype}; expected times as numbers or dates"
        )
    units = str(attributes.get("units", "")).strip()
    factor, begin = 1.0, 0.0
    if units:
        match = _SINCE.match(units)
        unit = (match[1] if match else units).lower()
        unit = unit if unit in HOURS else unit.removesuffix("s")
        if unit not in HOURS:
            raise ValueError(
                f"{path}: {name} is in {units!r}; expected units such as 'hours since 1979-01-01'"
            )
        factor = HOURS[unit]
        if match:
            year, month, day = (int(match[k]) for k in (2, 3, 4))
            clock = [int(match[k] or 0) for k in (5, 6, 7)]
            date = np.datetime64(f"{year:04d}-{month:02d}-{day:02d}") - np.datetime64("1970-01-01")
            begin = float(date / np.timedelta64(1, "h")) + clock[0] + clock[1] / 60 + clock[2] / 3600
    with np.errstate(all="ignore"):
        hours = begin + factor * values.astype(np.float64)
    if not (np.abs(hours) < LONGEST).all():
        raise ValueError(f"{path}: {name} has times that are missing or out of range")
    return hours


def gridded_variables(path: Path) -> list[str]:
    """Names of the variables of one file that lie on latitudes and longitudes. Raises: ValueError when there is none."""
    if path.suffix.lower() == ".npz":
        stored = read_stored(path, "arrays of fields")
        assert isinstance(stored, dict)
        found = [name for name, array in stored.items() if array.ndim >= 2 and array.dtype.kind in "biuf"]
    elif path.suffix.lower() in SUFFIXES:
        with open_dataset(path) as data, reading(path, MISTAKE):
            found = []
            for name, variable in data.data_vars.items():
                if variable.dtype.kind not in "biuf" or variable.ndim < 2:
                    continue
                try:
                    _coordinates(path, data, data[name], None, KINDS)
                except ValueError:
                    continue
                found.append(str(name))
    else:
        raise ValueError(f"{path} is no file of series; expected {', '.join(SUFFIXES)} or .npz")
    if not found:
        raise ValueError(f"{path} holds no field on latitudes and longitudes")
    return found
