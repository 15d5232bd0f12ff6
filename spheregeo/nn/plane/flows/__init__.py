"""Equivariant normalising flows on images: invertible layers of fields of a planar group, and densities that it leaves alone."""

from spheregeo.nn.plane.flows.build import group_flow
from spheregeo.nn.plane.flows.coupling import GroupAutoregressive, GroupCoupling
from spheregeo.nn.plane.flows.flow import Flow, InvariantNormal, bits, dequantise
from spheregeo.nn.plane.flows.layer import FlowLayer
from spheregeo.nn.plane.flows.pointwise import GroupActNorm, GroupMix, Logit
from spheregeo.nn.plane.flows.residual import GroupResidual, LipschitzConv2d
from spheregeo.nn.plane.flows.squeeze import GroupSqueeze

__all__ = [
    "Flow",
    "FlowLayer",
    "GroupActNorm",
    "GroupAutoregressive",
    "GroupCoupling",
    "GroupMix",
    "GroupResidual",
    "GroupSqueeze",
    "InvariantNormal",
    "LipschitzConv2d",
    "Logit",
    "bits",
    "dequantise",
    "group_flow",
]


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
