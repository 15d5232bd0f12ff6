"""Layers on HEALPix grids alone: convolutions over the eight neighbours, the faces as images, pixel shuffle."""

from spheregeo.nn.sphere.healpix.conv import HEALPixConv, HEALPixFaceConv
from spheregeo.nn.sphere.healpix.hops import HEALPixHops
from spheregeo.nn.sphere.healpix.padding import FromFaces, HEALPixPad, ToFaces
from spheregeo.nn.sphere.healpix.shuffle import PixelShuffle, PixelUnshuffle

__all__ = [
    "FromFaces",
    "HEALPixConv",
    "HEALPixFaceConv",
    "HEALPixHops",
    "HEALPixPad",
    "PixelShuffle",
    "PixelUnshuffle",
    "ToFaces",
]
