"""Layers for points in space: edges, convolutions (``steerable``, ``implicit``, ``edge_frame``), vector neurons.

Layers of one point (``nn.irreps``) and of voxel grids (``nn.voxel``) can be imported from here as well, where they once were.
"""

from spheregeo.nn.irreps import IrrepsBatchNorm as IrrepsBatchNorm
from spheregeo.nn.irreps import IrrepsDropout as IrrepsDropout
from spheregeo.nn.irreps import IrrepsGate as IrrepsGate
from spheregeo.nn.irreps import IrrepsLayerNorm as IrrepsLayerNorm
from spheregeo.nn.irreps import IrrepsLinear as IrrepsLinear
from spheregeo.nn.irreps import NormActivation as NormActivation
from spheregeo.nn.irreps import SeparableSphereActivation as SeparableSphereActivation
from spheregeo.nn.irreps import SO3Activation as SO3Activation
from spheregeo.nn.irreps import SphereActivation as SphereActivation
from spheregeo.nn.irreps import SphereMLP as SphereMLP
from spheregeo.nn.irreps import SpinActivation as SpinActivation
from spheregeo.nn.irreps import SpinLinear as SpinLinear
from spheregeo.nn.irreps import SpinType as SpinType
from spheregeo.nn.irreps import lift as lift
from spheregeo.nn.irreps import project as project
from spheregeo.nn.irreps import rotation_irreps as rotation_irreps
from spheregeo.nn.irreps import sphere_correlation as sphere_correlation
from spheregeo.nn.space import (
    edge_frame,
    implicit,
    many_body,
    scalar_vector,
    spherical_channels,
    spherical_voxels,
    steerable,
)
from spheregeo.nn.space.geometry import EdgeGeometry, EdgeList
from spheregeo.nn.space.implicit import ImplicitConv
from spheregeo.nn.space.invariant_conv import SparseInvariantConv, edge_invariants
from spheregeo.nn.space.local_triangles import OffsetAttention, RISurConv, order_around, triangle_features
from spheregeo.nn.space.radial import RadialBasis, RadialNetwork, polynomial_envelope
from spheregeo.nn.space.self_connection import SelfConnection
from spheregeo.nn.space.steerable import SO2Linear, SteerableConv, group_irreps, group_kernel, path_weights
from spheregeo.nn.space.upsampling import interpolate_points
from spheregeo.nn.space.vector_neurons import (
    StatisticsNorm,
    VectorBatchNorm,
    VectorEdgeConv,
    VectorInvariants,
    VectorLinear,
    VectorLinearReLU,
    VectorMaxPool,
    VectorMeanPool,
    vector_pool,
)
from spheregeo.nn.voxel import LowPassDownsample as LowPassDownsample
from spheregeo.nn.voxel import SteerableVoxelConv as SteerableVoxelConv

__all__ = [
    "EdgeGeometry",
    "EdgeList",
    "ImplicitConv",
    "OffsetAttention",
    "RISurConv",
    "RadialBasis",
    "RadialNetwork",
    "SO2Linear",
    "SelfConnection",
    "SparseInvariantConv",
    "StatisticsNorm",
    "SteerableConv",
    "VectorBatchNorm",
    "VectorEdgeConv",
    "VectorInvariants",
    "VectorLinear",
    "VectorLinearReLU",
    "VectorMaxPool",
    "VectorMeanPool",
    "edge_frame",
    "edge_invariants",
    "group_irreps",
    "group_kernel",
    "implicit",
    "interpolate_points",
    "many_body",
    "order_around",
    "path_weights",
    "polynomial_envelope",
    "scalar_vector",
    "spherical_channels",
    "spherical_voxels",
    "steerable",
    "triangle_features",
    "vector_pool",
]


def __dir__() -> list[str]:
    """The rooms and the layers, without the files that the layers are written in."""
    return __all__
