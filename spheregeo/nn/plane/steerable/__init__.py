"""Steerable convolutions: fields of orders of SO(2) and O(2), and of finite groups, on images; harmonic networks."""

from spheregeo.nn.plane.basis import PlanarBasis
from spheregeo.nn.plane.steerable.conv import SteerableConv2d
from spheregeo.nn.plane.steerable.harmonic import HarmonicConv2d

__all__ = ["HarmonicConv2d", "PlanarBasis", "SteerableConv2d"]


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
