"""Layers for signals on spherical grids."""

from spheregeo.nn.sphere.disco import DiscoConv, DiscoConvTranspose
from spheregeo.nn.sphere.icosahedral import (
    FromCharts,
    IcosahedralConv,
    IcosahedralNorm,
    IcosahedralPool,
    IcosahedralUpsample,
    OrientationPool,
    ToCharts,
)

__all__ = [
    "DiscoConv",
    "DiscoConvTranspose",
    "FromCharts",
    "IcosahedralConv",
    "IcosahedralNorm",
    "IcosahedralPool",
    "IcosahedralUpsample",
    "OrientationPool",
    "ToCharts",
]
