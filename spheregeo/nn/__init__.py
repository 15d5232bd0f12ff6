"""Learnable layers: ``sphere/`` for signals on spherical grids, ``surface/`` for tangent fields, and what all layers share."""

from spheregeo.nn.norm import AreaBatchNorm, AreaGroupNorm, AreaInstanceNorm
from spheregeo.nn.pooling import GlobalPool
from spheregeo.nn.resampling import Pool, Resample, Unpool
from spheregeo.nn.sphere import (
    DiscoConv,
    DiscoConvTranspose,
    FromCharts,
    IcosahedralConv,
    IcosahedralNorm,
    IcosahedralPool,
    IcosahedralUpsample,
    OrientationPool,
    ToCharts,
)
from spheregeo.nn.surface import GaugeConv, GaugeGeometry

__all__ = [
    "AreaBatchNorm",
    "AreaGroupNorm",
    "AreaInstanceNorm",
    "DiscoConv",
    "DiscoConvTranspose",
    "FromCharts",
    "GaugeConv",
    "GaugeGeometry",
    "GlobalPool",
    "IcosahedralConv",
    "IcosahedralNorm",
    "IcosahedralPool",
    "IcosahedralUpsample",
    "OrientationPool",
    "Pool",
    "Resample",
    "ToCharts",
    "Unpool",
]
