"""Learnable layers: ``sphere/`` for signals on spherical grids, and what all layers share."""

from spheregeo.nn.sphere import DiscoConv, DiscoConvTranspose

__all__ = ["DiscoConv", "DiscoConvTranspose"]
