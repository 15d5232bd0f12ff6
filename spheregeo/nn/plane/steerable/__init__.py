"""Steerable convolutions: fields of orders of SO(2) and O(2), and of finite groups, on images."""

from spheregeo.nn.plane.steerable.conv import SteerableConv2d

__all__ = ["SteerableConv2d"]


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
