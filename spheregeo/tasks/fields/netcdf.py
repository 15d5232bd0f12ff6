"""NetCDF files of predictions with CF metadata, written without a further package (classic format, 64-bit offsets).

Reference: Climate and Forecast (CF) metadata conventions 1.11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import netcdf_file

from spheregeo.data.fields.layout import FieldInfo
from spheregeo.files import atomic_path
from spheregeo.grids import Grid

FILL = np.float32(9.96921e36)


def write_fields(
    path: str | Path,
    fields: Sequence[FieldInfo],
    series: Mapping[str, np.ndarray[Any, Any]],
    grid: Grid,
    hours: np.ndarray[Any, Any],
    title: str = "",
    epoch: float | None = None,
    lead: float | None = None,
) -> Path:
    """Write fields on a lat-lon grid at several lead times; vectors as components along east and north.

    Args:
        path: the file.
        fields: the fields, in the order of the channels.
        series: values in the fields' units by the ending of the variables' names: "" for the prediction, "_truth" for the truth.
        grid: grid of shape (H, W).
        hours: hours since the beginning.
        title: title of the file.
        epoch: the beginning in hours since 1970; lead times alone if None.
        lead: lead time of all frames, where each answers for a beginning of its own; those of ``hours`` if None.

    Shape: values (samples, T, channels, H, W) or (T, channels, H, W); vectors along south and east.
    Raises: ValueError for a grid without rows and columns.
    """
    if len(grid.shape) != 2:
        raise ValueError(
            f"grid is {grid!r}; expected a lat-lon grid, whose rows and columns a NetCDF file has"
        )
    first = next(iter(series.values()))
    samples = first.ndim == 5
    latitude = 90 - np.degrees(grid.colatitude.numpy().reshape(grid.shape)[:, 0])
    longitude = np.degrees(grid.longitude.numpy().reshape(grid.shape)[0]) % 360
    with atomic_path(path) as temporary:
        file = netcdf_file(str(temporary), "w", version=2)
        try:
            file.Conventions, file.title, file.source = "CF-1.11", title or "fields", "spheregeo"
            dims = ("sample",) * samples + ("time", "lat", "lon")
            if samples:
                file.createDimension("sample", len(first))
                _variable(
                    file,
                    "sample",
                    np.arange(len(first), dtype=np.int32),
                    ("sample",),
                    long_name="number of the sample",
                )
            for name, values in (("time", hours), ("lat", latitude), ("lon", longitude)):
                file.createDimension(name, len(values))
            if epoch is None:
                _variable(
                    file,
                    "time",
                    hours,
                    ("time",),
                    units="hours",
                    standard_name="forecast_period",
                    long_name="lead time",
                )
            else:
                units = {"units": "hours since 1970-01-01 00:00:00", "calendar": "standard"}
                _variable(file, "time", epoch + hours, ("time",), standard_name="time", axis="T", **units)
                ahead = hours if lead is None else np.full(len(hours), float(lead))
                _variable(file, "lead", ahead, ("time",), units="hours", standard_name="forecast_period")
            _variable(
                file, "lat", latitude, ("lat",), units="degrees_north", standard_name="latitude", axis="Y"
            )
            _variable(
                file, "lon", longitude, ("lon",), units="degrees_east", standard_name="longitude", axis="X"
            )
            for ending, values in series.items():
                for name, standard, units, plane in _planes(fields, values):
                    said = {
                        "units": units or "1",
                        "long_name": f"{name}{' (truth)' if ending else ' (prediction)'}",
                    }
                    if standard:
                        said["standard_name"] = standard
                    filled = np.where(np.isfinite(plane), plane, FILL).astype(np.float32)
                    _variable(file, f"{name}{ending}", filled, dims, _FillValue=FILL, **said)
        finally:
            file.close()
    return Path(path)


def _planes(fields: Sequence[FieldInfo], values: np.ndarray[Any, Any]) -> Any:
    """Yield name, standard name, units and values (..., H, W) of each variable."""
    start = 0
    for one in fields:
        part = values[..., start : start + one.width, :, :]
        start += one.width
        standard = one.standard_names or ("",) * one.width
        if one.components:
            yield one.components[0], standard[0], one.units, part[..., 1, :, :]
            yield one.components[1], standard[1], one.units, -part[..., 0, :, :]
        else:
            yield one.name, standard[0], one.units, part[..., 0, :, :]


def _variable(
    file: Any, name: str, values: np.ndarray[Any, Any], dims: tuple[str, ...], **attributes: Any
) -> None:
    variable = file.createVariable(name, values.dtype, dims)
    for key, value in attributes.items():
        setattr(variable, key, value)
    variable[:] = values
