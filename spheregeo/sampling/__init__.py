"""The common grid-sampling layer: neighbours, interpolation, resampling, rotation and pooling on any grids."""

from spheregeo.groups import axis_angle as rotation_about
from spheregeo.groups import random_rotations
from spheregeo.sampling.fields import FieldMap, tangent_from_wind, wind_from_tangent
from spheregeo.sampling.interpolation import interpolation_map
from spheregeo.sampling.neighbors import Neighborhood, neighbors
from spheregeo.sampling.points import (
    RigidMotion,
    Voxels,
    estimate_normals,
    farthest_points,
    kabsch,
    knn_between,
    knn_graph,
    match_features,
    periodic_radius_graph,
    radius_between,
    radius_graph,
    ransac_motion,
    ransac_motions,
    refine_motion,
    surface_agreement,
    voxel_downsample,
)
from spheregeo.sampling.pooling import pool, pooling_map, unpool, unpooling_map
from spheregeo.sampling.resample import resample
from spheregeo.sampling.rotate_image import rotate_image
from spheregeo.sampling.rotation import rotate, rotation_map, rotation_matrix
from spheregeo.sampling.surface import surface_neighbors

__all__ = [
    "FieldMap",
    "Neighborhood",
    "RigidMotion",
    "Voxels",
    "estimate_normals",
    "farthest_points",
    "interpolation_map",
    "kabsch",
    "knn_between",
    "knn_graph",
    "match_features",
    "neighbors",
    "periodic_radius_graph",
    "pool",
    "pooling_map",
    "radius_between",
    "radius_graph",
    "random_rotations",
    "ransac_motion",
    "ransac_motions",
    "refine_motion",
    "resample",
    "rotate",
    "rotate_image",
    "rotation_about",
    "rotation_map",
    "rotation_matrix",
    "surface_agreement",
    "surface_neighbors",
    "tangent_from_wind",
    "unpool",
    "unpooling_map",
    "voxel_downsample",
    "wind_from_tangent",
]
