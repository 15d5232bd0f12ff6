"""Quadrature rules and spherical harmonics: the harmonic analysis that grids and kernels stand on."""

from __future__ import annotations

from spheregeo.harmonics.quadrature import clenshaw_curtis, fejer1, fejer2, gauss_legendre
from spheregeo.harmonics.spherical_harmonics import real_harmonics

__all__ = ["clenshaw_curtis", "fejer1", "fejer2", "gauss_legendre", "real_harmonics"]
