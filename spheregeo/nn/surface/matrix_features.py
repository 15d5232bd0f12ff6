r"""What a surface looks like from each of its points: inputs of mesh networks that no rotation of the mesh changes.

Around a vertex p with frame (e_1, e_2) and normal n, with d = q - p and weights w_q that add up to 1,

    D = sum w d d^T / R^2,   N = sum w n_q n_q^T,   X = sum w d n_q^T / R,   each as M = (e_1, e_2, n)^T (.) (e_1, e_2, n).

A 3x3 matrix in such a frame is three scalars (M_11 + M_22)/2, M_33, (M_21 - M_12)/2, two vectors (M_31, M_32), (M_13, M_23) and
one field of order 2, ((M_11 - M_22)/2, (M_12 + M_21)/2); a symmetric one has a scalar and a vector less. Together they are
fields of type "7x0 + 4x1 + 3x2".
Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425, appendix; area weights are this library's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.groups import FieldType
from spheregeo.mesh import TriangleMesh
from spheregeo.sampling.neighbors import Neighborhood
from spheregeo.sampling.surface import surface_neighbors

MATRIX_TYPE = FieldType("7x0 + 4x1 + 3x2")
POSITION_TYPE = FieldType("2x0 + 1x1")
WEIGHTS = ("area", "uniform")
_LEAST = 1e-300  # a vertex without others has weights 0, and features 0


def matrix_features(
    mesh: TriangleMesh,
    radius: float | None = None,
    *,
    near: Neighborhood | None = None,
    weights: str = "area",
) -> Tensor:
    """Second moments of positions and normals round each vertex, in its frame.

    Args:
        mesh: any surface.
        radius: R, of the neighbourhood and by which distances are divided; None for the whole surface and R² its area.
        near: the neighbourhood, if it is at hand; with a radius alone.
        weights: "area", so that the result hardly depends on the meshing; or "uniform", the mean over the other vertices
            of the neighbourhood as published.

    Shape: (21, V) float64, fields of type ``MATRIX_TYPE``.
    Equivariance: exact (1e-15): frames turned by any angles turn the fields; moving the mesh changes nothing.
        A mirrored mesh gives other features.
    Raises: ValueError for other weights, a radius that is not positive, or a neighbourhood without radius.
    Reference: de Haan et al. 2021.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; expected one of {', '.join(map(repr, WEIGHTS))}")
    if radius is None:
        if near is not None:
            raise ValueError("near is given without a radius, by which its distances would be divided")
        moments = _whole(mesh, weights)
    else:
        if not 0 < radius < math.inf:
            raise ValueError(f"radius is {radius}; expected a positive length in the mesh's units")
        near = surface_neighbors(mesh, radius=radius) if near is None else near
        moments = _around(mesh, near, float(radius), weights)
    basis = torch.cat([mesh.frames, mesh.normals[:, None]], 1)  # (V, 3, 3), rows e_1, e_2, n
    d, n, x = (basis @ m @ basis.mT for m in moments)
    scalars = [*_scalars(d), *_scalars(n), *_scalars(x), (x[:, 1, 0] - x[:, 0, 1]) / 2]
    vectors = [d[:, 2, :2], n[:, 2, :2], x[:, 2, :2], x[:, :2, 2]]
    return torch.cat([torch.stack(scalars), *(v.T for v in vectors), *map(_second, (d, n, x))])


def position_features(mesh: TriangleMesh) -> Tensor:
    """Where each vertex lies as it sees it: x = (p - centroid) / √area as ⟨x, n⟩, |x|, and its part in the tangent plane.

    Shape: (4, V) float64, fields of type ``POSITION_TYPE``.
    Equivariance: exact, as for :func:`matrix_features`; scaling the mesh changes nothing either.
    """
    share = mesh.areas / mesh.areas.sum()
    x = (mesh.points - share @ mesh.points) / math.sqrt(mesh.area)
    tangent = (mesh.frames @ x[..., None])[..., 0]  # (V, 2)
    return torch.cat([(x * mesh.normals).sum(1)[None], x.norm(dim=1)[None], tangent.T])


def _around(
    mesh: TriangleMesh, near: Neighborhood, radius: float, weights: str
) -> tuple[Tensor, Tensor, Tensor]:
    rows, count = near.rows, mesh.num_points
    weight = mesh.areas[near.indices] if weights == "area" else (near.indices != rows).double()
    weight = (
        weight / torch.zeros(count, dtype=torch.float64).index_add_(0, rows, weight).clamp_min(_LEAST)[rows]
    )
    normal, offset = mesh.normals[near.indices], near.offset / radius
    pairs = ((offset, offset), (normal, normal), (offset, normal))
    moments = []
    for a, b in pairs:
        product = (weight[:, None] * a)[:, :, None] * b[:, None, :]  # (pairs, 3, 3)
        moments.append(torch.zeros(count, 3, 3, dtype=torch.float64).index_add_(0, rows, product))
    return moments[0], moments[1], moments[2]


def _whole(mesh: TriangleMesh, weights: str) -> tuple[Tensor, Tensor, Tensor]:
    """The same over all vertices, from moments of the surface: no pair of vertices is looked at."""
    share = mesh.areas / mesh.areas.sum()
    if weights == "uniform":
        share = torch.full_like(share, 1 / (mesh.num_points - 1))
    total = share.sum()
    p, n = mesh.points - share @ mesh.points / total, mesh.normals
    scale = math.sqrt(mesh.area)
    p = p / scale  # centred: the mean of p is zero
    second = torch.einsum("v,vi,vj->ij", share, p, p)
    mixed = torch.einsum("v,vi,vj->ij", share, p, n)
    d = second + total * p[:, :, None] * p[:, None, :]
    x = mixed - p[:, :, None] * (share @ n)[None, None]
    normals = torch.einsum("v,vi,vj->ij", share, n, n).expand(len(p), 3, 3)
    if weights == "uniform":  # the vertex itself does not count
        own = share[:, None, None] * n[:, :, None] * n[:, None, :]
        normals = normals - own
    return d, normals, x


def _scalars(m: Tensor) -> tuple[Tensor, Tensor]:
    return (m[:, 0, 0] + m[:, 1, 1]) / 2, m[:, 2, 2]


def _second(m: Tensor) -> Tensor:
    return torch.stack([(m[:, 0, 0] - m[:, 1, 1]) / 2, (m[:, 0, 1] + m[:, 1, 0]) / 2])
