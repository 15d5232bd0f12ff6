"""Layers for points in space: features are irreps of O(3), e3nn's."""

from spheregeo.nn.space.gates import IrrepsGate, NormActivation
from spheregeo.nn.space.geometry import EdgeGeometry, EdgeList
from spheregeo.nn.space.group_convolution import group_irreps, group_kernel, path_weights
from spheregeo.nn.space.homogeneous import (
    SpinActivation,
    SpinLinear,
    SpinType,
    lift,
    project,
    sphere_correlation,
)
from spheregeo.nn.space.implicit_conv import ImplicitConv
from spheregeo.nn.space.layer_norm import IrrepsLayerNorm
from spheregeo.nn.space.linear import IrrepsDropout, IrrepsLinear
from spheregeo.nn.space.low_pass import LowPassDownsample
from spheregeo.nn.space.norm import IrrepsBatchNorm
from spheregeo.nn.space.radial import RadialBasis, RadialNetwork, polynomial_envelope
from spheregeo.nn.space.so2 import SO2Linear
from spheregeo.nn.space.sphere_activation import (
    SeparableSphereActivation,
    SO3Activation,
    SphereActivation,
    rotation_irreps,
)
from spheregeo.nn.space.sphere_mlp import SphereMLP
from spheregeo.nn.space.steerable_conv import SteerableConv
from spheregeo.nn.space.vector_neurons import (
    VectorBatchNorm,
    VectorEdgeConv,
    VectorInvariants,
    VectorLinear,
    VectorLinearReLU,
    VectorMaxPool,
    VectorMeanPool,
)
from spheregeo.nn.space.voxel_conv import SteerableVoxelConv

__all__ = [
    "EdgeGeometry",
    "EdgeList",
    "ImplicitConv",
    "IrrepsBatchNorm",
    "IrrepsDropout",
    "IrrepsGate",
    "IrrepsLayerNorm",
    "IrrepsLinear",
    "LowPassDownsample",
    "NormActivation",
    "RadialBasis",
    "RadialNetwork",
    "SO2Linear",
    "SO3Activation",
    "SeparableSphereActivation",
    "SphereActivation",
    "SphereMLP",
    "SpinActivation",
    "SpinLinear",
    "SpinType",
    "SteerableConv",
    "SteerableVoxelConv",
    "VectorBatchNorm",
    "VectorEdgeConv",
    "VectorInvariants",
    "VectorLinear",
    "VectorLinearReLU",
    "VectorMaxPool",
    "VectorMeanPool",
    "group_irreps",
    "group_kernel",
    "lift",
    "path_weights",
    "polynomial_envelope",
    "project",
    "rotation_irreps",
    "sphere_correlation",
]
