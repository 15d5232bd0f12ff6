"""Label pictures as class indices: grey values, palette indices, or colours of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spheregeo.data.common import IGNORE
from spheregeo.data.sphere.pictures.decode import Raster, decode

__all__ = ["read_labels"]

VOID_16_BITS = 65535
SHOWN = 5  # wrong values that an error lists


def void_values(void: Sequence[int | str]) -> tuple[tuple[int, ...], np.ndarray]:
    """Stored values, and packed colours, that are void. Raises: ValueError for anything but numbers and "#RRGGBB"."""
    values, colours = [], []
    for entry in void:
        text = str(entry).strip()
        try:
            if text.startswith("#") and len(text) == 7:
                colours.append(int(text[1:], 16))
            else:
                values.append(int(text))
        except ValueError:
            raise ValueError(
                f"void holds {entry!r}; expected label values, or colours such as '#000000'"
            ) from None
    return tuple(values), np.array(colours, np.int64)


def read_labels(
    path: str | Path,
    num_classes: int,
    ignore: int = IGNORE,
    *,
    colours: np.ndarray | None = None,
    void: Sequence[int | str] = (),
) -> np.ndarray:
    """Read a label picture: its grey value (8 or 16 bits), palette index or colour is the class.

    With a table of colours, RGB pictures and palettes that hold these colours alone are looked up in the table.

    Args:
        path: the file, of a format that keeps values (no JPEG).
        num_classes: number of classes.
        ignore: label of what is void in the result; as a stored value it is void too, as 65535 is at 16 bits.
        colours: colour of each class, (num_classes, 3) of 0 ... 255; None where values are classes.
        void: further stored values that are void, and colours as "#RRGGBB".

    Shape: (H, W) int64.
    Raises: FileNotFoundError; ValueError naming the file for JPEGs, colours that the table does not hold, and values outside
        0 ... num_classes - 1.
    """
    raster = decode(path)
    if raster.lossy:
        raise ValueError(
            f"{path} is a JPEG, which changes values to save space; expected labels as PNG: save them again from their source"
        )
    values, void_colours = void_values(void)
    array = raster.array[..., 0] if raster.mode == "PA" else raster.array
    if raster.palette is not None and colours is not None:
        known = np.concatenate([_packed(colours), void_colours])
        if np.isin(_packed(raster.palette[np.unique(array)]), known).all():
            return _by_colour(path, raster.palette[array], colours, void_colours, ignore)
    if array.ndim == 3:
        if colours is not None and array.shape[-1] >= 3:
            return _by_colour(path, _eight_bits(raster)[..., :3], colours, void_colours, ignore)
        grey = array[..., 0]
        if not (array.shape[-1] == 2 or (array[..., :3] == grey[..., None]).all()):
            raise ValueError(
                f"{path} is a label image with mode {raster.mode}; expected one channel (grey or palette), the class, "
                "or a colour for each class in classes.txt (NAME R G B)"
            )
        array = grey
    if array.dtype.kind == "f" and not (array == np.rint(array)).all():
        raise ValueError(f"{path} holds fractions; expected whole numbers, the classes")
    label = array.astype(np.int64)
    if array.dtype.itemsize > 1:
        label[label == VOID_16_BITS] = ignore
    label[np.isin(label, values)] = ignore
    wrong = (label != ignore) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{path} has label {int(label[row, column])} at row {row}, column {column} ({int(wrong.sum())} such pixels, values "
            f"{_listed(np.unique(label[wrong]))}); expected 0 ... {num_classes - 1} or {ignore} (ignored): add the class to "
            "classes.txt, list the value under void, or correct the file"
        )
    return label


def _packed(colours: np.ndarray) -> np.ndarray:
    rgb = np.asarray(colours, np.int64)
    return rgb[..., 0] * 65536 + rgb[..., 1] * 256 + rgb[..., 2]


def _eight_bits(raster: Raster) -> np.ndarray:
    if raster.array.dtype == np.uint8:
        return raster.array
    return np.rint(raster.array.astype(np.float64) * (255 / raster.top)).astype(np.uint8)


def _listed(values: np.ndarray) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(str(int(v)) for v in values[:SHOWN]) + more


def _by_colour(
    path: str | Path, rgb: np.ndarray, colours: np.ndarray, void: np.ndarray, ignore: int
) -> np.ndarray:
    """Classes of colours (H, W, 3)."""
    found, place = np.unique(_packed(rgb), return_inverse=True)
    place = place.reshape(rgb.shape[:2])
    table = {int(c): k for k, c in enumerate(_packed(colours))} | dict.fromkeys(map(int, void), ignore)
    unknown = [int(c) for c in found if int(c) not in table]
    if unknown:
        row, column = np.argwhere(found[place] == unknown[0])[0]
        raise ValueError(
            f"{path} has colour #{unknown[0]:06X} at row {row}, column {column} ({len(unknown)} colours that are no class: "
            f"{', '.join(f'#{c:06X}' for c in unknown[:SHOWN])}); expected the colours of classes.txt: add them there, list them "
            "under void, or draw labels without smoothing"
        )
    return np.array([table[int(c)] for c in found], np.int64)[place]
