"""Layers of tangent fields."""

from __future__ import annotations

import spheregeo.nn as layers
from layer_cases.common import (
    COARSE,
    FINE,
    KIND,
    on_grid,
    own_twin,
    part_of,
)

part_of("nn/surface/test_pooling.py", "ClusterGeometry")
part_of("nn/surface/test_gauge_conv.py", "GaugeGeometry")
part_of("nn/surface/test_operators.py", "OperatorSettings SurfaceOperators")
own_twin("nn/surface/test_operators.py", "LearnedDiffusion GradientFeatures DiffusionBlock DeltaConv")
own_twin("nn/surface/test_field_norm.py", "FieldBatchNorm FieldInstanceNorm FieldLayerNorm RegularBatchNorm")
own_twin("nn/surface/test_linear.py", "FieldBias FieldDropout FieldLinear")
own_twin("nn/surface/test_nonlinearity.py", "GatedNonlinearity NormNonlinearity RegularNonlinearity")

# ---- tangent fields

on_grid(layers.GaugeConv, lambda grid: layers.GaugeConv(KIND, "1x0 + 2x1", grid), channels=8)
on_grid(
    layers.GaugeBlock, lambda grid: layers.GaugeBlock(KIND, grid), channels=8, field_in=KIND, field_out=KIND
)
on_grid(layers.FieldBatchNorm, lambda grid: layers.FieldBatchNorm(KIND, grid), channels=8)
on_grid(layers.FieldInstanceNorm, lambda grid: layers.FieldInstanceNorm(KIND, grid), channels=8)
on_grid(layers.FieldLayerNorm, lambda grid: layers.FieldLayerNorm(KIND), channels=8)
on_grid(layers.FieldLinear, lambda grid: layers.FieldLinear(KIND, "1x0 + 2x1"), channels=8)
on_grid(layers.FieldBias, lambda grid: layers.FieldBias(KIND), channels=8)
on_grid(layers.FieldDropout, lambda grid: layers.FieldDropout(KIND), channels=8)
on_grid(layers.GatedNonlinearity, lambda grid: layers.GatedNonlinearity(KIND), channels=8)
on_grid(layers.NormNonlinearity, lambda grid: layers.NormNonlinearity(KIND), channels=8)
on_grid(layers.RegularBatchNorm, lambda grid: layers.RegularBatchNorm(KIND, grid), channels=8)
on_grid(
    layers.RegularNonlinearity,
    lambda grid: layers.RegularNonlinearity(KIND),
    channels=8,
    equivariance={"grid": 0.01},
)
on_grid(
    layers.FieldPool,
    lambda grid: layers.FieldPool(KIND, grid),
    channels=8,
    equivariance_options={"target": COARSE},
)
on_grid(
    layers.FieldUnpool,
    lambda grid: layers.FieldUnpool(KIND, grid.refine()),
    channels=8,
    equivariance_options={"target": FINE},
)

# ---- operators of surfaces

on_grid(layers.LearnedDiffusion, lambda grid: layers.LearnedDiffusion(2, grid, pairs=16))
on_grid(layers.GradientFeatures, lambda grid: layers.GradientFeatures(2, grid))
on_grid(layers.DiffusionBlock, lambda grid: layers.DiffusionBlock(2, grid, pairs=16, act="silu"))
on_grid(
    layers.DeltaConv,
    lambda grid: layers.DeltaConv("2x0 + 1x1", "1x0 + 2x1", grid, act="silu"),
    channels=4,
    field_in="2x0 + 1x1",
    field_out="1x0 + 2x1",
)
