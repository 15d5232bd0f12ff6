"""Surfaces that several tests need, as plain arrays: ``surfaces("torus", 24, 14)``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spheregeo.grids import Icosahedral

Arrays = tuple[np.ndarray, np.ndarray]


def icosphere(level: int, axes: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Arrays:
    """The subdivided icosahedron, stretched."""
    grid = Icosahedral(level)
    return grid.points.numpy() * axes, grid.faces.numpy().copy()


def torus(n: int = 24, m: int = 14, radius: float = 0.4) -> Arrays:
    """Radii 1 and ``radius``."""
    u, w = np.meshgrid(2 * np.pi * np.arange(n) / n, 2 * np.pi * np.arange(m) / m, indexing="ij")
    ring = 1 + radius * np.cos(w)
    vertices = np.stack([ring * np.cos(u), ring * np.sin(u), radius * np.sin(w)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(n), np.arange(m), indexing="ij")
    a, b = i * m + j, i * m + (j + 1) % m
    c, d = (i + 1) % n * m + j, (i + 1) % n * m + (j + 1) % m
    return vertices, np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (c, d, b))])


def sheet(n: int = 12, m: int = 10, seed: int = 0) -> Arrays:
    """A flat rectangle with jittered inner points, in the plane z = 0."""
    x, y = np.meshgrid(np.arange(n, dtype=float), np.arange(m, dtype=float), indexing="ij")
    jitter = np.random.default_rng(seed).uniform(-0.25, 0.25, (2, n, m))
    inner = np.zeros((n, m))
    inner[1:-1, 1:-1] = 1
    vertices = np.stack([x + inner * jitter[0], y + inner * jitter[1], 0 * x], -1).reshape(-1, 3)
    q = np.arange(n * m).reshape(n, m)
    a, b, c, d = q[:-1, :-1], q[1:, :-1], q[1:, 1:], q[:-1, 1:]
    return vertices, np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])


@pytest.fixture
def surfaces() -> Callable[..., Arrays]:
    """Vertices and faces of a surface by its name and arguments."""
    makers = {"icosphere": icosphere, "torus": torus, "sheet": sheet}
    return lambda name, *arguments: makers[name](*arguments)


@pytest.fixture
def random_frames() -> Callable[..., np.ndarray]:
    """Right-handed frames with random directions, of normals (V, 3)."""

    def frames(normals: np.ndarray, seed: int = 0) -> np.ndarray:
        towards = np.random.default_rng(seed).normal(size=normals.shape)
        first = towards - (towards * normals).sum(1, keepdims=True) * normals
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        return np.stack([first, np.cross(normals, first)], axis=1)

    return frames
