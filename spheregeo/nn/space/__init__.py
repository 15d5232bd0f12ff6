"""Layers for points in space: features are irreps of O(3), e3nn's."""

from spheregeo.nn.irreps.batch_norm import IrrepsBatchNorm
from spheregeo.nn.irreps.gates import IrrepsGate, NormActivation
from spheregeo.nn.irreps.layer_norm import IrrepsLayerNorm
from spheregeo.nn.irreps.linear import IrrepsDropout, IrrepsLinear
from spheregeo.nn.irreps.sphere_activation import (
    SeparableSphereActivation,
    SO3Activation,
    SphereActivation,
    rotation_irreps,
)
from spheregeo.nn.irreps.sphere_mlp import SphereMLP
from spheregeo.nn.irreps.spin import (
    SpinActivation,
    SpinLinear,
    SpinType,
    lift,
    project,
    sphere_correlation,
)
from spheregeo.nn.space.geometry import EdgeGeometry, EdgeList
from spheregeo.nn.space.implicit.conv import ImplicitConv
from spheregeo.nn.space.radial import RadialBasis, RadialNetwork, polynomial_envelope
from spheregeo.nn.space.steerable.conv import SteerableConv
from spheregeo.nn.space.steerable.group_convolution import group_irreps, group_kernel, path_weights
from spheregeo.nn.space.steerable.so2 import SO2Linear
from spheregeo.nn.space.vector_neurons import (
    VectorBatchNorm,
    VectorEdgeConv,
    VectorInvariants,
    VectorLinear,
    VectorLinearReLU,
    VectorMaxPool,
    VectorMeanPool,
)
from spheregeo.nn.voxel.conv import SteerableVoxelConv
from spheregeo.nn.voxel.low_pass import LowPassDownsample

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
