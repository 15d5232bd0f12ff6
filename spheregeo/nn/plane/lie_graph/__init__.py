"""Chebyshev convolution on graphs of Lie groups: orientations over pixels and over points of the sphere."""

from spheregeo.nn.plane.lie_graph.base import Edges, LieGraph
from spheregeo.nn.plane.lie_graph.conv import LieGraphConv
from spheregeo.nn.plane.lie_graph.images import R2Graph, SE2Graph
from spheregeo.nn.plane.lie_graph.levels import (
    LieGraphPool,
    LieGraphUnpool,
    copy_to_orientations,
    reduce_orientations,
)
from spheregeo.nn.plane.lie_graph.spheres import S2Graph, SO3Graph

__all__ = [
    "Edges",
    "LieGraph",
    "LieGraphConv",
    "LieGraphPool",
    "LieGraphUnpool",
    "R2Graph",
    "S2Graph",
    "SE2Graph",
    "SO3Graph",
    "copy_to_orientations",
    "reduce_orientations",
]
