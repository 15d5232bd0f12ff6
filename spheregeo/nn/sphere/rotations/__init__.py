"""From images to rotations: the projection onto the sphere, layers between coefficients on SO(3), distributions of rotations."""

from __future__ import annotations

from spheregeo.nn.sphere.rotations.coefficients import (
    SO3Correlation,
    SO3Lift,
    SO3Rectifier,
    SphereCoefficients,
)
from spheregeo.nn.sphere.rotations.density import FourierDensity, MixtureDensity, RotationDensity
from spheregeo.nn.sphere.rotations.projection import SphereProjection

__all__ = [
    "FourierDensity",
    "MixtureDensity",
    "RotationDensity",
    "SO3Correlation",
    "SO3Lift",
    "SO3Rectifier",
    "SphereCoefficients",
    "SphereProjection",
]
