"""Steerable convolutions: one convolution, computed from products, by SO(2), or by e3nn's tensor product."""

from spheregeo.nn.space.steerable.conv import SteerableConv
from spheregeo.nn.space.steerable.group_convolution import group_irreps, group_kernel, path_weights
from spheregeo.nn.space.steerable.paths import CGPath, PathTable, path_table
from spheregeo.nn.space.steerable.so2 import SO2Linear, SO2Maps, so2_convolution
from spheregeo.nn.space.steerable.tensor import tensor_convolution

__all__ = [
    "CGPath",
    "PathTable",
    "SO2Linear",
    "SO2Maps",
    "SteerableConv",
    "group_irreps",
    "group_kernel",
    "path_table",
    "path_weights",
    "so2_convolution",
    "tensor_convolution",
]
