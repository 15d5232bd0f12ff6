"""Volumes and their checks: what every reader of voxels returns.

A volume is an array (C, D, H, W) in float32; array axes D, H, W are x, y, z.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

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
    values = np.asarray(values)
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ValueError(
            f"{name} holds an array of shape {values.shape}; expected (D, H, W), or (C, D, H, W) with channels first"
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds values of type {values.dtype}; expected real numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{name} holds {bad} NaN or infinite voxels; replace them")
    with np.errstate(over="ignore"):  # named below
        volume = values.astype(np.float32)
    if values.dtype in (np.uint8, np.uint16) and (values.max() if largest is None else largest) > 1:
        volume /= np.float32(np.iinfo(values.dtype).max)
    if not np.isfinite(volume).all():
        raise ValueError(f"{name} holds values up to {np.abs(values).max():g}; expected some below 3e38")
    return volume[None] if volume.ndim == 3 else volume


class VoxelDataset(Dataset[np.ndarray], ABC):
    """Base class of datasets of labelled volumes.

    A subclass implements ``__len__`` and ``load``, and sets ``labels`` (one int per volume) and ``class_names``.

    Raises: IndexError for an index outside the dataset.
    """

    class_names: tuple[str, ...] = ()
    labels: Sequence[int] | np.ndarray

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> np.ndarray:
        """Read or make one volume. Shape: -> (C, D, H, W) float32."""

    def name(self, index: int) -> str:
        """Return what a volume is called in messages and tables."""
        return str(index)

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} volumes")
        return self.load(index)
