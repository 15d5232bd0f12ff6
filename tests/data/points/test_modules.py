"""Data modules of clouds and the datasets behind them: generated ones, folders; batches, order, state, wrong arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from spheregeo.data import (
    BalancedDraws,
    ModelNetData,
    PointFolder,
    PointFolderData,
    PrimitiveClouds,
    PrimitiveCloudsData,
    Views,
)
from spheregeo.data.points.dataset import Cloud
from spheregeo.data.points.generated import domain


def primitives(**options: Any) -> PrimitiveCloudsData:
    sizes = {"train": 25, "val": 10, "test": 10, "points": 60, "num_points": 40, "batch_size": 10}
    return PrimitiveCloudsData(**{**sizes, **options})


def folder(root: Path, per_class: int = 12) -> Path:
    for name, shape in (("ball", trimesh.creation.icosphere(2)), ("box", trimesh.creation.box())):
        (root / name).mkdir(parents=True)
        for k in range(per_class):
            shape.apply_scale(1.01).export(root / name / f"{k:02d}.{'ply' if k % 2 else 'off'}")
    np.savetxt(root / "ball" / "00s.xyz", np.random.default_rng(0).normal(size=(7, 3)))
    return root


# ---- generated clouds


def test_clouds_depend_on_seed_split_and_index() -> None:
    a, b = PrimitiveClouds(10, 50), PrimitiveClouds(20, 50)
    assert np.array_equal(a[3].points, b[3].points) and not np.array_equal(b[3].points, b[13].points)
    assert not np.array_equal(a[3].points, PrimitiveClouds(10, 50, split="test")[3].points)
    assert not np.array_equal(a[3].points, PrimitiveClouds(10, 50, seed=1)[3].points)
    assert a[3] is a[3] and a.labels == list(range(10)) and "cone" in a.name(3)


def test_clouds_are_of_their_shapes() -> None:
    """Undeformed: normals of length 1 that point off the centre for a convex body; a torus has a hole, a bowl is open."""
    data = PrimitiveClouds(10, 400, deform=0.0)
    clouds = dict(zip(data.class_names, (data[k] for k in range(10)), strict=True))
    for name in ("box", "capsule", "cone", "cylinder", "tetrahedron"):
        cloud = clouds[name]
        assert cloud.normals is not None
        assert float(((cloud.points - cloud.points.mean(0)) * cloud.normals).sum(1).min()) > -0.05
    assert np.hypot(*clouds["torus"].points[:, :2].T).min() > 0.4
    assert clouds["bowl"].points[:, 2].min() > -0.7
    assert np.ptp(clouds["box"].points, axis=0).max() > 0.9
    for name in ("sphere", "torus", "disc"):
        points, faces = domain(name)
        assert faces.min() == 0 and faces.max() == len(points) - 1
    noisy = PrimitiveClouds(10, 400, deform=0.0, noise=0.05)[1].points
    assert 0.01 < np.abs(noisy - clouds["box"].points).mean() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"points": 0}, "points is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"deform": -1.0}, "deform is -1"),
        ({"noise": -1.0}, "noise -1"),
        ({"split": "dev"}, "split is 'dev'"),
    ],
)
def test_wrong_arguments_of_generated_clouds(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrimitiveClouds(**{"count": 3, **options})


# ---- modules


def test_batches_and_order() -> None:
    data = primitives()
    batches = list(data.train_dataloader())
    assert [len(b["label"]) for b in batches] == [10, 10, 5]
    assert all(b["positions"].shape == (40 * len(b["label"]), 3) for b in batches)
    assert all(b["positions"].dtype == torch.float32 and b["label"].dtype == torch.int64 for b in batches)
    again = list(primitives().train_dataloader())
    assert all(torch.equal(a["positions"], b["positions"]) for a, b in zip(batches, again, strict=True))
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)  # type: ignore[attr-defined]
    later = next(iter(loader))
    assert not torch.equal(later["index"], batches[0]["index"])


def test_validation_and_test_stay_as_they_are() -> None:
    data = primitives(votes=2)
    first, second = (next(iter(data.val_dataloader())) for _ in range(2))
    assert torch.equal(first["positions"], second["positions"]) and "votes" not in first
    test = next(iter(data.test_dataloader()))
    assert test["votes"] == 2 and len(test["positions"]) == 2 * len(first["positions"])
    upright = next(iter(primitives(test_rotation="none").val_dataloader()))
    gap = [torch.pdist(b["positions"][:40]) for b in (first, upright)]
    assert torch.allclose(gap[0], gap[1], atol=1e-5)


def test_normals_are_features() -> None:
    data = primitives(normals=True)
    assert data.in_channels == 3 and data.feature_irreps == "1x1o"
    assert next(iter(data.val_dataloader()))["features"].shape == (400, 3)
    assert primitives().in_channels == 0 and primitives().feature_irreps == ""


def test_training_clouds_may_lose_points() -> None:
    batch = next(iter(primitives(dropout=0.9, jitter=0.01, scale=0.2).train_dataloader()))
    sizes = torch.bincount(batch["batch"])
    assert len(sizes) == 10 and sizes.min() >= 4 and sizes.max() <= 40 and len(sizes.unique()) > 3


def test_folders(tmp_path: Path) -> None:
    root = folder(tmp_path / "clouds")
    data = PointFolderData(str(root), stored_points=80, num_points=50, batch_size=4)
    assert data.class_names == ("ball", "box")
    assert sum(len(data.dataset(s)) for s in ("train", "val", "test")) == 25
    batch = next(iter(data.test_dataloader()))
    assert batch["positions"].shape[1] == 3 and torch.bincount(batch["batch"]).max() == 50
    stored = PointFolder(root, "train", 80)
    assert stored.name(0) == "ball/00.off" and len(stored[0].points) == 80 and stored[0] is stored[0]
    xyz = next(k for k in range(len(stored)) if stored.name(k).endswith("xyz"))
    assert len(stored[xyz].points) == 7 and stored[xyz].normals is None
    train = data.views("train")[xyz]
    assert isinstance(train, dict) and len(train["positions"]) == 7  # fewer points than asked for
    some = PointFolderData(str(root), normals=True).views("train")[xyz]
    assert isinstance(some, dict) and some["features"].shape == (7, 3)  # estimated: the file has none
    with pytest.raises(ValueError, match="do not say which axis points upwards"):
        PointFolderData(str(root), train_rotation="z").views("train")
    assert PointFolderData(str(root), train_rotation="z", up="y").dataset("train").up == 1


def test_folders_of_scans_with_holes(tmp_path: Path) -> None:
    for name in ("cup", "pot"):
        (tmp_path / name).mkdir()
        for k in range(3):
            rows = np.random.default_rng(k).normal(size=(20, 4))
            rows[: 2 * k] = np.nan
            np.savetxt(tmp_path / name / f"{k}.txt", rows)
    data = PointFolder(tmp_path, columns="x y z _")
    with pytest.raises(
        ValueError, match=r"1\.txt holds 2 points that are NaN .*drop_nan=True \(--data\.drop_nan true\)"
    ):
        data[1]
    module = PointFolderData(str(tmp_path), columns="x y z _", drop_nan=True, num_points=10)
    clouds = module.dataset("train")
    assert isinstance(clouds, PointFolder)
    with pytest.warns(UserWarning, match=r"cup.1\.txt: 2 of 20 points are NaN or infinite and were left out"):
        sizes = [len(clouds[k].points) for k in range(6)]
    assert sizes == [20, 18, 16] * 2 and sorted(clouds.dropped.values()) == [2, 2, 4, 4]
    with pytest.raises(ValueError, match=r"has 4 numbers a line; .*name the columns .*with columns="):
        PointFolder(tmp_path)[0]


def test_clouds_without_a_shape(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for text, message in {
        "1 2 3\n": "1 points, all at",
        "0.1 2 3\n" * 80: "80 points, all at one place",
    }.items():
        (tmp_path / "a" / "0.xyz").write_text(text)
        with pytest.raises(ValueError, match=rf"0\.xyz holds {message}"):
            PointFolder(tmp_path)[0]
    data = PrimitiveClouds(2, 5)
    data.load = lambda index: Cloud(np.ones((5, 3)))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="holds 5 points, all at one place; expected a shape"):
        Views(data)[1]


def test_faulty_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder; expected one with clouds"):
        PointFolder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no sub-folder with \.off.* expected one for each class"):
        PointFolder(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.xyz").write_text("0 0 0\n")
    with pytest.raises(ValueError, match=r"the val split of .* is empty"):
        PointFolder(tmp_path, "val")
    with pytest.raises(ValueError, match="num_points is 0"):
        PointFolder(tmp_path, num_points=0)


def test_the_state_guards_classes() -> None:
    data = primitives()
    data.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match="trained with class_names cat but the data have bowl"):
        data.load_state_dict({"class_names": ["cat"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_points": 0}, "num_points is 0"),
        ({"votes": 0}, "votes is 0"),
        ({"seed": -2}, "seed is -2"),
        ({"jitter": -0.1}, "jitter is -0.1"),
        ({"dropout": 1.5}, "dropout is 1.5"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        primitives(**options)


@pytest.mark.realdata
def test_modelnet10_as_a_network_sees_it(real_data: Path) -> None:
    data = ModelNetData(str(real_data / "modelnet10"), num_points=256, batch_size=8)
    assert data.num_classes == 10
    for loader in (data.train_dataloader(), data.test_dataloader()):
        batch = next(iter(loader))
        assert batch["positions"].shape == (8 * 256, 3)
        parts = batch["positions"].double().split(256)
        assert max(float(p.mean(0).norm()) for p in parts) < 1e-6
        assert all(float(p.norm(dim=1).max()) == pytest.approx(1, abs=1e-6) for p in parts)


def test_balanced_training_sees_every_class_equally_often() -> None:
    """Each class goes through all its clouds before one comes again, and no draw of a cloud comes twice."""
    labels = [0] * 20 + [1] * 4 + [2] * 7
    draws = BalancedDraws(list(range(31)), labels)  # type: ignore[arg-type]
    seen = [draws.visit(epoch, place) for epoch in range(4) for place in range(31)]
    assert len(set(seen)) == len(seen) == 124
    for label in range(3):
        rows = [row for _, row in seen if labels[row] == label]
        number, times = labels.count(label), len(rows)
        assert abs(times - 124 / 3) < 1
        for begin in range(0, times - number + 1, number):
            assert len(set(rows[begin : begin + number])) == number
    assert seen == [BalancedDraws(list(range(31)), labels).visit(e, k) for e in range(4) for k in range(31)]  # type: ignore[arg-type]
    assert seen != [
        BalancedDraws(list(range(31)), labels, 1).visit(e, k) for e in range(4) for k in range(31)
    ]  # type: ignore[arg-type]

    data = primitives(train=12, batch_size=12, balanced=True)  # of classes 0 and 1 there are two clouds
    loader = data.train_dataloader()
    found = []
    for epoch in range(5):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        found.append(torch.cat([batch["label"] for batch in loader]))
    assert torch.equal(torch.bincount(torch.cat(found)), torch.full((10,), 6))
    assert [len(labels) for labels in found] == [12] * 5 and len(data.val_dataloader().dataset) == 10  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"labels has shape \(30,\); expected \(31,\)"):
        BalancedDraws(list(range(31)), labels[1:])  # type: ignore[arg-type]
