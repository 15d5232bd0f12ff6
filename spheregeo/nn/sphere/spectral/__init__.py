"""Spectral layers: transform, product of coefficients, inverse transform; signals lie on grids of the sphere and of SO(3)."""

from __future__ import annotations

from spheregeo.nn.sphere.spectral.convolution import S2Conv, SO3Conv
from spheregeo.nn.sphere.spectral.degreewise import SpectralConv, SpectralPool, ZonalConv
from spheregeo.nn.sphere.spectral.kernels import Equatorial, FullSpectrum, NearIdentity, SpectralKernel
from spheregeo.nn.sphere.spectral.rotations import SO3BatchNorm, SO3Integrate, SO3SpectralPool, SO3ToS2
from spheregeo.nn.sphere.spectral.spin import SpinConv

__all__ = [
    "Equatorial",
    "FullSpectrum",
    "NearIdentity",
    "S2Conv",
    "SO3BatchNorm",
    "SO3Conv",
    "SO3Integrate",
    "SO3SpectralPool",
    "SO3ToS2",
    "SpectralConv",
    "SpectralKernel",
    "SpectralPool",
    "SpinConv",
    "ZonalConv",
]
