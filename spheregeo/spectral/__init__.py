"""Fourier analysis on the sphere and on SO(3): transforms between grids and coefficients, and what is done with coefficients."""

from __future__ import annotations

from spheregeo.spectral.needlets import NeedletFrame
from spheregeo.spectral.sht import SHT, InverseSHT

__all__ = ["SHT", "InverseSHT", "NeedletFrame"]
