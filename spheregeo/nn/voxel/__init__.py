"""Layers on voxel grids whose channels are irreps of O(3)."""

from spheregeo.nn.low_pass import LowPassDownsample
from spheregeo.nn.voxel.conv import SteerableVoxelConv

__all__ = ["LowPassDownsample", "SteerableVoxelConv"]


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
