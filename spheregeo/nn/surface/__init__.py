"""Layers for tangent fields on sphere grids and meshes."""

from spheregeo.nn.surface.block import GaugeBlock, make_nonlinearity
from spheregeo.nn.surface.delta import DeltaConv
from spheregeo.nn.surface.diffusion import DiffusionBlock, GradientFeatures, LearnedDiffusion
from spheregeo.nn.surface.gates import GatedNonlinearity, NormNonlinearity
from spheregeo.nn.surface.gauge_conv import GaugeConv
from spheregeo.nn.surface.geometry import GaugeGeometry
from spheregeo.nn.surface.linear import FieldBias, FieldDropout, FieldLinear
from spheregeo.nn.surface.nonlinearity import RegularNonlinearity
from spheregeo.nn.surface.norm import FieldBatchNorm, FieldInstanceNorm, FieldLayerNorm, RegularBatchNorm
from spheregeo.nn.surface.operators import OperatorSettings, SurfaceOperators
from spheregeo.nn.surface.pooling import ClusterGeometry, FieldPool, FieldUnpool

__all__ = [
    "ClusterGeometry",
    "DeltaConv",
    "DiffusionBlock",
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
    "GradientFeatures",
    "LearnedDiffusion",
    "NormNonlinearity",
    "OperatorSettings",
    "RegularBatchNorm",
    "RegularNonlinearity",
    "SurfaceOperators",
    "make_nonlinearity",
]
