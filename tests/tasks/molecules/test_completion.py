"""Completion of molecules: the density's constant, tops that no rotation moves, symmetries of what is left, the recipe."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.cli import main
from spheregeo.data.molecules.completion import G2CompletionData, MissingAtoms, MoleculeCompletionData
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.sampling import random_rotations
from spheregeo.tasks import MoleculeCompletion
from spheregeo.tasks.molecules.modes import Density, cross_entropy, draw, likeliest, log_envelope, pairs
from spheregeo.tasks.molecules.symmetry import point_group, symmetric_distance

F64 = torch.float64
SMALL = [
    "--model.width=8",
    "--model.depth=1",
    "--model.options={lmax: 1, edge_dim: 8, hidden: 16, trunk_options: {lmax: 1}}",
]


class Gaussians:
    """A field whose density is known: with p0 taken away, a normal distribution about (0, 0, 2), the second element e⁻¹ times."""

    def at(
        self,
        sent: None,
        positions: torch.Tensor,
        counts: torch.Tensor,
        queries: torch.Tensor,
        owner: torch.Tensor,
    ) -> torch.Tensor:
        top = queries.new_tensor([0.0, 0.0, 2.0])
        log = -(queries - top).square().sum(1) / (2 * 0.3**2) - log_envelope(
            positions, counts, queries, owner
        )
        return torch.stack([log, log - 1.0], 1)


def test_the_loss_is_the_cross_entropy_of_the_normalised_density() -> None:
    positions = torch.tensor([[0.0, 0, 0], [0, 0, 3.2]], dtype=F64)
    counts = torch.tensor([2])
    truth = torch.tensor([[0.0, 0, 2.1]], dtype=F64)
    density = Density(Gaussians(), None, positions, counts, torch.tensor([0, 1]))
    generator = torch.Generator().manual_seed(0)
    draws = draw(positions, counts, truth, 0.2, 40000, generator)
    found = float(cross_entropy(density, draws, torch.tensor([1])))
    # -log p at distance d of the second element, in the mean over the target
    spread = (3 * 0.2**2 + 0.1**2) / (2 * 0.3**2)
    constant = 1.5 * np.log(2 * np.pi * 0.3**2) + np.log(1 + np.exp(-1))
    assert found == pytest.approx(spread + constant + 1, abs=0.03)


def batch_of(turn: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    from ase.collections import g2

    frames = [g2[name] for name in ("CH3OH", "H2O", "CO")]
    whole = Molecules.of([a.numbers for a in frames], [a.positions for a in frames])
    batch = MissingAtoms(whole, each=1, seed=1).__getitems__([0, 1, 2])
    if turn is None:
        return batch
    return {**batch, "positions": batch["positions"] @ turn.T + 1.0, "place": batch["place"] @ turn.T + 1.0}


class Distances:
    """A field of the distances to the atoms, wanted ones by the atoms' order: invariant, with few hills."""

    def at(
        self,
        sent: None,
        positions: torch.Tensor,
        counts: torch.Tensor,
        queries: torch.Tensor,
        owner: torch.Tensor,
    ) -> torch.Tensor:
        atom, place = pairs(counts, owner)
        first = (counts.cumsum(0) - counts)[owner[place]]
        wanted = 1.1 + 0.4 * (atom - first)
        off = ((positions[atom] - queries[place]).square().sum(1).sqrt() - wanted).square() / (2 * 0.2**2)
        log = -torch.zeros_like(queries[:, 0]).index_add(0, place, off)
        return torch.stack([log, 0.5 * log], 1)


def test_answers_turn_with_the_molecule() -> None:
    """Tops of hills do not depend on the orientation of the starts; scores are alike to rounding."""
    task = MoleculeCompletion(width=8, depth=1, options={"trunk": "schnet", "hidden": 16, "edge_dim": 8})
    task.elements[[1, 6]] = True
    generator, scores, tables = torch.Generator().manual_seed(2), [], []
    turns = random_rotations(2, generator)
    for matrix in (None, turns[0], -turns[1]):
        batch = batch_of(matrix)
        positions, counts = batch["positions"], torch.bincount(batch["batch"])
        found = likeliest(Density(Distances(), None, positions, counts, torch.tensor([0, 1])))
        task.answers = lambda _, found=found: found  # type: ignore[assignment,method-assign]
        task.update_metrics({**batch, "at_place": torch.ones(3)})
        scores.append(task.compute_metrics())
        tables.append(torch.cat([found.probability, found.share[:, None]], 1))
    assert 0 < scores[0]["position_mae"] < 2
    for other, table in zip(scores[1:], tables[1:]):
        assert other == pytest.approx(scores[0], abs=1e-8)
        assert (table - tables[0]).abs().max() < 1e-8
    assert tables[0][2, 2] == pytest.approx(1.0)  # all places at one distance of a single atom are one


def test_the_network_is_asked_in_float64() -> None:
    """Answers of the task's own network: where the density's slope vanishes, to far below float32's rounding."""
    torch.manual_seed(0)
    task = MoleculeCompletion(
        width=8, depth=1, options={"trunk": "schnet", "hidden": 16, "edge_dim": 8}
    ).eval()
    task.elements[[1, 6, 8]] = True
    batch = batch_of()
    with torch.inference_mode(), torch.autocast("cpu"):
        found = task.answers(batch)
    density, centres = task.exact_density(batch)
    place = (found.positions - centres).clone().requires_grad_()
    height = density.of_place(place, torch.arange(3))
    (slope,) = torch.autograd.grad(height.sum(), place)
    assert slope.dtype == F64 and slope.norm(dim=1).max() < 1e-6
    assert found.probability.sum(1) == pytest.approx(torch.ones(3, dtype=F64).numpy())


@pytest.mark.parametrize(
    ("name", "order"),
    [("CH4", 24), ("C6H6", 24), ("NH3", 6), ("H2O", 4), ("C2H6", 12), ("CH3OH", 2), ("C3H4_D2d", 8)],
)
def test_point_groups(name: str, order: int) -> None:
    from ase.collections import g2

    positions = g2[name].positions - g2[name].positions.mean(0)
    group = point_group(g2[name].numbers, positions)
    assert len(group) == order
    products = np.einsum("aij,bjk->abik", group, group).reshape(-1, 3, 3)
    apart = np.abs(products[:, None] - group[None]).max((2, 3)).min(1)
    assert apart.max() < 0.05  # closed, to the symmetry of the coordinates


def test_places_that_a_symmetry_joins_are_one() -> None:
    from ase.collections import g2

    water = g2["H2O"]
    above, below = np.array([1.0, 0.3, 0.2]), np.array([-1.0, 0.3, 0.2])
    distance, order = symmetric_distance(water.numbers, water.positions, above, below)
    assert distance < 1e-9 and order == 4  # the plane of the molecule is x = 0
    alone = symmetric_distance(np.array([6]), np.zeros((1, 3)), np.array([0, 0, 1.2]), np.array([0.9, 0, 0]))
    assert alone == (pytest.approx(0.3), 0)
    line = np.array([[0.0, 0, 0], [0, 0, 1.2]])
    ring = np.array([1.0, 0, -0.5]), np.array([0, -1.0, -0.5])
    assert symmetric_distance(np.array([6, 8]), line, *ring)[0] < 1e-12
    mirrored = np.array([0, -1.0, 1.7])
    assert symmetric_distance(np.array([6, 8]), line, ring[0], mirrored)[0] == pytest.approx(2.2)
    assert symmetric_distance(np.array([8, 8]), line, ring[0], mirrored)[0] < 1e-12


def test_samples_lack_one_atom() -> None:
    data = G2CompletionData(batch_size=8)
    tests = data.dataset("test")
    batch = tests.__getitems__([0, 1])
    whole = data.molecules("test").select([0])
    assert len(tests) == int(data.molecules("test").counts.sum())
    both = torch.cat([batch["positions"][batch["batch"] == 1], batch["place"][1:]])
    assert torch.equal(both.sort(0).values, whole.positions.sort(0).values)
    train = data.dataset("train")
    drawn = [train.__getitems__([(epoch, 3)])["removed"].tolist() for epoch in range(8)]
    assert drawn == [train.__getitems__([(epoch, 3)])["removed"].tolist() for epoch in range(8)]
    assert len({tuple(train[(epoch, 3)]["place"][0].tolist()) for epoch in range(8)}) > 1
    assert "without" in tests.name(0)
    with pytest.raises(ValueError, match="none of the 1 molecules has two atoms"):
        MissingAtoms(Molecules.of([[2]], [[[0, 0, 0]]]))


def test_recipe_trains_tests_and_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ase.collections import g2
    from ase.io import read, write

    folder = tmp_path / "whole"
    folder.mkdir()
    write(
        folder / "whole.xyz", [g2[name] for name in ("CH3OH", "H2CO", "CH3OCH3", "HCOOH", "CH2OCH2", "CO2")]
    )
    data = ["--data=spheregeo.data.MoleculeCompletionData", f"--data.root={folder}"]
    run = ["--output", str(tmp_path / "run"), *SMALL, *data, "--trainer.max_epochs=1"]
    assert main(["fit", "complete-molecule", *run]) == 0
    assert main(["test", "complete-molecule", *run]) == 0
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"element_accuracy", "position_mae", "success", "completed", "element_at_place"} <= found.keys()
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").read_text().splitlines()))
    mean = np.mean([float(row["distance [Å]"]) for row in rows])
    assert len(rows) == found["samples"] and mean == pytest.approx(found["position_mae"], abs=1e-5)
    assert (tmp_path / "run" / "completions.png").stat().st_size > 5000
    left = g2["CH4"][:4]
    write(tmp_path / "left.xyz", left)
    call = [
        "predict",
        "complete-molecule",
        "--input",
        str(tmp_path / "left.xyz"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*call, "--ckpt", str(tmp_path / "run" / "checkpoints" / "best.ckpt")]) == 0
    whole = read(tmp_path / "out" / "left_completed.xyz")
    (row,) = csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines())
    assert len(whole) == 5 and whole[4].symbol == row["element"] and 0 < whole.info["predicted_p"] <= 1
    assert whole.positions[4] == pytest.approx([float(row[f"{k} [Å]"]) for k in "xyz"], abs=1e-6)
    assert (tmp_path / "out" / "predictions.png").stat().st_size > 5000
    assert main(["audit", "complete-molecule", "--output", str(tmp_path / "run")]) == 0
    assert "answers of turned clusters: places differ by" in capsys.readouterr().out


@pytest.mark.realdata
def test_qm7(real_data: Path) -> None:
    from spheregeo.data.molecules.completion import QM7CompletionData

    data = QM7CompletionData(str(real_data / "qm7"), train=100, val=10, test=20)
    assert len(data.dataset("test")) == 20 and len(next(iter(data.train_dataloader()))["removed"]) == 32


def test_faults_name_what_came(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target_width is 3"):
        MoleculeCompletion(target_width=3)
    with pytest.raises(ValueError, match=r"val_share is 0\.6"):
        MoleculeCompletionData("x.xyz", 0.6, 0.6)
    task = MoleculeCompletion(width=8, depth=1, options={"trunk": "schnet"})
    task.elements[[1, 6]] = True
    batch = MissingAtoms(Molecules.of([[6, 8]], [[[0, 0, 0], [0, 0, 1.2]]]), each=0).__getitems__([1])
    with pytest.raises(ValueError, match="O is missing somewhere"):
        task.forward_batch(batch)
