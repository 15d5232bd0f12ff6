"""Layers for tangent fields on sphere grids and meshes."""

from spheregeo.nn.surface.gates import GatedNonlinearity, NormNonlinearity
from spheregeo.nn.surface.gauge_conv import GaugeConv
from spheregeo.nn.surface.geometry import GaugeGeometry
from spheregeo.nn.surface.linear import FieldBias, FieldDropout, FieldLinear
from spheregeo.nn.surface.nonlinearity import RegularNonlinearity
from spheregeo.nn.surface.norm import FieldBatchNorm, FieldInstanceNorm, FieldLayerNorm, RegularBatchNorm

__all__ = [
    "FieldBatchNorm",
    "FieldBias",
    "FieldDropout",
    "FieldInstanceNorm",
    "FieldLayerNorm",
    "FieldLinear",
    "GatedNonlinearity",
    "GaugeConv",
    "GaugeGeometry",
    "NormNonlinearity",
    "RegularBatchNorm",
    "RegularNonlinearity",
]
