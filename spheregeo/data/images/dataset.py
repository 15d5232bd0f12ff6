"""Images and their checks: what every reader of images returns.

An image is an array (C, H, W) in float32, rows from the top; a mask an array (H, W) of classes in int64.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from spheregeo.data.common import IGNORE
from spheregeo.data.medmnist import channels_first
from spheregeo.data.samples import LabelledArrays, check_values

__all__ = ["ImageDataset", "MaskDataset"]


def check_image(values: np.ndarray, name: str, largest: int | None = None) -> np.ndarray:
    """Return an array of pixels as an image: one channel is added where there is none, grey values are scaled to [0, 1].

    Args:
        values: the array; uint8 is divided by 255 and uint16 by 65535, where the largest value is above 1. Other whole numbers
            stay as they are.
        name: what the image is called in messages.
        largest: largest value of all images of the file, which decides for each of them; that of the array if None.

    Shape: (H, W), (C, H, W), or (H, W, C) with one or three channels -> (C, H, W) float32.
    Raises: ValueError for other shapes, empty axes, values that are no real numbers, NaN and infinite values.
    """
    return check_values(channels_first(np.asarray(values), 2), name, "H, W", "pixels", largest)


class ImageDataset(LabelledArrays):
    """Base class of datasets of labelled images, which ``load`` returns as (C, H, W) float32.

    A subclass implements ``__len__`` and ``load``, and sets ``labels`` (one int per image) and ``class_names``.

    Raises: IndexError for an index outside the dataset.
    """

    things = "images"


class MaskDataset(ImageDataset):
    """Base class of datasets of images with a class for every pixel.

    A subclass implements ``__len__``, ``load`` and ``mask``, and sets ``class_names``.

    Raises: IndexError for an index outside the dataset.
    """

    ignore_index = IGNORE
    labels: Sequence[int] | np.ndarray = ()

    @abstractmethod
    def mask(self, index: int) -> np.ndarray:
        """Read or make the classes of an image's pixels. Shape: -> (H, W) int64."""
