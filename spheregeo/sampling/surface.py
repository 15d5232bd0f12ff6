r"""Neighbours on surfaces, and the relative geometry of each pair: one formula from points, normals and frames.

For a target point p with frame (e_1, e_2) and normal n_p, a source point q and d = q − p, α the angle between n_p and n_q:

    distance   r = |d| (α/2) / sin(α/2)                  the arc of a circle through p and q with these normals
    angle      θ = atan2(⟨d, e_2⟩, ⟨d, e_1⟩)              direction of q seen from p
    transport  g = atan2(⟨e_2, f_1⟩ − ⟨e_1, f_2⟩, ⟨e_1, f_1⟩ + ⟨e_2, f_2⟩)      with q's frame (f_1, f_2)

g is the angle of the smallest rotation that takes n_q to n_p, without an arccos: that rotation's part common to both
planes is the complex-linear part of the matrix ⟨e_i, f_j⟩, of length 1 + cos α. So g_{p→q} = −g_{q→p} to the last bit,
and g is undefined only for opposite normals: such pairs are left out. On the sphere all three are exact.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.mesh import TriangleMesh
from spheregeo.sampling.neighbors import TIE, Neighborhood

OPPOSITE = 1e-7  # 1 + cos α below which two normals count as opposite and their pair is left out
DETOUR = 2.0  # longest path along edges to a neighbour, in radii
BLOCK = 1 << 18  # pairs worked on at once


def surface_neighbors(
    source: Grid,
    target: Grid | None = None,
    *,
    radius: float | None = None,
    rings: int | None = None,
    log_map: str = "chord",
    transport: str = "normals",
) -> Neighborhood:
    """Source points near each target point on a surface, the point itself included.

    Args:
        source: a mesh; any other grid with points, normals and frames may take part in a ball.
        target: where to stand; the source itself if not given.
        radius: largest distance along the surface.
        rings: largest number of edges between two vertices; of a mesh to itself only.
        log_map: "chord", corrected by the normals, or "geodesic".
        transport: from "normals", or "intrinsic" from the corner angles of the faces.
    """
    target = source if target is None else target
    if rings is not None:
        indptr, indices = _rings(source, rings)
    else:
        assert radius is not None
        indptr, indices = _ball(source, target, radius)
    return _geometry(source, target, indptr, indices, radius)


def _rings(mesh: TriangleMesh, rings: int) -> tuple[Tensor, Tensor]:
    indptr, indices = (t.numpy() for t in mesh.adjacency)
    n = mesh.num_points
    step = csr_array((np.ones(len(indices), dtype=bool), indices, indptr), shape=(n, n))
    step = (step + csr_array((np.ones(n, dtype=bool), np.arange(n), np.arange(n + 1)), shape=(n, n))).tocsr()
    found = step
    for _ in range(rings - 1):
        found = found @ step
    found.sort_indices()
    return torch.from_numpy(found.indptr.astype(np.int64)), torch.from_numpy(found.indices.astype(np.int64))


def _ball(source: TriangleMesh, target: Grid, radius: float) -> tuple[Tensor, Tensor]:
    from spheregeo.sampling.reach import reach

    indptr, indices = (t.numpy() for t in source.adjacency)
    wide = radius * (1 + TIE)
    seeds = np.arange(source.num_points)
    count, found = reach(indptr, indices, source.points.numpy(), target.points.numpy(), seeds, wide, DETOUR * wide)
    return torch.from_numpy(np.concatenate([[0], np.cumsum(count)])), torch.from_numpy(found)


def _geometry(source: Grid, target: Grid, indptr: Tensor, indices: Tensor, radius: float | None) -> Neighborhood:
    rows = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
    parts: list[tuple[Tensor, ...]] = []
    for begin in range(0, max(len(rows), 1), BLOCK):
        row, index = rows[begin : begin + BLOCK], indices[begin : begin + BLOCK]
        offset = source.points[index] - target.points[row]
        e, f = target.frames[row], source.frames[index]
        n, m = target.normals[row], source.normals[index]
        distance = offset.norm(dim=1) * arc_over_chord(n, m)
        u, v = (offset[:, None] * e).sum(-1).unbind(1)
        angle = torch.where(distance == 0, 0.0, torch.atan2(v, u))
        turn = turn_between(e, f)
        keep = 1 + (n * m).sum(1) > OPPOSITE
        if radius is not None:
            keep &= distance <= radius * (1 + TIE)
            distance = distance.clamp_max(radius)
        parts.append(tuple(t[keep] for t in (row, index, distance, angle, turn, offset)))
    row, index, distance, angle, turn, offset = (torch.cat(t) for t in zip(*parts, strict=True))
    counts = torch.bincount(row, minlength=len(indptr) - 1)
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Neighborhood(indptr, index, distance, angle, turn, offset)


def arc_over_chord(n: Tensor, m: Tensor) -> Tensor:
    """(α/2) / sin(α/2) for unit normals (..., 3) at an angle α: from 1 to π/2."""
    sine, cosine = (n - m).norm(dim=-1) / 2, (n + m).norm(dim=-1) / 2  # of α/2, accurate at 0 and at π
    return torch.where(sine > 0, torch.atan2(sine, cosine) / sine, 1.0)


def turn_between(e: Tensor, f: Tensor) -> Tensor:
    """Transport angle (...,) from frames f to frames e, both (..., 2, 3), along the smallest rotation of their normals."""
    across = (e[..., 1, :] * f[..., 0, :]).sum(-1) - (e[..., 0, :] * f[..., 1, :]).sum(-1)
    along = (e[..., 0, :] * f[..., 0, :]).sum(-1) + (e[..., 1, :] * f[..., 1, :]).sum(-1)
    return torch.atan2(across, along)
