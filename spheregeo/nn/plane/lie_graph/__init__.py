"""Chebyshev convolution on graphs of Lie groups: orientations over pixels and over points of the sphere."""

from spheregeo.nn.chebyshev import from_rows, to_rows
from spheregeo.nn.plane.lie_graph.base import LieGraph, LieGraphEdges
from spheregeo.nn.plane.lie_graph.conv import LieGraphConv
from spheregeo.nn.plane.lie_graph.images import R2Graph, SE2Graph
from spheregeo.nn.plane.lie_graph.levels import (
    LieGraphPool,
    LieGraphUnpool,
    copy_to_orientations,
    reduce_orientations,
)
from spheregeo.nn.plane.lie_graph.maps import flat_to_rows
from spheregeo.nn.plane.lie_graph.spheres import S2Graph, SO3Graph

__all__ = [
    "LieGraph",
    "LieGraphConv",
    "LieGraphEdges",
    "LieGraphPool",
    "LieGraphUnpool",
    "R2Graph",
    "S2Graph",
    "SE2Graph",
    "SO3Graph",
    "copy_to_orientations",
    "flat_to_rows",
    "from_rows",
    "reduce_orientations",
    "to_rows",
]
