"""Generated textures, the default of the image recipes; no download.

A texture is a function of the plane with a direction of its own, and all textures share mean, contrast and wavelength: what
tells them apart is how structure along one direction goes with structure along others. An image, and its mask, depend on
(seed, split, index) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.images.dataset import MaskDataset
from spheregeo.data.images.turns import turn_of

__all__ = ["Textures"]

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x, y in wavelengths -> about -1 ... 1
_TAU = 2 * math.pi
UPRIGHT = math.radians(8)  # standard deviation of the directions of upright textures


def _stripes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.cos(_TAU * x)


def _waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.cos(_TAU * (x + 0.3 * np.sin(_TAU * 0.5 * y)))


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1.4 * np.cos(_TAU * x) * np.cos(_TAU * y)


def _hexagons(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    half, root = x / 2, y * math.sqrt(0.75)
    return 0.8 * (np.cos(_TAU * x) + np.cos(_TAU * (half + root)) + np.cos(_TAU * (half - root)))


def _bricks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    across = np.cos(_TAU * (x / 2 + 0.5 * np.round(y)))
    return 1.6 * np.maximum(np.abs(np.sin(math.pi * y)) ** 4, np.abs(across) ** 8) - 0.7


TEXTURES: dict[str, Pattern] = {
    "bricks": _bricks,
    "checks": _checks,
    "hexagons": _hexagons,
    "stripes": _stripes,
    "waves": _waves,
}


def _ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y / 0.7) - 1


def _rectangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x) - 1, np.abs(y) - 0.6)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(-y - 0.6, 0.87 * np.abs(x) + 0.5 * y - 0.6)


SHAPES: tuple[Pattern, ...] = (_ellipse, _rectangle, _triangle)  # negative inside


class Textures(MaskDataset):
    """Images of five textures (bricks, checks, hexagons, stripes, waves), or of shapes filled with them on a plain ground.

    Args:
        count: number of images, the classes in turn.
        size: pixels along each side.
        noise: standard deviation of the pixels' noise, beside a contrast of 0.5 to 1.
        rotation: how textures and shapes stand: "none" upright within some degrees, "c4", "so2" turned by an angle of the group;
            "d4" and "o2" with reflections.
        shapes: shapes of an image, each with a texture and a direction of its own, later ones over earlier ones; 0 for one
            texture over the whole image. With shapes class 0 is the ground.
        seed: seed of everything that is drawn.
        split: train, val or test, whose images differ.

    Shape: images (1, size, size) float32, masks (size, size) int64.
    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import Textures
        >>> data = Textures(4, size=16, shapes=3)
        >>> data[0].shape, data.mask(0).shape, data.class_names[:2]
        ((1, 16, 16), (16, 16), ('ground', 'bricks'))
    """

    def __init__(
        self,
        count: int,
        size: int = 32,
        noise: float = 0.3,
        rotation: str = "none",
        shapes: int = 0,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        check_least(count=(count, 1), size=(size, 4), noise=(noise, 0), shapes=(shapes, 0), seed=(seed, 0))
        turn_of(rotation, np.random.default_rng(0))
        self.count, self.size, self.noise, self.rotation, self.shapes = count, size, noise, rotation, shapes
        self.seed, self.split = seed, check_split(split)
        self.class_names = (("ground",) if shapes else ()) + tuple(TEXTURES)
        self.labels = () if shapes else [k % len(TEXTURES) for k in range(count)]

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.split} {index}"

    def load(self, index: int) -> np.ndarray:
        return self._made(index)[0]

    def mask(self, index: int) -> np.ndarray:
        if not self.shapes:
            return np.full((self.size, self.size), self.labels[index], np.int64)
        return self._made(index)[1]

    def _made(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        key = (7, SPLITS.index(self.split), index)
        rng = np.random.default_rng(np.random.SeedSequence(entropy=self.seed, spawn_key=key))
        at = np.arange(self.size) - (self.size - 1) / 2
        x, y = np.meshgrid(at, -at)
        names = tuple(TEXTURES)
        label = np.zeros((self.size, self.size), np.int64)
        if not self.shapes:
            image = self._texture(names[self.labels[index]], x, y, rng)
        else:
            image = np.zeros((self.size, self.size))
            for k in range(self.shapes):
                texture = (index + k) % len(names)
                radius = self.size * rng.uniform(0.18, 0.3)
                place = rng.uniform(-0.3, 0.3, 2) * self.size
                u, v = self._turned(x - place[0], y - place[1], rng)
                inside = SHAPES[rng.integers(len(SHAPES))](u / radius, v / radius) < 0
                image[inside] = self._texture(names[texture], x, y, rng)[inside]
                label[inside] = 1 + texture
        image = image + self.noise * rng.standard_normal(image.shape)
        return image.astype(np.float32)[None], label

    def _turned(
        self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of a thing that stands as the dataset's rotation has it."""
        angle, flip = turn_of(self.rotation, rng)
        angle += UPRIGHT * float(rng.standard_normal())
        u, v = math.cos(angle) * x + math.sin(angle) * y, -math.sin(angle) * x + math.cos(angle) * y
        return (-u if flip else u), v

    def _texture(self, name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        u, v = self._turned(x, y, rng)
        wavelength, contrast, phase = rng.uniform(5.5, 7.5), rng.uniform(0.5, 1), rng.uniform(0, 2, 2)
        return contrast * TEXTURES[name](u / wavelength + phase[0], v / wavelength + phase[1])
