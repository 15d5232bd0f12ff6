"""Neighbours along a surface, with the relative geometry of each pair.

Who is a neighbour, how far and in which direction it lies is said by a log map: the chord corrected by the normals
(:mod:`spheregeo.sampling.chord`, exact on spheres) or geodesics over the faces (:mod:`spheregeo.sampling.intrinsic`).
How two frames compare is said by the transport: from normals, or intrinsic.
"""

from __future__ import annotations

import math
from typing import Any

from spheregeo.grids import Grid
from spheregeo.mesh import TriangleMesh
from spheregeo.sampling.chord import chord_neighbors
from spheregeo.sampling.intrinsic import intrinsic_neighbors
from spheregeo.sampling.neighbors import Neighborhood

LOG_MAPS, TRANSPORTS = ("chord", "geodesic"), ("normals", "intrinsic")


def surface_neighbors(
    source: Grid,
    target: Grid | None = None,
    *,
    radius: float | None = None,
    rings: int | None = None,
    log_map: str = "chord",
    transport: str = "normals",
) -> Neighborhood:
    """Source points near each target point along a surface; every point is its own neighbour, at distance zero.

    On an open mesh neighbours are as symmetric as on a closed one, and nothing leads from one component to another.

    Args:
        source: a mesh; or any grid with points, normals and frames, whose balls are then balls in space.
        target: where to stand, the source if not given. Another grid near the surface is attached to it at the
            nearest vertices whose normals agree with its own.
        radius: largest distance.
        rings: largest number of edges, on a mesh alone; with a radius, both hold.
        log_map: "chord" (corrected by the normals) or "geodesic" (polar coordinates unfolded over the faces, for kernels that
            are wide against the folds of a shape; polyhedral, so on a sphere's mesh less accurate).
        transport: from "normals", or "intrinsic": from the angles inside the faces, along geodesics.

    Shape: a CSR :class:`Neighborhood` with one row a target point.
    Units: radius and distance in the mesh's units.
    Equivariance: rotating points, normals and frames changes nothing but ``offset`` (2e-12 in angles, 3e-14 in distances
        on scanned shapes; sets alike up to ties). Turning frames turns angles and transports exactly as it must (2e-13, near
        opposite normals; elsewhere 4e-15).
    Raises: ValueError for bad radii, rings and names; for rings, geodesics and intrinsic transport without a mesh's own faces.
    Reference: de Haan, Weiler, Cohen & Welling 2021 (log map and transport from normals; the log map without the correction).
    """
    target = source if target is None else target
    _check(source, target, radius, rings, log_map, transport)
    if log_map == "geodesic" or transport == "intrinsic":
        assert isinstance(source, TriangleMesh)
        return intrinsic_neighbors(source, radius, rings, log_map, transport)
    return chord_neighbors(source, target, radius, rings)


def _check(
    source: Any, target: Any, radius: float | None, rings: int | None, log_map: str, transport: str
) -> None:
    for name, grid in (("source", source), ("target", target)):
        if not isinstance(grid, Grid):
            raise TypeError(
                f"{name} is of type {type(grid).__name__}; expected a TriangleMesh or another grid"
            )
    if radius is None and rings is None:
        raise ValueError(
            "radius and rings are both None; give one, such as radius=2 * mesh.spacing or rings=1"
        )
    if radius is not None and not (isinstance(radius, (int, float)) and 0 < radius < math.inf):
        raise ValueError(f"radius is {radius!r}; expected a positive length in the mesh's units")
    if rings is not None and (isinstance(rings, bool) or not isinstance(rings, int) or rings < 1):
        raise ValueError(f"rings is {rings!r}; expected a number of edges, 1 or more")
    for name, value, known in (("log_map", log_map, LOG_MAPS), ("transport", transport, TRANSPORTS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; expected one of {known}")
    for name, wanted in (
        (f"rings={rings}", rings is not None),
        ("log_map='geodesic'", log_map == "geodesic"),
        ("transport='intrinsic'", transport == "intrinsic"),
    ):
        if wanted and not (isinstance(source, TriangleMesh) and source == target):
            raise ValueError(f"{name} asks for one TriangleMesh; got source {source!s} and target {target!s}")
