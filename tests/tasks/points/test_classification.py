"""Clouds to classes: a short run from the command line, what it writes, votes, files predicted, batches that are refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from spheregeo import models, tasks
from spheregeo.cli import main
from spheregeo.data import ModelNetData, PrimitiveClouds, PrimitiveCloudsData, read_cloud
from spheregeo.data.points.dataset import Cloud
from spheregeo.sampling import random_rotations
from spheregeo.tasks import PointClassification
from spheregeo.tasks.pictures.points import clouds_picture
from spheregeo.tasks.points.predict import predict_classes

TINY = {"width": 4, "depth": 2, "options": {"embedding": 6, "k": 5, "hidden": [8, 8]}}
COMMAND = [
    *("--data.train", "20", "--data.val", "10", "--data.test", "10", "--data.points", "80", "--data.num_points", "40"),
    *("--data.batch_size", "10", "--model.width", "4", "--model.depth", "2"),
    *("--model.network", "vnn-dgcnn", "--model.options", "{embedding: 6, k: 5, hidden: [8, 8]}"),
    *("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
]  # fmt: skip


def data(**options: Any) -> PrimitiveCloudsData:
    return PrimitiveCloudsData(
        **{"train": 20, "val": 10, "test": 10, "points": 60, "num_points": 40, "batch_size": 10, **options}
    )


def task(**options: Any) -> PointClassification:
    return PointClassification(10, **{**TINY, **options}).eval()


def test_trains_tests_and_predicts_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    output = ["--output", str(tmp_path)]
    assert main(["fit", "classify-points", *output, *COMMAND, "--ema", "0.9"]) == 0
    assert main(["test", "classify-points", *output, *COMMAND, "--data.votes", "2"]) == 0
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 <= found["accuracy"] <= 1 and len(found["confusion"]) == 10
    for name in ("confusion.png", "predictions.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 5000, name
    with (tmp_path / "predictions.csv").open() as file:
        assert len(list(csv.reader(file))) == 11

    clouds = tmp_path / "clouds"
    clouds.mkdir()
    trimesh.creation.box().export(clouds / "box.off")
    np.savetxt(clouds / "few.xyz", np.random.default_rng(0).normal(size=(5, 3)))  # as many as k
    (clouds / "torn.ply").write_bytes(b"ply\nnothing")
    checkpoint = str(tmp_path / "checkpoints" / "best.ckpt")
    command = ["predict", "classify-points", "--ckpt", checkpoint, "--output", str(tmp_path / "out")]
    capsys.readouterr()
    assert main([*command, "--input", str(clouds)]) == 2  # one file is torn; the others are done
    told = capsys.readouterr()
    assert "box.off: " in told.out and "1 of 3 files failed" in told.err and "torn.ply" in told.err
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == ["box.off", "few.xyz"]
    assert sum(float(v) for k, v in rows[0].items() if k.startswith("p(")) == pytest.approx(1, abs=1e-4)
    assert main([*command, "--input", str(clouds / "box.off")]) == 0
    assert main([*command, "--input", str(tmp_path / "none.ply")]) == 2
    assert "does not exist; give a cloud" in capsys.readouterr().err
    again = tasks.load(checkpoint)
    assert isinstance(again, PointClassification) and again.num_points == 40


@torch.no_grad()
def test_votes_average_probabilities() -> None:
    net = task(network="vnn-pointnet", width=3, depth=None, options={"k": 5})
    batch = next(iter(data(votes=3).test_dataloader()))
    found = net.forward_batch(batch)["output"]
    each = net(batch["positions"], batch["batch"]).softmax(1).view(10, 3, 10)
    assert torch.allclose(found.softmax(1), each.mean(1), atol=1e-6) and torch.allclose(
        found.exp().sum(1), torch.ones(10)
    )
    shown = list(net.examples(net.update_metrics(net.forward_batch(batch))))
    assert len(shown) == 10 and torch.equal(shown[1][0], batch["positions"][batch["batch"] == 3])


@torch.no_grad()
def test_turned_clouds_have_the_same_class() -> None:
    net = task().double()
    batch = next(iter(data().val_dataloader()))
    p = batch["positions"].double()
    turned = p @ random_rotations(1)[0].T
    assert torch.allclose(net(turned, batch["batch"]), net(p, batch["batch"]), atol=1e-9)


def test_upright_and_turned_tests_agree_for_an_invariant_network() -> None:
    """z/z and z/SO(3) are the same test: the same points, turned otherwise."""
    net = task()
    with torch.no_grad():
        found = [
            torch.cat([net.forward_batch(b)["output"] for b in data(test_rotation=r).test_dataloader()])
            for r in ("none", "z", "so3")
        ]
    assert torch.allclose(found[0], found[1], atol=1e-4) and torch.allclose(found[0], found[2], atol=1e-4)


def test_normals_reach_the_network() -> None:
    source = data(normals=True)
    net = task(in_channels=source.in_channels, feature_irreps=source.feature_irreps)
    batch = next(iter(source.train_dataloader()))
    loss = net.train().forward_batch(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    grown = net.network.edges[0].feature.weight.grad  # type: ignore[union-attr, index]
    assert isinstance(grown, torch.Tensor) and float(grown[:, 1].abs().max()) > 0
    with pytest.raises(ValueError, match="the clouds have 3 features a point but in_channels is 0"):
        task().forward_batch(batch)
    with pytest.raises(ValueError, match="the clouds have 0 features a point but in_channels is 3"):
        net.forward_batch({k: v for k, v in batch.items() if k != "features"})


def test_gradient_reaches_every_network() -> None:
    batch = next(iter(data().train_dataloader()))
    for name in models.names("label", "points"):
        if name.endswith("-base"):
            continue
        net = PointClassification(10, network=name)
        net.forward_batch(batch)["loss"].backward()
        assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in net.parameters()), name


def test_bad_batches() -> None:
    net = task()
    batch = next(iter(data().val_dataloader()))
    for change, message in (
        ({"positions": batch["positions"][:, :2]}, r"positions have shape \(400, 2\)"),
        ({"batch": batch["batch"][:-1]}, r"batch has shape \(399,\)"),
        ({"batch": batch["batch"].clamp(max=8)}, "cloud 9 of the batch has no points"),
        ({"batch": batch["batch"] + 1}, "batch runs from 1 to 10 but there are 10 clouds"),
        (
            {"positions": batch["positions"].clone().index_fill_(0, torch.tensor(3), float("nan"))},
            "positions hold NaN",
        ),
        ({"label": batch["label"] + 5}, "label 10 is out of range"),
        (
            {"positions": batch["positions"][:0], "batch": batch["batch"][:0]},
            "cloud 0 of the batch has no points",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            net.forward_batch({**batch, **change})
    with pytest.raises(ValueError, match="needs 'positions'"):
        net.forward_batch({"label": batch["label"]})
    with pytest.raises(
        ValueError, match=r"'disco-classifier' works on signals on grids, this task on clouds"
    ):
        task(network="disco-classifier")


def test_degenerate_clouds_have_a_class() -> None:
    """One point, fewer points than neighbours, all points equal."""
    net = task()
    for points in (torch.zeros(1, 3), torch.randn(3, 3), torch.ones(20, 3)):
        y = net(points, torch.zeros(len(points), dtype=torch.int64))
        assert y.shape == (1, 10) and bool(torch.isfinite(y).all())


def test_pictures(tmp_path: Path) -> None:
    clouds = [PrimitiveClouds(10, 5000)[k].points for k in range(5)] + [np.zeros((1, 3)), np.ones((4, 3))]
    path = clouds_picture(tmp_path / "a.png", clouds, [str(k) for k in range(7)])
    assert path.stat().st_size > 10000
    assert clouds_picture(tmp_path / "b.png", clouds[:2], ["a", "b"]).stat().st_size > 5000


@pytest.mark.realdata
def test_modelnet10_and_the_nine_meshes(real_data: Path) -> None:
    """On real clouds: the loss falls over a few steps, and every mesh gets a class, turned or not."""
    source = ModelNetData(str(real_data / "modelnet10"), num_points=128, batch_size=24)
    net = PointClassification(10, **{**TINY, "width": 8}, lr=0.01).train()
    batch = next(iter(source.train_dataloader()))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = net.forward_batch(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < 0.8 * losses[0]
    net = net.eval()
    with torch.no_grad():
        for path in sorted((real_data / "meshes").glob("*.obj")):
            cloud = read_cloud(path, 300)
            turned = type(cloud)(cloud.points @ random_rotations(1)[0].numpy().T)
            net.num_points = 300
            a, b = (net.classify(c) for c in (cloud, turned))
            assert float(a.sum()) == pytest.approx(1, abs=1e-5) and torch.allclose(a, b, atol=2e-3), path.name


def test_holes_of_scans_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 3))
    rows[4] = np.nan
    np.savetxt(tmp_path / "scan.xyz", rows)
    seen = []

    def classify(clouds: list[Cloud], names: list[str]) -> torch.Tensor:
        seen.extend(len(cloud.points) for cloud in clouds)
        return torch.tensor([[0.2, 0.8]] * len(clouds))

    predict_classes(classify, tmp_path / "scan.xyz", tmp_path / "out", 8, ["cup", "pot"])
    assert (
        seen == [8]
        and "scan.xyz: 1 of 9 points are NaN or infinite and were left out" in capsys.readouterr().out
    )
