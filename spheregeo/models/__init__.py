"""Networks made of layers, each under its name: ``create(name, in_channels, out_channels, grid, **options)``."""

from __future__ import annotations

from spheregeo.models.baseline import PixelMLP, PlanarUNet
from spheregeo.models.blocks import Pointwise, ResidualBlock, make_conv, make_norm
from spheregeo.models.registry import create, names, register
from spheregeo.models.unet import SphericalUNet

__all__ = [
    "PixelMLP",
    "PlanarUNet",
    "Pointwise",
    "ResidualBlock",
    "SphericalUNet",
    "create",
    "make_conv",
    "make_norm",
    "names",
    "register",
]
