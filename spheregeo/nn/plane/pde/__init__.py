"""Layers of partial differential equations on SE(2) and on the plane: convection, diffusion, dilation and erosion."""

from spheregeo.nn.plane.pde.cde import FieldMix, PlanePDELayer, SE2PDELayer
from spheregeo.nn.plane.pde.distances import se2_distance, se2_distance_squared
from spheregeo.nn.plane.pde.lift import CakeLift, cake_wavelets
from spheregeo.nn.plane.pde.linear import (
    PlaneConvection,
    PlaneDiffusion,
    SE2Convection,
    SE2Diffusion,
    se2_convolve,
)
from spheregeo.nn.plane.pde.max_plus import MaxPlusConv2d
from spheregeo.nn.plane.pde.morphology import (
    PlaneDilation,
    PlaneErosion,
    SE2Dilation,
    SE2Erosion,
    morphological_kernel,
)

__all__ = [
    "CakeLift",
    "FieldMix",
    "MaxPlusConv2d",
    "PlaneConvection",
    "PlaneDiffusion",
    "PlaneDilation",
    "PlaneErosion",
    "PlanePDELayer",
    "SE2Convection",
    "SE2Diffusion",
    "SE2Dilation",
    "SE2Erosion",
    "SE2PDELayer",
    "cake_wavelets",
    "morphological_kernel",
    "se2_convolve",
    "se2_distance",
    "se2_distance_squared",
]


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
