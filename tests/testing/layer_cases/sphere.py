"""Layers of fields on the sphere: scalar, needlets, HEALPix, icosahedral, spectral."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import spheregeo.nn as layers
from layer_cases.common import (
    CASES,
    COARSE,
    FINE,
    QUARTER,
    G,
    I,
    batch_norm,
    group_norm,
    on_grid,
    own_twin,
    part_of,
    simple,
    x,
)
from spheregeo.grids import GaussLegendre, Icosahedral
from spheregeo.harmonics import real_harmonics
from spheregeo.spectral import SHT, InverseSHT, NeedletFrame, SO3NeedletFrame

part_of("nn/sphere/test_spectral_layers.py", "SpectralKernel NearIdentity Equatorial FullSpectrum")
part_of("nn/sphere/test_rotations.py", "RotationDensity FourierDensity MixtureDensity")
own_twin("nn/sphere/test_rotations.py", "SphereProjection SO3Lift SO3Rectifier SO3Correlation")
own_twin("nn/sphere/test_healpix_conv.py", "HEALPixConv HEALPixFaceConv")
own_twin("nn/sphere/test_healpix_hops.py", "HEALPixHops")
own_twin(
    "nn/sphere/test_needlets.py",
    "NeedletBlock NeedletConv NeedletLift SO3NeedletConv ScaleInvariants Shrinkage",
)
own_twin("nn/sphere/test_healpix_faces.py", "HEALPixPad PixelShuffle PixelUnshuffle ToFaces FromFaces")
own_twin(
    "nn/sphere/test_icosahedral.py",
    "IcosahedralConv IcosahedralBatchNorm IcosahedralPool IcosahedralUpsample OrientationPool",
    "ToCharts FromCharts",
)
own_twin(
    "nn/sphere/test_spectral_layers.py",
    "S2Conv SO3Conv SO3ToS2 SO3Integrate SO3BatchNorm SO3SpectralPool ZonalConv SpectralConv",
    "SpectralPool SpinConv",
)

on_grid(layers.AreaBatchNorm, lambda grid: layers.AreaBatchNorm(2, grid), twin=batch_norm)
on_grid(layers.AreaGroupNorm, lambda grid: layers.AreaGroupNorm(2, 4, grid), channels=4, twin=group_norm)
on_grid(layers.AreaInstanceNorm, lambda grid: layers.AreaInstanceNorm(2, grid, affine=True), twin=group_norm)
on_grid(layers.ChebConv, lambda grid: layers.ChebConv(2, 3, grid), restores=True)
on_grid(
    layers.LieGraphConv,
    lambda grid: layers.LieGraphConv(2, 3, layers.S2Graph(grid, neighbors=8)),
    restores=True,
)
on_grid(
    layers.LieGraphPool,
    lambda grid: layers.LieGraphPool(layers.S2Graph(grid)),
    equivariance_options={"target": COARSE},
    channel_axis=2,
)
on_grid(
    layers.LieGraphUnpool,
    lambda grid: layers.LieGraphUnpool(layers.S2Graph(grid.refine())),
    equivariance_options={"target": FINE},
    channel_axis=2,
)
on_grid(layers.DiscoConv, lambda grid: layers.DiscoConv(2, 3, grid), restores=True)
on_grid(
    layers.DiscoConvTranspose,
    lambda grid: layers.DiscoConvTranspose(2, 3, grid, grid.refine()),
    restores=True,
    equivariance={"grid": 1e-11, "so3": 0.3},
)
on_grid(
    layers.SphereAttention,
    lambda grid: layers.SphereAttention(4, grid, radius=0.9, heads=2),
    channels=4,
    restores=True,
)
on_grid(layers.SphereDiffusion, lambda grid: layers.SphereDiffusion(2, grid), restores=True)
for of_sphere in (layers.SphereDilation, layers.SphereErosion):
    on_grid(of_sphere, lambda grid, kind=of_sphere: kind(2, grid))
on_grid(layers.Pool, lambda grid: layers.Pool(grid), equivariance_options={"target": COARSE}, channel_axis=2)
on_grid(
    layers.Unpool, lambda grid: layers.Unpool(grid), equivariance_options={"target": FINE}, channel_axis=2
)
on_grid(
    layers.Resample,
    lambda grid: layers.Resample(grid, grid.coarsen()),
    equivariance_options={"target": COARSE},
    channel_axis=2,
)
on_grid(
    layers.GlobalPool,
    lambda grid: layers.GlobalPool(grid),
    twin=lambda layer, x: x @ (layer.grid.areas / layer.grid.areas.sum()),
    channel_axis=2,
)
on_grid(
    layers.GDN,
    lambda grid: layers.GDN(2),
    skip=[
        "first",
        "second",
        "autocast",
    ],  # constants at their bounds pass the gradients that push them back, which are no derivatives
    twin=lambda layer, x: x / (layer.beta[:, None] + torch.einsum("ij,bjn->bin", layer.gamma, x**2)).sqrt(),
)

# ---- needlets: coefficients in, bands or coefficients out

BAND_GRID = GaussLegendre(6, 12)
BAND_FRAME, ROTATIONS = NeedletFrame(2, oversampling=2), SO3NeedletFrame(2)


class OnSphere(nn.Module):
    """A layer of coefficients or of bands between transforms, so that fields go in and out."""

    def __init__(self, layer: nn.Module, decomposes: bool = True) -> None:
        super().__init__()
        self.layer, self.decomposes = layer, decomposes
        self.analysis, self.synthesis = SHT(BAND_GRID, 2), InverseSHT(BAND_GRID, 2)

    def forward(self, x: Tensor) -> Tensor:
        c = self.analysis(x)
        y = self.layer(c if self.decomposes else BAND_FRAME(c))
        return self.synthesis(BAND_FRAME.reconstruct(y) if isinstance(y, list) else y)


class OnRotations(nn.Module):
    """A lift, and a layer on SO(3) if there is one, between transforms; the mean over γ is the field that goes out."""

    def __init__(self, lift: nn.Module, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.lift, self.layer = lift, layer
        self.analysis, self.synthesis = SHT(BAND_GRID, 2), InverseSHT(BAND_GRID, 2)
        self.columns = [0, *range(2, 10, 3), *range(12, 35, 5)]  # n = 0 of the blocks of degrees 0, 1 and 2

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(self.analysis(x))
        if self.layer is not None:
            h = ROTATIONS.reconstruct(self.layer(h))
        return self.synthesis(h[..., self.columns])


def needlets(kind: type, layer: nn.Module, inputs: Any, bound: float, **more: Any) -> None:
    simple(
        kind,
        lambda: {
            "layer": layer,
            "inputs": inputs,
            "where": BAND_GRID,
            "equivariant": OnSphere(layer, isinstance(inputs, Tensor)),
            "equivariance": {"so3": bound},
            "equivariance_options": {"lmax": 2, "channels": 2},
            **more,
        },
    )


def bands() -> list[Tensor]:
    return [b.detach() for b in BAND_FRAME.double()(torch.randn(2, 2, 9, dtype=torch.float64))]


needlets(layers.NeedletConv, layers.NeedletConv(2, 3, BAND_FRAME), torch.randn(2, 2, 9), 1e-11)
needlets(
    layers.NeedletLift, layers.NeedletLift(2, 3, 2), torch.randn(2, 2, 9), 1e-11,
    equivariant=OnRotations(layers.NeedletLift(2, 3, 2)),
)  # fmt: skip
needlets(
    layers.SO3NeedletConv, layers.SO3NeedletConv(2, 2, ROTATIONS), torch.randn(2, 2, 35), 1e-11,
    equivariant=OnRotations(layers.NeedletLift(2, 2, 2), layers.SO3NeedletConv(2, 2, ROTATIONS)),
)  # fmt: skip
needlets(layers.NeedletBlock, layers.NeedletBlock(2, 2, BAND_FRAME), torch.randn(2, 2, 9), 0.05)
needlets(
    layers.Shrinkage, layers.Shrinkage(2, BAND_FRAME), [bands()], 0.05,
    bad_inputs=[((bands()[:1],), "bands")], empty_inputs=([b[:0] for b in bands()],),
)  # fmt: skip
needlets(
    layers.ScaleInvariants, layers.ScaleInvariants(BAND_FRAME), [bands()], 0.05,
    bad_inputs=[((bands()[:1],), "bands")], empty_inputs=([b[:0] for b in bands()],), skip=["equivariance"],
)  # fmt: skip

# ---- HEALPix: exact under quarter turns about z

for convolution in (layers.HEALPixConv, layers.HEALPixFaceConv, layers.HEALPixHops):
    on_grid(
        convolution,
        lambda grid, kind=convolution: kind(2, 3, grid),
        equivariance={"so3": 1e-10},
        equivariance_options=QUARTER,
    )
on_grid(
    layers.PixelShuffle,
    lambda grid: layers.PixelShuffle(grid),
    channels=4,
    equivariance={"so3": 1e-10},
    equivariance_options={**QUARTER, "target": FINE},
)
on_grid(
    layers.PixelUnshuffle,
    lambda grid: layers.PixelUnshuffle(grid),
    channel_axis=2,
    equivariance={"so3": 1e-10},
    equivariance_options={**QUARTER, "target": COARSE},
)
on_grid(
    layers.ToFaces,
    lambda grid: layers.ToFaces(grid),
    equivariant=nn.Sequential(layers.ToFaces(G), layers.FromFaces(G)),
    channel_axis=2,
)
simple(
    layers.FromFaces,
    lambda: {
        "layer": layers.FromFaces(G),
        "inputs": torch.randn(24, 2, 2, 2),
        "equivariant": nn.Sequential(layers.ToFaces(G), layers.FromFaces(G)),
        "where": G,
        "equivariance": {"grid": 1e-12},
        "channel_axis": 2,
    },
)
simple(
    layers.HEALPixPad,  # padded faces lie on no grid; tests/nn/sphere/test_healpix_faces.py turns them
    lambda: {"layer": layers.HEALPixPad(G, 1), "inputs": x(2), "channel_axis": 2, "skip": ["equivariance"]},
)

# ---- icosahedral charts: exact under the 60 rotations


def charts(
    kind: type, make: Callable[[], nn.Module], channels: int, *around: Any, points: int = 42, **more: Any
) -> None:
    """A layer between features on charts; ``around`` are modules before and after it that make scalar fields of them."""

    def build() -> dict[str, Any]:
        layer = make()
        net = nn.Sequential(*[layer if part is None else part for part in around]) if around else layer
        where = Icosahedral(1 if points == 42 else 2)
        arguments = {"layer": layer, "inputs": x(channels, points), "equivariant": net, "where": where}
        return {**arguments, "equivariance": {"grid": 1e-11}, **more}

    CASES[kind] = build


def lifting(level: int = 1, out: int = 2) -> nn.Module:
    return layers.IcosahedralConv(2, out, level, in_type="scalar")


charts(layers.IcosahedralConv, lifting, 2, None, layers.OrientationPool(2, 1))
charts(
    layers.IcosahedralBatchNorm,
    lambda: layers.IcosahedralBatchNorm(2, 1),
    12,
    lifting(),
    None,
    layers.OrientationPool(2, 1),
)
charts(
    layers.IcosahedralPool, lambda: layers.IcosahedralPool(2, 2), 12, lifting(2), None, layers.OrientationPool(2, 1),
    points=162, equivariance_options={"target": I},
)  # fmt: skip
charts(
    layers.IcosahedralUpsample, lambda: layers.IcosahedralUpsample(2, 1), 12, lifting(), None, layers.OrientationPool(2, 2),
    equivariance_options={"target": Icosahedral(2)},
)  # fmt: skip
charts(layers.OrientationPool, lambda: layers.OrientationPool(2, 1), 12, lifting(), None)
charts(layers.ToCharts, lambda: layers.ToCharts(1), 2, None, layers.FromCharts(1), channel_axis=2)
simple(
    layers.FromCharts,
    lambda: {
        "layer": layers.FromCharts(1),
        "inputs": torch.randn(2, 2, 5, 2, 4),
        "equivariant": nn.Sequential(layers.ToCharts(1), layers.FromCharts(1)),
        "where": I,
        "equivariance": {"grid": 1e-12},
        "channel_axis": 2,
    },
)

# ---- spectral layers: exact under any rotation of signals below the band limit

GL, FINER, WIDE = GaussLegendre(5, 10), GaussLegendre(7, 14), GaussLegendre(12, 24)


def spectral(
    kind: type, make: Callable[[Any], nn.Module], *around: Any, shape: tuple[int, ...] = GL.shape, **more: Any
) -> None:
    """A layer between grids of the sphere or of SO(3); ``around`` are modules that make fields on the sphere of its own."""

    def build() -> dict[str, Any]:
        layer, wide = make(GL), make(WIDE)
        net = nn.Sequential(*[wide if part is None else part for part in around]) if around else wide
        arguments = {"layer": layer, "inputs": torch.randn(2, 2, *shape), "equivariant": net, "where": WIDE}
        arguments |= {"equivariance": {"so3": 1e-10}, "equivariance_options": {"lmax": 3, "channels": 2}}
        if shape == GL.shape:
            arguments |= {"other": make(FINER), "other_inputs": torch.randn(2, 2, *FINER.shape)}
        return arguments | more

    CASES[kind] = build


LIFT, TO_S2 = layers.S2Conv(2, 2, WIDE, 2), layers.SO3ToS2(2, 2, 2, WIDE)
spectral(layers.S2Conv, lambda grid: layers.S2Conv(2, 2, grid, 2, lmax=2), None, TO_S2)
spectral(layers.SO3Conv, lambda grid: layers.SO3Conv(2, 2, 2), LIFT, None, TO_S2, shape=(6, 6, 6))
spectral(
    layers.SO3ToS2,
    lambda grid: layers.SO3ToS2(2, 3, 2, grid, kernel=layers.NearIdentity()),
    LIFT, None, shape=(6, 6, 6),
)  # fmt: skip
spectral(
    layers.SO3Integrate, lambda grid: layers.SO3Integrate(2), LIFT, None, shape=(6, 6, 6), channel_axis=2
)
spectral(layers.SO3BatchNorm, lambda grid: layers.SO3BatchNorm(2, 2), LIFT, None, TO_S2, shape=(6, 6, 6))
spectral(
    layers.SO3SpectralPool,
    lambda grid: layers.SO3SpectralPool(2, 1),
    LIFT, None, layers.SO3ToS2(2, 2, 1, WIDE), shape=(6, 6, 6), channel_axis=2,
)  # fmt: skip
spectral(layers.ZonalConv, lambda grid: layers.ZonalConv(2, 3, grid, lmax=4, anchors=3))
spectral(layers.SpectralConv, lambda grid: layers.SpectralConv(2, 3, grid, lmax=4))
spectral(layers.SpectralPool, lambda grid: layers.SpectralPool(grid, grid, lmax=4), channel_axis=2)
spectral(
    layers.SpinConv,
    lambda grid: layers.SpinConv("2x0", "1x0 + 1x1", grid, lmax=3),
    equivariant=layers.SpinConv("2x0", "1x0 + 1x1", GaussLegendre(16, 32), lmax=6),
    where=GaussLegendre(16, 32),
    equivariance_options={"lmax": 3},
)


# ---- from images to rotations: maps to points, and coefficients on SO(3), which are rotated in nn/sphere/test_rotations.py

on_grid(
    layers.SphereCoefficients,
    lambda grid: layers.SphereCoefficients(grid, 2),
    twin=lambda layer, x: torch.einsum(
        "bcp,p,pk->bck", x, layer.grid.areas.to(x), real_harmonics(layer.grid.points, 2).to(x)
    ),
    skip=["equivariance"],
    channel_axis=2,
)
simple(
    layers.SphereProjection,
    lambda: {
        "layer": layers.SphereProjection(G),
        "inputs": torch.randn(2, 3, 4, 5),
        "skip": [
            "equivariance",
            "errors",
        ],  # maps of any channels and sizes; quarter turns are measured in its test
    },
)
simple(
    layers.SO3Lift,
    lambda: {
        "layer": layers.SO3Lift(2, 3, 1),
        "inputs": x(2, 4),
        "skip": ["equivariance"],
        "channel_axis": 1,
    },
)
simple(
    layers.SO3Rectifier,
    lambda: {
        "layer": layers.SO3Rectifier(2, 1),
        "inputs": x(2, 10),
        "skip": ["equivariance", "first", "second"],  # kinks
        "channel_axis": 1,
    },
)
simple(
    layers.SO3Correlation,
    lambda: {
        "layer": layers.SO3Correlation(2, 3, 1),
        "inputs": x(2, 10),
        "skip": ["equivariance"],
        "channel_axis": 1,
    },
)
