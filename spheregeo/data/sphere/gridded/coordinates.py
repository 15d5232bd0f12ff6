"""Which variable of a file holds latitudes or longitudes, and its values in degrees.

Reference: Climate and Forecast (CF) metadata conventions 1.11, chapters 4 and 5: standard_name, units and axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LATITUDE_NAMES = ("lat", "lats", "latitude", "latitudes", "nav_lat", "y")
LONGITUDE_NAMES = ("lon", "lons", "longitude", "longitudes", "nav_lon", "x")
COLATITUDE_NAMES = ("colat", "colats", "colatitude", "colatitudes")
NORTH = ("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn")
EAST = ("degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese")
PLAIN = ("degrees", "degree", "deg", "°")
RADIANS = ("radians", "radian", "rad")
OPPOSITE = ("degrees_south", "degree_south", "degrees_west", "degree_west")
HALF_TURN = np.pi + 1e-3


def kind_of(name: str, attributes: Mapping[str, Any]) -> tuple[str, int] | None:
    """Whether a variable holds "latitude" or "longitude", and how sure that is: 4 by standard_name, 3 by units ... 0 by x, y.

    None for other variables, such as coordinates of a map projection or of a turned pole.
    """
    standard = str(attributes.get("standard_name", "")).strip().lower()
    if standard:
        known = {"latitude": "latitude", "colatitude": "latitude", "longitude": "longitude"}
        return (known[standard], 4) if standard in known else None
    units = _plain(attributes.get("units"))
    for kind, own, names in (
        ("latitude", NORTH, (*LATITUDE_NAMES, *COLATITUDE_NAMES)), ("longitude", EAST, LONGITUDE_NAMES),
    ):  # fmt: skip
        if units in own:
            return kind, 3
        if units and units not in (*PLAIN, *RADIANS, *OPPOSITE):
            continue
        if units and str(attributes.get("axis", "")).upper() == {"latitude": "Y", "longitude": "X"}[kind]:
            return kind, 2
        if name.lower() in names:
            return kind, 0 if name.lower() in ("x", "y") else 1
    return None


def _plain(units: Any) -> str:
    return "" if units is None else str(units).strip().lower().replace(" ", "_")


def in_degrees(
    path: Path, name: str, values: np.ndarray, attributes: Mapping[str, Any], told: str | None
) -> np.ndarray:
    """Latitudes (from colatitudes too) or longitudes in degrees, by the units of the file, or those that are told.

    Raises: ValueError for other units, and colatitudes outside 0 ... 180 degrees.
    """
    values = np.asarray(values, np.float64)
    units = _plain(told if told is not None else attributes.get("units"))
    if units in RADIANS:
        values = np.degrees(values)
    elif units in OPPOSITE:
        values = -values
    elif units and units not in (*NORTH, *EAST, *PLAIN):
        raise ValueError(
            f"{path}: coordinate {name} is in {attributes.get('units', told)!r}; expected degrees or radians: resample fields "
            "on map projections to latitude and longitude first"
        )
    standard = str(attributes.get("standard_name", "")).strip().lower()
    if standard == "colatitude" or (not standard and name.lower() in COLATITUDE_NAMES):
        if np.nanmin(values) < -1e-3 or np.nanmax(values) > 180.001:
            raise ValueError(
                f"{path}: colatitudes {name} run {np.nanmin(values):g} ... {np.nanmax(values):g} degrees; expected 0 ... 180"
            )
        values = 90 - values
    return values


def check_not_indices(path: Path, name: str, values: np.ndarray, kind: str) -> None:
    """Refuse coordinates x and y without units that number rows and columns.

    Raises: ValueError when the values are 0, 1, 2 ... or 1, 2, 3 ...
    """
    if values.ndim == 1 and values.size > 1 and values[0] in (0, 1) and bool((np.diff(values) == 1).all()):
        raise ValueError(
            f"{path}: coordinate {name} has no units and runs {values[0]:g}, {values[1]:g} ... {values[-1]:g}, which numbers "
            f"cells; expected {kind}s: give them by the field's {kind}s, or say that these are degrees by the field's units"
        )


def check_not_radians(path: Path, lat: np.ndarray, lon: np.ndarray, stated: bool) -> None:
    """Refuse coordinates that fit into radians although nothing, or degrees, are stated.

    Raises: ValueError when all lie within radians, and with stated degrees only if they also span most of a turn in radians.
    """
    if lat.size < 3 or lon.size < 3:
        return
    small = np.nanmax(np.abs(lat)) <= HALF_TURN / 2 and np.nanmax(np.abs(lon)) <= 2 * HALF_TURN
    whole = np.ptp(lon[np.isfinite(lon)]) > 5 and np.ptp(lat[np.isfinite(lat)]) > 2.5
    if small and (whole or not stated):
        raise ValueError(
            f"{path}: latitudes run {np.nanmin(lat):.4g} ... {np.nanmax(lat):.4g} and longitudes {np.nanmin(lon):.4g} ... "
            f"{np.nanmax(lon):.4g}, which looks like radians; expected degrees, or units said by the file or by the field's "
            "units (degrees or radians)"
        )


def level_index(path: Path, dims: Sequence[tuple[str, int]], level: Sequence[int]) -> tuple[int, ...]:
    """The index into each dimension before latitude and longitude; dimensions of length 1 need none.

    Raises: ValueError naming the dimensions when ``level`` has another number of indices, or one is out of range.
    """
    long = [k for k, (_, size) in enumerate(dims) if size != 1]
    if len(level) == len(dims):
        chosen = dict(enumerate(level))
    elif len(level) == len(long):
        chosen = dict(zip(long, level, strict=True))
    else:
        wanted = ", ".join(f"{name} ({size})" for name, size in dims) or "none"
        raise ValueError(
            f"{path} has dimensions {wanted} before latitude and longitude and level has {len(level)} indices; expected one "
            "index for each that is longer than 1: level [0] takes the first"
        )
    for place, (k, index) in enumerate(sorted(chosen.items())):
        if not 0 <= index < dims[k][1]:
            raise ValueError(f"level[{place}] is {index}; expected 0 ... {dims[k][1] - 1} for {path}")
    return tuple(chosen.get(k, 0) for k in range(len(dims)))


def as_axes(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool] | None:
    """Axes of coordinates (H, W) that are a lat-lon grid after all: rows, columns, and whether the two are swapped."""
    for swapped in (False, True):
        a, b = (lat.T, lon.T) if swapped else (lat, lon)
        if np.ptp(a, axis=1).max() < 1e-5 and np.ptp(np.unwrap(b, period=360, axis=0), axis=0).max() < 1e-5:
            return a[:, 0], b[0], swapped
    return None
