"""Functions on the rotation group SO(3): their grid, transforms to and from coefficients, and what is done with coefficients."""

from __future__ import annotations

from spheregeo.spectral.so3.evaluation import evaluate_so3, synthesise_on
from spheregeo.spectral.so3.functions import (
    characters,
    class_function,
    convolve_so3,
    correlate_so3,
    correlate_sphere,
    integrate_so3,
    project_to_sphere,
)
from spheregeo.spectral.so3.grid import SO3Grid
from spheregeo.spectral.so3.healpix import SO3HEALPix
from spheregeo.spectral.so3.transform import InverseSO3Transform, SO3Transform

__all__ = [
    "InverseSO3Transform",
    "SO3Grid",
    "SO3HEALPix",
    "SO3Transform",
    "characters",
    "class_function",
    "convolve_so3",
    "correlate_so3",
    "correlate_sphere",
    "evaluate_so3",
    "integrate_so3",
    "project_to_sphere",
    "synthesise_on",
]
