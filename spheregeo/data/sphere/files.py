"""Image files as arrays: colours and labels of any bit depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.sphere.pictures.decode import decode
from spheregeo.data.sphere.pictures.labels import read_labels as read_labels  # its former place

__all__ = ["read_image"]

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
