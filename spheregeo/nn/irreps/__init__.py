"""Pointwise layers on features that are irreps of O(3) or SO(3): linear maps, gates, norms, activations on the sphere."""

from spheregeo.nn.irreps.activations import NormalizedActivation
from spheregeo.nn.irreps.batch_norm import IrrepsBatchNorm
from spheregeo.nn.irreps.gates import IrrepsGate, NormActivation
from spheregeo.nn.irreps.instance_norm import IrrepsInstanceNorm
from spheregeo.nn.irreps.layer_norm import IrrepsLayerNorm
from spheregeo.nn.irreps.layout import as_irreps, change_layout, distinct_irreps
from spheregeo.nn.irreps.linear import IrrepsDropout, IrrepsLinear
from spheregeo.nn.irreps.sphere_activation import (
    SeparableSphereActivation,
    SO3Activation,
    SphereActivation,
    rotation_irreps,
)
from spheregeo.nn.irreps.sphere_mlp import SphereMLP
from spheregeo.nn.irreps.spin import SpinActivation, SpinLinear, SpinType, lift, project, sphere_correlation
from spheregeo.nn.irreps.spin_block import SpinBlock
from spheregeo.nn.irreps.stacks import FromStacks, Stacks, ToStacks, terms_of
from spheregeo.nn.statistics import working_dtype

__all__ = [
    "FromStacks",
    "IrrepsBatchNorm",
    "IrrepsDropout",
    "IrrepsGate",
    "IrrepsInstanceNorm",
    "IrrepsLayerNorm",
    "IrrepsLinear",
    "NormActivation",
    "NormalizedActivation",
    "SO3Activation",
    "SeparableSphereActivation",
    "SphereActivation",
    "SphereMLP",
    "SpinActivation",
    "SpinBlock",
    "SpinLinear",
    "SpinType",
    "Stacks",
    "ToStacks",
    "as_irreps",
    "change_layout",
    "distinct_irreps",
    "lift",
    "project",
    "rotation_irreps",
    "sphere_correlation",
    "terms_of",
    "working_dtype",
]


def __dir__() -> list[str]:
    """The layers and functions, without the files that they are written in."""
    return __all__
