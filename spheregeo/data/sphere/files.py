"""Image files as arrays: colours and labels of any bit depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["read_image", "read_labels"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_raster(path: str | Path) -> tuple[np.ndarray, str]:
    """Decodes an image file as stored: (H, W) or (H, W, C), integers or floats, and PIL's mode; palettes give their indices.

    Raises: FileNotFoundError; ValueError for a file that is truncated or no image.
    """
    from PIL import Image as pil
    from PIL import UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected an image file there")
    # Pillow's limit guards web servers; a 16384 x 8192 panorama is ordinary here.
    limit, pil.MAX_IMAGE_PIXELS = pil.MAX_IMAGE_PIXELS, None
    try:
        with pil.open(path) as image:
            mode = image.mode
            array = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); it may be truncated or of another format: "
            "copy it again, or take it out of the folder"
        ) from error
    finally:
        pil.MAX_IMAGE_PIXELS = limit
    return array, mode


def read_image(path: str | Path) -> np.ndarray:
    """Read a colour image.

    Grey is repeated over the three channels, an alpha channel is dropped, a palette is looked up, 16 bits are scaled by 65535.

    Args:
        path: an image file.

    Shape: (3, H, W) float32, in [0, 1].
    Raises: FileNotFoundError; ValueError for unreadable files and for NaN or infinite values (floating-point TIFF).
    """
    array, mode = read_raster(path)
    if mode == "P":
        from PIL import Image as pil

        with pil.open(path) as image:
            array, mode = np.asarray(image.convert("RGB")), "RGB"
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        raise ValueError(
            f"{path} holds {mode} colours; expected grey, RGB, RGBA or a palette: convert it to RGB"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ValueError(
                f"{path} holds {int((~np.isfinite(array)).sum())} NaN or infinite values; replace them"
            )
        image_ = array.astype(np.float32)
    else:
        # Pillow opens 16-bit grey PNGs as 32-bit integers in some versions ("I"), as "I;16" in others.
        top = 255.0 if array.dtype == np.uint8 else 65535.0
        image_ = array.astype(np.float32) / np.float32(top)
    if image_.ndim == 2:
        image_ = np.repeat(image_[..., None], 3, -1)
    channels = image_.shape[-1]
    if channels == 2:  # grey with alpha
        image_ = np.repeat(image_[..., :1], 3, -1)
    elif channels not in (3, 4):
        raise ValueError(f"{path} has {channels} channels; expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    return np.ascontiguousarray(image_[..., :3].transpose(2, 0, 1))


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
