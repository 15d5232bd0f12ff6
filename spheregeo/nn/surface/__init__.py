"""Layers for tangent fields on sphere grids and meshes."""

from spheregeo.nn.surface.block import GaugeBlock, make_nonlinearity
from spheregeo.nn.surface.gates import GatedNonlinearity, NormNonlinearity
from spheregeo.nn.surface.gauge_conv import GaugeConv
from spheregeo.nn.surface.geometry import GaugeGeometry
from spheregeo.nn.surface.linear import FieldBias, FieldDropout, FieldLinear
from spheregeo.nn.surface.nonlinearity import RegularNonlinearity
from spheregeo.nn.surface.norm import FieldBatchNorm, FieldInstanceNorm, FieldLayerNorm, RegularBatchNorm
from spheregeo.nn.surface.pooling import ClusterGeometry, FieldPool, FieldUnpool

__all__ = [
    "ClusterGeometry",
    "FieldBatchNorm",
    "FieldBias",
    "FieldDropout",
    "FieldInstanceNorm",
    "FieldLayerNorm",
    "FieldLinear",
    "FieldPool",
    "FieldUnpool",
    "GatedNonlinearity",
    "GaugeBlock",
    "GaugeConv",
    "GaugeGeometry",
    "NormNonlinearity",
    "RegularBatchNorm",
    "RegularNonlinearity",
    "make_nonlinearity",
]
