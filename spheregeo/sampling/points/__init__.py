"""Neighbours and subsets of points in space, many graphs at a time: PyG's conventions, the same result after any rotation."""

from spheregeo.sampling.points.farthest import farthest_points
from spheregeo.sampling.points.graphs import knn_between, knn_graph, radius_between, radius_graph
from spheregeo.sampling.points.normals import estimate_normals
from spheregeo.sampling.points.periodic import periodic_radius_graph
from spheregeo.sampling.points.rigid import (
    RigidMotion,
    kabsch,
    match_features,
    ransac_motion,
    ransac_motions,
    refine_motion,
    surface_agreement,
)
from spheregeo.sampling.points.voxels import Voxels, voxel_downsample

__all__ = [
    "RigidMotion",
    "Voxels",
    "estimate_normals",
    "farthest_points",
    "kabsch",
    "knn_between",
    "knn_graph",
    "match_features",
    "periodic_radius_graph",
    "radius_between",
    "radius_graph",
    "ransac_motion",
    "ransac_motions",
    "refine_motion",
    "surface_agreement",
    "voxel_downsample",
]
