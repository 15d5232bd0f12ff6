"""Compiled loops of the Legendre stage; importing this package imports numba."""

from spheregeo.spectral.engines.kernels.layout import layout
from spheregeo.spectral.engines.kernels.stage import stage
from spheregeo.spectral.engines.kernels.starts import scales, starts

__all__ = ["layout", "scales", "stage", "starts"]
