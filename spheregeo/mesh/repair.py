"""Mending a triangle mesh until ``TriangleMesh`` takes it, with an account of what was done.

In this order: vertices that are not finite, degenerate and doubled faces are dropped; edges of three or more faces are cut,
so that their faces end there in borders; faces are turned round until neighbours agree, as few as possible in each
part, and closed parts then face outward; vertices of no face are dropped. Vertices keep their order and are not
merged; only a cut adds some, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from spheregeo.mesh.check import MeshReport, as_arrays, examine
from spheregeo.mesh.topology import Edges, edges_of
from spheregeo.mesh.triangle_mesh import TriangleMesh

NONMANIFOLD = ("cut", "refuse")


@dataclass(frozen=True, eq=False)
class RepairReport:
    """What a repair found and did.

    Shape: vertex_index (V',) and face_index (F',) int64: the old number of each new vertex and face. So ``values[vertex_index]``
    carries values per vertex over.
    """

    before: MeshReport
    vertex_index: Tensor
    face_index: Tensor
    dropped_faces: int
    dropped_vertices: int
    flipped_faces: int
    cut_edges: int
    added_vertices: int

    def __str__(self) -> str:
        done = [
            f"{count} {what}"
            for count, what in (
                (self.dropped_faces, "faces dropped"),
                (self.cut_edges, "edges cut"),
                (self.added_vertices, "vertices added along cuts"),
                (self.flipped_faces, "faces turned round"),
                (self.dropped_vertices, "vertices dropped"),
            )
            if count
        ]
        return ", ".join(done) if done else "nothing to mend"


def repair(
    vertices: Any, faces: Any, *, nonmanifold: str = "cut", outward: bool = True, **options: Any
) -> tuple[TriangleMesh, RepairReport]:
    """A mesh that is sound, and what had to be done.

    Args:
        nonmanifold: edges of three or more faces are "cut" (their vertices doubled), or make it "refuse" the mesh.
        outward: turn closed parts whose volume is negative inside out. Say False for shells inside others.
        options: normals, frames and seed of :class:`TriangleMesh`. Tensors count for the mended vertices.

    Shape: vertices (V, 3), faces (F, 3).
    Raises: ValueError, TypeError for arrays that are no mesh, one without a sound face, one that has no two sides (a
    Möbius strip), or non-manifold edges to be refused.
    """
    if nonmanifold not in NONMANIFOLD:
        raise ValueError(f"nonmanifold is {nonmanifold!r}; expected one of {NONMANIFOLD}")
    points, triangles = as_arrays(vertices, faces)
    before = examine(points, triangles, edges_of(triangles, len(points)), full=True)
    face_index = _sound_faces(before, points, triangles)
    triangles = triangles[face_index]
    vertex_index = np.arange(len(points))
    edges = edges_of(triangles, len(points))
    cut = int(edges.nonmanifold.sum())
    if cut and nonmanifold == "refuse":
        first = edges.vertices[edges.nonmanifold][0].tolist()
        raise ValueError(
            f"{cut} edges belong to more than two faces, the first edge {first}; "
            "say nonmanifold='cut' to double their vertices"
        )
    if cut:
        triangles, vertex_index = _cut(triangles, edges, len(points))
        points = points[vertex_index]
        edges = edges_of(triangles, len(points))
    added = len(points) - before.num_vertices
    flip = _flips(points, triangles, edges, outward)
    triangles[flip] = triangles[flip][:, ::-1]
    used = np.unique(triangles)
    triangles = np.searchsorted(used, triangles)
    report = RepairReport(
        before=before,
        vertex_index=torch.from_numpy(vertex_index[used]),
        face_index=torch.from_numpy(face_index),
        dropped_faces=before.num_faces - len(face_index),
        dropped_vertices=len(points) - len(used),
        flipped_faces=int(flip.sum()),
        cut_edges=cut,
        added_vertices=added,
    )
    return TriangleMesh(points[used], triangles, **options), report


def weld(vertices: Any, faces: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices at the very same place joined to the first of them: vertices (V', 3), faces (F, 3), and the new number of each
    old vertex (V,).

    Closes seams of textures and files that list three vertices a face; never done unasked.
    Raises: ValueError, TypeError for arrays that are no mesh.
    """
    points, triangles = as_arrays(vertices, faces)
    _, first, inverse = np.unique(points, axis=0, return_index=True, return_inverse=True)
    kept = np.sort(first)  # in the order in which they came
    number = np.searchsorted(kept, first)[inverse.reshape(-1)]
    return points[kept], number[triangles], number


def _sound_faces(report: MeshReport, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    keep = np.ones(len(faces), dtype=bool)
    for bad in (report.repeated, report.flat, report.doubled):
        keep[bad] = False
    broken = np.zeros(len(points), dtype=bool)
    broken[report.not_finite] = True
    keep &= ~broken[faces].any(axis=1)
    if not keep.any():
        raise ValueError(f"no face is left: {'; '.join(report.faults)}")
    return np.flatnonzero(keep)


def _cut(faces: np.ndarray, edges: Edges, num_vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces that hang together over edges of two faces alone, and the old number of each vertex.

    Corners of two faces at the same vertex are one if the faces share such an edge there. At vertices off the cut
    edges all corners stay one, as they were.
    """
    sides = edges.of_side.reshape(-1)  # (3F,)
    order = np.argsort(sides, kind="stable")
    first = np.concatenate([[0], np.cumsum(edges.faces)])[:-1][edges.faces == 2]
    one, two = order[first], order[first + 1]  # the two half-edges of each edge of two faces

    def following(half: np.ndarray) -> np.ndarray:
        return half - half % 3 + (half + 1) % 3

    corner = faces.reshape(-1)
    joined = []
    for a in (
        one,
        following(one),
    ):  # corners at both ends of the first half-edge, and those at the same vertex across
        b = np.where(corner[two] == corner[a], two, following(two))
        joined.append(np.stack([a, b]))
    on_cut = np.zeros(num_vertices, dtype=bool)
    on_cut[edges.vertices[edges.nonmanifold].reshape(-1)] = True
    off = np.flatnonzero(~on_cut[corner])
    representative = np.full(num_vertices, -1)
    representative[corner[off]] = off
    joined.append(np.stack([off, representative[corner[off]]]))
    pairs = np.concatenate(joined, axis=1)
    count = len(corner)
    graph = coo_array((np.ones(pairs.shape[1], dtype=bool), pairs), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    _, begin, part = np.unique(label, return_index=True, return_inverse=True)
    old = corner[begin]  # (parts,) vertex of each class of corners
    order = np.lexsort((begin, old))
    is_first = np.ones(len(old), dtype=bool)
    is_first[1:] = old[order][1:] != old[order][:-1]
    number = np.empty(len(old), dtype=np.int64)
    number[order[is_first]] = old[order[is_first]]  # the first class keeps the number
    extra = order[~is_first]
    number[extra] = num_vertices + np.arange(len(extra))
    return number[part].reshape(-1, 3), np.concatenate([np.arange(num_vertices), old[extra]])


def _flips(points: np.ndarray, faces: np.ndarray, edges: Edges, outward: bool) -> np.ndarray:
    """Which faces to turn round, (F,) bool, so that neighbours agree."""
    sides = edges.of_side.reshape(-1)
    order = np.argsort(sides, kind="stable")
    shared = edges.faces == 2
    first = np.concatenate([[0], np.cumsum(edges.faces)])[:-1][shared]
    one, two = order[first] // 3, order[first + 1] // 3
    disagree = edges.misoriented[shared].astype(np.int64)
    # Every face twice, as it is and turned round: two faces are linked the way in which they agree.
    n = len(faces)
    ends = np.concatenate(
        [np.stack([one, two + n * disagree]), np.stack([one + n, two + n * (1 - disagree)])], axis=1
    )
    graph = coo_array((np.ones(ends.shape[1], dtype=bool), ends), shape=(2 * n, 2 * n))
    _, label = connected_components(graph, directed=False)
    as_is, turned = label[:n], label[n:]
    if (as_is == turned).any():
        bad = int(np.flatnonzero(as_is == turned)[0])
        raise ValueError(
            f"the part of the surface with face {bad} has one side only, as a Möbius strip; cut it before it is oriented"
        )
    part = np.minimum(as_is, turned)  # connected part of the surface
    flip = as_is > turned
    _, part = np.unique(part, return_inverse=True)
    flips, total = np.bincount(part, flip), np.bincount(part)
    flip ^= (flips > total / 2)[part]
    if outward:
        p = points[faces]
        p = (
            p
            - np.stack([np.bincount(part, p[:, :, i].mean(1)) / total for i in range(3)], axis=1)[part][
                :, None
            ]
        )
        volume = np.einsum("fi,fi->f", p[:, 0], np.cross(p[:, 1], p[:, 2])) * np.where(flip, -1.0, 1.0)
        border = np.bincount(part, edges.border[edges.of_side].sum(axis=1)) > 0
        flip ^= ((np.bincount(part, volume) < 0) & ~border)[part]
    return flip
