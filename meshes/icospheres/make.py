"""Icospheres by subdividing triangles edge by edge, and Voronoi areas by scipy: no charts, no library code.

Run ``python make.py [folder]`` to write ``icosphere_0.npz`` to ``icosphere_3.npz`` and ``levels.csv``.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from scipy.spatial import ConvexHull, SphericalVoronoi

STORED = range(4)
TABULATED = range(6)


def icosahedron() -> tuple[np.ndarray, np.ndarray]:
    """Vertices (12, 3), poles first, one at latitude atan(1/2) and longitude 0; faces (20, 3) counter-clockwise from outside."""
    vertices = [(0.0, 0.0, 1.0), (0.0, 0.0, -1.0)]
    for sign, shift in ((1, 0.0), (-1, np.pi / 5)):
        for k in range(5):
            longitude = 2 * np.pi * k / 5 + shift
            vertices.append((2 * np.cos(longitude) / 5**0.5, 2 * np.sin(longitude) / 5**0.5, sign / 5**0.5))
    v = np.array(vertices)
    faces = ConvexHull(v).simplices
    inward = np.linalg.det(v[faces]) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    return v, faces


def subdivide(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each triangle in four, new vertices pushed out to the sphere."""
    points = list(vertices)
    middle: dict[tuple[int, int], int] = {}

    def midpoint(a: int, b: int) -> int:
        edge = (min(a, b), max(a, b))
        if edge not in middle:
            middle[edge] = len(points)
            m = vertices[a] + vertices[b]
            points.append(m / np.linalg.norm(m))
        return middle[edge]

    finer = []
    for a, b, c in faces.tolist():
        ab, bc, ca = midpoint(a, b), midpoint(b, c), midpoint(c, a)
        finer += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.array(points), np.array(finer)


def main(folder: Path) -> None:
    """Write the tables into ``folder``."""
    vertices, faces = icosahedron()
    rows = []
    for level in TABULATED:
        if level:
            vertices, faces = subdivide(vertices, faces)
        areas = SphericalVoronoi(vertices, threshold=1e-9).calculate_areas()
        edges = np.linalg.norm(vertices[faces] - vertices[np.roll(faces, 1, axis=1)], axis=-1)
        arcs = 2 * np.arcsin(edges / 2)
        rows.append(
            [
                level,
                len(vertices),
                len(faces),
                *(f"{x:.9f}" for x in (areas.max() / areas.min(), arcs.min(), arcs.max())),
            ]
        )
        if level in STORED:
            np.savez(
                folder / f"icosphere_{level}.npz",
                vertices=vertices,
                faces=faces.astype(np.int16),
                areas=areas,
            )
    with open(folder / "levels.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["level", "points", "faces", "area_ratio", "shortest_edge", "longest_edge"])
        table.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
