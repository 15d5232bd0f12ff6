"""What datasets of every domain share: split names, seeded generators, seeded augmentation, and a resumable shuffle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler

__all__ = ["IGNORE", "Augmented", "EpochSampler"]

IGNORE = 255
SPLITS = ("train", "val", "test")
Item = dict[str, torch.Tensor]
Transform = Callable[[Item, torch.Generator], Item]


def check_split(split: str) -> str:
    """The name of a split, checked. Raises ValueError."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    return split


def generator(*key: int) -> torch.Generator:
    """A torch generator that depends on all the given integers (>= 0) and on nothing else."""
    seed = np.random.SeedSequence(key).generate_state(2, np.uint32).astype(np.uint64)
    return torch.Generator().manual_seed(int((seed[0] << np.uint64(31)) ^ seed[1]))


def evaluation_batch_size(items: int, batch_size: int) -> int:
    """Return the batch size with which no process has to see an item twice, ``batch_size`` or a little beside it.

    Processes make equally many batches. One that has an item more than others needs no batch more if the last batch of the others
    is not full.

    Args:
        items: items of the dataset.
        batch_size: items wanted in a batch of one process.
    """
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    fewest, over = divmod(items, torch.distributed.get_world_size() if running else 1)
    if not over or not fewest:
        return batch_size
    near = (*range(batch_size, 1, -1), *range(batch_size + 1, fewest + 2))
    return next(size for size in near if fewest % size)


class Augmented(Dataset[Item]):
    """Dataset whose items pass through random transforms, drawn from (seed, epoch, index) and nothing else.

    ``EpochSampler`` asks for (epoch, index). A plain index means epoch 0, so that without the sampler every pass draws alike:
    a run that was killed and resumed sees what an unbroken run sees.

    Args:
        dataset: the items before the transforms.
        transforms: functions of (item, generator), applied in turn.
        seed: seed of all draws.
        length: number of items; more than the dataset has repeats them, each copy with its own draw (one planet, many views).

    Raises: IndexError for an index outside the dataset.

    Example:
        >>> from spheregeo.data import Augmented, AzimuthalShift, Rooms
        >>> views = Augmented(Rooms(1, (16, 32)), [AzimuthalShift()], length=4)
        >>> len(views), views[(2, 3)]["image"].shape
        (4, torch.Size([3, 16, 32]))
    """

    def __init__(
        self, dataset: Dataset[Item], transforms: list[Transform], seed: int = 0, length: int | None = None
    ) -> None:
        self.dataset, self.transforms, self.seed = dataset, list(transforms), seed
        self.length = len(dataset) if length is None else length  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} is outside a dataset of {self.length} items")
        item = self.dataset[index % len(self.dataset)]  # type: ignore[arg-type]
        draw = generator(self.seed, epoch, index)
        for transform in self.transforms:
            item = transform(item, draw)
        return item


class EpochSampler(DistributedSampler[Any]):
    """Shuffles by (seed, epoch), deals the indices out to the processes, and yields (epoch, index) pairs.

    A ``DistributedSampler``, so that Lightning calls ``set_epoch`` before every epoch and does not replace the sampler.
    A process that is alone gets every index. Of several, each takes every n-th, so that their batches together are the batches of
    one process with n times the batch size. No index comes twice, unless processes would run out of batches before others: then,
    or where ``batch_size`` is not known, some get an index of the beginning again.

    Args:
        dataset: the dataset to shuffle.
        shuffle: False keeps the dataset's order.
        seed: seed of the order.
        pairs: False yields plain indices, for datasets whose items are the same in every epoch.
        epoch: the epoch to begin with.
        batch_size: items in a batch of one process; None for unknown.

    Example:
        >>> from spheregeo.data import EpochSampler
        >>> sampler = EpochSampler([10, 20, 30], shuffle=False)
        >>> sampler.set_epoch(4)
        >>> list(sampler)
        [(4, 0), (4, 1), (4, 2)]
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        shuffle: bool = True,
        seed: int = 0,
        pairs: bool = True,
        epoch: int = 0,
        batch_size: int | None = None,
    ) -> None:
        running = torch.distributed.is_available() and torch.distributed.is_initialized()
        replicas = torch.distributed.get_world_size() if running else 1
        rank = torch.distributed.get_rank() if running else 0
        super().__init__(dataset, num_replicas=replicas, rank=rank, shuffle=shuffle, seed=seed)
        self.pairs = pairs
        self.set_epoch(epoch)
        fewest, over = divmod(len(dataset), replicas)  # type: ignore[arg-type]
        self._length = self.num_samples
        if batch_size is not None and fewest % batch_size:  # as many batches in all processes
            self._length = fewest + (rank < over)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        indices = islice(super().__iter__(), self._length)  # those that are dealt twice come last
        return ((self.epoch, index) for index in indices) if self.pairs else indices
