"""Layers for signals on spherical grids."""

from spheregeo.nn.sphere.attention import SphereAttention
from spheregeo.nn.sphere.chebyshev import ChebConv
from spheregeo.nn.sphere.disco import DiscoConv, DiscoConvTranspose
from spheregeo.nn.sphere.healpix import (
    FromFaces,
    HEALPixConv,
    HEALPixFaceConv,
    HEALPixHops,
    HEALPixPad,
    PixelShuffle,
    PixelUnshuffle,
    ToFaces,
)
from spheregeo.nn.sphere.icosahedral import (
    FromCharts,
    IcosahedralBatchNorm,
    IcosahedralConv,
    IcosahedralPool,
    IcosahedralUpsample,
    OrientationPool,
    ToCharts,
)
from spheregeo.nn.sphere.morphology import SphereDiffusion, SphereDilation, SphereErosion
from spheregeo.nn.sphere.needlets import (
    NeedletBlock,
    NeedletConv,
    NeedletLift,
    ScaleInvariants,
    Shrinkage,
    SO3NeedletConv,
)
from spheregeo.nn.sphere.spectral import (
    Equatorial,
    FullSpectrum,
    NearIdentity,
    S2Conv,
    SO3BatchNorm,
    SO3Conv,
    SO3Integrate,
    SO3SpectralPool,
    SO3ToS2,
    SpectralConv,
    SpectralPool,
    SpinConv,
    ZonalConv,
)

IcosahedralNorm = IcosahedralBatchNorm  # the former name

__all__ = [
    "ChebConv",
    "DiscoConv",
    "DiscoConvTranspose",
    "Equatorial",
    "FromCharts",
    "FromFaces",
    "FullSpectrum",
    "HEALPixConv",
    "HEALPixFaceConv",
    "HEALPixHops",
    "HEALPixPad",
    "IcosahedralBatchNorm",
    "IcosahedralConv",
    "IcosahedralPool",
    "IcosahedralUpsample",
    "NearIdentity",
    "NeedletBlock",
    "NeedletConv",
    "NeedletLift",
    "OrientationPool",
    "PixelShuffle",
    "PixelUnshuffle",
    "S2Conv",
    "SO3BatchNorm",
    "SO3Conv",
    "SO3Integrate",
    "SO3NeedletConv",
    "SO3SpectralPool",
    "SO3ToS2",
    "ScaleInvariants",
    "Shrinkage",
    "SpectralConv",
    "SpectralPool",
    "SphereAttention",
    "SphereDiffusion",
    "SphereDilation",
    "SphereErosion",
    "SpinConv",
    "ToCharts",
    "ToFaces",
    "ZonalConv",
]
