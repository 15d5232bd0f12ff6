"""Volumes and their checks: what every reader of voxels returns.

A volume is an array (C, D, H, W) in float32; array axes D, H, W are x, y, z.
"""

from __future__ import annotations

import numpy as np

from spheregeo.data.samples import LabelledArrays, check_values

__all__ = ["VoxelDataset"]


def check_volume(values: np.ndarray, name: str, largest: int | None = None) -> np.ndarray:
    """Return an array of voxels as a volume: one channel is added where there is none, grey values are scaled to [0, 1].

    Args:
        values: the array; uint8 is divided by 255 and uint16 by 65535, where the largest value is above 1. Masks of 0 and 1 and
            whole numbers of other types (Hounsfield units) stay as they are.
        name: what the volume is called in messages.
        largest: largest value of all volumes of the file, which decides for each of them; that of the array if None.

    Shape: (D, H, W) or (C, D, H, W) -> (C, D, H, W) float32.
    Raises: ValueError for other shapes, empty axes, values that are no real numbers, NaN and infinite values.
    """
    return check_values(values, name, "D, H, W", "voxels", largest)


class VoxelDataset(LabelledArrays):
    """Base class of datasets of labelled volumes, which ``load`` returns as (C, D, H, W) float32.

    A subclass implements ``__len__`` and ``load``, and sets ``labels`` (one int per volume) and ``class_names``.

    Raises: IndexError for an index outside the dataset.
    """

    things = "volumes"
