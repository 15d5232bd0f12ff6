"""To PyTorch Geometric and back: items and batches of clouds, molecules and meshes; what others' data look like here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo.data import (
    ClustersData,
    Creatures,
    G2Data,
    Molecules,
    PrimitiveClouds,
    Primitives,
    Views,
    collate,
    from_pyg,
    to_pyg,
)

pyg = pytest.importorskip("torch_geometric.data")


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and torch.equal(a[k], b[k])
        if isinstance(a[k], torch.Tensor)
        else a[k] == b[k]
        for k in a
    )


def test_clouds() -> None:
    views = Views(PrimitiveClouds(3, 50), 20, normals=True)
    items: list[Any] = [views[k] for k in range(3)]
    data = to_pyg(items[2])
    assert data.pos is items[2]["positions"] and data.x is items[2]["features"] and data.y.tolist() == [2]
    back = from_pyg(data)
    assert torch.equal(back["positions"], items[2]["positions"]) and int(back["index"]) == 2
    batch = to_pyg(collate(items))
    assert batch.num_graphs == 3 and batch.batch.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert same(from_pyg(batch), collate(items))


@pytest.mark.parametrize("data", [G2Data(batch_size=7), ClustersData(train=5, val=1, test=1)])
def test_molecules(data: Any) -> None:
    batch = next(iter(data.train_dataloader()))
    made = to_pyg(batch)
    assert made.num_graphs == len(batch["index"]) and torch.equal(made.z, batch["numbers"])
    assert ("force" in made) == ("forces" in batch)
    assert same(from_pyg(made), batch)
    first, source = made.get_example(0), data.molecules("train")
    number = int((source.index == first.idx).nonzero())
    assert same(from_pyg(first), source.batch([number], data.targets))


def test_periodic_molecules() -> None:
    batch = {
        "numbers": torch.tensor([29, 29]), "positions": torch.rand(2, 3).double(), "batch": torch.tensor([0, 1]),
        "index": torch.tensor([4, 9]), "cell": torch.rand(2, 3, 3).double(), "pbc": torch.tensor([[True] * 3, [False] * 3]),
    }  # fmt: skip
    assert same(from_pyg(to_pyg(batch)), batch)


def test_molecules_with_targets_of_every_kind() -> None:
    source = Molecules.of(
        [[8, 1], [6]], [[[0, 0, 0], [0, 0, 1]], [[0, 0, 0]]], {"gap": [1.0, 2.0]}, {"gap": "eV", "mu": "D", "q": "1"},
        vectors={"mu": [[0, 0, 1.5], [0, 0, 0]]}, atomic={"q": [-0.5, 0.5, 0.0]},
    )  # fmt: skip
    batch = source.batch([0, 1], ["gap", "mu", "q"])
    made = to_pyg(batch)
    assert made.get_example(0).atomic.tolist() == [[-0.5], [0.5]]
    assert made.get_example(0).vectors.shape == (1, 1, 3)
    assert same(from_pyg(made), batch)


def test_meshes() -> None:
    for dataset in (
        Primitives(2, vertices=(100, 120)),
        Creatures(2, vertices=(150, 200), template_vertices=150),
    ):
        items = [dataset[0], dataset[1]]
        data = to_pyg(items[1])
        mesh = items[1]["mesh"]
        assert data.face.shape == (3, len(mesh.faces)) and torch.equal(data.pos, mesh.points)
        assert from_pyg(data)["mesh"] == mesh
        batch, expected = to_pyg(collate(items)), collate(items)
        assert torch.equal(batch.face.max(), torch.tensor(sum(m.num_points for m in expected["mesh"]) - 1))
        assert same(from_pyg(batch), expected)


def test_data_of_others() -> None:
    cloud = from_pyg(pyg.Data(pos=torch.rand(5, 3), normal=torch.rand(5, 3), y=torch.tensor([3])))
    assert cloud["features"].shape == (5, 3) and int(cloud["label"]) == 3
    bare = pyg.Data(pos=torch.rand(5, 3))
    assert from_pyg(bare).keys() == {"positions", "index"}
    with pytest.raises(TypeError, match="expected a view of a cloud, a dict with 'positions', 'label'"):
        from_pyg(pyg.Batch.from_data_list([bare, bare]))
    qm9 = pyg.Data(
        z=torch.tensor([6, 1]), pos=torch.rand(2, 3), y=torch.rand(1, 19), edge_index=torch.zeros(2, 0).long()
    )
    found = from_pyg(pyg.Batch.from_data_list([qm9, qm9]))
    assert found["target"].shape == (2, 19) and found["positions"].dtype == torch.float64
    assert found["batch"].tolist() == [0, 0, 1, 1] and found["index"].tolist() == [0, 1]


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(
        TypeError, match="item is or holds 'image'; expected a dict with 'mesh' or 'positions'"
    ):
        to_pyg({"image": torch.zeros(3)})
    with pytest.raises(TypeError, match="data is a dict; expected torch_geometric's Data or Batch"):
        from_pyg({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data holds 'y'; expected 'pos'"):
        from_pyg(pyg.Data(y=torch.zeros(1)))
    votes = Views(PrimitiveClouds(2, 30), 20, votes=2)
    with pytest.raises(ValueError, match="item has votes 2; expected one view per cloud"):
        to_pyg(collate([votes[0], votes[1]]))
