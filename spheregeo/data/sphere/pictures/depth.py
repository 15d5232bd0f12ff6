"""Files of depth in metres, whatever unit they are stored in: told, or detected where the numbers leave one choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.files import read_array
from spheregeo.data.sphere.pictures.decode import decode

__all__ = ["read_depth"]

UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
NEAREST, FARTHEST = 0.05, 100.0  # metres: a median depth outside tells that the unit is another


def unit_in_metres(unit: float | str) -> float:
    """Metres in a unit of depth. Raises: ValueError for a name other than mm, cm and m, and for numbers that are not positive."""
    if isinstance(unit, str) and unit in UNITS:
        return UNITS[unit]
    try:
        metres = float(unit)
    except ValueError:
        metres = 0.0
    if not 0 < metres < np.inf:
        raise ValueError(f"depth unit is {unit!r}; expected {', '.join(UNITS)} or metres per step, above 0")
    return metres


def read_depth(path: str | Path, unit: float | str | None = None, missing: float = 0) -> np.ndarray:
    """Read a depth file, with 0 where depth is missing.

    Args:
        path: an integer picture of 16 bits, a floating-point TIFF, or an .npy or .npz file.
        unit: "mm", "cm", "m", or metres per stored step; None takes integer pictures as millimetres and floating-point numbers as
            metres, and refuses both when the median depth is implausible (below 5 cm, above 100 m), and integer arrays always.
        missing: value that stands for "no depth", beside NaN and infinity.

    Shape: (H, W) float32.
    Units: metres.
    Raises: FileNotFoundError; ValueError for unreadable files, other than one channel, negative or implausible depth, 8 bits
        and integer arrays without ``unit``.
    """
    path = Path(path)
    array, is_picture = _stored(path)
    if array.ndim != 2:
        raise ValueError(f"{path} has shape {array.shape}; expected one depth a pixel, (H, W)")
    if is_picture and unit is None and array.dtype.itemsize == 1:
        raise ValueError(
            f"{path} is an 8-bit depth image; expected 16 bits, millimetres, or .npy in metres: say its unit in metres "
            "(--data.depth_unit) if 8 bits are all there is"
        )
    if not is_picture and unit is None and array.dtype.kind in "iu":
        raise ValueError(
            f"{path} holds depths of type {array.dtype}, whose unit no file states; expected floating-point metres, or the unit: "
            "--data.depth_unit mm, cm, m or metres per step"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and missing
        values = np.where(array == missing, 0, array).astype(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(0))
    if (values < 0).any():
        raise ValueError(f"{path} holds negative depths; expected metres along the ray, 0 where missing")
    return values * np.float32(_scale(path, values, array.dtype.kind in "iu", unit))


def _stored(path: Path) -> tuple[np.ndarray, bool]:
    if path.suffix not in (".npy", ".npz"):
        return decode(path).array, True
    stored = read_array(path)
    if isinstance(stored, dict):
        if len(stored) != 1:
            raise ValueError(
                f"{path} holds {len(stored)} arrays; expected one array of numbers, the depth in metres"
            )
        return next(iter(stored.values())), False
    return stored, False


def _scale(path: Path, values: np.ndarray, in_millimetres: bool, unit: float | str | None) -> float:
    """Metres a step, told or detected."""
    if unit is not None:
        return unit_in_metres(unit)
    measured = values[values > 0]
    median = float(np.median(measured)) if measured.size else 1.0
    scale = UNITS["mm"] if in_millimetres else UNITS["m"]
    too_near = in_millimetres and median * scale < NEAREST and measured.size
    if too_near or median * scale > FARTHEST:
        raise ValueError(
            f"{path} would have a median depth of {median * scale:g} m in {'milli' if in_millimetres else ''}metres; "
            "say its unit: --data.depth_unit mm, cm, m or metres per step"
        )
    return scale
