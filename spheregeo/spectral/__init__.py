"""Fourier analysis on the sphere and on SO(3): transforms between grids and coefficients, and what is done with coefficients."""

from __future__ import annotations

from spheregeo.spectral import layouts
from spheregeo.spectral.needlets import NeedletFrame, SO3NeedletFrame
from spheregeo.spectral.operators import gradient, inverse_laplacian, laplacian
from spheregeo.spectral.rotation import rotate_coefficients
from spheregeo.spectral.sht import SHT, InverseSHT, harmonic_resample
from spheregeo.spectral.so3 import InverseSO3Transform, SO3Transform
from spheregeo.spectral.so3_grid import SO3Grid
from spheregeo.spectral.stages.quadrature import resolved_degree
from spheregeo.spectral.vector import InverseVectorSHT, VectorSHT, WindFields

__all__ = [
    "SHT",
    "InverseSHT",
    "InverseSO3Transform",
    "InverseVectorSHT",
    "NeedletFrame",
    "SO3Grid",
    "SO3NeedletFrame",
    "SO3Transform",
    "VectorSHT",
    "WindFields",
    "gradient",
    "harmonic_resample",
    "inverse_laplacian",
    "laplacian",
    "layouts",
    "resolved_degree",
    "rotate_coefficients",
]
