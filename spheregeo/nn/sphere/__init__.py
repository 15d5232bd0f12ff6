"""Layers for signals on spherical grids."""

from spheregeo.nn.sphere.attention import SphereAttention
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
    IcosahedralBatchNorm,
    IcosahedralConv,
    IcosahedralPool,
    IcosahedralUpsample,
    OrientationPool,
    ToCharts,
)
from spheregeo.nn.sphere.needlets import NeedletBlock, NeedletConv, ScaleInvariants, Shrinkage

IcosahedralNorm = IcosahedralBatchNorm  # the former name

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
    "IcosahedralBatchNorm",
    "IcosahedralConv",
    "IcosahedralPool",
    "IcosahedralUpsample",
    "NeedletBlock",
    "NeedletConv",
    "OrientationPool",
    "PixelShuffle",
    "PixelUnshuffle",
    "ScaleInvariants",
    "Shrinkage",
    "SphereAttention",
    "ToCharts",
    "ToFaces",
]
