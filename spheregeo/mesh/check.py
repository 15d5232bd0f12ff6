"""What may be wrong with a triangle mesh: one report that constructor, repair and user share.

Faults, which ``TriangleMesh`` refuses: faces with a repeated vertex or without area, two faces on the same vertices,
edges of three or more faces, neighbours that disagree on which side is out, vertices of no face, and NaN. Not faults:
open borders, several components, vertices where two fans of faces meet, and vertices at the same place (seams).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.mesh.shape import face_vectors
from spheregeo.mesh.topology import Edges, components, edges_of

FLAT = 1e-12  # height of a triangle over its longest side below which it has no normal: rounding of collinear points


@dataclass(frozen=True, eq=False)
class MeshReport:
    """Faults and peculiarities of a mesh, each as the indices where it occurs.

    Shape: vertex and face lists (n,) int64, edge lists (n, 2) int64 pairs of vertices.
    """

    num_vertices: int
    num_faces: int
    not_finite: np.ndarray  # vertices with NaN or infinity
    repeated: np.ndarray  # faces that name a vertex twice
    flat: np.ndarray  # faces without area
    doubled: np.ndarray  # faces on the same three vertices as an earlier one
    nonmanifold_edges: np.ndarray  # of three or more faces
    misoriented_edges: np.ndarray  # of two faces that run along it in the same direction
    isolated: np.ndarray  # vertices of no face
    duplicates: np.ndarray  # vertices at the place of an earlier one; no fault
    border_edges: np.ndarray  # of one face; no fault
    num_components: int  # connected parts, isolated vertices not counted

    @property
    def faults(self) -> list[str]:
        """One sentence a fault, none for a sound mesh."""
        lines = []
        for what, where, kind in (
            ("vertices are NaN or infinite", self.not_finite, "vertex"),
            ("faces name a vertex twice", self.repeated, "face"),
            ("faces have no area", self.flat, "face"),
            ("faces lie on the same vertices as an earlier one", self.doubled, "face"),
            ("edges belong to more than two faces", self.nonmanifold_edges, "edge"),
            ("edges have faces of opposite orientation", self.misoriented_edges, "edge"),
            ("vertices belong to no face", self.isolated, "vertex"),
        ):
            if len(where):
                lines.append(f"{len(where)} {what}, the first {kind} {where[0].tolist()}")
        return lines

    @property
    def ok(self) -> bool:
        """Whether ``TriangleMesh`` takes the mesh."""
        return not self.faults

    def __str__(self) -> str:
        head = (
            f"{self.num_vertices} vertices, {self.num_faces} faces, {self.num_components} components, "
            f"{len(self.border_edges)} border edges, {len(self.duplicates)} duplicate vertices"
        )
        return "; ".join([head, *self.faults])


def check(vertices: Any, faces: Any) -> MeshReport:
    """Examine a mesh without building it.

    Shape: vertices (V, 3), faces (F, 3) indices.
    Raises: ValueError, TypeError for arrays that are no mesh at all: wrong shapes, no face, indices out of range.
    """
    points, triangles = as_arrays(vertices, faces)
    return examine(points, triangles, edges_of(triangles, len(points)), full=True)


def as_arrays(vertices: Any, faces: Any) -> tuple[np.ndarray, np.ndarray]:
    """Copies as (V, 3) float64 and (F, 3) int64, or an error that says what came."""
    points, triangles = _array(vertices, "vertices"), _array(faces, "faces")
    if points.dtype.kind not in "fiu":
        raise TypeError(f"vertices are of type {points.dtype}; expected real numbers")
    points = np.array(points, dtype=np.float64, order="C")  # a copy: later changes must not reach the mesh
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"vertices has shape {points.shape}; expected (V, 3) with V at least 1")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles):
        raise ValueError(
            f"faces has shape {triangles.shape}; expected (F, 3) with F at least 1: split polygons into triangles, and "
            "use spheregeo.grids.Scattered for points without faces"
        )
    if triangles.dtype.kind not in "iu":
        raise TypeError(f"faces are of type {triangles.dtype}; expected integers, the indices of vertices")
    triangles = np.array(triangles, dtype=np.int64, order="C")
    out = np.flatnonzero(((triangles < 0) | (triangles >= len(points))).any(axis=1))
    if len(out):
        hint = "; are they counted from 1?" if triangles.min() == 1 and triangles.max() == len(points) else ""
        raise ValueError(
            f"{len(out)} faces name a vertex outside 0...{len(points) - 1}, the first faces[{out[0]}] = "
            f"{triangles[out[0]].tolist()}{hint}"
        )
    return points, triangles


def examine(points: np.ndarray, faces: np.ndarray, edges: Edges, full: bool = False) -> MeshReport:
    """The report of valid arrays; what is no fault (seams, components) is looked for only in the full one."""
    a, b, c = faces.T
    repeated = (a == b) | (b == c) | (c == a)
    finite = np.isfinite(points).all(axis=1)
    usable = ~repeated & finite[faces].all(axis=1)
    with np.errstate(invalid="ignore"):
        area = np.linalg.norm(face_vectors(points, faces), axis=1)
        sides = [((points[faces[:, k]] - points[faces[:, k - 1]]) ** 2).sum(axis=1) for k in range(3)]
    used = np.zeros(len(points), dtype=bool)
    used[faces.reshape(-1)] = True
    count, _ = components(edges.vertices, len(points)) if full else (0, used)
    isolated = np.flatnonzero(~used)
    return MeshReport(
        num_vertices=len(points),
        num_faces=len(faces),
        not_finite=np.flatnonzero(~finite),
        repeated=np.flatnonzero(repeated),
        flat=np.flatnonzero(usable & ~(area > FLAT * np.max(sides, axis=0))),
        doubled=_doubled(edges.of_side, usable),
        nonmanifold_edges=edges.vertices[edges.nonmanifold],
        misoriented_edges=edges.vertices[edges.misoriented & (edges.vertices[:, 0] != edges.vertices[:, 1])],
        isolated=isolated,
        duplicates=_later_twins(points) if full else np.empty(0, dtype=np.int64),
        border_edges=edges.vertices[edges.border],
        num_components=count - len(isolated) if full else 0,
    )


def _doubled(faces_sides: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Faces on the same vertices as an earlier one; two sides say which vertices a face has."""
    among = np.flatnonzero(usable)
    sides = faces_sides[among]
    key = sides.min(axis=1) * (int(faces_sides.max()) + 1) + sides.max(axis=1)
    order = np.argsort(key, kind="stable")
    return np.sort(among[order[1:][key[order[1:]] == key[order[:-1]]]])


def _later_twins(points: np.ndarray) -> np.ndarray:
    order = np.lexsort(points.T)
    same = (points[order[1:]] == points[order[:-1]]).all(axis=1)
    twins: np.ndarray = np.sort(order[1:][same])  # lexsort is stable: the later index comes second
    return twins


def _array(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().to("cpu")
        return value.to(torch.float64).numpy() if value.dtype.is_floating_point else value.numpy()
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}; faces must all be triangles") from error
