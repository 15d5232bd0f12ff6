"""Learnable layers: ``sphere/`` for signals on spherical grids, ``surface/`` for tangent fields, and what all layers share."""

from spheregeo.nn.gdn import GDN
from spheregeo.nn.norm import AreaBatchNorm, AreaGroupNorm, AreaInstanceNorm
from spheregeo.nn.pooling import GlobalPool
from spheregeo.nn.resampling import Pool, Resample, Unpool
from spheregeo.nn.sphere import (
    ChebConv,
    DiscoConv,
    DiscoConvTranspose,
    FromCharts,
    FromFaces,
    HEALPixConv,
    HEALPixFaceConv,
    HEALPixHops,
    HEALPixPad,
    IcosahedralConv,
    IcosahedralNorm,
    IcosahedralPool,
    IcosahedralUpsample,
    OrientationPool,
    PixelShuffle,
    PixelUnshuffle,
    ToCharts,
    ToFaces,
)
from spheregeo.nn.surface import GaugeConv, GaugeGeometry

__all__ = [
    "GDN",
    "AreaBatchNorm",
    "AreaGroupNorm",
    "AreaInstanceNorm",
    "ChebConv",
    "DiscoConv",
    "DiscoConvTranspose",
    "FromCharts",
    "FromFaces",
    "GaugeConv",
    "GaugeGeometry",
    "GlobalPool",
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
    "Pool",
    "Resample",
    "ToCharts",
    "ToFaces",
    "Unpool",
]
