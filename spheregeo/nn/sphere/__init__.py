"""Layers for signals on spherical grids."""

from spheregeo.nn.sphere.disco import DiscoConv, DiscoConvTranspose

__all__ = ["DiscoConv", "DiscoConvTranspose"]
