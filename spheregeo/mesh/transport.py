r"""Parallel transport along edges from angles measured inside the surface; no normal is needed, so nothing degenerates.

Round vertex p the corner angles are added up counter-clockwise and stretched by s_p = 2π/Θ_p, Θ_p their sum, so that a
turn round p is a turn (on a border s_p = 1: the true angle). That gives the polar angle θ_pq of each neighbour up to one
angle per vertex, which is set by a frame: the stretched ring is turned until it agrees best with the directions that
the frame sees. The straight edge from q to p arrives with the direction it left with, hence

    g_{q→p} = θ_pq − θ_qp − π,    Σ over the edges round a face = Σ s a − π (its share of curvature),

and over a closed surface these holonomies sum to 2πχ, whatever the frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spheregeo.mesh._arrays import finite_mesh, frames_array
from spheregeo.mesh.halfedges import VertexRings, ordered_rings
from spheregeo.mesh.shape import corner_angles

TURN = 2 * math.pi


@dataclass(frozen=True, eq=False)
class IntrinsicRings:
    """One-rings in counter-clockwise order with intrinsic angles and transports, as compressed rows of slots (p, q).

    Shape: indptr (V + 1,), indices (N,) int64: neighbours q of each p. angle θ_pq and transport g_{q→p} (N,) float64;
    ``scale`` (N,) is the stretch s_p, ``reverse`` (N,) int64 the slot of (q, p), ``half_edge`` (N,) int64 the half-edge
    3 f + c from p to q, -1 where only the opposite one belongs to a face.
    Units: radians in [−π, π).
    """

    indptr: np.ndarray
    indices: np.ndarray
    angle: np.ndarray
    transport: np.ndarray
    scale: np.ndarray
    reverse: np.ndarray
    half_edge: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Vertex p of each slot, (N,)."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))


def intrinsic_rings(vertices: Any, faces: Any, frames: Any = None) -> IntrinsicRings:
    """Ordered one-rings with polar angles and transports between neighbouring vertices.

    Shape: vertices (V, 3), faces (F, 3), frames (V, 2, 3). Without frames, each fan's first neighbour is at angle zero.
    Equivariance: a turn of the frames changes angles and transports exactly as it must; invariant under rotations of
    vertices and frames together. Measured: 1e-14 rad both.
    Raises: ValueError for faces that are no oriented surface, frames of another shape.
    Reference: Knöppel, Crane, Pinkall & Schröder 2013, "Globally optimal direction fields", section 5.
    """
    v, f = finite_mesh(vertices, faces)
    rings = ordered_rings(f, len(v))
    corner = corner_angles(v, f).reshape(-1)
    angle, total = rings.accumulate(np.where(rings.half_edge >= 0, corner[rings.half_edge], 0.0))
    stretch = np.divide(TURN, total, where=rings.closed & (total > 0), out=np.ones(len(total)))
    scale = np.repeat(stretch, rings.fan_length)
    angle = angle * scale
    if frames is not None:
        offset = _offsets(v, frames_array(frames, len(v)), rings, angle)
        angle = angle + np.repeat(offset, rings.fan_length)
    transport = wrap_angle(angle - angle[rings.reverse] - math.pi)
    return IntrinsicRings(
        rings.indptr, rings.indices, wrap_angle(angle), transport, scale, rings.reverse, rings.half_edge
    )


def _offsets(v: np.ndarray, frames: np.ndarray, rings: VertexRings, angle: np.ndarray) -> np.ndarray:
    """Angle by which each fan is turned: that of Σ |d_t|/|d| e^{i(seen − added)}, d_t the projection of d on the frame."""
    rows = rings.rows
    d = v[rings.indices] - v[rows]
    length = np.linalg.norm(d, axis=-1, keepdims=True)
    d /= np.where(length > 0, length, 1.0)
    seen = np.einsum("ni,ni->n", d, frames[rows, 0]) + 1j * np.einsum("ni,ni->n", d, frames[rows, 1])
    return np.angle(np.add.reduceat(seen * np.exp(-1j * angle), rings.fan_start))


def wrap_angle(angle: np.ndarray) -> np.ndarray:
    """Angles brought to [−π, π)."""
    wrapped: np.ndarray = np.mod(angle + math.pi, TURN) - math.pi
    return wrapped


def holonomy(faces: Any, rings: IntrinsicRings) -> np.ndarray:
    """Turn of a vector carried once round each face, counter-clockwise: the curvature that the face holds.

    Shape: faces (F, 3) -> (F,). Units: radians in [−π, π). Equivariance: invariant under turns of the frames.
    Raises: ValueError if the rings were built from other faces.
    """
    f = np.asarray(faces)
    count = f.size
    own = rings.half_edge >= 0
    if own.sum() != count or not np.array_equal(
        rings.indices[own], np.roll(f, -1, 1).reshape(-1)[rings.half_edge[own]]
    ):
        raise ValueError(
            f"faces are {count // 3} that rings was not built from; expected the same faces, in that order"
        )
    carried = np.empty(count)
    carried[rings.half_edge[own]] = rings.transport[rings.reverse[own]]  # along half-edge p -> q: g_{p→q}
    return wrap_angle(carried.reshape(-1, 3).sum(axis=1))
