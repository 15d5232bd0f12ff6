"""Files of one image each: what cameras and viewers write, .npy, and TIFFs with all their bands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.files import need_file, read_array
from spheregeo.data.images.dataset import check_image
from spheregeo.data.sphere.files import IMAGE_SUFFIXES, read_image
from spheregeo.files import reading

__all__ = ["read_picture"]

TIFF = (".tif", ".tiff")
PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, ".npy")
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601, as Pillow weighs colours
NO_DATA = 42113
_MOST = 2**30  # values of an image


def read_picture(path: str | Path, channels: int | None = None) -> np.ndarray:
    """Read an image.

    Args:
        path: .png, .jpg, .jpeg, .webp or .bmp, read as a viewer shows it, in three channels; .npy; .tif or .tiff (package
            tifffile), GeoTIFF among them, with all bands as they are stored.
        channels: channels that are expected: 1 makes a grey image of three colours, 3 repeats a grey one; as stored if None.

    Shape: (C, H, W) float32; pictures lie in [0, 1]; of .npy and TIFF uint8 is divided by 255 and uint16 by 65535 where the
        largest value is above 1, other numbers stay as they are. Pixels of a TIFF without data have their band's mean.
    Raises: FileNotFoundError; ImportError for TIFF without tifffile; ValueError naming the file for anything that is no image,
        or has other channels.
    """
    path = Path(path)
    need_file(path, "an image")
    suffix = path.suffix.lower()
    if suffix in TIFF:
        image = _tiff(path)
    elif suffix == ".npy":
        stored = read_array(path)
        if isinstance(stored, dict):
            raise ValueError(f"{path} holds several arrays; expected one, (H, W) or (C, H, W)")
        image = check_image(stored, str(path))
    elif suffix in IMAGE_SUFFIXES:
        image = read_image(path)
    else:
        raise ValueError(f"{path} is of no known type; expected one of {', '.join(PICTURE_SUFFIXES)}")
    if channels in (None, len(image)):
        return image
    if channels == 1 and len(image) == 3:
        return np.einsum("c,chw->hw", GREY, image)[None]
    if channels == 3 and len(image) == 1:
        return np.repeat(image, 3, 0)
    raise ValueError(f"{path} has {len(image)} channels; expected {channels}")


def _tiff(path: Path) -> np.ndarray:
    """All bands of the first image of a TIFF."""
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(f"{path} needs the package tifffile: pip install 'spheregeo[tiff]'") from error
    with reading(path, "a TIFF image"):
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            series = file.series[0]
            if int(np.prod(series.shape, dtype=float)) > _MOST:
                raise ValueError(f"it states the shape {series.shape}; expected at most {_MOST} values")
            axes, array = series.axes, np.asarray(series.asarray())
            tag = page.tags.get(NO_DATA)
        others = [k for k, axis in enumerate(axes) if axis not in "YX"]
        if axes.count("Y") != 1 or axes.count("X") != 1 or sum(array.shape[k] > 1 for k in others) > 1:
            raise ValueError(f"its axes are {axes} of sizes {array.shape}; expected rows, columns and bands")
        bands = array.transpose(*others, axes.index("Y"), axes.index("X"))
        bands = bands.reshape(-1, *bands.shape[-2:])
        if tag is not None:
            bands = _filled(bands, float(str(tag.value).strip("\0 ")))
    return check_image(bands, str(path))


def _filled(bands: np.ndarray, missing: float) -> np.ndarray:
    """Bands with the mean of what is there in place of what is missing."""
    gone = np.isnan(bands) if np.isnan(missing) else bands == missing
    if not gone.any():
        return bands
    if gone.all((1, 2)).any():
        raise ValueError("a band has no data at all; expected some")
    mean = np.array([band[~lost].mean() for band, lost in zip(bands, gone, strict=True)])
    return np.where(gone, mean[:, None, None], bands).astype(bands.dtype)


def resized(image: np.ndarray, size: tuple[int, int] | list[int], nearest: bool = False) -> np.ndarray:
    """Return an image of another size: interpolated linearly, smoothed before it is shrunk.

    Args:
        image: the image, or a mask.
        size: rows and columns wanted.
        nearest: whether values are classes, of which the nearest is taken.

    Shape: (C, H, W) or (H, W) -> (C, *size) or (*size).
    """
    import torch

    if image.shape[-2:] == tuple(size):
        return image
    x = torch.from_numpy(np.ascontiguousarray(image)).float()
    x = x.reshape(1, -1, *image.shape[-2:])
    how: dict[str, Any] = {"mode": "nearest-exact"} if nearest else {"mode": "bilinear", "antialias": True}
    y = torch.nn.functional.interpolate(x, size=tuple(size), **how).numpy()
    return y.reshape(*image.shape[:-2], *size).astype(image.dtype)
