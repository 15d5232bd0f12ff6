"""What every dataset of panoramas shares: the item, the ignore label, caching, and seeded augmentation.

An item is a dict. Shapes and units, the same for every dataset:

===========  ==============  =========  ====================================================
key          shape           dtype      meaning
===========  ==============  =========  ====================================================
``image``    (C, H, W)       float32    colours in [0, 1]; other fields in their own units
``label``    (H, W)          int64      class index; ``IGNORE`` = 255 is not counted anywhere
``depth``    (H, W)          float32    metres from the camera along the ray; 0 = not measured
===========  ==============  =========  ====================================================

Row 0 is the zenith (or the north pole), column 0 sits at longitude -pi plus half a pixel. The working grid
``Equiangular(H, W)`` counts its longitudes from 0: columns are taken as that grid's columns as they stand. Layers
see relative geometry only, and a common shift of all longitudes changes none of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, DistributedSampler

IGNORE = 255
SPLITS = ("train", "val", "test")
Item = dict[str, torch.Tensor]
Transform = Callable[[Item, torch.Generator], Item]
MEMORY_BUDGET = 512 * 2**20  # bytes of decoded items that one dataset keeps by default


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """(nlat, nlon) of a 2:1 working grid, checked. Raises ValueError."""
    if len(size) != 2 or int(size[0]) < 2 or int(size[1]) != 2 * int(size[0]):
        raise ValueError(
            f"size is {tuple(size)}; expected (nlat, nlon) with nlon = 2 nlat, such as (64, 128): "
            "equirectangular images cover 180 by 360 degrees with square pixels"
        )
    return int(size[0]), int(size[1])


def check_split(split: str) -> str:
    """The name of a split, checked. Raises ValueError."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    return split


def generator(*key: int) -> torch.Generator:
    """A torch generator that depends on all the given integers (>= 0) and on nothing else."""
    seed = np.random.SeedSequence(key).generate_state(2, np.uint32).astype(np.uint64)
    return torch.Generator().manual_seed(int((seed[0] << np.uint64(31)) ^ seed[1]))


class PanoramaDataset(Dataset[Item], ABC):
    """A map-style dataset of items on one lat-lon grid, kept in memory while they fit ``MEMORY_BUDGET``.

    Subclasses give ``__len__`` and ``load``; what ``load`` returns must depend on the index alone.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, size: tuple[int, int], cache: bool = True) -> None:
        self.size = check_size(size)
        self.cache = cache
        self._items: dict[int, Item] = {}
        self._held = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> Item:
        """Reads or makes one item; called once an index while the item is in the cache."""

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} items")
        index %= len(self)
        item = self._items.get(index)
        if item is None:
            item = self.load(index)
            size = sum(value.numel() * value.element_size() for value in item.values())
            if self.cache and self._held + size <= MEMORY_BUDGET:
                self._items[index], self._held = item, self._held + size
        # Copies, so that a transform or a caller who writes in place cannot change the cache.
        return {key: value.clone() for key, value in item.items()}


class Augmented(Dataset[Item]):
    """A dataset whose items pass through random transforms, drawn from (seed, epoch, index) and nothing else.

    ``EpochSampler`` asks for (epoch, index). A plain index means epoch 0, so that without it every pass
    draws the same: a run that was killed and resumed therefore sees what an unbroken run sees.
    ``length`` > len(dataset) repeats the items, each copy with its own draw (one planet, many views).
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

    A ``DistributedSampler``, so that Lightning calls ``set_epoch`` before every epoch and does not replace it.
    One process alone gets everything.
    """

    def __init__(self, dataset: Dataset[Item], shuffle: bool = True, seed: int = 0) -> None:
        running = torch.distributed.is_available() and torch.distributed.is_initialized()
        replicas = torch.distributed.get_world_size() if running else 1
        rank = torch.distributed.get_rank() if running else 0
        super().__init__(dataset, num_replicas=replicas, rank=rank, shuffle=shuffle, seed=seed)

    def __iter__(self) -> Iterator[Any]:
        return ((self.epoch, index) for index in super().__iter__())
