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
from collections.abc import Hashable

from torch.utils.data import Dataset

from spheregeo.data.common import Item

__all__ = ["PanoramaDataset"]

MEMORY_BUDGET = 512 * 2**20  # bytes of decoded items that one dataset keeps by default


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """(nlat, nlon) of a 2:1 working grid, checked. Raises ValueError."""
    if len(size) != 2 or int(size[0]) < 2 or int(size[1]) != 2 * int(size[0]):
        raise ValueError(
            f"size is {tuple(size)}; expected (nlat, nlon) with nlon = 2 nlat, such as (64, 128): "
            "equirectangular images cover 180 by 360 degrees with square pixels"
        )
    return int(size[0]), int(size[1])


class PanoramaDataset(Dataset[Item], ABC):
    """Base class of datasets of panoramas: items on one lat-lon grid, kept in memory while they fit ``MEMORY_BUDGET``.

    A subclass implements ``__len__`` and ``load``; what ``load`` returns must depend on the index alone.

    Args:
        size: (nlat, nlon) of the working grid, 2:1.
        cache: keep items in memory.

    Raises: ValueError for a size that is not 2:1; IndexError for an index outside the dataset.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, size: tuple[int, int], cache: bool = True) -> None:
        self.size = check_size(size)
        self.cache = cache
        self._items: dict[int, tuple[Hashable, Item]] = {}
        self._held = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> Item:
        """Reads or makes one item; called once an index while the item is in the cache."""

    def stamp(self, index: int) -> Hashable:
        """State of the files that an item is read from; a kept item is read again when it changes. None for no files."""
        return None

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} items")
        index %= len(self)
        stamp = self.stamp(index)
        kept, item = self._items.get(index, (None, None))
        if item is None or kept != stamp:
            item = self.load(index)
            size = sum(value.numel() * value.element_size() for value in item.values())
            if index in self._items:  # of a file that has changed since
                self._items[index] = (stamp, item)
            elif self.cache and self._held + size <= MEMORY_BUDGET:
                self._items[index], self._held = (stamp, item), self._held + size
        # Copies, so that a transform or a caller who writes in place cannot change the cache.
        return {key: value.clone() for key, value in item.items()}
