"""Layers of all rooms, and functions on quotients of groups."""

from __future__ import annotations

import torch

import spheregeo.nn as layers
from layer_cases.common import (
    batch_norm,
    on_grid,
    own_twin,
    part_of,
    simple,
)

part_of("nn/test_exact_buffers.py", "ExactBuffers")
own_twin("nn/test_quotient.py", "QuotientConv")

on_grid(layers.BatchNorm, lambda grid: layers.BatchNorm(2), twin=batch_norm)
on_grid(
    layers.SampleDropout, lambda grid: layers.SampleDropout(0.3), twin=lambda layer, x: x, skip=["errors"]
)

# functions on cosets, whose equivariance the own tests hold against all linear maps
simple(
    layers.QuotientConv,
    lambda: {
        "layer": layers.QuotientConv("D3", 2, 3),
        "inputs": torch.randn(2, 12),
        "skip": ["equivariance"],
    },
)

simple(
    layers.LowPassDownsample,
    lambda: {
        "layer": layers.LowPassDownsample(2),
        "inputs": torch.randn(1, 2, 4, 4, 4),
        "where": (5, 5, 5),
        "equivariance": {"o3": 1e-11},
        "bad_inputs": [(torch.randn(2, 4, 4), "x")],
    },
)
