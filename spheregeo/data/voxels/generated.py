"""Generated solids in cubes of voxels, the default of the voxel recipe; no download.

A solid is a signed function of space, negative inside; a voxel holds the share of itself that is inside, nearly. A volume
depends on (seed, split, index) alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.voxels.dataset import VoxelDataset
from spheregeo.data.voxels.turns import rotation_of

__all__ = ["Solids"]

Inside = Callable[[np.ndarray], np.ndarray]  # (..., 3) -> (...)


def _box(half: tuple[float, float, float]) -> Inside:
    return lambda p: (np.abs(p) - np.array(half)).max(-1)


def _rod(axis: int, radius: float, half: float, at: tuple[float, float, float] = (0, 0, 0)) -> Inside:
    def value(p: np.ndarray) -> np.ndarray:
        q = p - np.array(at)
        across = np.delete(q, axis, -1)
        return np.maximum(np.linalg.norm(across, axis=-1) - radius, np.abs(q[..., axis]) - half)

    return value


def _union(*parts: Inside) -> Inside:
    return lambda p: np.min([part(p) for part in parts], axis=0)


def _torus(p: np.ndarray) -> np.ndarray:
    ring = np.hypot(p[..., 0], p[..., 1]) - 0.6
    return np.hypot(ring, p[..., 2]) - 0.22


def _cone(p: np.ndarray) -> np.ndarray:
    radius = np.hypot(p[..., 0], p[..., 1])
    return np.maximum(np.abs(p[..., 2]) - 0.75, radius - 0.35 * (0.75 - p[..., 2]))


def _shell(p: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(np.linalg.norm(p, axis=-1) - 0.6) - 0.15, -p[..., 2] - 0.2)


SOLIDS: dict[str, Inside] = {
    "bowl": _shell,
    "box": _box((0.7, 0.45, 0.45)),
    "cone": _cone,
    "cross": _union(*(_rod(axis, 0.2, 0.8) for axis in range(3))),
    "cylinder": _rod(2, 0.35, 0.75),
    "ell": _union(_rod(2, 0.2, 0.75), _rod(0, 0.2, 0.45, (0.45, 0, -0.55))),
    "tee": _union(_rod(2, 0.2, 0.75), _rod(0, 0.2, 0.7, (0, 0, 0.55))),
    "torus": _torus,
}


class Solids(VoxelDataset):
    """Volumes of eight classes: bowl, box, cone, cross, cylinder, ell, tee, torus, of varied size, shape, place and noise.

    Args:
        count: number of volumes, the classes in turn.
        size: voxels along each axis.
        noise: standard deviation of the voxels' noise; inside is 1, outside 0.
        rotation: how solids stand: "none" upright, "cube" turned by a symmetry of the cube, "so3" by any rotation.
        seed: seed of everything that is drawn.
        split: train, val or test, whose volumes differ.

    Shape: volumes (1, size, size, size) float32.
    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import Solids
        >>> Solids(8, size=12)[0].shape
        (1, 12, 12, 12)
    """

    class_names = tuple(SOLIDS)

    def __init__(
        self,
        count: int,
        size: int = 24,
        noise: float = 0.1,
        rotation: str = "none",
        seed: int = 0,
        split: str = "train",
    ) -> None:
        check_least(count=(count, 1), size=(size, 4), noise=(noise, 0), seed=(seed, 0))
        rotation_of(rotation, np.random.default_rng(0))
        self.count, self.size, self.noise, self.rotation = count, size, noise, rotation
        self.seed, self.split = seed, check_split(split)
        self.labels = [k % len(SOLIDS) for k in range(count)]

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.split} {index} ({self.class_names[self.labels[index]]})"

    def load(self, index: int) -> np.ndarray:
        key = (5, SPLITS.index(self.split), index)
        rng = np.random.default_rng(np.random.SeedSequence(entropy=self.seed, spawn_key=key))
        stretch, scale = rng.uniform(0.8, 1.2, 3), rng.uniform(0.7, 0.95)
        place, turn = rng.uniform(-0.08, 0.08, 3), rotation_of(self.rotation, rng)
        axis = (np.arange(self.size) + 0.5) / self.size * 2 - 1
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
        value = SOLIDS[self.class_names[self.labels[index]]](((points - place) @ turn) / (scale * stretch))
        inside = 1 / (1 + np.exp(np.clip(value * scale * self.size, -30, 30)))
        noise = self.noise * rng.standard_normal(inside.shape)
        return (inside + noise).astype(np.float32)[None]
