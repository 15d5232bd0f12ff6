"""Generated views of solids, the default of the pose recipes; no download.

A view depends on (seed, split, index) and on what it shows alone. Views are drawn when first asked for, and kept by value.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from spheregeo.checks import check_least, nearest
from spheregeo.data.common import SPLITS, check_split, generator
from spheregeo.data.poses.dataset import PoseDataset, check_symmetric
from spheregeo.data.poses.render import render
from spheregeo.data.poses.shapes import SHAPES, SYMMETRIC, Solid, shape, unit_sphere
from spheregeo.grids.cache import BoundedCache
from spheregeo.groups import random_rotations

__all__ = ["ShadedViews"]

_views = BoundedCache(1 << 28)


def _solid(name: str) -> Solid:
    """A built-in thing, or the mesh in a file."""
    if name in SHAPES:
        return shape(name)
    if Path(name).suffix and Path(name).is_file():
        from spheregeo.mesh import load_arrays

        vertices, faces = load_arrays(name)
        return unit_sphere((np.asarray(vertices, np.float64), np.asarray(faces, np.int64)))
    raise ValueError(
        f"objects names {name!r}{nearest(name, SHAPES)}; expected {', '.join(SHAPES)}, or the file of a mesh"
    )


class ShadedViews(PoseDataset):
    """Grey images of solids in rotations drawn evenly, lit from the camera: aeroplane, chair, creature, mug, cone, cube,
    cylinder.

    Args:
        count: number of images, the things in turn.
        size: pixels along each side.
        objects: names of built-in things, or files of meshes; all built-in things if None.
        symmetric: names of the things that some rotation takes to themselves; cone, cube and cylinder if None.
        distance: of the camera, in radii of the thing; parallel rays if None.
        noise: standard deviation of the pixels' noise, beside a brightness of 0 to 1.
        seed: seed of everything that is drawn.
        split: train, val or test, whose rotations differ.

    Shape: images (1, size, size) float32, rotations (3, 3).
    Raises: ValueError for unknown things and numbers out of range.

    Example:
        >>> from spheregeo.data import ShadedViews
        >>> views = ShadedViews(4, size=24)
        >>> views[2].shape, views.rotation(2).shape, views.class_names[views.labels[2]]
        ((1, 24, 24), (3, 3), 'creature')
    """

    def __init__(
        self,
        count: int,
        size: int = 48,
        objects: Sequence[str] | None = None,
        symmetric: Sequence[str] | None = None,
        distance: float | None = 4.0,
        noise: float = 0.02,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        check_least(count=(count, 1), size=(size, 8), noise=(noise, 0), seed=(seed, 0))
        if distance is not None and not distance > 1:
            raise ValueError(f"distance is {distance}; expected more than 1, or none for parallel rays")
        self.objects = tuple(SHAPES if objects is None else map(str, objects))
        if not self.objects:
            raise ValueError("objects is empty; expected one thing at least")
        self.class_names = tuple(name if name in SHAPES else Path(name).stem for name in self.objects)
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(f"objects are {', '.join(self.class_names)}; expected different names")
        for name in self.objects:
            _solid(name)
        given = [n for n in SYMMETRIC if n in self.class_names] if symmetric is None else symmetric
        self.symmetric = check_symmetric(given, self.class_names)
        self.count, self.size, self.distance, self.noise = count, size, distance, noise
        self.seed, self.split = seed, check_split(split)
        self.labels = [k % len(self.objects) for k in range(count)]

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.class_names[self.labels[index]]} {index}"

    def rotation(self, index: int) -> np.ndarray:
        drawn = random_rotations(1, generator(11, self.seed, SPLITS.index(self.split), index))
        return drawn[0].numpy()

    def load(self, index: int) -> np.ndarray:
        thing = self.objects[self.labels[index]]
        key = (thing, self.size, self.distance, self.seed, self.split, index)
        image = _views.get(key, lambda: self._drawn(thing, index)).astype(np.float32) / 255
        rng = np.random.default_rng([12, self.seed, SPLITS.index(self.split), index])
        return (image + self.noise * rng.standard_normal(image.shape)).astype(np.float32)

    def _drawn(self, thing: str, index: int) -> np.ndarray:
        image = render(*_solid(thing), self.rotation(index), self.size, distance=self.distance)
        return (image[None] * 255).round().astype(np.uint8)


def render_view(name: str, rotation: np.ndarray, size: int, distance: float | None = 4.0) -> np.ndarray:
    """Return the image of a built-in thing, or of the mesh in a file, at a rotation.

    Args:
        name: of the thing, or path of the mesh.
        rotation: takes the thing's frame to the camera's.
        size: pixels along each side.
        distance: of the camera, in radii of the thing; parallel rays if None.

    Shape: (3, 3) -> (1, size, size) float32.
    Raises: ValueError for an unknown thing.
    """
    return render(*_solid(name), np.asarray(torch.as_tensor(rotation)), size, distance=distance)[None]
