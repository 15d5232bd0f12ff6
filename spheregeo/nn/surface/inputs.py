"""Inputs of mesh networks, by name: what each vertex knows of the shape before any layer has run.

===========  ==================  ======================================================================================
name         fields              what
===========  ==================  ======================================================================================
``matrix``   7x0 + 4x1 + 3x2     second moments of positions and normals within a radius (matrix_features)
``whole``    7x0 + 4x1 + 3x2     the same over the whole surface
``position`` 2x0 + 1x1           the way to the centroid, as the vertex sees it
``heat``     8x0                 heat kernel signature: how much of the heat put at a vertex is still there (bending keeps it)
``xyz``      3x0                 coordinates: not invariant, for shapes that stand in one orientation
===========  ==================  ======================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.groups import FieldType
from spheregeo.mesh import Laplacian, TriangleMesh
from spheregeo.mesh.operators import eigenbasis, heat_kernel_signature
from spheregeo.nn.surface.matrix_features import (
    MATRIX_TYPE,
    POSITION_TYPE,
    matrix_features,
    position_features,
)

SURFACE_INPUTS = {
    "matrix": MATRIX_TYPE,
    "whole": MATRIX_TYPE,
    "position": POSITION_TYPE,
    "heat": FieldType("8x0"),
    "xyz": FieldType("3x0"),
}
HEAT_TIMES = np.geomspace(
    0.005, 0.7, 8
)  # in units of the area: from a few spacings of a thousand vertices to the whole
EIGENPAIRS = 48  # what the ones left out still hold at the shortest time is below 5 % of the trace


def heat_features(mesh: TriangleMesh) -> Tensor:
    r"""Heat kernel signature h_t(p) = sum_k exp(-lambda_k t) phi_k(p)^2 over its mean on the surface, at eight times.

    Shape: (8, V) float64, scalars. Units: none; times are those of a surface of area 1, so size does not matter.
    Equivariance: any isometry changes nothing, reflections and bending included.
    Reference: Sun, Ovsjanikov & Guibas 2009; robust Laplacian of Sharp & Crane 2020.
    """
    laplacian = mesh.laplacian("robust")
    pairs = min(EIGENPAIRS, mesh.num_points - 2)
    basis = eigenbasis(Laplacian(laplacian.matrix, laplacian.mass / laplacian.mass.sum()), pairs)
    trace = np.exp(-basis.values * HEAT_TIMES[:, None]).sum(1, keepdims=True)
    return torch.from_numpy(heat_kernel_signature(basis, HEAT_TIMES) / trace)


def surface_input_type(names: Sequence[str]) -> FieldType:
    """The fields that the named inputs make together. Raises: ValueError for none or an unknown name."""
    unknown = [name for name in names if name not in SURFACE_INPUTS]
    if unknown or not names:
        raise ValueError(f"features is {list(names)}; expected some of {', '.join(SURFACE_INPUTS)}")
    return FieldType([term for name in names for term in SURFACE_INPUTS[name].terms])


def surface_inputs(mesh: TriangleMesh, names: Sequence[str], radius: float = 0.05) -> Tensor:
    """The named inputs of a mesh, one after another; kept by the mesh's value.

    Args:
        mesh: any surface.
        names: see the table above.
        radius: of "matrix", in units of √area.

    Shape: (surface_input_type(names).dim, V) float64.
    Equivariance: frames: exact. Motions of the mesh change nothing but "xyz", changes of its size nothing at all.
    Raises: ValueError for none or an unknown name, or a radius that is not positive.
    """
    surface_input_type(names)
    if not radius > 0:
        raise ValueError(
            f"radius is {radius}; expected a positive share of the square root of the mesh's area"
        )

    def make(name: str) -> Tensor:
        size = math.sqrt(mesh.area)
        if name == "matrix":
            return matrix_features(mesh, radius * size)
        if name == "whole":
            return matrix_features(mesh)
        if name == "position":
            return position_features(mesh)
        if name == "heat":
            return heat_features(mesh)
        return mesh.points.T / size

    return torch.cat(
        [geometry.get(("surface_inputs", mesh, name, radius), lambda n=name: make(n)) for name in names]  # type: ignore[misc]
    )
