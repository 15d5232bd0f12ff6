r"""Neighbours on surfaces, and the relative geometry of each pair: one formula from points, normals and frames.

For a target point p with frame (e_1, e_2) and normal n_p, a source point q and d = q − p, α the angle between n_p and n_q:

    distance   r = |d| (α/2) / sin(α/2)              the arc of the circle through p and q that has these normals
    angle      θ = atan2(⟨d, e_2⟩, ⟨d, e_1⟩)          direction of q seen from p
    transport  g = atan2(⟨e_2, f_1⟩ − ⟨e_1, f_2⟩, ⟨e_1, f_1⟩ + ⟨e_2, f_2⟩)      with q's frame (f_1, f_2)

g is the angle of the smallest rotation that takes n_q to n_p, without an arccos: what both planes have in common is the
complex-linear part of the matrix ⟨e_i, f_j⟩, of length 1 + cos α. So g_{p→q} = −g_{q→p} to the last bit, and g is undefined
only for opposite normals: such pairs are left out. On the sphere all three are exact, and θ_pq = θ_qp + π + g.

A ball in space would also hold the other side of a thin wall, and other parts that come near. So a neighbour of a mesh
must be within 1.5 radii along the edges, too. That keeps what paths inside the surface reach: the detour of
edges is at most √2 on a square lattice, and 1.15 on equilateral triangles. A target that is no vertex begins at the
nearest one, and may go 1.5 times as much further as that is away.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.mesh import TriangleMesh
from spheregeo.sampling.neighbors import TIE, Neighborhood

OPPOSITE = 1e-7  # 1 + cos α below which two normals count as opposite: g has lost half its digits there
DETOUR = 1.5  # longest way along edges to a neighbour, in radii
NEAREST = 16  # vertices among which one on the same side of the surface is looked for
SHARES = 4  # parts of the work for each thread, so that all end together


def chord_neighbors(source: Grid, target: Grid, radius: float | None, rings: int | None) -> Neighborhood:
    """Neighbours with geometry from points, normals and frames."""
    if rings is not None:
        assert isinstance(source, TriangleMesh)
        indptr, indices = edge_rings(source, rings)
    else:
        assert radius is not None
        indptr, indices = _ball(source, target, radius)
    return _related(source, target, indptr, indices, radius)


def edge_rings(mesh: TriangleMesh, rings: int) -> tuple[Tensor, Tensor]:
    """(indptr, indices) of the vertices at most ``rings`` edges away, the vertex itself among them."""
    indptr, indices = (t.numpy() for t in mesh.adjacency)
    n = mesh.num_points
    around = csr_array((np.ones(len(indices), dtype=bool), indices, indptr), shape=(n, n))
    itself = csr_array((np.ones(n, dtype=bool), np.arange(n), np.arange(n + 1)), shape=(n, n))
    step = around + itself
    found = step
    for _ in range(rings - 1):
        found = found @ step
    found.sort_indices()
    return torch.from_numpy(found.indptr.astype(np.int64)), torch.from_numpy(found.indices.astype(np.int64))


def _ball(source: Grid, target: Grid, radius: float) -> tuple[Tensor, Tensor]:
    """Candidates within ``radius`` in space, as compressed rows: on a mesh those that short ways along edges lead to."""
    wide = radius * (1 + TIE)
    points, targets = source.points.numpy(), target.points.numpy()
    if not isinstance(source, TriangleMesh):
        tree = cKDTree(points)
        pairs = cKDTree(targets).sparse_distance_matrix(tree, wide, output_type="ndarray")
        order = np.lexsort((pairs["j"], pairs["i"]))
        counts = np.bincount(pairs["i"], minlength=len(targets))
        return _indptr(counts), torch.from_numpy(pairs["j"][order].astype(np.int64))
    from spheregeo.sampling._surface import reach

    indptr, indices = (t.numpy() for t in source.adjacency)
    seeds = _seeds(source, target)
    found = _shared_out(
        len(targets),
        lambda a, b: reach(indptr, indices, points, targets[a:b], seeds[a:b], wide, DETOUR),
    )
    return _indptr(np.concatenate([part[0] for part in found])), torch.from_numpy(
        np.concatenate([part[1] for part in found])
    )


def _seeds(source: TriangleMesh, target: Grid) -> np.ndarray:
    """Vertex of the source that each target point belongs to: the nearest one whose normal agrees, else the nearest."""
    if target is source or (
        isinstance(target, TriangleMesh)
        and torch.equal(source.points, target.points)
        and torch.equal(source.faces, target.faces)
    ):
        return np.arange(source.num_points)
    tree = cKDTree(source.points.numpy())
    targets, normals = target.points.numpy(), target.normals.numpy()
    seeds = tree.query(targets)[1].astype(np.int64)
    others = source.normals.numpy()
    bad = np.flatnonzero(np.einsum("ni,ni->n", normals, others[seeds]) <= 0)
    if len(bad):
        near = tree.query(targets[bad], k=min(NEAREST, source.num_points))[1].reshape(len(bad), -1)
        agrees = np.einsum("ni,nki->nk", normals[bad], others[near]) > 0
        seeds[bad] = near[
            np.arange(len(bad)), agrees.argmax(axis=1)
        ]  # the first that agrees, or the nearest of all
    return seeds


def _related(
    source: Grid, target: Grid, indptr: Tensor, indices: Tensor, radius: float | None
) -> Neighborhood:
    """Geometry of candidate pairs; those out of reach or with opposite normals are dropped."""
    from spheregeo.sampling._surface import relate

    total = len(indices)
    starts, candidates = indptr.numpy(), indices.numpy()
    at = [grid.points.numpy() for grid in (target, source)]
    normal = [grid.normals.numpy() for grid in (target, source)]
    frame = [grid.frames.numpy() for grid in (target, source)]
    wide = math.inf if radius is None else radius * (1 + TIE)
    counts = np.empty(len(starts) - 1, dtype=np.int64)
    index = np.empty(total, dtype=np.int64)
    values = [np.empty(total) for _ in range(3)]
    offset = np.empty((total, 3))
    tables = (starts, candidates, at[0], normal[0], frame[0], at[1], normal[1], frame[1], wide, OPPOSITE)
    _shared_out(len(counts), lambda a, b: relate((a, b), *tables, counts, index, *values, offset))
    kept = [torch.from_numpy(a) for a in (index, *values, offset)]
    if counts.sum() < total:
        place = np.arange(total) - np.repeat(starts[:-1], np.diff(starts))
        held = torch.from_numpy(np.flatnonzero(place < np.repeat(counts, np.diff(starts))))
        kept = [t[held] for t in kept]
    index_, distance, angle, turn, offset_ = kept
    if radius is not None:
        distance.clamp_(max=radius)
    return Neighborhood(_indptr(counts), index_, distance, angle, turn, offset_)


def _indptr(counts: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))


def _shared_out(rows: int, work: Any) -> list[Any]:
    """``work(first, last)`` for all rows in parts, by as many threads as torch uses."""
    threads = torch.get_num_threads()
    parts = 1 if threads == 1 else min(max(rows, 1), SHARES * threads)
    bounds = np.linspace(0, rows, parts + 1).astype(np.int64).tolist()
    if parts == 1:
        return [work(0, rows)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, bounds[:-1], bounds[1:]))


def turn_between(e: Tensor, f: Tensor) -> Tensor:
    """Transport angle (...,) from frames f to frames e (..., 2, 3) by the smallest rotation of one normal to the other.

    Undefined where the normals are opposite.
    """
    across = (e[..., 1, :] * f[..., 0, :]).sum(-1) - (e[..., 0, :] * f[..., 1, :]).sum(-1)
    along = (e[..., 0, :] * f[..., 0, :]).sum(-1) + (e[..., 1, :] * f[..., 1, :]).sum(-1)
    return torch.atan2(across, along)
