"""Surfaces of the generated meshes: primitives, and a smooth random deformation of space.

Star-shaped bodies are given by a signed distance and found by bisection along the rays from the origin; tubes and bowls are
maps of a torus and a disc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spheregeo.data.meshes.triangulate import Map

Distance = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Primitive:
    """A parametrised surface, of about unit size, and the domain of its parameters."""

    domain: str
    surface: Map


def star(distance: Distance) -> Map:
    """Unit vectors to the surface distance = 0 of a body that holds the origin and every segment to it, of size below 4."""

    def surface(u: np.ndarray) -> np.ndarray:
        low, high = np.zeros(len(u)), np.full(len(u), 4.0)
        for _ in range(50):
            middle = (low + high) / 2
            inside = distance(middle[:, None] * u) < 0
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return low[:, None] * u

    return surface


def _box(p: np.ndarray, half: tuple[float, float, float], round_: float) -> np.ndarray:
    q = np.abs(p) - np.subtract(half, round_)
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0) - round_


def _capsule(p: np.ndarray, axis: int, half: float, radius: float) -> np.ndarray:
    q = p.copy()
    q[:, axis] -= np.clip(p[:, axis], -half, half)
    return np.linalg.norm(q, axis=1) - radius


def _cylinder(p: np.ndarray, half: float, radius: float) -> np.ndarray:
    return np.maximum(np.hypot(p[:, 0], p[:, 1]) - radius, np.abs(p[:, 2]) - half)


def _cone(p: np.ndarray, base: float, slope: float) -> np.ndarray:
    return np.maximum((np.hypot(p[:, 0], p[:, 1]) + slope * (p[:, 2] - 2 * base)), -p[:, 2] - base)


def _dumbbell(u: np.ndarray, length: float) -> np.ndarray:
    return u * (0.28 + length * np.abs(u[:, 2:]) ** 3)


def _tetrahedron(p: np.ndarray, size: float) -> np.ndarray:
    return (p @ (np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).T / np.sqrt(3))).max(1) - size


def _cross(p: np.ndarray, half: float, radius: float) -> np.ndarray:
    return np.min([_capsule(p, axis, half, radius) for axis in range(3)], axis=0)


def _tube(curve: Map, radius: float) -> Map:
    """(u, v) to the surface of a tube round a closed curve, in frames that turn evenly with the curve."""
    t = np.arange(2048) / 2048
    points = curve(t)
    tangent = np.roll(points, -1, 0) - np.roll(points, 1, 0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # normals from the direction to the centre of mass line: closed, and never along the tangent for the curves here
    normal = np.cross(tangent, [0.0, 0.0, 1.0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    second = np.cross(tangent, normal)
    table = np.concatenate([points, normal, second], 1)
    table = np.concatenate([table, table[:1]])

    def surface(uv: np.ndarray) -> np.ndarray:
        at = np.mod(uv[:, 0], 1.0) * 2048
        k = at.astype(int)
        row = table[k] + (at - k)[:, None] * (table[k + 1] - table[k])
        angle = 2 * np.pi * uv[:, 1:]
        return row[:, :3] + radius * (np.cos(angle) * row[:, 3:6] - np.sin(angle) * row[:, 6:])

    return surface


def _ring(t: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t), 0 * t], 1)


def _trefoil(t: np.ndarray) -> np.ndarray:
    a = 2 * np.pi * t
    return 0.4 * np.stack([np.sin(a) + 2 * np.sin(2 * a), np.cos(a) - 2 * np.cos(2 * a), -np.sin(3 * a)], 1)


def _bowl(xy: np.ndarray, depth: float) -> np.ndarray:
    angle = depth * np.linalg.norm(xy, axis=1, keepdims=True)  # from the top
    return np.concatenate([xy * depth * np.sinc(angle / np.pi), np.cos(angle)], 1)


def primitives(rng: np.random.Generator) -> dict[str, Primitive]:
    """A primitive of each class, its proportions drawn at random."""
    r = lambda low, high: float(rng.uniform(low, high))  # noqa: E731
    half = (r(0.5, 1.0), r(0.5, 1.0), r(0.5, 1.0))
    long, wide = r(0.6, 1.2), r(0.4, 0.6)
    bodies: dict[str, Distance] = {
        "box": lambda p: _box(p, half, 0.03),
        "capsule": lambda p: _capsule(p, 2, long, wide),
        "cone": lambda p: _cone(p, 0.5, wide),
        "cross": lambda p: _cross(p, 0.5 + wide, 0.3),
        "cylinder": lambda p: _cylinder(p, long, wide + 0.1),
        "tetrahedron": lambda p: _tetrahedron(p, 0.5),
    }
    thick, depth = r(0.25, 0.45), r(1.2, 2.0)
    found = {name: Primitive("sphere", star(distance)) for name, distance in bodies.items()}
    found["dumbbell"] = Primitive("sphere", lambda u: _dumbbell(u, long))
    found["bowl"] = Primitive("disc", lambda xy: _bowl(xy, depth))
    found["knot"] = Primitive("torus", _tube(_trefoil, 0.2))
    found["torus"] = Primitive("torus", _tube(_ring, thick))
    return dict(sorted(found.items()))


SHAPE_CLASSES = tuple(primitives(np.random.default_rng(0)))


def bend(points: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A random smooth deformation of space: a stretch of each axis of a random frame, a bend, and waves as long as the shape.

    Shape: (n, 3) -> (n, 3). ``strength`` 1 stretches by some 20 % and moves points by some 10 % of the size; 0 moves none.
    """
    turn = rotation(rng)
    size = np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())
    p = (points - points.mean(0)) @ turn / size * np.exp(0.2 * strength * rng.standard_normal(3))
    angle = 0.35 * strength * rng.standard_normal() * p[:, :1]
    p = np.concatenate([p[:, :1], np.cos(angle) * p[:, 1:2] - np.sin(angle) * p[:, 2:],
                        np.sin(angle) * p[:, 1:2] + np.cos(angle) * p[:, 2:]], 1)  # fmt: skip
    for _ in range(5):
        wave, phase = rng.standard_normal(3), rng.uniform(0, 2 * np.pi)
        p = p + 0.08 * strength * np.sin(p @ wave[:, None] + phase) * rng.standard_normal(3)
    return p @ turn.T


def rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn evenly. Shape: (3, 3)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
