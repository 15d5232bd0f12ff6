"""Neighbours and subsets of points in space, many graphs at a time: PyG's conventions, the same result after any rotation."""

from spheregeo.sampling.points.farthest import farthest_points
from spheregeo.sampling.points.graphs import knn_between, knn_graph, radius_between, radius_graph
from spheregeo.sampling.points.periodic import periodic_radius_graph
from spheregeo.sampling.points.voxels import Voxels, voxel_downsample

__all__ = [
    "Voxels",
    "farthest_points",
    "knn_between",
    "knn_graph",
    "periodic_radius_graph",
    "radius_between",
    "radius_graph",
    "voxel_downsample",
]
