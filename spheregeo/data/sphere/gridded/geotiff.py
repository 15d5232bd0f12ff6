"""Fields in TIFF files: values as stored, with the coordinates and the "no data" of GeoTIFF where they are there.

Reference: OGC GeoTIFF 1.1, sections 7.1 and 7.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.sphere.pictures.decode import decode, open_image
from spheregeo.files import reading

SCALE, TIE, MATRIX, KEYS, NO_DATA = 33550, 33922, 34264, 34735, 42113
MODEL, RASTER = 1024, 1025  # keys of the kind of coordinates and of what a pixel's position is
GEOGRAPHIC, PIXEL_IS_POINT = 2, 2
WHAT = "a GeoTIFF field"


def read_geotiff(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Values (H, W) with NaN where missing, and latitudes and longitudes in degrees, if stated; None for colour pictures.

    Raises: ValueError for coordinates of a map projection or of a turned grid.
    """
    with open_image(path) as image, reading(path, WHAT):
        tags: Any = dict(image.tag_v2) if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    raster = decode(path)
    array = raster.array
    if array.ndim != 2 or raster.palette is not None or (array.dtype.itemsize == 1 and SCALE not in tags):
        return None
    with reading(path, WHAT):
        values = array.astype(np.float64)
        if NO_DATA in tags:
            missing = float(str(tags[NO_DATA]).strip("\0 "))
            values = np.where(np.isclose(values, missing, rtol=1e-6, atol=0), np.nan, values)
        return values, _coordinates(path, tags, *array.shape)


def _coordinates(path: Path, tags: dict[int, Any], height: int, width: int) -> dict[str, np.ndarray]:
    if MATRIX in tags and SCALE not in tags:
        raise ValueError(f"{path} lies on a turned grid; expected rows along latitude: resample it first")
    if SCALE not in tags or TIE not in tags:
        return {}
    words = tuple(tags.get(KEYS, ()))
    keys = {words[k]: words[k + 3] for k in range(4, len(words) - 3, 4)}
    if keys.get(MODEL, GEOGRAPHIC) != GEOGRAPHIC:
        raise ValueError(
            f"{path} has the coordinates of a map projection; expected latitude and longitude: resample it first"
        )
    column, row, _, longitude, latitude = tuple(tags[TIE])[:5]
    step_x, step_y = tuple(tags[SCALE])[:2]
    centre = 0.0 if keys.get(RASTER) == PIXEL_IS_POINT else 0.5
    return {
        "latitude": latitude - (np.arange(height) + centre - row) * step_y,
        "longitude": longitude + (np.arange(width) + centre - column) * step_x,
    }
