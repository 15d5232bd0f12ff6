"""Every public layer passes the compliance suite. A newly exported class without a case here fails, and is told what to add."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn
from torch.nn import functional as F

import spheregeo.nn as layers
from spheregeo.grids import Equiangular, GaussLegendre, HEALPix, Icosahedral
from spheregeo.groups import axis_angle
from spheregeo.spectral import SHT, InverseSHT, NeedletFrame, SO3NeedletFrame
from spheregeo.testing import check_layer

TESTS = Path(__file__).resolve().parents[1]
INDIRECT = "SO2Maps CGPath PathTable"  # tested through SteerableConv and SO2Linear
Case = Callable[[], dict[str, Any]]
CASES: dict[type, Case] = {}

# public classes that are no layer of their own: the test file that holds them
PARTS = {
    # flows give pairs of features and log-determinants
    **dict.fromkeys(["Flow", "InvariantNormal"], "nn/plane/flows/test_flow.py"),
    **dict.fromkeys(
        [
            "FlowLayer",
            "GroupActNorm",
            "GroupAutoregressive",
            "GroupCoupling",
            "GroupMix",
            "GroupResidual",
            "GroupSqueeze",
            "LipschitzConv2d",
            "Logit",
        ],
        "nn/plane/flows/test_layers.py",
    ),
    # the tables of SteerableConv's products, and their matrices in edge frames, which SO2Linear applies
    **dict.fromkeys(["SO2Maps", "CGPath", "PathTable"], "nn/space/test_steerable_conv.py"),
    "ClusterGeometry": "nn/surface/test_pooling.py",
    "PlanarBasis": "nn/plane/test_basis.py",
    "ExactBuffers": "nn/test_exact_buffers.py",
    "EdgeGeometry": "nn/space/test_steerable_conv.py",
    "EdgeList": "nn/space/test_steerable_conv.py",
    "GaugeGeometry": "nn/surface/test_gauge_conv.py",
    **dict.fromkeys(
        ["AspectWarp", "GroupWarp", "HemisphereWarp", "LogPolarWarp", "PerspectiveWarp"],
        "nn/plane/test_warp.py",
    ),
    "PixelPose": "nn/plane/test_subsample.py",
    "SpinType": "nn/irreps/test_spin.py",
    "FrameGate": "nn/space/test_edge_frame.py",
    "FrameProduct": "nn/space/test_edge_frame.py",
    "FrameRotation": "nn/space/test_edge_frame.py",
    "PointProduct": "nn/space/test_edge_frame.py",
    **dict.fromkeys(
        ["LieGraph", "LieGraphEdges", "R2Graph", "S2Graph", "SE2Graph", "SO3Graph"],
        "nn/plane/test_lie_graph.py",
    ),
    **dict.fromkeys(["Stacks", "ToStacks", "FromStacks"], "nn/irreps/test_stacks.py"),
    **dict.fromkeys(
        ["SpectralKernel", "NearIdentity", "Equatorial", "FullSpectrum"], "nn/sphere/test_spectral_layers.py"
    ),
}


# layers without a sparse operator, whose slow twin is written out in their own test file
OWN_TWIN = {
    **dict.fromkeys(["IrrepsLinear", "IrrepsDropout"], "nn/irreps/test_linear.py"),
    **dict.fromkeys(["IrrepsGate", "NormActivation"], "nn/irreps/test_gates.py"),
    **dict.fromkeys(["IrrepsBatchNorm", "IrrepsLayerNorm", "IrrepsInstanceNorm"], "nn/irreps/test_norm.py"),
    **dict.fromkeys(
        ["SphereActivation", "SeparableSphereActivation", "SO3Activation"], "nn/irreps/test_sphere_activation.py"
    ),
    "SphereMLP": "nn/irreps/test_sphere_mlp.py",
    **dict.fromkeys(["SpinLinear", "SpinActivation"], "nn/irreps/test_spin.py"),
    "SO2Linear": "nn/space/test_steerable_conv.py",
    **dict.fromkeys(
        [
            "StatisticsNorm", "VectorBatchNorm", "VectorLinearReLU", "VectorEdgeConv", "VectorInvariants", "VectorMaxPool",
            "VectorMeanPool",
        ],
        "nn/space/test_vector_neurons.py",
    ),
    "QuotientConv": "nn/test_quotient.py",
    **dict.fromkeys(["SteerableVoxelConv", "LowPassDownsample"], "nn/voxel/test_conv.py"),
    "GroupConv2d": "nn/plane/test_group_conv.py",
    "SampledGroupConv2d": "nn/plane/test_sampled.py",
    "HarmonicConv2d": "nn/plane/test_harmonic_conv.py",
    **dict.fromkeys(
        [
            "CakeLift", "FieldMix", "MaxPlusConv2d", "PlaneConvection", "PlaneDiffusion", "PlaneDilation", "PlaneErosion",
            "PlanePDELayer", "SE2Convection", "SE2Diffusion", "SE2Dilation", "SE2Erosion", "SE2PDELayer",
        ],
        "nn/plane/test_pde.py",
    ),
    **dict.fromkeys(["LinearUpsample", "SteerableConv2d"], "nn/plane/test_steerable_conv.py"),
    **dict.fromkeys(["Warp2d", "PeriodicConv2d", "WarpedConv2d"], "nn/plane/test_warp.py"),
    **dict.fromkeys(["CosetSubsample2d", "CosetUnsample2d"], "nn/plane/test_subsample.py"),
    **dict.fromkeys(
        [
            "GMRConv1d", "GMRConv2d", "GMRConv3d", "GMRConvTranspose1d", "GMRConvTranspose2d", "GMRConvTranspose3d",
        ],
        "nn/plane/test_rings.py",
    ),
    **dict.fromkeys(
        ["FieldGroupNorm2d", "GroupBatchNorm2d", "GroupDropout", "GroupPool"], "nn/plane/test_group_norm.py"
    ),
    **dict.fromkeys(
        ["FieldBatchNorm", "FieldInstanceNorm", "FieldLayerNorm", "RegularBatchNorm"], "nn/surface/test_field_norm.py"
    ),
    **dict.fromkeys(["FieldBias", "FieldDropout", "FieldLinear"], "nn/surface/test_linear.py"),
    **dict.fromkeys(
        ["GatedNonlinearity", "NormNonlinearity", "RegularNonlinearity"], "nn/surface/test_nonlinearity.py"
    ),
    **dict.fromkeys(["HEALPixConv", "HEALPixFaceConv"], "nn/sphere/test_healpix_conv.py"),
    "HEALPixHops": "nn/sphere/test_healpix_hops.py",
    **dict.fromkeys(
        ["NeedletBlock", "NeedletConv", "NeedletLift", "SO3NeedletConv", "ScaleInvariants", "Shrinkage"],
        "nn/sphere/test_needlets.py",
    ),
    **dict.fromkeys(
        ["HEALPixPad", "PixelShuffle", "PixelUnshuffle", "ToFaces", "FromFaces"], "nn/sphere/test_healpix_faces.py"
    ),
    **dict.fromkeys(
        [
            "IcosahedralConv", "IcosahedralBatchNorm", "IcosahedralPool", "IcosahedralUpsample", "OrientationPool", "ToCharts",
            "FromCharts",
        ],
        "nn/sphere/test_icosahedral.py",
    ),
    **dict.fromkeys(
        [
            "S2Conv", "SO3Conv", "SO3ToS2", "SO3Integrate", "SO3BatchNorm", "SO3SpectralPool", "ZonalConv", "SpectralConv",
            "SpectralPool", "SpinConv",
        ],
        "nn/sphere/test_spectral_layers.py",
    ),
}  # fmt: skip


def public_classes() -> dict[type, str]:
    """Classes in ``__all__`` of ``spheregeo.nn`` and its packages, with the place where they are exported."""
    inner = [m.name for m in pkgutil.walk_packages(layers.__path__, "spheregeo.nn.") if m.ispkg]
    found: dict[type, str] = {}
    for name in ["spheregeo.nn", *inner]:
        room = importlib.import_module(name)
        for member in getattr(room, "__all__", ()):
            value = getattr(room, member)
            if inspect.isclass(value):
                found.setdefault(value, f"{name}.{member}")
    return found


def case(kind: type) -> Callable[[Case], Case]:
    """Enter the arguments of :func:`check_layer` for a class."""

    def enter(make: Case) -> Case:
        CASES[kind] = make
        return make

    return enter


def test_every_public_layer_has_a_case() -> None:
    missing = [
        place for kind, place in public_classes().items() if kind not in CASES and kind.__name__ not in PARTS
    ]
    assert not missing, "\n".join(
        f"{place} has no case in {Path(__file__).name}; add one that builds it small, with an input:\n"
        f"    simple({place.rsplit('.', 1)[1]}, lambda: dict(layer={place.rsplit('.', 1)[1]}(2, 3, G), inputs=x(2), "
        'equivariance={"grid": 1e-11}))'
        for place in missing
    )
    lost = [
        name
        for name, file in {**PARTS, **OWN_TWIN}.items()
        if name not in (TESTS / file).read_text() + INDIRECT
    ]
    assert not lost, f"the test files named here for {', '.join(lost)} hold nothing of them"


@pytest.mark.parametrize(
    "kind", sorted(public_classes(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
)
def test_compliance(kind: type) -> None:
    if kind.__name__ in PARTS:
        return  # held by its own test file, see above
    if kind not in CASES:
        pytest.fail("no case; see test_every_public_layer_has_a_case")
    arguments = CASES[kind]()
    skip = [*arguments.pop("skip", ()), *(["twin"] if kind.__name__ in OWN_TWIN else [])]
    check_layer(**arguments, skip=skip)


# ---- small places and inputs

G, I, E = HEALPix(2), Icosahedral(1), Equiangular(6, 12)
FINE, COARSE = HEALPix(4), HEALPix(1)
KIND = "2x0 + 2x1 + 1x2"
IRREPS = "2x0e + 1x0o + 2x1o + 1x1e"
QUARTER = {"rotations": axis_angle((0, 0, 1), math.pi / 2), "lmax": 2}
EDGES = torch.tensor([[1, 2, 0, 3, 0, 4, 5, 6, 7, 6], [0, 0, 1, 1, 2, 3, 4, 5, 6, 7]])
GROUP = torch.tensor([0, 0, 0, 1, 2, 2, 2, 3])


def x(channels: int, points: int = 48, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, points)


def rows(irreps: str, count: int = 8) -> Tensor:
    return torch.randn(count, Irreps(irreps).dim)


def places(count: int = 8) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(5))


def simple(kind: type, make: Case) -> None:
    CASES[kind] = make


def on_grid(kind: type, make: Callable[[Any], nn.Module], channels: int = 2, **more: Any) -> None:
    """A layer of scalar fields on a HEALPix grid, exact under the grid's rotations, that loads at another resolution."""

    def build() -> dict[str, Any]:
        arguments = {"layer": make(G), "inputs": x(channels), "where": G, "equivariance": {"grid": 1e-11}}
        arguments |= {"other": make(FINE), "other_inputs": x(channels, 192)}
        return arguments | {
            key: value() if callable(value) and key == "twin_of" else value for key, value in more.items()
        }

    CASES[kind] = build


def pointwise(
    kind: type, make: Callable[[], nn.Module], irreps: str = IRREPS, bound: float = 1e-11, **more: Any
) -> None:
    """A layer of irreps at each point."""

    def build() -> dict[str, Any]:
        layer = make()
        into = getattr(layer, "irreps_in", None) or getattr(layer, "irreps", irreps)
        arguments = {
            "layer": layer,
            "inputs": rows(str(into)),
            "where": places(),
            "equivariance": {"o3": bound},
        }
        return {**arguments, "channel_axis": -1, **more}

    CASES[kind] = build


class AsVectors(nn.Module):
    """Vector neurons between features of irreps C x 1o."""

    def __init__(self, layer: nn.Module, *rest: Any, invariant: bool = False) -> None:
        super().__init__()
        self.layer, self.rest, self.invariant = layer, rest, invariant

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.unflatten(1, (-1, 3)).transpose(1, 2), *self.rest)
        return y if self.invariant else y.transpose(1, 2).flatten(1)


def vectors(
    kind: type, make: Callable[[], nn.Module], *rest: Any, out: str = "4x1o", group: str = "o3", **more: Any
) -> None:
    def build() -> dict[str, Any]:
        layer = make()
        arguments = {
            "layer": layer,
            "inputs": (torch.randn(8, 3, 5), *rest),
            "equivariant": AsVectors(layer, *rest, invariant=out.endswith("0e")),
            "where": places(),
            "field_in": "5x1o",
            "field_out": out,
            "equivariance": {group: 1e-11},
        }
        return {**arguments, "channel_axis": -1, **more}

    CASES[kind] = build


# ---- scalar fields on grids


def batch_norm(layer: Any, x: Tensor) -> Tensor:
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return (x - layer.running_mean[:, None]) * scale[:, None] + layer.bias[:, None]


def group_norm(layer: Any, x: Tensor) -> Tensor:
    share = layer.grid.areas / layer.grid.areas.sum()
    groups = getattr(layer, "num_groups", x.shape[1])
    parts = x.unflatten(1, (groups, -1))
    mean = (parts @ share).mean(2)[..., None, None]
    variance = (((parts - mean) ** 2) @ share).mean(2)[..., None, None]
    y = ((parts - mean) / (variance + layer.eps).sqrt()).flatten(1, 2)
    return y if layer.weight is None else y * layer.weight[:, None] + layer.bias[:, None]


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


# functions on cosets, whose equivariance the own tests hold against all linear maps
simple(
    layers.QuotientConv,
    lambda: {
        "layer": layers.QuotientConv("D3", 2, 3),
        "inputs": torch.randn(2, 12),
        "skip": ["equivariance"],
    },
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


# ---- tangent fields

on_grid(layers.GaugeConv, lambda grid: layers.GaugeConv(KIND, "1x0 + 2x1", grid), channels=8)
on_grid(
    layers.GaugeBlock, lambda grid: layers.GaugeBlock(KIND, grid), channels=8, field_in=KIND, field_out=KIND
)
on_grid(layers.FieldBatchNorm, lambda grid: layers.FieldBatchNorm(KIND, grid), channels=8)
on_grid(layers.FieldInstanceNorm, lambda grid: layers.FieldInstanceNorm(KIND, grid), channels=8)
on_grid(layers.FieldLayerNorm, lambda grid: layers.FieldLayerNorm(KIND), channels=8)
on_grid(layers.FieldLinear, lambda grid: layers.FieldLinear(KIND, "1x0 + 2x1"), channels=8)
on_grid(layers.FieldBias, lambda grid: layers.FieldBias(KIND), channels=8)
on_grid(layers.FieldDropout, lambda grid: layers.FieldDropout(KIND), channels=8)
on_grid(layers.GatedNonlinearity, lambda grid: layers.GatedNonlinearity(KIND), channels=8)
on_grid(layers.NormNonlinearity, lambda grid: layers.NormNonlinearity(KIND), channels=8)
on_grid(layers.RegularBatchNorm, lambda grid: layers.RegularBatchNorm(KIND, grid), channels=8)
on_grid(
    layers.RegularNonlinearity,
    lambda grid: layers.RegularNonlinearity(KIND),
    channels=8,
    equivariance={"grid": 0.01},
)
on_grid(
    layers.FieldPool,
    lambda grid: layers.FieldPool(KIND, grid),
    channels=8,
    equivariance_options={"target": COARSE},
)
on_grid(
    layers.FieldUnpool,
    lambda grid: layers.FieldUnpool(KIND, grid.refine()),
    channels=8,
    equivariance_options={"target": FINE},
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


# ---- irreps at points

pointwise(layers.IrrepsLinear, lambda: layers.IrrepsLinear(IRREPS, "1x0e + 3x1o + 1x0o"))
pointwise(layers.IrrepsGate, lambda: layers.IrrepsGate(IRREPS))
pointwise(layers.NormActivation, lambda: layers.NormActivation(IRREPS))
pointwise(layers.IrrepsBatchNorm, lambda: layers.IrrepsBatchNorm(IRREPS))
pointwise(layers.IrrepsLayerNorm, lambda: layers.IrrepsLayerNorm(IRREPS))
pointwise(layers.IrrepsDropout, lambda: layers.IrrepsDropout(IRREPS))
pointwise(layers.SphereActivation, lambda: layers.SphereActivation("2x0e + 2x1o"), bound=0.02)
pointwise(
    layers.SeparableSphereActivation, lambda: layers.SeparableSphereActivation("2x0e + 2x1o"), bound=0.02
)
pointwise(layers.SO3Activation, lambda: layers.SO3Activation("1x0e + 3x1e"), bound=0.05)
pointwise(layers.SphereMLP, lambda: layers.SphereMLP("2x0e + 2x1o", [4]), bound=0.02)

SPIN = layers.SpinType("2x0 + 1x1", 2)
pointwise(
    layers.SpinLinear,
    lambda: layers.SpinLinear(SPIN, SPIN),
    str(SPIN.irreps),
    field_in=SPIN.irreps,
    field_out=SPIN.irreps,
)
pointwise(
    layers.SpinActivation,
    lambda: layers.SpinActivation(SPIN),
    str(SPIN.irreps),
    0.05,
    field_in=SPIN.irreps,
    field_out=SPIN.irreps,
)


# ---- points and edges


def plain_steerable(layer: Any, *inputs: Any) -> Tensor:
    """The same weights by e3nn's order of work: edge by edge, products first."""
    name = "method" if hasattr(layer, "method") else "engine"
    before = getattr(layer, name)
    setattr(layer, name, "tensor")
    try:
        y: Tensor = layer(*inputs)
    finally:
        setattr(layer, name, before)
    return y


@case(layers.SteerableConv)
def steerable() -> dict[str, Any]:
    return {
        "layer": layers.SteerableConv("2x0e + 1x1o", "1x0e + 1x1o + 1x1e", lmax=2),
        "inputs": (rows("2x0e + 1x1o"), places(), layers.EdgeList.of(EDGES, 8)),
        "empty_inputs": (rows("2x0e + 1x1o", 0), places(0), layers.EdgeList.of(EDGES[:, :0], 0)),
        "twin": plain_steerable,
        "where": places(20),
        "equivariance": {"o3": 1e-11},
        "channel_axis": -1,
    }


def plain_implicit(layer: Any, x: Tensor, positions: Tensor, edges: Any) -> Tensor:
    """One matrix for each edge."""
    source, target = edges.edge_index
    messages = torch.einsum(
        "eij,ej->ei", layer.kernel(positions[source] - positions[target], None), x[source]
    )
    y = x.new_zeros(len(positions), messages.shape[1]).index_add(0, target, messages)
    return y / torch.bincount(target, minlength=len(positions)).clamp(min=1)[:, None] + layer.fixed()


@case(layers.ImplicitConv)
def implicit() -> dict[str, Any]:
    return {
        "layer": layers.ImplicitConv("2x0e + 1x1o", "1x0e + 1x1o", hidden=3, radius=2.0),
        "inputs": (rows("2x0e + 1x1o"), places(), layers.EdgeList.of(EDGES, 8)),
        "empty_inputs": (rows("2x0e + 1x1o", 0), places(0), layers.EdgeList.of(EDGES[:, :0], 0)),
        "twin": plain_implicit,
        "where": places(20),
        "equivariance": {"o3": 1e-11},
        "channel_axis": -1,
    }


class InFrames(nn.Module):
    """``SO2Linear`` between the frames of edges and back, as features of points."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, geometry: Any) -> Tensor:
        edges = x.index_select(0, geometry.edges.source)
        scalars, vectors = (
            edges[:, :2, None].transpose(1, 2),
            edges[:, 2:].unflatten(1, (1, 3)).transpose(1, 2),
        )
        d = geometry.frames(1)[1]
        a, b = self.layer([scalars, d @ vectors])
        b = d.mT @ b
        return geometry.scatter(torch.cat([a.transpose(1, 2).flatten(1), b.transpose(1, 2).flatten(1)], 1))


@case(layers.SO2Linear)
def so2() -> dict[str, Any]:
    layer = layers.SO2Linear("2x0e + 1x1o", "2x0e + 2x1o")
    return {
        "layer": layer,
        "inputs": ([torch.randn(6, 1, 2), torch.randn(6, 3, 1)],),
        "equivariant": InFrames(layer),
        "where": places(20),
        "field_in": "2x0e + 1x1o",
        "field_out": "2x0e + 2x1o",
        "equivariance": {"o3": 1e-11},
        "skip": ["errors"],  # stacks are plain lists
    }


@pytest.mark.parametrize("method", ["product", "so2", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_points_without_neighbours_get_the_constant_part(method: str, dtype: torch.dtype) -> None:
    """No edges at all: zeros (or the bias of an implicit kernel), and gradients that exist and are zero."""
    edges = layers.EdgeList.of(EDGES[:, :0], 8)
    steerable = layers.SteerableConv("2x0e + 1x1o", "1x0e + 1x1o", lmax=1, method=method)
    given = rows("2x0e + 1x1o").to(dtype).requires_grad_()
    y = steerable(given, places(), edges)
    y.sum().backward()
    assert y.dtype == dtype and y.shape == (8, 4) and not bool(y.any())
    assert given.grad is not None and not bool(given.grad.any())
    implicit = layers.ImplicitConv("2x0e + 1x1o", "1x0e + 1x1o", hidden=3, radius=2.0)
    torch.testing.assert_close(implicit(given.float(), places(), edges), implicit.fixed().expand(8, 4))
    vector = layers.VectorEdgeConv(5, 4)
    assert not bool(vector(torch.randn(8, 3, 5), EDGES[:, :0]).any())


simple(
    layers.RadialBasis,  # functions of lengths, which nothing turns
    lambda: {
        "layer": layers.RadialBasis(2.0, 4),
        "inputs": 0.2 + torch.rand(6),
        "twin": lambda layer, r: (
            (
                math.sqrt(2)
                * torch.sin(math.pi * torch.arange(1, 5, dtype=r.dtype) * r[:, None] / 2)
                / (math.pi * r[:, None] / 2)
            )
            * layers.space.polynomial_envelope(r / 2)[:, None]
        ),
        "skip": ["equivariance", "errors"],
    },
)
simple(
    layers.RadialNetwork,
    lambda: {
        "layer": layers.RadialNetwork(4, [8], 3),
        "inputs": (torch.randn(6, 4), torch.rand(6)),
        "twin": lambda layer, b, e: (
            F.silu(
                F.linear(
                    F.silu(F.linear(b, layer.layers[0].weight, layer.layers[0].bias)),
                    layer.layers[2].weight,
                    layer.layers[2].bias,
                )
            )
            * e[:, None]
        ),
        "skip": ["equivariance", "errors"],
    },
)
simple(
    layers.space.StatisticsNorm,
    lambda: {
        "layer": layers.space.StatisticsNorm(4),
        "inputs": torch.randn(6, 4),
        "skip": ["equivariance", "errors"],
    },
)
on_grid(layers.BatchNorm, lambda grid: layers.BatchNorm(2), twin=batch_norm)
on_grid(
    layers.SampleDropout, lambda grid: layers.SampleDropout(0.3), twin=lambda layer, x: x, skip=["errors"]
)
simple(
    layers.irreps.NormalizedActivation,
    lambda: {
        "layer": layers.irreps.NormalizedActivation("silu"),
        "inputs": torch.randn(6, 4),
        "twin": lambda layer, x: F.silu(x) * layer.factor,
        "skip": ["equivariance", "errors"],
    },
)


@case(layers.irreps.IrrepsInstanceNorm)
def instance_norm() -> dict[str, Any]:
    layer = layers.irreps.IrrepsInstanceNorm(IRREPS)
    return {
        "layer": layer,
        "inputs": (rows(IRREPS), GROUP, 4),
        "equivariant": lambda x: layer.to(x)(x, GROUP, 4),
        "where": places(),
        "field_in": IRREPS,
        "field_out": IRREPS,
        "equivariance": {"o3": 1e-11},
        "channel_axis": -1,
    }


# ---- vector neurons

vectors(
    layers.VectorLinear,
    lambda: layers.VectorLinear(5, 4),
    twin=lambda layer, v: v @ layer.weight.T,
    skip=["errors"],
)
vectors(layers.VectorBatchNorm, lambda: layers.VectorBatchNorm(5), out="5x1o", skip=["errors"])
vectors(layers.VectorLinearReLU, lambda: layers.VectorLinearReLU(5, 4), skip=["errors"])
vectors(layers.VectorEdgeConv, lambda: layers.VectorEdgeConv(5, 4), EDGES, skip=["errors"])
vectors(layers.VectorInvariants, lambda: layers.VectorInvariants(5), out="15x0e", skip=["errors"])
NO_POINTS = {"empty_inputs": (torch.zeros(0, 3, 5), GROUP[:0], 4)}
vectors(
    layers.VectorMaxPool, lambda: layers.VectorMaxPool(5), GROUP, 4, out="5x1o", skip=["errors"], **NO_POINTS
)
vectors(layers.VectorMeanPool, layers.VectorMeanPool, GROUP, 4, out="5x1o", skip=["errors"], **NO_POINTS)


# ---- voxels


@case(layers.SteerableVoxelConv)
def voxels() -> dict[str, Any]:
    layer = layers.SteerableVoxelConv("1x0e + 1x1o", "1x0e + 1x1o", 3)
    return {
        "layer": layer,
        "inputs": torch.randn(1, 4, 4, 4, 4),
        "where": (4, 4, 4),
        "equivariance": {"o3": 1e-11},
    }


simple(
    layers.LowPassDownsample,
    lambda: {
        "layer": layers.LowPassDownsample(2),
        "inputs": torch.randn(1, 2, 4, 4, 4),
        "where": (5, 5, 5),
        "equivariance": {"o3": 1e-11},
        "bad_inputs": [(torch.randn(2, 4, 4), "x")],
    },
)


# ---- images; exact under every element of the group in their own test files


POSE = layers.PixelPose(torch.tensor([[0, 2], [1, 3]]), torch.tensor([[1, 3], [1, 3]]), (4, 4))


def on_images(kind: type, make: Callable[[], nn.Module], channels: int, **more: Any) -> None:
    simple(
        kind,
        lambda: {"layer": make(), "inputs": torch.randn(2, channels, 4, 4), "skip": ["equivariance"], **more},
    )


on_images(layers.GMRConv2d, lambda: layers.GMRConv2d(2, 3, 3, stride=2, padding=1, form="rings"), 2)
on_images(layers.GMRConvTranspose2d, lambda: layers.GMRConvTranspose2d(2, 3, 3, stride=2, padding=1), 2)
for flat, spatial in (
    (layers.GMRConv1d, layers.GMRConv3d),
    (layers.GMRConvTranspose1d, layers.GMRConvTranspose3d),
):
    on_images(flat, lambda kind=flat: kind(2, 3, 3, padding=1), 2, inputs=torch.randn(2, 2, 5))
    simple(
        spatial,
        lambda kind=spatial: {
            "layer": kind(2, 2, 3, padding=1),
            "inputs": torch.randn(1, 2, 3, 3, 3),
            "where": (4, 4, 4),
            "equivariance": {"o3": 1e-11},
        },
    )
on_images(layers.GroupConv2d, lambda: layers.GroupConv2d("1xC8/C2 + 1x0", "1xC8/C2 + 1x0", 3, padding=1), 5)
on_images(layers.GroupConv2d, lambda: layers.GroupConv2d("1xC4 + 1x0", "1xC4 + 1x0", 3, padding=1), 5)
on_images(
    layers.SampledGroupConv2d,
    lambda: layers.SampledGroupConv2d("1xC4 + 1x0", "1xC4", 3, padding=1, epsilon=0.01),
    5,
)
on_images(layers.GroupBatchNorm2d, lambda: layers.GroupBatchNorm2d("2xC2 + 1x0"), 5)
on_images(layers.FieldGroupNorm2d, lambda: layers.FieldGroupNorm2d(2, "2xC2"), 4)
on_images(layers.GroupPool, lambda: layers.GroupPool("2xC2 + 1x0"), 5)
on_images(layers.GroupDropout, lambda: layers.GroupDropout("2xC2 + 1x0", 0.3), 5)
on_images(layers.HarmonicConv2d, lambda: layers.HarmonicConv2d("1x0 + 1x1", "1x0 + 1x1", 3), 4)
on_images(layers.SteerableConv2d, lambda: layers.SteerableConv2d("1x0 + 1x1", "1x0 + 1x1", 3), 3)
on_images(
    layers.LinearUpsample,
    lambda: layers.LinearUpsample(2),
    2,
    inputs=(torch.randn(1, 2, 2, 3), (4, 5)),
    bad_inputs=[((torch.randn(2, 4, 4), (8, 8)), "x")],
)
on_images(
    layers.CosetSubsample2d,
    lambda: layers.CosetSubsample2d(2, return_pose=False),
    3,
    bad_inputs=[(torch.randn(2, 4, 4), "x")],
)
simple(
    layers.CosetUnsample2d,
    lambda: {
        "layer": layers.CosetUnsample2d(),
        "inputs": (torch.randn(2, 3, 2, 2), POSE),
        "skip": ["equivariance"],
        "bad_inputs": [((torch.randn(2, 3, 3, 2), POSE), "y")],
        "empty_inputs": (
            torch.randn(0, 3, 2, 2),
            layers.PixelPose(POSE.rows[:0], POSE.columns[:0], POSE.size),
        ),
    },
)
WARP = layers.LogPolarWarp((3, 8), inner=0.2)
on_images(layers.Warp2d, lambda: layers.Warp2d(WARP), 2, bad_inputs=[(torch.randn(2, 4, 4), "x")])
on_images(layers.PeriodicConv2d, lambda: layers.PeriodicConv2d(2, 3, 3), 2)
on_images(layers.WarpedConv2d, lambda: layers.WarpedConv2d(2, 3, 3, warp=WARP), 2)
on_images(layers.MaxPlusConv2d, lambda: layers.MaxPlusConv2d(2, 4, 3, groups=2), 2)
on_images(layers.CakeLift, lambda: layers.CakeLift(2, 4, 3), 2)
on_images(layers.FieldMix, lambda: layers.FieldMix(2, 3, 2), 4)
on_images(layers.SE2PDELayer, lambda: layers.SE2PDELayer(1, 2, 4, 3, diffusion=True), 4)
on_images(layers.PlanePDELayer, lambda: layers.PlanePDELayer(2, 3, 3), 2)
for of_se2 in (layers.SE2Convection, layers.SE2Diffusion, layers.SE2Dilation, layers.SE2Erosion):
    on_images(of_se2, lambda kind=of_se2: kind(1, 4), 4)
for of_plane in (layers.PlaneConvection, layers.PlaneDiffusion, layers.PlaneDilation, layers.PlaneErosion):
    on_images(of_plane, lambda kind=of_plane: kind(2), 2)
