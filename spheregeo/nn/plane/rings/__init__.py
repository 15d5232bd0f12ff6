"""Convolutions with isotropic kernels: Gaussian-mixture rings (GMR)."""

from spheregeo.nn.plane.rings.conv import GMRConv1d, GMRConv2d, GMRConv3d
from spheregeo.nn.plane.rings.convert import convert_to_gmr
from spheregeo.nn.plane.rings.transpose import GMRConvTranspose1d, GMRConvTranspose2d, GMRConvTranspose3d

__all__ = [
    "GMRConv1d",
    "GMRConv2d",
    "GMRConv3d",
    "GMRConvTranspose1d",
    "GMRConvTranspose2d",
    "GMRConvTranspose3d",
    "convert_to_gmr",
]


def __dir__() -> list[str]:
    """The layers, without the files that they are written in."""
    return __all__
