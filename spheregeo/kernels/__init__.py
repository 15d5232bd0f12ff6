"""Filter bases as functions of relative polar coordinates (r, phi), their moments, and torch-harmonics' variants."""

from __future__ import annotations

from spheregeo.kernels.circular_harmonics import CircularHarmonics
from spheregeo.kernels.fourier_bessel import FourierBessel
from spheregeo.kernels.gaussian_rings import GaussianRings
from spheregeo.kernels.kernel import Kernel
from spheregeo.kernels.moments import continuous_moments, correct_moments, moment_functions
from spheregeo.kernels.morlet import Morlet
from spheregeo.kernels.parse import parse_kernel
from spheregeo.kernels.piecewise_linear import PiecewiseLinear
from spheregeo.kernels.polar import PolarKernel
from spheregeo.kernels.rings import Rings
from spheregeo.kernels.torch_harmonics import (
    NORMALIZATIONS,
    from_torch_harmonics,
    normalize,
    radius_from_torch_harmonics,
    weight_from_torch_harmonics,
    weight_to_torch_harmonics,
)
from spheregeo.kernels.zernike import Zernike

NORMALISATIONS, normalise = NORMALIZATIONS, normalize  # the former names

__all__ = [
    "NORMALIZATIONS",
    "CircularHarmonics",
    "FourierBessel",
    "GaussianRings",
    "Kernel",
    "Morlet",
    "PiecewiseLinear",
    "PolarKernel",
    "Rings",
    "Zernike",
    "continuous_moments",
    "correct_moments",
    "from_torch_harmonics",
    "moment_functions",
    "normalize",
    "parse_kernel",
    "radius_from_torch_harmonics",
    "weight_from_torch_harmonics",
    "weight_to_torch_harmonics",
]
