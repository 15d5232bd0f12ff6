"""Image files as arrays: colours and labels of any bit depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.sphere.pictures.decode import decode

__all__ = ["read_image", "read_labels"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")


def read_raster(path: str | Path) -> tuple[np.ndarray, str]:
    """Decodes an image file as stored, but upright: (H, W) or (H, W, C), and PIL's mode; palettes give their indices.

    Raises: FileNotFoundError; ValueError for a file that is truncated, no image, or too large.
    """
    raster = decode(path)
    return raster.array, raster.mode


def read_image(path: str | Path) -> np.ndarray:
    """Read a colour image as a viewer shows it.

    The picture is turned upright by its EXIF orientation; of several frames the first is read. Grey is repeated over the three
    channels, a palette is looked up, CMYK becomes RGB, an alpha channel is dropped; 16 bits are read in full and scaled by 65535.

    Args:
        path: an image file.

    Shape: (3, H, W) float32, in [0, 1].
    Raises: FileNotFoundError; ValueError for unreadable or too large files, and for values outside the range of the format
        (NaN or more than 1 in a floating-point TIFF).
    """
    raster = decode(path)
    array, top = raster.array, raster.top
    if raster.palette is not None:
        array = raster.palette[array if array.ndim == 2 else array[..., 0]]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"{path} holds {int((~np.isfinite(array)).sum())} NaN or infinite values; replace them"
        )
    if array.dtype.kind in "if" and array.size and (array.min() < 0 or array.max() > top):
        raise ValueError(
            f"{path} holds values {array.min():g} ... {array.max():g}; expected 0 ... {top:g} from black to white: "
            "scale them"
        )
    image = array.astype(np.float32) / np.float32(top)
    if image.ndim == 2:
        image = image[..., None]
    channels = image.shape[-1]
    if channels > 4:
        raise ValueError(f"{path} has {channels} channels; expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    if channels < 3:  # grey, or grey with alpha
        image = np.repeat(image[..., :1], 3, -1)
    return np.ascontiguousarray(image[..., :3].transpose(2, 0, 1))


def check_panorama(path: str | Path, height: int, width: int) -> None:
    """Raises ValueError unless the image is twice as wide as high."""
    if width != 2 * height:
        raise ValueError(
            f"{path} is {height} x {width} pixels (height x width); expected width = 2 x height, the whole sphere: "
            "crop or pad it to 180 x 360 degrees first"
        )


def read_labels(path: str | Path, num_classes: int, ignore: int = 255) -> np.ndarray:
    """Read a label PNG, whose grey value (8 or 16 bits) or palette index is the class.

    Args:
        path: the file.
        num_classes: number of classes.
        ignore: value that stands for "void", as 65535 does at 16 bits.

    Shape: (H, W) int64.
    Raises: FileNotFoundError; ValueError for RGB files and for values outside 0 ... num_classes - 1.
    """
    array, mode = read_raster(path)
    if array.ndim != 2:
        raise ValueError(
            f"{path} is a label image with mode {mode}; expected one channel (grey or palette) whose value is the class: "
            "convert the colours to class indices"
        )
    label = array.astype(np.int64)
    if array.dtype != np.uint8:
        label[label == 65535] = ignore
    wrong = (label != ignore) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{path} has label {int(label[row, column])} at row {row}, column {column} ({int(wrong.sum())} such pixels); "
            f"expected 0 ... {num_classes - 1} or {ignore} (ignored): add the class to classes.txt or correct the file"
        )
    return label
