"""Inputs of mesh networks, by name: what each vertex knows of the shape before any layer has run.

===========  ==================  ======================================================================================
name         fields              what
===========  ==================  ======================================================================================
``matrix``   7x0 + 4x1 + 3x2     second moments of positions and normals within a radius (matrix_features)
``whole``    7x0 + 4x1 + 3x2     the same over the whole surface
``position`` 2x0 + 1x1           the way to the centroid, as the vertex sees it
``xyz``      3x0                 coordinates: not invariant, for shapes that stand in one orientation
===========  ==================  ======================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.grids._cache import geometry
from spheregeo.groups import FieldType
from spheregeo.mesh import TriangleMesh
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
    "xyz": FieldType("3x0"),
}


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
        return mesh.points.T / size

    return torch.cat(
        [geometry.get(("surface_inputs", mesh, name, radius), lambda n=name: make(n)) for name in names]  # type: ignore[misc]
    )
