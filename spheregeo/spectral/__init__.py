"""Fourier analysis on the sphere and on SO(3): transforms between grids and coefficients, and what is done with coefficients."""

from __future__ import annotations

from spheregeo.spectral import layouts
from spheregeo.spectral.filters import (
    WienerFilter,
    fit_wiener_gains,
    gaussian_beam,
    pixel_window,
    wiener_gains,
)
from spheregeo.spectral.lensing import deflection_field, displaced, lens, turn_between
from spheregeo.spectral.needlets import NeedletFrame, SO3NeedletFrame
from spheregeo.spectral.operators import gradient, inverse_laplacian, laplacian
from spheregeo.spectral.power import (
    degrees,
    e_and_b,
    largest_degree,
    polarisation_spectra,
    power_spectrum,
    pseudo_power_spectrum,
    remove_multipoles,
    scale_degrees,
)
from spheregeo.spectral.random_fields import correlated_coefficients, random_coefficients
from spheregeo.spectral.rotation import rotate_coefficients, rotate_field
from spheregeo.spectral.scattered import angles_of, synthesis_at
from spheregeo.spectral.sht import SHT, InverseSHT, harmonic_resample
from spheregeo.spectral.so3 import (
    InverseSO3Transform,
    SO3Grid,
    SO3HEALPix,
    SO3Transform,
    characters,
    class_function,
    convolve_so3,
    correlate_so3,
    correlate_sphere,
    evaluate_so3,
    integrate_so3,
    project_to_sphere,
    synthesise_on,
)
from spheregeo.spectral.stages.quadrature import resolved_degree
from spheregeo.spectral.vector import InverseVectorSHT, VectorSHT, WindFields

__all__ = [
    "SHT",
    "InverseSHT",
    "InverseSO3Transform",
    "InverseVectorSHT",
    "NeedletFrame",
    "SO3Grid",
    "SO3HEALPix",
    "SO3NeedletFrame",
    "SO3Transform",
    "VectorSHT",
    "WienerFilter",
    "WindFields",
    "angles_of",
    "characters",
    "class_function",
    "convolve_so3",
    "correlate_so3",
    "correlate_sphere",
    "correlated_coefficients",
    "deflection_field",
    "degrees",
    "displaced",
    "e_and_b",
    "evaluate_so3",
    "fit_wiener_gains",
    "gaussian_beam",
    "gradient",
    "harmonic_resample",
    "integrate_so3",
    "inverse_laplacian",
    "laplacian",
    "largest_degree",
    "layouts",
    "lens",
    "pixel_window",
    "polarisation_spectra",
    "power_spectrum",
    "project_to_sphere",
    "pseudo_power_spectrum",
    "random_coefficients",
    "remove_multipoles",
    "resolved_degree",
    "rotate_coefficients",
    "rotate_field",
    "scale_degrees",
    "synthesis_at",
    "synthesise_on",
    "turn_between",
    "wiener_gains",
]
