r"""Neighbour search between any two grids, and the relative geometry of each pair.

For a target point p with frame (e_1, e_2) and normal n and a source point q: u = <q - p, e_1>, v = <q - p, e_2> and

    distance  r = atan2(sqrt(u^2 + v^2), <p, q>)     geodesic, accurate at 0 and at pi
    angle     phi_pq = atan2(v, u)                   direction of q seen from p, from e_1 towards e_2
    transport g = phi_pq - phi_qp - pi               rotation that carries q's frame into p's along the geodesic

Ring-structured sources are searched by solving for the longitude interval on each ring, other sources by a KD-tree.
All in float64, neighbours in the order of their index, borders decided with a tolerance that rounding cannot cross.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.grids.base import LatitudeRings, frames_from_angles

TIE = 1e-9  # relative: a point this close to the border of the disc is inside it


@dataclass(frozen=True, eq=False)
class Neighborhood:
    """Source points within a radius of each target point, as compressed rows, with their relative geometry.

    Shape: indptr (P + 1,) int64; indices (nnz,) int64; distance, angle, transport (nnz,) and offset (nnz, 3) float64.
    Units: radians; on a mesh distances are in its own units. ``offset`` is q - p in space.
    """

    indptr: Tensor
    indices: Tensor
    distance: Tensor
    angle: Tensor
    transport: Tensor
    offset: Tensor

    @property
    def rows(self) -> Tensor:
        """Target of each pair, (nnz,)."""
        return torch.repeat_interleave(
            torch.arange(len(self.indptr) - 1, device=self.indptr.device), self.indptr.diff()
        )


def check_radius(radius: float) -> float:
    """Raise ValueError unless radius is an angle in (0, pi]."""
    if not (isinstance(radius, (int, float)) and 0 < radius <= math.pi):
        raise ValueError(f"radius is {radius!r}; expected an angle in radians, in (0, pi]")
    return float(radius)


def neighbors(source: Grid, target: Grid, radius: float) -> Neighborhood:
    """All source points within geodesic distance ``radius`` of each target point.

    Shape: a CSR :class:`Neighborhood` with one row a target point.
    Units: radius in radians.
    Raises: ValueError for a radius outside (0, pi] or a grid that is not a sphere.
    """
    radius = check_radius(radius)
    for name, grid in (("source", source), ("target", target)):
        if not grid.is_sphere:
            raise ValueError(f"{name} is {grid!r}, which is not a sphere; expected a spherical grid")
    return neighbors_of(source, target, torch.arange(target.num_points), radius)


def neighbors_of(source: Grid, target: Grid, rows: Tensor, radius: float) -> Neighborhood:
    """Neighborhood of some target points only: row i belongs to target point ``rows[i]``."""
    points, frames = _located(target, rows)
    if source.rings is not None:
        found = _search_rings(points.numpy(), source.rings, radius)
    else:
        found = _search_tree(points.numpy(), source.points.numpy(), radius)
    row, index = (torch.from_numpy(a) for a in found)
    q, q_frames = _located(source, index)
    distance, angle = _polar(points[row], frames[row], q)
    inside = torch.nonzero(distance <= radius * (1 + TIE))[:, 0]
    order = inside[torch.argsort(row[inside] * source.num_points + index[inside])]
    row, index, distance, angle = row[order], index[order], distance[order], angle[order]
    p, q, q_frames = points[row], q[order], q_frames[order]
    _, back = _polar(q, q_frames, p)
    turn = angle - back - math.pi
    same = distance < 1e-14  # the geodesic has no direction: compare the frames themselves
    if bool(same.any()):
        e1, f = frames[row[same], 0], q_frames[same]
        turn[same] = -torch.atan2((e1 * f[:, 1]).sum(-1), (e1 * f[:, 0]).sum(-1))
    turn = torch.remainder(turn + math.pi, 2 * math.pi) - math.pi
    counts = torch.bincount(row, minlength=len(rows))
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Neighborhood(indptr, index, distance.clamp_max(radius), angle, turn, q - p)


def _located(grid: Grid, index: Tensor) -> tuple[Tensor, Tensor]:
    """Points (n, 3) and frames (n, 2, 3) of some points; from the rings where there are any, so that a huge grid's
    full tables are never built.
    """
    if grid.rings is None:
        return grid.points[index], grid.frames[index]
    rings = grid.rings
    ring = torch.searchsorted(rings.start, index, right=True) - 1
    theta = rings.colatitude[ring].numpy()
    turns = (index - rings.start[ring]).double() / rings.length[ring]
    phi = (rings.phase[ring] + 2 * math.pi * turns).numpy()
    cos_theta, sin_theta = np.cos(theta), np.sin(theta)
    sin_theta[(theta == 0) | (theta == math.pi)] = 0.0
    frames = frames_from_angles(cos_theta, sin_theta, np.cos(phi), np.sin(phi))
    points = np.stack([sin_theta * np.cos(phi), sin_theta * np.sin(phi), cos_theta], -1)
    return torch.from_numpy(points), torch.from_numpy(frames)


def _polar(p: Tensor, frames: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Geodesic distance and polar angle of q seen from p; both (n, 3), frames (n, 2, 3)."""
    u, v = torch.einsum("nij,nj->in", frames, q - p)
    radial = torch.hypot(u, v)
    return torch.atan2(radial, (p * q).sum(-1)), torch.where(radial < 1e-15, 0.0, torch.atan2(v, u))


def _search_tree(points: np.ndarray, source: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """(row, source index) candidates from a KD-tree on chord lengths, in blocks that bound the Python lists."""
    chord = (
        2 * math.sin(min(radius * (1 + 2 * TIE), math.pi) / 2) * (1 + 1e-12)
    )  # antipodes may be 2 + rounding apart
    tree = cKDTree(source)
    rows, indices = [], []
    for begin in range(0, len(points), 1 << 16):
        block = cKDTree(points[begin : begin + (1 << 16)])
        pairs = block.sparse_distance_matrix(tree, chord, output_type="ndarray")
        rows.append(pairs["i"].astype(np.int64) + begin)
        indices.append(pairs["j"].astype(np.int64))
    return np.concatenate(rows), np.concatenate(indices)


def _search_rings(points: np.ndarray, rings: LatitudeRings, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """(row, source index) candidates: rings within the radius, and on each the interval of longitudes."""
    x, y, z = points.T
    colatitude, longitude = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    ring_theta, length = rings.colatitude.numpy(), rings.length.numpy()
    start, phase = rings.start.numpy(), rings.phase.numpy()
    reach = radius * (1 + 2 * TIE)
    first = np.searchsorted(ring_theta, colatitude - reach, "left")
    last = np.searchsorted(ring_theta, colatitude + reach, "right")
    row = np.repeat(np.arange(len(colatitude)), last - first)
    ring = _ranges(first, last - first)
    theta, other = colatitude[row], ring_theta[ring]
    # haversine: sin^2(R/2) >= sin^2((theta-other)/2) + sin(theta) sin(other) sin^2(delta/2)
    room = np.sin(min(reach, math.pi) / 2) ** 2 - np.sin((theta - other) / 2) ** 2
    product = np.sin(theta) * np.sin(other)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(product > 1e-30, room / product, np.where(room >= -1e-15, 1.0, -1.0))
    half = 2 * np.arcsin(np.sqrt(np.clip(ratio, 0, 1)))
    n = length[ring]
    centre = (longitude[row] - phase[ring]) * n / (2 * math.pi)
    width = half * n / (2 * math.pi)
    low = np.ceil(centre - width - 1e-6).astype(np.int64)
    count = np.minimum(np.floor(centre + width + 1e-6).astype(np.int64) - low + 1, n)
    count = np.where(ratio < -1e-9, 0, np.maximum(count, 0))
    column = np.mod(_ranges(low, count), np.repeat(n, count))
    return np.repeat(row, count), np.repeat(start[ring], count) + column


def _ranges(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """first[i], first[i] + 1, ... (count[i] of them), one after another."""
    ends = np.cumsum(count)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + count, count)
