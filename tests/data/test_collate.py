"""Batches of every domain: what the items hold decides, and what is no item is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo.data import (
    Creatures,
    Molecules,
    PrimitiveClouds,
    Primitives,
    Rooms,
    Views,
    collate,
    collate_clouds,
    collate_meshes,
    collate_molecules,
)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


def molecules(**more: Any) -> Molecules:
    positions = [[[0.0, 0, 0], [0, 0, 1.1]], [[0.0, 0, 0]], [[0.0, 0, 0], [0, 0, 1], [0, 1, 0]]]
    return Molecules.of([[6, 8], [18], [8, 1, 1]], positions, {"gap": [1.0, 2.0, 3.0]}, {"gap": "eV"}, **more)


def test_meshes() -> None:
    shapes = Primitives(2, vertices=(100, 120))
    items = [shapes[0], shapes[1]]
    batch = collate(items)
    assert same(batch, collate_meshes(items))
    assert batch["mesh"] == [items[0]["mesh"], items[1]["mesh"]] and batch["label"].tolist() == [0, 1]
    poses = Creatures(2, vertices=(150, 200), template_vertices=150)
    batch = collate([poses[0], poses[1]])
    assert batch["target"].tolist() == [*poses[0]["target"].tolist(), *poses[1]["target"].tolist()]


def test_clouds() -> None:
    views = Views(PrimitiveClouds(3, 30), 20, normals=True)
    items = [views[k] for k in range(3)]
    batch = collate(items)
    assert same(batch, collate_clouds(items)) and "votes" not in batch
    assert batch["batch"].tolist() == [0] * 20 + [1] * 20 + [2] * 20 and batch["features"].shape == (60, 3)
    assert torch.equal(batch["positions"][20:40], items[1]["positions"])  # type: ignore[call-overload]
    votes = Views(PrimitiveClouds(3, 30), 20, votes=2)
    batch = collate([votes[0], votes[2]])
    assert batch["votes"] == 2 and batch["index"].tolist() == [0, 2] and batch["batch"].max() == 3


def test_molecules() -> None:
    source = molecules()
    whole = source.batch([2, 0, 1], ["gap"])
    assert same(collate([source.batch([k], ["gap"]) for k in (2, 0, 1)]), whole)
    assert same(collate_molecules([source.batch([2], ["gap"]), source.batch([0, 1], ["gap"])]), whole)
    assert same(collate(whole), whole)  # type: ignore[arg-type]
    forces = [[[1.0, 0, 0], [0, 1, 0]], [[0.0, 0, 0]], [[0.0, 0, 1]] * 3]
    source = molecules(energy=[-1.0, -2.0, -3.0], forces=forces)
    assert same(collate([source.batch([k]) for k in range(3)]), source.batch([0, 1, 2]))


def test_molecules_with_vectors_and_numbers_of_atoms() -> None:
    count = int(molecules().counts.sum())
    source = molecules(vectors={"mu": torch.rand(3, 3).tolist()}, atomic={"q": torch.rand(count).tolist()})
    names = ["gap", "mu", "q"]
    whole = source.batch([2, 0, 1], names)
    assert whole["vectors"].shape == (3, 1, 3) and whole["atomic"].shape == (count, 1)
    assert same(collate_molecules([source.batch([2], names), source.batch([0, 1], names)]), whole)


def test_molecules_with_and_without_a_cell() -> None:
    pbc = [[False] * 3, [True] * 3, [False] * 3]
    source = molecules(cell=[torch.eye(3).tolist()] * 3, pbc=pbc)
    batch = collate([source.batch([0]), source.batch([1])])
    assert batch["pbc"].tolist() == pbc[:2] and batch["cell"].shape == (2, 3, 3)
    assert float(batch["cell"][0].abs().sum()) == 0 and float(batch["cell"][1].trace()) == 3


def test_images() -> None:
    rooms = Rooms(2, (16, 32))
    batch = collate([rooms[0], rooms[1]])
    assert batch["image"].shape == (2, 3, 16, 32) and torch.equal(batch["label"][1], rooms[1]["label"])


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([], ValueError, "items is empty; expected at least one"),
        ([{"sound": 1}], TypeError, r"items\[0\] has the keys 'sound'; expected a dict with 'image', 'mesh'"),
        ([{}], TypeError, r"items\[0\] has the keys none; expected"),
        ([torch.zeros(3)], TypeError, r"items\[0\] is a Tensor; expected a dict with"),
        ([{"mesh": 1, "index": 0}, {"positions": 1}], TypeError, r"items\[1\] has the keys 'positions'; expected a mesh"),
    ],
)  # fmt: skip
def test_what_is_no_item_is_refused(items: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        collate(items)


def test_each_function_refuses_the_others_items() -> None:
    cloud = Views(PrimitiveClouds(1, 30), 20)[0]
    molecule = molecules().batch([0])
    with pytest.raises(
        TypeError, match=r"has the keys 'positions'.*; expected a mesh, a dict with 'mesh', 'index'"
    ):
        collate_meshes([cloud])  # type: ignore[list-item]
    with pytest.raises(
        TypeError, match=r"expected a view of a cloud, a dict with 'positions', 'label', 'index'"
    ):
        collate_clouds([molecule])
    with pytest.raises(TypeError, match=r"expected a batch of molecules, a dict with 'numbers'"):
        collate_molecules([cloud])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"items\[1\] has no 'target' but others have"):
        collate_molecules([molecules().batch([0], ["gap"]), molecule])
