"""Generated clouds with parts: things put together from boxes, tubes, balls and rings, whose points know which piece they lie on.

Points are drawn evenly from the pieces' surfaces in closed form. Things stand upright (z against gravity), so that a protocol of
turns means what it means for real things; a cloud depends on (seed, split, index) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.points.dataset import Cloud, PartDataset

__all__ = ["PartShapes"]

Rng = np.random.Generator


class Piece(NamedTuple):
    """A surface: its area, and a function of a generator and a count that draws points and normals (n, 3) evenly."""

    area: float
    draw: Callable[[Rng, int], tuple[np.ndarray, np.ndarray]]


def box(centre: tuple[float, float, float], size: tuple[float, float, float]) -> Piece:
    """The six sides of a box with axes along the coordinates."""
    half = np.asarray(size) / 2
    sides = 4 * np.array([half[1] * half[2], half[2] * half[0], half[0] * half[1]])

    def draw(rng: Rng, count: int) -> tuple[np.ndarray, np.ndarray]:
        axis = rng.choice(3, count, p=sides / sides.sum())
        sign = rng.choice([-1.0, 1.0], count)
        points = rng.uniform(-1, 1, (count, 3)) * half
        normals = np.zeros((count, 3))
        rows = np.arange(count)
        points[rows, axis], normals[rows, axis] = sign * half[axis], sign
        return points + centre, normals

    return Piece(2 * float(sides.sum()), draw)


def tube(start: np.ndarray, end: np.ndarray, radius: float, top: float | None = None) -> Piece:
    """The side and both discs of a cylinder from ``start`` to ``end``, or of a cone whose radius becomes ``top``."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    last = radius if top is None else top
    length = float(np.linalg.norm(end - start))
    slant = math.hypot(length, radius - last)
    areas = np.array([math.pi * (radius + last) * slant, math.pi * radius**2, math.pi * last**2])
    axis = (end - start) / length
    across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    across /= np.linalg.norm(across)
    frame = np.stack([across, np.cross(axis, across), axis], 1)

    def draw(rng: Rng, count: int) -> tuple[np.ndarray, np.ndarray]:
        which = rng.choice(3, count, p=areas / areas.sum())
        angle, share = rng.uniform(0, 2 * math.pi, count), rng.uniform(0, 1, count)
        around = np.stack([np.cos(angle), np.sin(angle)], 1)
        # on the side the radius at which a share of the area is reached; on a disc likewise
        side = np.sqrt(radius**2 + share * (last**2 - radius**2))
        along = share if last == radius else (side - radius) / (last - radius)
        reach = np.select([which == 0, which == 1], [side, radius * np.sqrt(share)], last * np.sqrt(share))
        height = length * np.select([which == 0, which == 1], [along, 0.0], 1.0)
        points = np.concatenate([reach[:, None] * around, height[:, None]], 1)
        lean = np.array([length, radius - last]) / slant
        normals = np.concatenate([lean[0] * around, np.full((count, 1), lean[1])], 1)
        normals[which == 1], normals[which == 2] = (0, 0, -1), (0, 0, 1)
        return points @ frame.T + start, normals @ frame.T

    return Piece(float(areas.sum()), draw)


def ring(centre: np.ndarray, radius: float, thickness: float, begin: float, end: float) -> Piece:
    """A part of a torus about the y axis, from one angle to another in the x-z plane."""

    def draw(rng: Rng, count: int) -> tuple[np.ndarray, np.ndarray]:
        angle = rng.uniform(begin, end, count)
        round_ = _tube_angles(rng, count, thickness / radius)
        out = np.stack([np.cos(angle), np.zeros(count), np.sin(angle)], 1)
        normals = np.cos(round_)[:, None] * out + np.sin(round_)[:, None] * np.array([0.0, 1.0, 0.0])
        return centre + radius * out + thickness * normals, normals

    return Piece(2 * math.pi * thickness * radius * (end - begin), draw)


def _tube_angles(rng: Rng, count: int, ratio: float) -> np.ndarray:
    """Angles around a torus's tube, as often as 1 + ratio·cos asks for, by rejection."""
    found = np.empty(0)
    while len(found) < count:
        angle = rng.uniform(0, 2 * math.pi, 2 * count)
        found = np.concatenate(
            [found, angle[rng.uniform(0, 1 + ratio, 2 * count) < 1 + ratio * np.cos(angle)]]
        )
    return found[:count]


# ---- things: each a list of (part, piece), upright, of size about 1


def _table(rng: Rng) -> list[tuple[str, Piece]]:
    wide, deep, high, thick = *rng.uniform(0.8, 1.6, 2), rng.uniform(0.5, 1.0), rng.uniform(0.04, 0.1)
    leg, inset = rng.uniform(0.04, 0.09), rng.uniform(0.75, 0.95)
    pieces = [("table top", box((0, 0, high), (wide, deep, thick)))]
    for x in (-1, 1):
        for y in (-1, 1):
            foot = np.array([x * inset * wide / 2, y * inset * deep / 2, 0.0])
            pieces.append(("table leg", tube(foot, foot + np.array([0.0, 0.0, high]), leg / 2)))
    return pieces


def _chair(rng: Rng) -> list[tuple[str, Piece]]:
    wide, deep, high = rng.uniform(0.6, 0.9), rng.uniform(0.6, 0.9), rng.uniform(0.4, 0.7)
    thick, back, leg = rng.uniform(0.05, 0.1), rng.uniform(0.5, 1.0), rng.uniform(0.05, 0.1)
    pieces = [
        ("chair seat", box((0, 0, high), (wide, deep, thick))),
        ("chair back", box((0, -deep / 2, high + back / 2), (wide, thick, back))),
    ]
    for x in (-1, 1):
        for y in (-1, 1):
            pieces.append(("chair leg", box((0.42 * x * wide, 0.42 * y * deep, high / 2), (leg, leg, high))))
    return pieces


def _lamp(rng: Rng) -> list[tuple[str, Piece]]:
    base, pole, high, thick = (
        rng.uniform(0.25, 0.5),
        rng.uniform(0.03, 0.06),
        rng.uniform(1.0, 1.8),
        rng.uniform(0.05, 0.12),
    )
    wide, narrow, shade = rng.uniform(0.35, 0.6), rng.uniform(0.1, 0.3), rng.uniform(0.3, 0.6)
    up = np.array([0.0, 0.0, 1.0])
    return [
        ("lamp base", tube(0 * up, thick * up, base)),
        ("lamp pole", tube(thick * up, high * up, pole)),
        ("lamp shade", tube((high - shade / 2) * up, (high + shade / 2) * up, wide, narrow)),
    ]


def _mug(rng: Rng) -> list[tuple[str, Piece]]:
    radius, high = rng.uniform(0.35, 0.55), rng.uniform(0.7, 1.2)
    reach, thick = rng.uniform(0.2, 0.35), rng.uniform(0.04, 0.08)
    up = np.array([0.0, 0.0, 1.0])
    return [
        ("mug body", tube(0 * up, high * up, radius, radius * rng.uniform(0.85, 1.2))),
        ("mug handle", ring(np.array([radius, 0.0, high / 2]), reach, thick, -0.5 * math.pi, 0.5 * math.pi)),
    ]


def _rocket(rng: Rng) -> list[tuple[str, Piece]]:
    radius, high, nose = rng.uniform(0.15, 0.3), rng.uniform(1.0, 1.6), rng.uniform(0.3, 0.6)
    span, tall, count = rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.5), int(rng.integers(3, 5))
    up = np.array([0.0, 0.0, 1.0])
    pieces = [
        ("rocket body", tube(0 * up, high * up, radius)),
        ("rocket nose", tube(high * up, (high + nose) * up, radius, 0.0)),
    ]
    for k in range(count):
        fin = box((radius + span / 2, 0, tall / 2), (span, 0.03, tall))
        pieces.append(("rocket fin", turned(fin, 2 * math.pi * k / count)))
    return pieces


def _airplane(rng: Rng) -> list[tuple[str, Piece]]:
    radius, long, span = rng.uniform(0.1, 0.18), rng.uniform(1.4, 2.0), rng.uniform(1.2, 2.0)
    chord, tail, fin = rng.uniform(0.25, 0.4), rng.uniform(0.5, 0.8), rng.uniform(0.25, 0.4)
    x, forward = np.array([1.0, 0.0, 0.0]), rng.uniform(-0.05, 0.15) * long
    return [
        ("airplane body", tube(-long / 2 * x, long / 2 * x, radius, radius * rng.uniform(0.5, 0.9))),
        ("airplane wing", box((forward, 0, 0), (chord, span, 0.04))),
        ("airplane tail", box((-0.45 * long, 0, 0.5 * radius), (0.6 * chord, tail, 0.04))),
        ("airplane tail", box((-0.45 * long, 0, radius + fin / 2), (0.6 * chord, 0.04, fin))),
    ]


def turned(piece: Piece, angle: float) -> Piece:
    """A piece turned about the z axis."""
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])

    def draw(rng: Rng, count: int) -> tuple[np.ndarray, np.ndarray]:
        points, normals = piece.draw(rng, count)
        return points @ turn, normals @ turn

    return Piece(piece.area, draw)


THINGS: dict[str, Callable[[Rng], list[tuple[str, Piece]]]] = {
    "airplane": _airplane, "chair": _chair, "lamp": _lamp, "mug": _mug, "rocket": _rocket, "table": _table,
}  # fmt: skip
PARTS = {
    "airplane": ("airplane body", "airplane wing", "airplane tail"),
    "chair": ("chair seat", "chair back", "chair leg"),
    "lamp": ("lamp base", "lamp pole", "lamp shade"),
    "mug": ("mug body", "mug handle"),
    "rocket": ("rocket body", "rocket nose", "rocket fin"),
    "table": ("table top", "table leg"),
}
NAMES = tuple(name for names in PARTS.values() for name in names)


class PartShapes(PartDataset):
    """Clouds of six kinds of things (airplane, chair, lamp, mug, rocket, table), each point with the part that it lies on.

    Args:
        count: number of clouds, the kinds in turn.
        points: points of each cloud.
        noise: standard deviation of the points off the surface; the things have a size of about 1.
        seed: seed of shapes and points.
        split: train, val or test, whose clouds differ.

    Shape: points and normals (P, 3) float32, parts (P,) int64.
    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import PartShapes
        >>> shapes = PartShapes(6, points=50)
        >>> shapes[3].parts.shape, shapes.part_names[8]
        ((50,), 'lamp shade')
    """

    class_names = tuple(THINGS)
    part_names = NAMES
    category_parts = tuple(tuple(NAMES.index(part) for part in PARTS[name]) for name in THINGS)
    up = 2

    def __init__(
        self, count: int, points: int = 1024, noise: float = 0.0, seed: int = 0, split: str = "train"
    ) -> None:
        check_least(count=(count, 1), points=(points, 1), seed=(seed, 0))
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise is {noise}; expected 0 (none) or more")
        self.count, self.points, self.noise = count, points, noise
        self.seed, self.split = seed, check_split(split)
        self.labels = [k % len(THINGS) for k in range(count)]
        self._clouds: dict[int, Cloud] = {}

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.split} {index} ({self.class_names[self.labels[index]]})"

    def load(self, index: int) -> Cloud:
        if index not in self._clouds:
            self._clouds[index] = self._make(index)
        return self._clouds[index]

    def _make(self, index: int) -> Cloud:
        key = (17, SPLITS.index(self.split), index)
        rng = np.random.default_rng(np.random.SeedSequence(entropy=self.seed, spawn_key=key))
        pieces = THINGS[self.class_names[self.labels[index]]](rng)
        areas = np.array([piece.area for _, piece in pieces])
        counts = rng.multinomial(self.points, areas / areas.sum())
        drawn = [piece.draw(rng, int(n)) for (_, piece), n in zip(pieces, counts, strict=True)]
        parts = np.repeat([NAMES.index(part) for part, _ in pieces], counts)
        order = rng.permutation(self.points)
        points, normals = (np.concatenate([pair[k] for pair in drawn])[order] for k in (0, 1))
        if self.noise:
            points = points + self.noise * rng.standard_normal(points.shape)
        return Cloud(points.astype(np.float32), normals.astype(np.float32), 0, parts[order])
