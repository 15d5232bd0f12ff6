"""Drawn glyphs: small pictures of simple shapes, made on demand, no two alike.

A glyph is a few strokes in the square [-1, 1]² (x right, y up). Its corners are shaken, the whole is scaled, slanted, tilted
a little and moved, and drawn with a pen of random width; a pixel's brightness is how much of it the pen covers. The
classes differ in shape whichever way they are turned, and none is another's mirror image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.common import SPLITS, check_split

__all__ = ["GLYPHS"]

_CIRCLE = [(0.75 * math.cos(a), 0.75 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 17)[:-1].tolist()]


def _branches(count: int) -> list[list[tuple[float, float]]]:
    angles = [math.pi / 2 + 2 * math.pi * k / count for k in range(count)]
    return [[(0.0, 0.0), (0.85 * math.cos(a), 0.85 * math.sin(a))] for a in angles]


# class: strokes, each a line through corners; a stroke whose first corner comes again at its end is closed
STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "bar": [[(0.0, -0.8), (0.0, 0.8)]],
    "ell": [[(-0.45, 0.8), (-0.45, -0.7), (0.55, -0.7)]],
    "tee": [[(-0.7, 0.7), (0.7, 0.7)], [(0.0, 0.7), (0.0, -0.8)]],
    "plus": _branches(4),
    "fork": _branches(3),
    "triangle": [[(-0.75, -0.6), (0.75, -0.6), (0.0, 0.75), (-0.75, -0.6)]],
    "square": [[(-0.65, -0.65), (0.65, -0.65), (0.65, 0.65), (-0.65, 0.65), (-0.65, -0.65)]],
    "ring": [[*_CIRCLE, _CIRCLE[0]]],
}
GLYPHS = tuple(STROKES)
SIDE = 28  # pixels, as in MNIST
SHAKE = 0.06  # standard deviation of a corner's place; a quarter of it on the ring, which is to stay round


def _segments(name: str, rng: np.random.Generator) -> np.ndarray:
    """Ends (n, 2, 2) of the strokes' straight pieces, shaken."""
    shake = SHAKE / 4 if name == "ring" else SHAKE
    # Strokes that meet in a corner share it: it is shaken once.
    corners = {c: np.array(c) + rng.normal(0, shake, 2) for stroke in STROKES[name] for c in stroke}
    lines = [np.array([corners[c] for c in stroke]) for stroke in STROKES[name]]
    return np.concatenate([np.stack([line[:-1], line[1:]], 1) for line in lines])


def draw_glyph(name: str, rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """One picture (side, side) float32 in [0, 1], row 0 on top."""
    ends = _segments(name, rng)
    tilt, slant = rng.normal(0, 0.15), rng.normal(0, 0.12)
    scale = rng.uniform(0.6, 0.95) * np.exp(rng.normal(0, 0.08, 2))
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    ends = ends @ (turn @ np.array([[1.0, slant], [0.0, 1.0]]) @ np.diag(scale)).T + rng.uniform(-0.1, 0.1, 2)
    pen = rng.uniform(0.06, 0.14)  # half its width
    at = (np.arange(side) + 0.5) / side * 2 - 1
    pixels = np.stack(np.meshgrid(at, -at), -1)[:, :, None]  # (side, side, 1, 2) of x, y
    start, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    share = ((pixels - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    nearest = start + np.clip(share, 0, 1)[..., None] * along  # (side, side, n, 2)
    distance = np.linalg.norm(pixels - nearest, axis=-1).min(-1)
    return np.clip((pen - distance) * side / 2 + 0.5, 0, 1).astype(np.float32)


def make_glyphs(count: int, seed: int, split: str, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Pictures (count, side, side) in [0, 1] and classes (count,), the classes in turn; each depends on (seed, split, number).

    Raises: ValueError for an unknown split.
    """
    place = SPLITS.index(check_split(split))
    pictures = np.empty((count, side, side), np.float32)
    for k in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(place, k)))
        pictures[k] = draw_glyph(GLYPHS[k % len(GLYPHS)], rng, side)
    return torch.from_numpy(pictures), torch.arange(count) % len(GLYPHS)
