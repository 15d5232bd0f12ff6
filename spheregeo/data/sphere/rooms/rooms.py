"""Generated rooms: the default dataset, which needs no download.

Rooms of axis-aligned boxes are furnished and ray-cast on demand; the room of an index depends on (seed, split, index)
and on nothing else. Colours are drawn per room and per object from ranges that classes share, so that a pixel's colour says
little and shape, size and place say the rest.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch

from spheregeo.data.common import SPLITS, Item, check_split
from spheregeo.data.files import read_stored
from spheregeo.data.sphere.dataset import PanoramaDataset, check_size
from spheregeo.data.sphere.rooms.furniture import furnish
from spheregeo.data.sphere.rooms.render import render
from spheregeo.data.sphere.rooms.scene import ROOM_CLASSES
from spheregeo.files import atomic_path

__all__ = ["ROOM_CLASSES", "Rooms"]


@cache
def source_digest() -> str:
    """Digest of this folder's source: finished rooms are kept under it, so that none outlives the code that made it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]


def make_room(size: tuple[int, int], seed: int, split: str, index: int) -> dict[str, np.ndarray]:
    """One room as arrays: image (3, H, W) uint8, label (H, W) uint8, depth (H, W) float32 metres."""
    key = np.random.SeedSequence(entropy=seed, spawn_key=(SPLITS.index(split), index))
    scene_rng, camera_rng = (np.random.default_rng(child) for child in key.spawn(2))
    image, label, depth = render(furnish(scene_rng), size, camera_rng)
    return {"image": np.rint(image * 255).astype(np.uint8).transpose(2, 0, 1), "label": label, "depth": depth}


class Rooms(PanoramaDataset):
    """Furnished rooms seen by an upright 360-degree camera, with labels and depth.

    Args:
        count: number of rooms.
        size: (nlat, nlon) of the images, 2:1.
        seed: seed of the rooms.
        split: train, val or test, whose rooms differ.
        cache: keep finished rooms in memory.
        cache_dir: folder that keeps finished rooms as npz files, which later runs and other worker processes read; they are
            kept by the generator's source, and made anew when it changes.

    Shape: image (3, nlat, nlon) in [0, 1]; label (nlat, nlon), an index into ``ROOM_CLASSES``; depth (nlat, nlon).
    Units: depth in metres along the ray, nowhere missing.
    Raises: ValueError for a count below 1, a size that is not 2:1, an unknown split, a negative seed.

    Example:
        >>> from spheregeo.data import Rooms
        >>> sorted(Rooms(1, (16, 32))[0])
        ['depth', 'image', 'label']
    """

    class_names = ROOM_CLASSES

    def __init__(
        self,
        count: int,
        size: tuple[int, int] = (64, 128),
        seed: int = 0,
        split: str = "train",
        cache: bool = True,
        cache_dir: str | Path | None = None,
    ) -> None:
        super().__init__(check_size(size), cache)
        if count < 1:
            raise ValueError(f"count is {count}; expected at least 1 room")
        if seed < 0:
            raise ValueError(f"seed is {seed}; expected an integer of at least 0")
        self.count, self.seed, self.split = count, seed, check_split(split)
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> Item:
        room = self._stored(index) if self.cache_dir else make_room(self.size, self.seed, self.split, index)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(room["image"])).float() / 255,
            "label": torch.from_numpy(room["label"].astype(np.int64)),
            "depth": torch.from_numpy(np.ascontiguousarray(room["depth"])),
        }

    def _stored(self, index: int) -> dict[str, np.ndarray]:
        assert self.cache_dir is not None
        name = f"room-{source_digest()}-{self.size[0]}x{self.size[1]}-seed{self.seed}-{self.split}-{index:06d}.npz"
        path = self.cache_dir / name
        try:
            stored = read_stored(path, "a room")
            room = (
                {key: stored[key] for key in ("image", "label", "depth")} if isinstance(stored, dict) else {}
            )
            if room and all(room[key].shape[-2:] == self.size for key in ("label", "depth")):
                return room
        except (OSError, ValueError, KeyError):
            pass  # absent, or torn by an earlier crash
        room = make_room(self.size, self.seed, self.split, index)
        with atomic_path(path) as temporary, open(temporary, "wb") as new:
            np.savez(new, **room)  # type: ignore[arg-type]
        return room
