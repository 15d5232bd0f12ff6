"""Spherical voxels: clouds seen as functions on shells about their centre, convolutions of them, and the way back to points."""

from spheregeo.nn.space.spherical_voxels.conv import SphericalVoxelConv
from spheregeo.nn.space.spherical_voxels.sampling import PointMaps, SphericalVoxels

__all__ = ["PointMaps", "SphericalVoxelConv", "SphericalVoxels"]
