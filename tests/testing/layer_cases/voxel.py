"""Layers of volumes."""

from __future__ import annotations

from typing import Any

import torch

import spheregeo.nn as layers
from layer_cases.common import (
    case,
    own_twin,
)

own_twin("nn/voxel/test_conv.py", "SteerableVoxelConv LowPassDownsample")

# ---- voxels


@case(layers.SteerableVoxelConv)
def voxels() -> dict[str, Any]:
    layer = layers.SteerableVoxelConv("1x0e + 1x1o", "1x0e + 1x1o", 3)
    return {
        "layer": layer,
        "inputs": torch.randn(1, 4, 4, 4, 4),
        "where": (4, 4, 4),
        "equivariance": {"o3": 1e-11},
    }
