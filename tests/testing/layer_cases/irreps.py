"""Layers of irreps, pointwise."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

import spheregeo.nn as layers
from layer_cases.common import (
    GROUP,
    IRREPS,
    case,
    own_twin,
    part_of,
    places,
    pointwise,
    rows,
    simple,
)

part_of("nn/irreps/test_spin.py", "SpinType")
part_of("nn/irreps/test_stacks.py", "Stacks ToStacks FromStacks")
own_twin("nn/irreps/test_linear.py", "IrrepsLinear IrrepsDropout")
own_twin("nn/irreps/test_gates.py", "IrrepsGate NormActivation")
own_twin("nn/irreps/test_norm.py", "IrrepsBatchNorm IrrepsLayerNorm IrrepsInstanceNorm")
own_twin("nn/irreps/test_sphere_activation.py", "SphereActivation SeparableSphereActivation SO3Activation")
own_twin("nn/irreps/test_sphere_mlp.py", "SphereMLP")
own_twin("nn/irreps/test_spin.py", "SpinLinear SpinActivation SpinBlock")

# ---- irreps at points

pointwise(layers.IrrepsLinear, lambda: layers.IrrepsLinear(IRREPS, "1x0e + 3x1o + 1x0o"))
pointwise(layers.IrrepsGate, lambda: layers.IrrepsGate(IRREPS))
pointwise(layers.NormActivation, lambda: layers.NormActivation(IRREPS))
pointwise(layers.IrrepsBatchNorm, lambda: layers.IrrepsBatchNorm(IRREPS))
pointwise(layers.IrrepsLayerNorm, lambda: layers.IrrepsLayerNorm(IRREPS))
pointwise(layers.IrrepsDropout, lambda: layers.IrrepsDropout(IRREPS))
pointwise(layers.SphereActivation, lambda: layers.SphereActivation("2x0e + 2x1o"), bound=0.02)
pointwise(
    layers.SeparableSphereActivation, lambda: layers.SeparableSphereActivation("2x0e + 2x1o"), bound=0.02
)
pointwise(layers.SO3Activation, lambda: layers.SO3Activation("1x0e + 3x1e"), bound=0.05)
pointwise(layers.SphereMLP, lambda: layers.SphereMLP("2x0e + 2x1o", [4]), bound=0.02)

SPIN = layers.SpinType("2x0 + 1x1", 2)
pointwise(
    layers.SpinLinear,
    lambda: layers.SpinLinear(SPIN, SPIN),
    str(SPIN.irreps),
    field_in=SPIN.irreps,
    field_out=SPIN.irreps,
)
pointwise(
    layers.SpinActivation,
    lambda: layers.SpinActivation(SPIN),
    str(SPIN.irreps),
    0.05,
    field_in=SPIN.irreps,
    field_out=SPIN.irreps,
)
pointwise(
    layers.SpinBlock,
    lambda: layers.SpinBlock(SPIN, SPIN),
    str(SPIN.irreps),
    0.05,
    field_in=SPIN.irreps,
    field_out=SPIN.irreps,
)

simple(
    layers.irreps.NormalizedActivation,
    lambda: {
        "layer": layers.irreps.NormalizedActivation("silu"),
        "inputs": torch.randn(6, 4),
        "twin": lambda layer, x: F.silu(x) * layer.factor,
        "skip": ["equivariance", "errors"],
    },
)


@case(layers.irreps.IrrepsInstanceNorm)
def instance_norm() -> dict[str, Any]:
    layer = layers.irreps.IrrepsInstanceNorm(IRREPS)
    return {
        "layer": layer,
        "inputs": (rows(IRREPS), GROUP, 4),
        "equivariant": lambda x: layer.to(x)(x, GROUP, 4),
        "where": places(),
        "field_in": IRREPS,
        "field_out": IRREPS,
        "equivariance": {"o3": 1e-11},
        "channel_axis": -1,
    }
