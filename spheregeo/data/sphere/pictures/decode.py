"""Image files as arrays, as a viewer shows them: upright, first frame, all 16 bits, within a limit of pixels."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spheregeo.files import reading

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = (
    1 << 28
)  # twice 16384 x 8192, which is an ordinary panorama; a few kilobytes can ask for far more
WHAT = "an image (it may be truncated or of another format)"
# Formats that Pillow decodes itself: others start programs (EPS) or are no pictures.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000")
TO_RGB = ("YCbCr", "LAB", "HSV", "RGBX")
TO_RGBA = ("RGBa", "La")
LOSSY = ("JPEG", "MPO")
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
ORIENTATION = 0x0112
# EXIF's orientations as (transpose, flip rows, flip columns), in this order.
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

_opening = threading.Lock()


def _renew_lock() -> None:
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True)
class Raster:
    """A decoded image file.

    Args:
        array: integers, floats or bits; a palette's indices.
        mode: Pillow's name of the stored mode, such as "RGB", "P" or "CMYK".
        top: value of full brightness.
        palette: colours of the indices, where there is a palette.
        lossy: whether the file's format changes values when it stores them.

    Shape: array (H, W) or (H, W, C); palette (256, 3) uint8.
    """

    array: np.ndarray
    mode: str
    top: float
    palette: np.ndarray | None = None
    lossy: bool = False


def open_image(path: Path) -> Image:
    """Open an image file, whose header is read only, within ``MAX_PIXELS``.

    Raises: FileNotFoundError; ValueError for a file that is no image or larger than the limit.
    """
    from PIL import Image as pil

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected an image file there")
    with reading(path, WHAT):
        with _opening:  # Pillow's own limit, lower than ours, is one for the whole process
            limit, pil.MAX_IMAGE_PIXELS = pil.MAX_IMAGE_PIXELS, None
            try:
                image = pil.open(path, formats=FORMATS)
            finally:
                pil.MAX_IMAGE_PIXELS = limit
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise ValueError(
            f"{path} is {height} x {width} pixels (height x width); at most {MAX_PIXELS:,} pixels are read: "
            "scale it down first"
        )
    return image


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image as a viewer shows it, from the file's header.

    Raises: FileNotFoundError; ValueError for a file that is no image or too large.
    """
    path = Path(path)
    with open_image(path) as image, reading(path, WHAT):
        width, height = image.size
        # Pillow has swapped a TIFF's sides already
        turned = image.format != "TIFF" and TURNS.get(_orientation(image), TURNS[1])[0]
    return (width, height) if turned else (height, width)


def _orientation(image: Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged notes of a camera: the picture itself may be whole
        return 1


def decode(path: str | Path) -> Raster:
    """Decode an image file: turned upright by its EXIF orientation, first frame, palette indices and all bits kept.

    CMYK and YCCK become RGB, by the colour profile in the file if there is one; YCbCr, LAB and HSV become RGB.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP, GIF, PPM or JPEG 2000.

    Raises: FileNotFoundError; ValueError naming the file when it is no image, truncated or larger than ``MAX_PIXELS``.
    """
    path = Path(path)
    with open_image(path) as image, reading(path, WHAT):
        _check_whole(image)
        mode, lossy, palette, top = image.mode, image.format in LOSSY, None, None
        rawmode = _rawmode(image)
        inverted = mode.startswith("I;16") and _photometric(image) == WHITE_IS_ZERO
        if rawmode.startswith(("RGB;16", "RGBA;16", "RGBX;16", "LA;16")):
            array, turn = _all_bits(path, rawmode), 1 if image.format == "TIFF" else _orientation(image)
            top = 65535.0
        else:
            image.load()
            turn = _orientation(image)  # a TIFF is upright by now, and has lost its note
            if mode in ("P", "PA"):
                palette = _palette(image)
            array = np.asarray(_to_rgb(image))
            top = 4095.0 if rawmode == "I;12" else _top(array)
        if inverted:
            array = (int(top) - array.astype(np.int64)).astype(array.dtype)
        return Raster(_turned(array, turn), mode, top, palette, lossy)


def _check_whole(image: Any) -> None:
    """Refuse a header that counts more rows or columns than the pixels behind it fill. Frames of a GIF may be small."""
    tiles = getattr(image, "tile", None)
    if tiles and image.format in ("TIFF", "PNG", "BMP", "PPM"):
        filled = max(tile[1][2] for tile in tiles), max(tile[1][3] for tile in tiles)
        if image.format == "TIFF" and TURNS.get(_orientation(image), TURNS[1])[0]:
            filled = filled[::-1]  # the sides that Pillow states are those of the upright picture already
        if filled[0] < image.width or filled[1] < image.height:
            raise ValueError(
                f"its header says {image.height} x {image.width} pixels but there are {filled[1]} x {filled[0]}"
            )


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    transpose, rows, columns = TURNS.get(orientation, TURNS[1])
    array = array.swapaxes(0, 1) if transpose else array
    array = array[::-1] if rows else array
    return array[:, ::-1] if columns else array


def _top(array: np.ndarray) -> float:
    if array.dtype == bool or array.dtype.kind == "f":
        return 1.0
    return 255.0 if array.dtype == np.uint8 else 65535.0


def _to_rgb(image: Image) -> Image:
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode in TO_RGB:
        return image.convert("RGB")
    return image.convert("RGBA") if image.mode in TO_RGBA else image


def _from_cmyk(image: Image) -> Image:
    """By the picture's own colour profile, else by the plain formula."""
    profile = image.info.get("icc_profile")
    if profile:
        import io

        from PIL import ImageCms

        try:
            source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            converted: Any = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
            return converted
        except (ImageCms.PyCMSError, OSError, ImportError):
            pass  # no usable profile
    return image.convert("RGB")


def _palette(image: Image) -> np.ndarray:
    flat = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(flat)] = flat
    return palette


def _photometric(image: Any) -> int | None:
    return image.tag_v2.get(PHOTOMETRIC) if image.format == "TIFF" else None


def _rawmode(image: Any) -> str:
    """How the file's pixels are packed, in Pillow's words: "RGB;16B" are three channels of two bytes, the high one first."""
    if not getattr(image, "tile", None):
        return ""
    stated = image.tile[0][3]
    return str(stated if isinstance(stated, str) else stated[0]) if stated else ""


def _all_bits(path: Path, rawmode: str) -> np.ndarray:
    """Colours of 16 bits, of which Pillow keeps the high byte: decoded once more with the other byte order for the low one."""
    if rawmode.startswith("LA"):  # the four bytes of grey and alpha as four channels
        pixels = np.asarray(_redecoded(path, "RGBA", "RGBA")).astype(np.uint16)
        return pixels[..., 0::2] * np.uint16(256) + pixels[..., 1::2]
    native = "L" if sys.byteorder == "little" else "B"
    order = native if rawmode[-1] == "N" else rawmode[-1]
    other = rawmode[:-1] + ("B" if order == "L" else "L")
    high, low = (np.asarray(_redecoded(path, packing)).astype(np.uint16) for packing in (rawmode, other))
    return high * np.uint16(256) + low


def _redecoded(path: Path, rawmode: str, mode: str | None = None) -> Image:
    with open_image(path) as opened:
        image: Any = opened
        if mode is not None:
            image._mode = mode
        image.tile = [
            (*tile[:3], rawmode if isinstance(tile[3], str) else (rawmode, *tile[3][1:]))
            if not hasattr(tile, "_replace")
            else tile._replace(args=rawmode if isinstance(tile[3], str) else (rawmode, *tile[3][1:]))
            for tile in image.tile
        ]
        image.load()
        return opened.copy()
