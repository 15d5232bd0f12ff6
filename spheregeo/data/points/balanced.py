"""Training epochs in which every class comes equally often, however many samples it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from spheregeo.data.common import generator

__all__ = ["BalancedDraws"]


class BalancedDraws(Dataset[Any]):
    """A dataset whose places are dealt to the classes in turn; each class goes through its samples in ever new orders.

    An epoch is as long as it was. A sample of a small class comes several times in it, each time drawn anew; one of a large class
    comes in some epochs alone. All follows from (seed, epoch, place).

    Args:
        dataset: dataset whose items are asked for as (epoch, index) and drawn for that pair.
        labels: class of each of its samples.
        seed: seed of the orders.

    Raises: ValueError for as many labels as the dataset has not; IndexError for a place outside.

    Example:
        >>> from spheregeo.data import BalancedDraws, PrimitiveClouds, Views
        >>> clouds = PrimitiveClouds(11, 50)  # two of the first class, one of each other
        >>> draws = BalancedDraws(Views(clouds, 40), clouds.labels)
        >>> sorted(draws.visit(0, place)[1] for place in range(11))  # in the next epoch another class comes twice
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """

    def __init__(self, dataset: Dataset[Any], labels: Sequence[int] | np.ndarray, seed: int = 0) -> None:
        self.dataset, self.seed = dataset, seed
        self.length = len(dataset)  # type: ignore[arg-type]
        labels = np.asarray(labels)
        if labels.shape != (self.length,):
            raise ValueError(
                f"labels has shape {labels.shape}; expected ({self.length},), one for each sample"
            )
        self.rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def __len__(self) -> int:
        return self.length

    def visit(self, epoch: int, place: int) -> tuple[int, int]:
        """How often the sample at a place of an epoch has come before, and its number in the dataset.

        Args:
            epoch: number of the epoch.
            place: place in the epoch, before it is shuffled.
        """
        if not 0 <= place < self.length:
            raise IndexError(f"place {place} is outside an epoch of {self.length} samples")
        count = epoch * self.length + place  # goes on from epoch to epoch: no class is always the shorter one
        turn, label = divmod(count, len(self.rows))
        rows = self.rows[label]
        draw, at = divmod(turn, len(rows))
        order = torch.randperm(len(rows), generator=generator(self.seed, label, draw))
        return draw, int(rows[int(order[at])])

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        epoch, place = key if isinstance(key, tuple) else (0, key)
        return self.dataset[self.visit(epoch, place)]
