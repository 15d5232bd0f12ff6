"""Clouds with parts: generated things, folders, the layouts of ShapeNet-Part, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spheregeo.data import PartFolderData, PartShapes, PartShapesData, ShapeNetPartData, read_cloud
from spheregeo.data.points.part_files import SHAPENET_PARTS
from spheregeo.data.points.part_shapes import THINGS, box, ring, tube
from spheregeo.tasks.points.parts import write_labelled_ply


def test_pieces_are_drawn_evenly_from_their_surfaces() -> None:
    rng = np.random.default_rng(0)
    cone = tube(np.array([0.0, 0, 0]), np.array([0.0, 0, 2.0]), 1.0, 0.0)
    points, normals = cone.draw(rng, 20000)
    side = points[:, 2] > 1e-9
    assert cone.area == pytest.approx(np.pi * (1 + np.sqrt(5)))
    assert side.mean() == pytest.approx(np.sqrt(5) / (1 + np.sqrt(5)), abs=0.01)
    assert points[side, 2].mean() == pytest.approx(2 / 3, abs=0.02)  # a third of the height
    assert np.allclose(np.hypot(points[side, 0], points[side, 1]), 1 - points[side, 2] / 2)
    slope = np.stack([-points[side, 0], -points[side, 1], 2 - points[side, 2]], 1)  # to the tip
    assert np.abs((slope * normals[side]).sum(1)).max() < 1e-12
    block = box((1, 0, 0), (1, 2, 3))
    points, normals = block.draw(rng, 9000)
    assert block.area == 22 and (np.abs(normals).argmax(1) == 0).mean() == pytest.approx(12 / 22, abs=0.02)
    assert np.allclose(((points - [1, 0, 0]) * normals).sum(1), np.abs(normals) @ [0.5, 1, 1.5])
    points, normals = ring(np.zeros(3), 1.0, 0.5, 0.0, np.pi).draw(rng, 20000)
    reach = np.hypot(points[:, 0], points[:, 2])
    assert np.allclose((reach - 1) ** 2 + points[:, 1] ** 2, 0.25)
    assert (reach > 1).mean() == pytest.approx(0.5 + 0.5 / np.pi, abs=0.01)  # more surface lies outside


def test_generated_things_depend_on_seed_split_and_number_alone() -> None:
    shapes = PartShapes(12, 200, seed=3)
    for k in (0, 7, 11):
        cloud, again = shapes[k], PartShapes(12, 200, seed=3)[k]
        assert cloud.parts is not None and np.array_equal(cloud.points, again.points)
        assert set(cloud.parts.tolist()) == set(shapes.category_parts[k % 6])
    assert not np.array_equal(shapes[0].points, PartShapes(12, 200, seed=3, split="test")[0].points)
    assert sorted(p for own in shapes.category_parts for p in own) == list(range(16)) and len(THINGS) == 6


def test_parts_go_where_their_points_go() -> None:
    source = PartShapesData(
        train=6, val=6, test=6, points=300, num_points=100, dropout=0.5, jitter=0.0, noise=0.0
    )
    stored = source.dataset("train")[0]
    assert stored.parts is not None
    view: Any = source.views("train")[(2, 0)]
    assert len(view["part"]) == len(view["positions"]) < 100
    radius = np.linalg.norm(stored.points - stored.points.mean(0), axis=1)
    shares = [float((view["part"] == p).float().mean()) for p in source.category_parts[0]]
    assert len(radius) == 300 and sum(shares) == pytest.approx(1)
    fixed: Any = source.views("test")[0]
    test = source.dataset("test")[0]
    assert torch.equal(fixed["part"], torch.from_numpy(test.parts[:100]))  # type: ignore[index]
    batch = next(iter(source.test_dataloader()))
    assert batch["part"].shape == (600,) and source.num_classes == 16 and len(source.category_names) == 6
    with pytest.raises(ValueError, match="votes is 2; expected 1"):
        PartShapesData(votes=2)


def written(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name, suffix in (("cup", ".ply"), ("cup", ".txt"), ("pot", ".npz"), ("pot", ".txt")):
        (root / name).mkdir(exist_ok=True, parents=True)
        for k in range(10):
            points, parts = rng.normal(size=(12, 3)), np.arange(12) % 3 + 4
            path = root / name / f"{suffix[1:]}{k}{suffix}"
            if suffix == ".ply":
                write_labelled_ply(path, points, parts, np.zeros((12, 3), np.uint8))
            elif suffix == ".npz":
                np.savez(path, points=points, label=parts)
            else:
                np.savetxt(path, np.concatenate([points, parts[:, None] - (k == 0) * 99], 1))


def test_folders_of_ply_text_and_npz(tmp_path: Path) -> None:
    written(tmp_path)
    source = PartFolderData(str(tmp_path), num_points=8, batch_size=4)
    assert source.class_names == ("cup 4", "cup 5", "cup 6", "pot 4", "pot 5", "pot 6")
    assert source.category_parts == [[0, 1, 2], [3, 4, 5]]
    train = source.dataset("train")
    assert [len(source.dataset(s)) for s in ("train", "val", "test")] == [32, 4, 4]
    parts = [train[k].parts for k in range(len(train))]
    assert set(np.concatenate([p for p in parts if p is not None]).tolist()) == {0, 1, 2, 3, 4, 5, 255}
    np.savez(tmp_path / "pot" / "npz8.npz", points=np.random.rand(9, 3), label=np.full(9, 7))  # of validation
    broken = PartFolderData(str(tmp_path)).dataset("val")
    with pytest.raises(
        ValueError, match=r"npz8.npz has a part 7; those of 'pot' in the training data are 4, 5, 6"
    ):
        [broken[k] for k in range(len(broken))]
    np.savetxt(tmp_path / "bare.txt", np.random.rand(5, 3))
    with pytest.raises(ValueError, match=r"bare\.txt has columns x, y, z; expected one called part or label"):
        read_cloud(tmp_path / "bare.txt", parts=True)
    np.savez(tmp_path / "half.npz", points=np.random.rand(5, 3), part=np.full(5, 0.5))
    with pytest.raises(ValueError, match=r"half\.npz has parts that are no whole numbers"):
        read_cloud(tmp_path / "half.npz", parts=True)


def test_shapenet_part_as_hdf5_and_text(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    assert [own[0] for own in SHAPENET_PARTS] == [0, 4, 6, 8, 12, 16, 19, 22, 24, 28, 30, 36, 38, 41, 44, 47]
    for split in ("train", "val", "test"):
        with h5py.File(tmp_path / f"ply_data_{split}0.h5", "w") as file:
            file["data"] = rng.normal(size=(3, 20, 3)).astype(np.float32)
            file["label"] = np.array([[0], [4], [15]], np.uint8)
            file["pid"] = np.stack(
                [np.arange(20) % 4, 12 + np.arange(20) % 4, 47 + np.arange(20) % 3]
            ).astype(np.uint8)
    source = ShapeNetPartData(str(tmp_path), num_points=16, batch_size=3)
    batch = next(iter(source.test_dataloader()))
    assert (
        batch["label"].tolist() == [0, 4, 15] and int(batch["part"].max()) == 49 and source.num_classes == 50
    )
    assert source.dataset("train").up == 1
    with h5py.File(tmp_path / "ply_data_val0.h5", "a") as file:
        file["pid"][1, 3] = 2
    with pytest.raises(
        ValueError, match=r"val0.h5: cloud 1 is a chair with parts 2 to 15; expected 12 to 15"
    ):
        ShapeNetPartData(str(tmp_path), num_points=16).dataset("val")

    root = tmp_path / "text"
    (root / "train_test_split").mkdir(parents=True)
    (root / "03797390").mkdir()
    (root / "synsetoffset2category.txt").write_text("Mug\t03797390\nCap\t02954340\n")
    for split in ("train", "val", "test"):
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(
            json.dumps([f"shape_data/03797390/{split}"])
        )
        rows = np.concatenate(
            [rng.normal(size=(9, 3)), np.tile([0, 0, 1], (9, 1)), 36 + np.arange(9)[:, None] % 2], 1
        )
        np.savetxt(root / "03797390" / f"{split}.txt", rows)
    text = ShapeNetPartData(str(root), num_points=9, normals=True, batch_size=1)
    item = next(iter(text.test_dataloader()))
    assert item["part"].tolist() == [36, 37, 36, 37, 36, 37, 36, 37, 36] and item["features"].shape == (9, 3)
    assert text.category_names[int(item["label"])] == "mug"
    with pytest.raises(FileNotFoundError, match="holds neither ply_data_train"):
        ShapeNetPartData(str(tmp_path / "none")).dataset("train")
