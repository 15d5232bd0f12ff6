r"""Laplacians of triangle meshes: positive semi-definite matrices L, and the areas A of the eigenproblem L φ = λ A φ.

Cotangent weights: L_ij = −½ (cot α_ij + cot β_ij), α and β opposite the edge; L_ii = −Σ_j L_ij. Where α + β > π the weight
is negative, and where an edge has more than two faces the surface is none. The robust Laplacian repairs both: every
face is taken twice, front and back; the sides round each edge are glued like pages of a book, which is always a
surface without border; lengths are made to obey the triangle inequality with room to spare; edges are flipped inside
that surface until no weight is negative; half of its Laplacian is the result.
Reference: Pinkall & Polthier 1993; Sharp & Crane 2020, "A Laplacian for nonmanifold triangle meshes".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from spheregeo.mesh._arrays import cotangents, finite_mesh, side_lengths

MOLLIFY = 1e-5  # of the mean side: by how much two sides shall outreach the third


class Laplacian(NamedTuple):
    """Stiffness and mass. Shape: matrix (V, V) scipy CSR, symmetric; mass (V,) barycentric areas. Units: none; area."""

    matrix: csr_matrix
    mass: np.ndarray


def cotangent_laplacian(vertices: Any, faces: Any) -> Laplacian:
    """Cotangent Laplacian and barycentric areas; borders are free (Neumann).

    Shape: vertices (V, 3), faces (F, 3); faces in any orientation, any number of them at an edge.
    Equivariance: invariant under rotations, and under scaling but for ``mass``.
    Raises: ValueError for faces without area: repair the mesh, or use :func:`robust_laplacian`.
    """
    v, f = finite_mesh(vertices, faces)
    cotangent, area = cotangents(v, f)
    flat = np.flatnonzero(~np.isfinite(cotangent).all(axis=1))
    if len(flat):
        raise ValueError(
            f"{len(flat)} faces have no area, the first faces[{flat[0]}] = {f[flat[0]].tolist()}; remove them, or use "
            "robust_laplacian"
        )
    return Laplacian(_assemble(f, cotangent, len(v)), _lump(f, area, len(v)))


def robust_laplacian(vertices: Any, faces: Any, mollify: float = MOLLIFY) -> Laplacian:
    """Laplacian with no negative weight of any triangles: slivers, several faces at an edge, mixed orientation.

    Shape: vertices (V, 3), faces (F, 3). Faces with a repeated vertex are left out. An edge of the result need not be one
    of the mesh. ``mollify`` is the room in the triangle inequality, in mean side lengths.
    Equivariance: invariant under rotations, and under scaling but for ``mass``.
    Raises: ValueError for a negative ``mollify``.
    """
    v, f = finite_mesh(vertices, faces)
    if not (isinstance(mollify, (int, float)) and 0 <= mollify < np.inf):
        raise ValueError(f"mollify is {mollify!r}; expected a number of mean side lengths, 0 or more")
    f = f[(f[:, 0] != f[:, 1]) & (f[:, 1] != f[:, 2]) & (f[:, 2] != f[:, 0])]
    if not len(f):
        return Laplacian(csr_matrix((len(v), len(v))), np.zeros(len(v)))
    length = side_lengths(v, f)
    # two sides less the third, at its smallest, is raised to mollify * mean by lengthening all sides alike
    slack = (length.sum(axis=1, keepdims=True) - 2 * length).min()
    length = length + max(0.0, mollify * length.mean() - slack)
    corners, sides, across = _tufted_cover(v, f, length)
    from spheregeo.mesh._flip import make_delaunay  # imports numba

    make_delaunay(corners, sides, across)
    cotangent, area = _from_lengths(sides)
    return Laplacian(_assemble(corners, cotangent / 2, len(v)), _lump(corners, area / 2, len(v)))


def _assemble(faces: np.ndarray, cotangent: np.ndarray, count: int) -> csr_matrix:
    """L from the cotangent (F, 3) at each corner, which weighs the side opposite."""
    weight = cotangent[:, [2, 0, 1]].reshape(-1) / 2  # of side s, from corner s to s + 1
    i, j = faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)
    off = coo_matrix(
        (np.concatenate([weight, weight]), (np.r_[i, j], np.r_[j, i])), shape=(count, count)
    ).tocsr()
    off.setdiag(0)  # a side that begins and ends in one vertex weighs nothing
    off.eliminate_zeros()
    diagonal = coo_matrix((np.asarray(off.sum(axis=1)).ravel(), (np.arange(count), np.arange(count))))
    matrix = (diagonal.tocsr() - off).tocsr()
    matrix.sort_indices()
    return matrix


def _lump(faces: np.ndarray, area: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(faces.reshape(-1), np.repeat(area / 3, 3), count)


def _from_lengths(sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cotangents (F, 3) at the corners and areas (F,) of triangles with sides (F, 3), side s from corner s to s + 1."""
    a, b, c = np.sort(sides, axis=1).T[::-1]  # Kahan's formula wants a >= b >= c
    area = np.sqrt(np.maximum((a + (b + c)) * (c - (a - b)) * (c + (a - b)) * (a + (b - c)), 0.0)) / 4
    square = sides**2
    opposite = square[:, [1, 2, 0]]  # of corner s: the side from s + 1 to s + 2
    return (square.sum(axis=1, keepdims=True) - 2 * opposite) / (4 * area[:, None]), area


def _tufted_cover(
    v: np.ndarray, f: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners and sides (2F, 3) of both copies of each face, and the half-edge (2F, 3) that each side is glued to.

    Copy f has the face's orientation, copy F + f the other: corners (a, c, b), so that side s of it is side 2 - s of
    the face. Round an edge u < w the faces are sorted by angle; the copy that runs u → w looks counter-clockwise, that is
    at the copy of the next face which runs w → u.
    """
    count = len(f)
    corners = np.concatenate([f, f[:, [0, 2, 1]]])
    sides = np.concatenate([length, length[:, [2, 1, 0]]])
    start, stop = f.reshape(-1), f[:, [1, 2, 0]].reshape(-1)
    low, high = np.minimum(start, stop), np.maximum(start, stop)
    key = low * len(v) + high
    # half-edges of the two copies along each side (3F,): as the face runs, and the other way
    face, side = np.arange(3 * count) // 3, np.arange(3 * count) % 3
    front, back = np.arange(3 * count), 3 * (count + face) + (2 - side)
    up, down = np.where(start < stop, front, back), np.where(start < stop, back, front)
    order = np.lexsort([_angle_about_edge(v, f, low, high, key), key])
    first = np.ones(len(order), dtype=bool)
    first[1:] = key[order[1:]] != key[order[:-1]]
    begin = np.flatnonzero(first)
    following = np.roll(order, -1)
    last = np.append(begin[1:], len(order)) - 1
    following[last] = order[begin]
    across = np.empty(6 * count, dtype=np.int64)
    across[up[order]], across[down[following]] = down[following], up[order]
    return corners, sides, across.reshape(-1, 3)


def _angle_about_edge(
    v: np.ndarray, f: np.ndarray, low: np.ndarray, high: np.ndarray, key: np.ndarray
) -> np.ndarray:
    """Angle (3F,) of the third corner about the axis low → high; zero where an edge has at most two faces."""
    angle = np.zeros(len(key))
    _, inverse, faces_of = np.unique(key, return_inverse=True, return_counts=True)
    many = np.flatnonzero(faces_of[inverse] > 2)
    if not len(many):
        return angle
    axis = v[high[many]] - v[low[many]]
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), np.finfo(float).tiny)
    reference = np.cross(axis, np.eye(3)[np.abs(axis).argmin(axis=1)])  # the same for all faces of an edge
    out = v[f[:, [2, 0, 1]].reshape(-1)[many]] - v[low[many]]
    angle[many] = np.arctan2((out * np.cross(axis, reference)).sum(1), (out * reference).sum(1))
    return angle
