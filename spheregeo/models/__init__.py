"""Networks made of layers, each under its name: ``create(name, in_channels, out_channels, grid, **options)``."""

from __future__ import annotations

from spheregeo.models.alias import ALIASES, options_of, resolve
from spheregeo.models.baseline import PixelMLP, PlanarUNet
from spheregeo.models.blocks import Pointwise, ResidualBlock, make_conv, make_norm
from spheregeo.models.classifier import DiscoClassifier, PlanarCNN
from spheregeo.models.deepsphere import DeepSphereClassifier, DeepSphereUNet
from spheregeo.models.gauge import GaugeClassifier, GaugeUNet
from spheregeo.models.gem_cnn import GemCNN
from spheregeo.models.healpix import HEALPixClassifier, HEALPixUNet
from spheregeo.models.icosahedral import IcosahedralBlock, IcosahedralClassifier, IcosahedralUNet
from spheregeo.models.on_grid import OnGrid
from spheregeo.models.registry import create, names, output_of, register
from spheregeo.models.unet import SphericalUNet

__all__ = [
    "ALIASES",
    "DeepSphereClassifier",
    "DeepSphereUNet",
    "DiscoClassifier",
    "GaugeClassifier",
    "GaugeUNet",
    "GemCNN",
    "HEALPixClassifier",
    "HEALPixUNet",
    "IcosahedralBlock",
    "IcosahedralClassifier",
    "IcosahedralUNet",
    "OnGrid",
    "PixelMLP",
    "PlanarCNN",
    "PlanarUNet",
    "Pointwise",
    "ResidualBlock",
    "SphericalUNet",
    "create",
    "make_conv",
    "make_norm",
    "names",
    "options_of",
    "output_of",
    "register",
    "resolve",
]
