"""Layers of DeltaConv: scalars and tangent vectors, coupled by gradient, divergence, curl and Laplacians."""

from spheregeo.nn.surface.delta.conv import DeltaConv

__all__ = ["DeltaConv"]
