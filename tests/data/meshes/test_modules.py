"""Data modules of meshes: ragged batches, order by (seed, epoch), state, wrong arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from spheregeo.data import (
    CreaturesData,
    FaustData,
    MeshData,
    PrimitivesData,
)
from spheregeo.data.meshes.dataset import MeshDataset, Warped, scaled_mesh


def primitives(**options: Any) -> PrimitivesData:
    return PrimitivesData(
        **{"train": 5, "val": 2, "test": 3, "vertices": (100, 130), "batch_size": 2, **options}
    )


def order(data: MeshData, epoch: int) -> list[int]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [int(k) for batch in loader for k in batch["index"]]


def test_batches_are_ragged_and_carry_labels() -> None:
    batches = list(primitives().train_dataloader())
    assert [len(batch["mesh"]) for batch in batches] == [2, 2, 1]
    assert all(
        batch["label"].dtype == torch.int64 and len(batch["label"]) == len(batch["mesh"]) for batch in batches
    )
    assert len(list(primitives().test_dataloader())) == 2 and len(list(primitives().val_dataloader())) == 1


def test_the_order_depends_on_seed_and_epoch() -> None:
    assert order(primitives(), 1) == order(primitives(), 1)
    assert sorted(order(primitives(), 1)) == list(range(5))
    orders = {tuple(order(primitives(seed=seed), epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) > 3


def test_copies_join_the_training_meshes_only() -> None:
    data = primitives(copies=2, warp=0.4)
    assert sorted(order(data, 0)) == list(range(15))
    assert len(data.dataset("test")) == 3
    assert len(order(primitives(copies=2, warp=0.0), 0)) == 5


class Balls(MeshData):
    """Three icospheres of 642 vertices, whose points are their own template."""

    def __init__(self, simplify: int | tuple[int, int] = 0, copies: int = 4, warp: float = 0.4) -> None:
        super().__init__(batch_size=2, copies=copies, warp=warp, simplify=simplify)

    def make(self, split: str) -> MeshDataset:
        return BallSet()


class BallSet(MeshDataset):
    def __len__(self) -> int:
        return 3

    def load(self, index: int) -> dict[str, Any]:
        ball = trimesh.creation.icosphere(3)
        points, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
        stretched = points * np.array([1.0, 1.1, 1.2 + 0.1 * index])
        target = torch.arange(len(points))
        target[1::2] = -1
        return {"mesh": scaled_mesh(stretched, faces), "label": index, "target": target}


def test_copies_have_many_resolutions() -> None:
    data = Balls((100, 400))
    loader = data.train_dataloader()
    counts = [loader.dataset[k]["mesh"].num_points for k in range(15)]
    assert counts[:3] == [200] * 3, "the meshes themselves have the geometric mean"
    assert [data.dataset("test")[k]["mesh"].num_points for k in range(3)] == [200] * 3
    copies = np.log(counts[3:])
    assert min(counts[3:]) >= 100 and max(counts[3:]) <= 400 and len(set(counts[3:])) > 9
    assert abs(copies.mean() - np.log(200)) < 0.25 and copies.std() > 0.2
    again = Balls((100, 400)).train_dataloader().dataset
    assert all(again[k]["mesh"] == loader.dataset[k]["mesh"] for k in (2, 7, 14))


def test_simplified_vertices_keep_their_targets() -> None:
    full = BallSet()[1]
    dataset = Balls((100, 500), warp=0.0).train_dataloader().dataset
    for item in (dataset[1], dataset[4], dataset[10]):  # not warped: places can be compared
        mesh, target = item["mesh"], item["target"]
        assert target.shape == (mesh.num_points,) and bool((target >= 0).all()), "the nearest known vertex's"
        away = (full["mesh"].points[target] - mesh.points).norm(dim=1)
        assert float(away.max()) < 1.5 * full["mesh"].spacing + 0.05
        assert item["label"] == 1


def test_one_number_leaves_copies_as_their_mesh() -> None:
    dataset = Balls(150).train_dataloader().dataset
    assert {dataset[k]["mesh"].num_points for k in range(15)} == {150}
    assert len(Balls(150, warp=0.0).train_dataloader().dataset) == 3
    assert {Balls(700).train_dataloader().dataset[k]["mesh"].num_points for k in range(6)} == {642}
    assert {Balls((700, 900)).train_dataloader().dataset[k]["mesh"].num_points for k in range(6)} == {642}


@pytest.mark.parametrize(
    ("simplify", "message"),
    [
        (-1, "simplify is -1; expected at least 0"),
        ((500, 100), r"simplify is \(500, 100\); expected one whole number, or the fewest"),
        ([2, 100], r"simplify is \[2, 100\]; expected one whole number"),
        ((1, 2, 3), r"simplify is \(1, 2, 3\); expected one whole number"),
        (1.5, "simplify is 1.5; expected one whole number"),
    ],
)
def test_wrong_numbers_of_vertices_are_named(simplify: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Balls(simplify)


def test_a_spread_without_copies_is_refused() -> None:
    with pytest.raises(ValueError, match="for copies of many resolutions, but copies is 0"):
        Balls((100, 200), copies=0)
    with pytest.raises(ValueError, match="source has 3 meshes; expected those of dataset, 2"):
        Warped(primitives().dataset("val"), 1, 0.1, source=BallSet())


def test_the_command_line_reads_one_number_or_two() -> None:
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FaustData, "data")
    build = getattr(parser, "instantiate", None) or parser.instantiate_classes
    root = ["--data.root=somewhere", "--data.copies=2"]
    one = build(parser.parse_args([*root, "--data.simplify=1250"])).data
    two = build(parser.parse_args([*root, "--data.simplify=[600, 2400]"])).data
    assert (one.simplify, one.spread) == (1250, None)
    assert (two.simplify, two.spread) == (1200, (600, 2400))
    with pytest.raises(jsonargparse.ArgumentError, match="simplify"):
        parser.parse_args([*root, "--data.simplify=[600]"])


def test_creatures_have_a_template_and_no_classes() -> None:
    data = CreaturesData(2, 1, 1, (100, 120), template_vertices=110)
    assert data.num_classes == 0 and data.num_points == data.template.num_points > 80  # type: ignore[union-attr]
    batch = next(iter(data.train_dataloader()))
    assert len(batch["target"]) == sum(m.num_points for m in batch["mesh"]) and "label" not in batch
    assert primitives().num_points == 0 and primitives().template is None


def test_meshes_stay_where_they_are_when_a_batch_moves() -> None:
    data = primitives()
    batch = next(iter(data.val_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["label"].device.type == "meta" and moved["mesh"][0] is batch["mesh"][0]


def test_the_state_guards_classes_and_template() -> None:
    data = primitives()
    data.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match="trained with class_names cat but"):
        data.load_state_dict({**data.state_dict(), "class_names": ["cat"]})
    with pytest.raises(ValueError, match="trained with num_points 7 but the data have 0"):
        data.load_state_dict({**data.state_dict(), "num_points": 7})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"copies": -1}, "copies is -1"),
        ({"warp": -0.1}, "warp is -0.1"),
        ({"seed": -2}, "seed is -2"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        primitives(**options)


def test_people_of_the_test_train_nothing() -> None:
    with pytest.raises(ValueError, match=r"test_subjects \[5\] are among"):
        FaustData("somewhere", train_subjects=[0, 5])
    with pytest.raises(ValueError, match=r"test_subjects \[6\] are among"):
        FaustData("somewhere", val_subjects=[6])
    assert FaustData("somewhere", val_subjects=[3]).subjects["val"] == [3]


@pytest.mark.realdata
def test_faust_by_people(real_data: Path) -> None:
    data = FaustData(str(real_data / "faust"))
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [40, 10, 20]
    assert data.num_classes == 10 and data.num_points == 5000
    batch = next(iter(data.test_dataloader()))
    assert batch["label"].tolist() == [0, 1] and batch["mesh"][0].num_points > 4900
