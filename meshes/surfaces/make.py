"""Three small surfaces with areas, normals, frames, edge angles and transports, one vertex at a time: no library code.

Run ``python make.py [folder]`` to write ``ellipsoid.npz``, ``torus.npz`` and ``tube.npz``.
"""

from __future__ import annotations

import cmath
import math
import sys
from pathlib import Path

import numpy as np

Faces = list[tuple[int, int, int]]


def ellipsoid() -> tuple[np.ndarray, Faces]:
    """The octahedron, each face cut into nine, pushed out to the ellipsoid with half axes 1, 0.8, 0.6."""
    points: dict[tuple[int, int, int], int] = {}
    faces: Faces = []
    for sx in (1, -1):
        for sy in (1, -1):
            for sz in (1, -1):

                def at(i: int, j: int, s: tuple[int, int, int] = (sx, sy, sz)) -> int:
                    return points.setdefault((i * s[0], j * s[1], (3 - i - j) * s[2]), len(points))

                for i in range(3):
                    for j in range(3 - i):
                        cells = [(at(i, j), at(i + 1, j), at(i, j + 1))]
                        if i + j < 2:
                            cells.append((at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)))
                        faces += cells if sx * sy * sz > 0 else [(a, c, b) for a, b, c in cells]
    v = np.array(list(points), dtype=float)
    return v / np.linalg.norm(v, axis=1, keepdims=True) * [1.0, 0.8, 0.6], faces


def torus(n: int = 12, m: int = 7) -> tuple[np.ndarray, Faces]:
    """Radii 1 and 0.4, n points round the axis and m round the tube, every second row shifted by half a step."""
    v, faces = [], []
    for i in range(n):
        for j in range(m):
            u, w = 2 * math.pi * i / n, 2 * math.pi * (j + (i % 2) / 2) / m
            ring = 1 + 0.4 * math.cos(w)
            v.append((ring * math.cos(u), ring * math.sin(u), 0.4 * math.sin(w)))
            a, b = i * m + j, i * m + (j + 1) % m
            c, d = ((i + 1) % n) * m + j, ((i + 1) % n) * m + (j + 1) % m
            faces += [(a, c, b), (c, d, b)] if i % 2 == 0 else [(a, c, d), (a, d, b)]
    return np.array(v), faces


def tube(n: int = 9, rows: int = 4) -> tuple[np.ndarray, Faces]:
    """A cone's frustum without ends: two borders, straight lines upwards, no curvature inside."""
    v, faces = [], []
    for k in range(rows):
        for i in range(n):
            u, radius = 2 * math.pi * i / n, 1 - 0.15 * k
            v.append((radius * math.cos(u), radius * math.sin(u), 0.5 * k))
            if k + 1 < rows:
                a, b, c, d = k * n + i, k * n + (i + 1) % n, (k + 1) * n + i, (k + 1) * n + (i + 1) % n
                faces += [(a, b, d), (a, d, c)]
    return np.array(v), faces


def angle_between(u: np.ndarray, w: np.ndarray) -> float:
    return math.atan2(float(np.linalg.norm(np.cross(u, w))), float(u @ w))


def unit(u: np.ndarray) -> np.ndarray:
    return u / np.linalg.norm(u)


def wrap(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi


def turn(n_q: np.ndarray, n_p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """u turned by the smallest rotation that takes n_q to n_p (Rodrigues' formula about their common perpendicular)."""
    axis, angle = np.cross(n_q, n_p), angle_between(n_q, n_p)
    if angle == 0:
        return u
    k = unit(axis)
    return u * math.cos(angle) + np.cross(k, u) * math.sin(angle) + k * (k @ u) * (1 - math.cos(angle))


def measure(v: np.ndarray, faces: Faces) -> dict[str, np.ndarray]:
    """All that is stored of one surface."""
    count = len(v)
    areas, total = np.zeros(count), np.zeros(count)
    normals = {name: np.zeros((count, 3)) for name in ("angle", "area", "uniform")}
    after: list[dict[int, tuple[int, float]]] = [{} for _ in range(count)]
    for face in faces:
        a, b, c = (v[i] for i in face)
        cross = np.cross(b - a, c - a)
        for k in range(3):
            p, q, r = face[k], face[(k + 1) % 3], face[(k + 2) % 3]
            corner = angle_between(v[q] - v[p], v[r] - v[p])
            areas[p] += np.linalg.norm(cross) / 6
            total[p] += corner
            normals["angle"][p] += corner * unit(cross)
            normals["area"][p] += cross
            normals["uniform"][p] += unit(cross)
            after[p][q] = (r, corner)
    normals = {name: np.array([unit(n) for n in table]) for name, table in normals.items()}
    n = normals["angle"]
    frames = np.zeros((count, 2, 3))
    theta: dict[tuple[int, int], float] = {}
    border = np.zeros(count, dtype=bool)
    for p in range(count):
        axis = np.eye(3)[np.argmin(np.abs(n[p]))]
        frames[p, 0] = unit(axis - (axis @ n[p]) * n[p])
        frames[p, 1] = np.cross(n[p], frames[p, 0])
        first = set(after[p]) - {r for r, _ in after[p].values()}
        border[p] = bool(first)
        stretch = 1.0 if first else 2 * math.pi / total[p]
        q = min(first) if first else min(after[p])
        ring, angle = [], 0.0
        while True:
            ring.append((q, angle * stretch))
            if q not in after[p]:
                break
            q, corner = after[p][q]
            angle += corner
            if q == ring[0][0]:
                break
        mean = 0j
        for q, added in ring:
            d = unit(v[q] - v[p])
            mean += complex(d @ frames[p, 0], d @ frames[p, 1]) * cmath.exp(-1j * added)
        for q, added in ring:
            theta[p, q] = wrap(added + cmath.phase(mean))
    edges = sorted(theta)
    straight = [wrap(theta[p, q] - theta[q, p] - math.pi) for p, q in edges]
    from_normals = []
    for p, q in edges:
        carried = turn(n[q], n[p], frames[q, 0])
        from_normals.append(math.atan2(carried @ frames[p, 1], carried @ frames[p, 0]))
    carry = dict(zip(edges, straight))
    holonomy = [wrap(carry[b, a] + carry[c, b] + carry[a, c]) for a, b, c in faces]  # a -> b -> c -> a
    return {
        "vertices": v,
        "faces": np.array(faces, dtype=np.int16),
        "areas": areas,
        "normals_angle": n,
        "normals_area": normals["area"],
        "normals_uniform": normals["uniform"],
        "frames": frames,
        "defect": np.where(border, math.pi, 2 * math.pi) - total,
        "edges": np.array(edges, dtype=np.int16),
        "angle": np.array([theta[edge] for edge in edges]),
        "transport": np.array(straight),
        "transport_normals": np.array(from_normals),
        "holonomy": np.array(holonomy),
    }


def main(folder: Path) -> None:
    """Write the tables into ``folder``."""
    for surface in (ellipsoid, torus, tube):
        np.savez(folder / f"{surface.__name__}.npz", **measure(*surface()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
