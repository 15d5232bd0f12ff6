"""VN-PointNet and VN-DGCNN: invariance with random parameters, batches, features, degenerate clouds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spheregeo import models
from spheregeo.audit import randomise
from spheregeo.models.space.cloud import feature_graph
from spheregeo.nn import BatchNorm
from spheregeo.sampling import knn_graph, random_rotations

SIZES = (40, 25, 33)
SMALL: dict[str, dict[str, Any]] = {
    "vnn-pointnet": {"width": 3, "k": 6},
    "vnn-pointnet-base": {"width": 3, "k": 6, "hidden": (8, 8)},
    "vnn-dgcnn": {"width": 3, "embedding": 6, "k": 6, "hidden": (8, 8)},
    "vnn-dgcnn-base": {"widths": (3, 3, 4), "embedding": 6, "k": 6, "hidden": (8, 8)},
}
MIRRORS = {"vnn-pointnet-base": False}  # cross products


def clouds() -> tuple[Tensor, Tensor]:
    shapes = torch.tensor(
        [[1.0, 1, 1], [1, 0.7, 0.1], [1, 0.2, 0.2]], dtype=torch.float64
    )  # a ball, a disc, a rod
    positions = torch.randn(sum(SIZES), 3, dtype=torch.float64)
    positions *= shapes.repeat_interleave(torch.tensor(SIZES), 0)
    return positions, torch.arange(3).repeat_interleave(torch.tensor(SIZES))


def run(model: Any, p: Tensor, batch: Tensor | None, x: Tensor | None = None) -> Tensor:
    result: Tensor = model(p, x, batch, model.neighbors(p, batch))
    return result


def build(name: str, in_channels: int = 0, **options: Any) -> nn.Module:
    model = models.create(name, in_channels, 4, None, **{**SMALL[name], **options}).double()
    p, batch = clouds()
    x = torch.randn(len(p), in_channels, dtype=torch.float64) if in_channels else None
    for norm in model.modules():
        if isinstance(norm, BatchNorm):
            norm.momentum = 1.0
    run(model.train(), p, batch, x)  # statistics of these clouds
    return randomise(model).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_motions_change_nothing(name: str) -> None:
    model, (p, batch) = build(name), clouds()
    y = run(model, p, batch)
    assert y.shape == (3, 4) and float(y.std(0).min()) > 1e-3
    for r in random_rotations(4):
        assert float((run(model, p @ r.T + torch.tensor([3.0, -2, 1]), batch) - y).abs().max()) < 1e-9
        mirrored = float((run(model, -p @ r.T, batch) - y).abs().max())
        assert (mirrored < 1e-9) == MIRRORS.get(name, True)


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_order_and_company_change_nothing(name: str) -> None:
    model, (p, batch) = build(name), clouds()
    y = run(model, p, batch)
    parts = p.split(SIZES)
    alone = torch.cat([run(model, part, None) for part in parts])
    assert torch.allclose(alone, y, atol=1e-10)
    mixed = torch.cat([part[torch.randperm(len(part))] for part in parts])
    assert torch.allclose(run(model, mixed, batch), y, atol=1e-9)
    graph = model.neighbors(p, batch)  # type: ignore[operator]
    assert torch.equal(model(p, None, batch, graph, 3), y)


@torch.no_grad()
@pytest.mark.parametrize("name", ["vnn-pointnet", "vnn-dgcnn"])
def test_normals_turn_with_the_cloud_and_scalars_stay(name: str) -> None:
    p, batch = clouds()
    for irreps, turned in (("1x1o", True), (None, False), ("1x0e+1x1o", None)):
        channels = 4 if turned is None else 3
        model = build(name, channels, feature_irreps=irreps)
        x = torch.randn(len(p), channels, dtype=torch.float64)
        y = run(model, p, batch, x)
        for r in random_rotations(2):
            if turned is None:
                xr = torch.cat([x[:, :1], x[:, 1:] @ -r.T], 1)
            else:
                xr = x @ -r.T if turned else x
            assert float((run(model, p @ -r.T, batch, xr) - y).abs().max()) < 1e-9
        assert float((run(model, p, batch, x.roll(1, 0)) - y).abs().max()) > 1e-6
        with pytest.raises(ValueError, match=f"features have 0 columns .*in_channels={channels}"):
            run(model, p, batch)
    with pytest.raises(ValueError, match="feature_irreps is '1x1e' but in_channels 3"):
        models.create(name, 3, 4, None, feature_irreps="1x1e")
    with pytest.raises(ValueError, match="feature_irreps is '1x1o' but in_channels 6"):
        models.create(name, 6, 4, None, feature_irreps="1x1o")


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_everything(name: str) -> None:
    model = models.create(name, 0, 4, None, **SMALL[name], dropout=0.0)
    p, batch = clouds()
    p = p.float().requires_grad_()
    run(model, p, batch).square().sum().backward()
    unmoved = [n for n, q in model.named_parameters() if q.grad is None or float(q.grad.abs().max()) == 0]
    assert all("pool.direction" in n for n in unmoved)  # what picks a maximum passes no gradient
    assert p.grad is not None and bool(torch.isfinite(p.grad).all())


@pytest.mark.parametrize("name", SMALL)
def test_degenerate_clouds_have_a_defined_result(name: str) -> None:
    model = models.create(name, 0, 4, None, **SMALL[name])
    for p in (
        torch.zeros(1, 3),
        torch.randn(2, 3),
        torch.ones(9, 3),
        torch.zeros(9, 3),
        torch.randn(9, 1) * torch.ones(3),
    ):
        p = p.clone().requires_grad_()
        for mode in (True, False):
            y = run(model.train(mode), p, None)
            y.sum().backward()
            assert y.shape == (1, 4) and bool(torch.isfinite(y).all())
        assert p.grad is not None and bool(torch.isfinite(p.grad).all())
    with pytest.raises(ValueError, match="expected finite coordinates"):
        run(model, torch.full((4, 3), float("nan")), None)
    with pytest.raises(ValueError, match="a cloud of points has no periods"):
        model.neighbors(torch.randn(4, 3), None, torch.eye(3))  # type: ignore[operator]


def test_neighbours_in_feature_space_are_those_in_space_for_positions() -> None:
    """Of positions themselves both searches find the same, among clouds of any size, ties included."""
    p, batch = clouds()
    lattice = torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)
    p, batch = (
        torch.cat([p, lattice, lattice[:2]]),
        torch.cat([batch, torch.full((27,), 3), torch.full((2,), 4)]),
    )
    found = feature_graph(p[..., None], 6, batch)
    assert torch.equal(found, knn_graph(p, 6, batch, loop=True))
    for r in random_rotations(5):
        assert torch.equal(feature_graph((p @ r.T)[..., None], 6, batch), found)
    assert feature_graph(p[:0, :, None], 6, batch[:0]).shape == (2, 0)


def test_published_sizes() -> None:
    count = {n: sum(p.numel() for p in models.create(n, 0, 40, None).parameters()) for n in SMALL}
    assert 2.0e6 < count["vnn-dgcnn-base"] < 4.0e6
    assert 1.0e6 < count["vnn-pointnet-base"] < 3.0e6
    assert max(count["vnn-dgcnn"], count["vnn-pointnet"]) < 3e5


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        models.create("vnn-dgcnn", 0, 2, None, k=0)
    with pytest.raises(ValueError, match="width is 0"):
        models.create("vnn-pointnet", 0, 2, None, width=0)
    with pytest.raises(ValueError, match=r"widths are \[\]"):
        models.create("vnn-dgcnn", 0, 2, None, depth=0)


def test_small_model_compiles_whole() -> None:
    torch._dynamo.reset()
    model, (p, batch) = build("vnn-dgcnn"), clouds()
    graph = model.neighbors(p, batch)  # type: ignore[operator]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(p, None, batch, graph, 3), run(model, p, batch), atol=1e-12)
    exported = torch.export.export(model, (p, None, batch, graph, 3))
    assert torch.allclose(exported.module()(p, None, batch, graph, 3), run(model, p, batch), atol=1e-12)
