"""Neighbours of a mesh by what is measured inside its surface: geodesic polar coordinates and intrinsic transport.

Distances, directions and transports of both kinds follow the same conventions as those from normals, so they mix: the log map
says who is a neighbour, how far and where; the transport says how frames compare.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from spheregeo.mesh import TriangleMesh
from spheregeo.mesh.geodesics import geodesic_log_map
from spheregeo.mesh.transport import intrinsic_rings
from spheregeo.sampling.chord import DETOUR, OPPOSITE, chord_neighbors, edge_rings, turn_between
from spheregeo.sampling.neighbors import TIE, Neighborhood


def intrinsic_neighbors(
    mesh: TriangleMesh, radius: float | None, rings: int | None, log_map: str, transport: str
) -> Neighborhood:
    """Neighbours with a geodesic log map, or intrinsic transport, or both.

    Raises: ValueError for more than one ring without a radius.
    """
    if log_map == "geodesic":
        near = _geodesics(mesh, radius, rings)
        if rings is not None and radius is not None:
            indptr, indices = edge_rings(mesh, rings)
            rows = torch.arange(mesh.num_points).repeat_interleave(indptr.diff())
            near = _select(near, _find(_keys(near, mesh), rows * mesh.num_points + indices)[1])
        if transport == "normals":
            turn = turn_between(mesh.frames[near.rows], mesh.frames[near.indices])
            cosine = (mesh.normals[near.rows] * mesh.normals[near.indices]).sum(1)
            near = _select(dataclasses.replace(near, transport=turn), 1 + cosine > OPPOSITE)
        return near
    near = chord_neighbors(mesh, mesh, radius, rings)
    # no geodesic is longer than the way along edges, which chord_neighbors bounds
    along = _geodesics(mesh, None if radius is None else DETOUR * radius * (1 + 1e-6), rings)
    place, found = _find(_keys(near, mesh), _keys(along, mesh))
    return _select(dataclasses.replace(near, transport=along.transport[place]), found)


def _geodesics(mesh: TriangleMesh, radius: float | None, rings: int | None) -> Neighborhood:
    """Geodesic neighbours within a radius; or the nearest ring, where geodesics are the edges."""
    vertices, faces, frames = mesh.points.numpy(), mesh.faces.numpy(), mesh.frames.numpy()
    if radius is not None:
        found = geodesic_log_map(vertices, faces, frames, radius * (1 + TIE))
        indptr, indices, *polar = (torch.from_numpy(a) for a in found)
        rows = torch.arange(mesh.num_points).repeat_interleave(indptr.diff())
        offset = mesh.points[indices] - mesh.points[rows]
        return Neighborhood(indptr, indices, polar[0].clamp_max(radius), polar[1], polar[2], offset)
    if rings != 1:
        raise ValueError(
            f"rings is {rings} and radius None; give a radius, too, for geodesics longer than an edge"
        )
    ring = intrinsic_rings(vertices, faces, frames)
    own = torch.arange(mesh.num_points)
    rows = torch.cat([own, torch.from_numpy(ring.rows)])
    indices = torch.cat([own, torch.from_numpy(ring.indices)])
    angle, transport = (
        torch.cat([torch.zeros_like(mesh.areas), torch.from_numpy(a)]) for a in (ring.angle, ring.transport)
    )
    order = torch.argsort(rows * mesh.num_points + indices)
    rows, indices = rows[order], indices[order]
    offset = mesh.points[indices] - mesh.points[rows]
    indptr = _indptr(rows, mesh.num_points)
    return Neighborhood(indptr, indices, offset.norm(dim=1), angle[order], transport[order], offset)


def _keys(near: Neighborhood, mesh: TriangleMesh) -> Tensor:
    """One number per pair, ascending."""
    return near.rows * mesh.num_points + near.indices


def _find(wanted: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Place of each wanted key among ascending keys, and whether it is there."""
    place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return place, keys[place] == wanted


def _select(near: Neighborhood, keep: Tensor) -> Neighborhood:
    """Some of the pairs."""
    values = (near.indices, near.distance, near.angle, near.transport, near.offset)
    return Neighborhood(_indptr(near.rows[keep], len(near.indptr) - 1), *(t[keep] for t in values))


def _indptr(rows: Tensor, count: int) -> Tensor:
    counts = torch.bincount(rows, minlength=count)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
