"""Labelled arrays of one shape, volumes and images alike: checks of values, the base of their datasets, their batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

GREYS = (np.uint8, np.uint16)  # types whose values are scaled to [0, 1]


def check_values(
    values: np.ndarray, name: str, axes: str, points: str, largest: int | None = None
) -> np.ndarray:
    """Return an array as a sample with channels first, grey values scaled to [0, 1].

    Args:
        values: the array; uint8 is divided by 255 and uint16 by 65535, where the largest value is above 1. Masks of 0 and 1 and
            whole numbers of other types stay as they are.
        name: what the sample is called in messages.
        axes: axes without channels, such as "D, H, W".
        points: what the sample is made of, such as "voxels".
        largest: largest value of all samples of the file, which decides for each of them; that of the array if None.

    Shape: (*axes) or (C, *axes) -> (C, *axes) float32.
    Raises: ValueError for other shapes, empty axes, values that are no real numbers, NaN and infinite values.
    """
    values, rank = np.asarray(values), axes.count(",") + 1
    if values.ndim not in (rank, rank + 1) or 0 in values.shape:
        raise ValueError(
            f"{name} holds an array of shape {values.shape}; expected ({axes}), or (C, {axes}) with channels first"
        )
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds values of type {values.dtype}; expected real numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{name} holds {bad} NaN or infinite {points}; replace them")
    with np.errstate(over="ignore"):  # named below
        sample = values.astype(np.float32)
    if values.dtype in GREYS and (values.max() if largest is None else largest) > 1:
        sample /= np.float32(np.iinfo(values.dtype).max)
    if not np.isfinite(sample).all():
        raise ValueError(f"{name} holds values up to {np.abs(values).max():g}; expected some below 3e38")
    return sample[None] if sample.ndim == rank else sample


class LabelledArrays(Dataset[np.ndarray], ABC):
    """Base class of datasets of labelled arrays.

    A subclass implements ``__len__`` and ``load``, and sets ``labels`` (one int per sample) and ``class_names``.

    Raises: IndexError for an index outside the dataset.
    """

    things = "samples"
    class_names: tuple[str, ...] = ()
    labels: Sequence[int] | np.ndarray

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> np.ndarray:
        """Read or make one sample."""

    def name(self, index: int) -> str:
        """Return what a sample is called in messages and tables."""
        return str(index)

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} {self.things}")
        return self.load(index)


def stack_alike(items: Sequence[dict[str, Tensor]], key: str, things: str) -> dict[str, Tensor]:
    """Join samples of one shape to a batch.

    Args:
        items: dicts of tensors, one of which is ``index``.
        key: entry whose shapes have to agree.
        things: what the samples are called in messages.

    Raises: ValueError for samples of different shapes.
    """
    shapes = {tuple(item[key].shape): int(item["index"]) for item in items}
    if len(shapes) > 1:
        (a, i), (b, j) = list(shapes.items())[:2]
        raise ValueError(
            f"{things} {i} and {j} have the shapes {a} and {b}; expected one shape: crop or resample them first"
        )
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}
