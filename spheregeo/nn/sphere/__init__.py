"""Layers for signals on spherical grids."""

from spheregeo.nn.sphere.chebyshev import ChebConv
from spheregeo.nn.sphere.disco import DiscoConv, DiscoConvTranspose
from spheregeo.nn.sphere.healpix import (
    FromFaces,
    HEALPixConv,
    HEALPixFaceConv,
    HEALPixHops,
    HEALPixPad,
    PixelShuffle,
    PixelUnshuffle,
    ToFaces,
)
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
    "ChebConv",
    "DiscoConv",
    "DiscoConvTranspose",
    "FromCharts",
    "FromFaces",
    "HEALPixConv",
    "HEALPixFaceConv",
    "HEALPixHops",
    "HEALPixPad",
    "IcosahedralConv",
    "IcosahedralNorm",
    "IcosahedralPool",
    "IcosahedralUpsample",
    "OrientationPool",
    "PixelShuffle",
    "PixelUnshuffle",
    "ToCharts",
    "ToFaces",
]
