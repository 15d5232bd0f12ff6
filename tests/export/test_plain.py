"""Plain twins against what they stand for: maps, gathers, frames of charts, whole networks; and networks in onnxruntime."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from spheregeo import export, grids, models, tasks
from spheregeo.export.program import ONNX, difference, onnx_bytes
from spheregeo.export.twins import PlainGather, PlainMaxPlusMap, PlainPadding, PlainSparseMap
from spheregeo.kernels import PiecewiseLinear
from spheregeo.nn import (
    DiscoConv,
    DiscoConvTranspose,
    GaugeConv,
    GlobalPool,
    HEALPixConv,
    HEALPixFaceConv,
    Pool,
    Resample,
    Unpool,
)
from spheregeo.nn.sphere.icosahedral.padding import Padding
from spheregeo.sparse import CSRPattern, Gather, MaxPlusMap
from spheregeo.sparse.maps.base import FixedMap

LATLON, PIXELS, ICO = grids.Equiangular(8, 16), grids.HEALPix(4), grids.Icosahedral(2)
LAYERS = {
    "rings": lambda: DiscoConv(4, 6, LATLON, kernel=PiecewiseLinear(2, 3), groups=2),
    "pole to pole": lambda: DiscoConv(4, 2, LATLON, spacings=5.0),
    "blocks": lambda: DiscoConv(4, 2, PIXELS, kernel=PiecewiseLinear(2, 3)),
    "down": lambda: DiscoConv(4, 2, ICO, ICO.coarsen()),
    "transposed": lambda: DiscoConvTranspose(4, 2, LATLON.coarsen(), LATLON),
    "resample": lambda: Resample(LATLON, PIXELS),
    "pool": lambda: nn.Sequential(Pool(ICO, "area"), Unpool(ICO.coarsen(), "linear")),
    "faces": lambda: HEALPixFaceConv(4, 2, PIXELS, 5, missing="mean"),
    "taps": lambda: HEALPixConv(4, 2, PIXELS, missing="renormalize"),
    "tangent": lambda: GaugeConv("1x0 + 1x1", "2x0 + 1x1 + 1x2", LATLON),
    "global": lambda: GlobalPool(PIXELS),
}


def shape_of(layer: Any) -> tuple[int, ...]:
    first = layer[0] if isinstance(layer, nn.Sequential) else layer
    grid: Any = getattr(first, "source", None) or first.grid
    channels = first.in_type.dim if isinstance(first, GaugeConv) else 4
    return channels, *grid.shape


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_twin_equals_its_layer(name: str) -> None:
    layer = LAYERS[name]().double()
    for parameter in layer.parameters():  # biases too
        parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(3, *shape_of(layer), dtype=torch.float64)
    twin = export.plain(layer)
    assert not any(isinstance(child, (FixedMap, Padding)) for child in twin.modules())
    torch.testing.assert_close(twin(x), layer(x), rtol=1e-9, atol=1e-11)


def test_a_map_without_weights() -> None:
    conv = DiscoConv(1, 1, LATLON, kernel=PiecewiseLinear(2, 3))
    x = torch.randn(2, 5, LATLON.num_points)
    torch.testing.assert_close(PlainSparseMap(conv.map)(x), conv.map(x))  # (2, 5, K, P)
    with pytest.raises(ValueError, match="values"):
        PlainSparseMap(conv.map)(x, conv.map.values)


def test_a_gather_with_extras_and_holes() -> None:
    gather = Gather([2, -1, 0, 2, -1], 3, ([1, 2, 1, 0], [0, 1, 2, 2], [0.5, 2.0, 0.25, 1.0]))
    x = torch.randn(2, 3, 3)
    torch.testing.assert_close(PlainGather(gather)(x), gather(x))


@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("level", [1, 3])
def test_frames_of_charts(level: int, size: int, halved: bool) -> None:
    padding, n = Padding(level, size, halved), 1 << level
    x = torch.randn(2, 2 * size, 5, n, 2 * n)
    torch.testing.assert_close(PlainPadding(padding)(x), padding(x))


def network(name: str, grid: Any, **options: Any) -> nn.Module:
    made = models.create(name, 3, 4, grid, width=2, **options).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*made.parameters(), *(b for n, b in made.named_buffers() if "running_" in n)]:
            tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
    return made


@pytest.mark.parametrize("name", [n for n in models.names("field", "grid") if not n.endswith("-base")])
@torch.no_grad()
def test_every_network_of_the_sphere_has_a_twin(name: str) -> None:
    """Each layer's map is replaced, whatever the network; new networks are tested without a line here."""
    made = network(
        name, LATLON, **({} if name.startswith("gem") or name == "pixel-mlp" else {"depth": 2})
    ).double()
    x = torch.randn(3, 3, *LATLON.shape, dtype=torch.float64)
    twin = export.plain(made)
    assert not any(isinstance(child, (FixedMap, Padding)) for child in twin.modules())
    wanted = made(x)
    torch.testing.assert_close(twin(x), wanted, rtol=1e-9, atol=1e-10 * float(wanted.abs().max()))


def test_layers_of_equal_geometry_share_a_twin() -> None:
    twin = export.plain(nn.Sequential(DiscoConv(2, 2, PIXELS), DiscoConv(2, 2, PIXELS)))
    assert twin[0].map is twin[1].map  # type: ignore[index]


def test_layers_without_a_twin_are_named() -> None:
    network = models.create("steerable-points", 0, 3, None, width=4, counts=(8, 4), radii=(0.9, 1.8), k=4)
    with pytest.raises(ValueError, match=r"layer '.*' \(\w+\) has no plain twin"):
        export.plain(network)


@pytest.mark.parametrize(
    "options",
    [
        {"grid": "Equiangular(8, 16)", "options": {"kernel": "PiecewiseLinear(2, 3)", "position": True}},
        {"grid": "Icosahedral(2)", "network": "icosahedral"},
    ],
    ids=["disco", "icosahedral"],
)
def test_onnxruntime_gives_the_same(options: dict[str, Any], tmp_path: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    task = tasks.Segmentation(
        in_channels=3, num_classes=4, width=2, depth=2, mean=[0.4] * 3, std=[0.2] * 3, **options
    )
    plan = export.plan_of(task)
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    session = onnxruntime.InferenceSession(onnx_bytes(plan), providers=["CPUExecutionProvider"])
    for size in (1, 3):
        image = torch.rand(size, 3, *task.grid.shape)
        with torch.no_grad():
            wanted = plan.module(image)
        (found,) = session.run(["logits"], {"image": image.numpy()})
        assert float((torch.from_numpy(found) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert ONNX and difference(plan.module, plan) == 0


@pytest.mark.parametrize("semiring", ["max", "min"])
def test_largest_sums_with_rows_of_any_length(semiring: str) -> None:
    pattern = CSRPattern.of(torch.tensor([0, 2, 2, 5]), torch.tensor([0, 3, 1, 1, 2]), 4)
    over = MaxPlusMap(pattern, semiring=semiring)
    x, values = torch.randn(2, 3, 4), torch.randn(3, 5)
    torch.testing.assert_close(PlainMaxPlusMap(over)(x, values), over(x, values))
