"""Regression of molecules: references, losses and scores by hand, a short run of the recipe, faults named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spheregeo.audit import randomise
from spheregeo.cli import main
from spheregeo.data import G2Data, QM7Data, QM9Data
from spheregeo.data.molecules.molecules import Molecules, fit_references
from spheregeo.sampling import random_rotations
from spheregeo.tasks import MoleculeRegression, load, regression_scores

F64 = torch.float64


class Holder:
    """What a trainer shows a task of the data."""

    def __init__(self, data: Any) -> None:
        self.datamodule = data


@pytest.fixture(autouse=True)
def _holding(monkeypatch: pytest.MonkeyPatch) -> None:
    own = MoleculeRegression.trainer
    monkeypatch.setattr(
        MoleculeRegression,
        "trainer",
        property(lambda self: getattr(self, "holder", None) or own.fget(self), own.fset),
    )


def fitted(data: Any, **options: Any) -> MoleculeRegression:
    task = MoleculeRegression(data.targets, data.units, width=8, depth=1, **options)
    task.holder = Holder(data)  # type: ignore[assignment]
    task.on_fit_start()
    return task


def test_references_of_elements() -> None:
    data = G2Data(targets=["atomization_energy", "ionization_energy"])
    train = data.molecules("train")
    energies = train.targets["atomization_energy"]
    task = fitted(data)  # auto: the first adds up over atoms, the second does not
    assert torch.equal(task.atom_values[:, 0], fit_references(train, energies))
    assert float(task.atom_values[:, 1].abs().max()) == 0
    known = train.targets["ionization_energy"]
    assert float(task.constant[1]) == pytest.approx(float(known.nanmean()))
    assert float(task.scale[1]) == pytest.approx(float(known[known.isfinite()].std(correction=0)))
    assert float(task.scale[0]) < 0.5 * float(energies.std())
    plain = fitted(data, references="none")
    assert float(plain.atom_values.abs().max()) == float(plain.constant.abs().max()) == 0
    with pytest.raises(ValueError, match="the data know none"):
        fitted(data, references="given")


def test_loss_by_hand_and_missing_values() -> None:
    data = G2Data(targets=["atomization_energy", "ionization_energy"])
    batch = next(iter(data.val_dataloader()))
    unknown = batch["target"].isnan()
    assert bool(unknown.any()) and not bool(unknown.all())
    for kind, f in (
        ("l1", lambda e: e.abs()),
        ("l2", lambda e: e.square()),
        ("huber", lambda e: torch.where(e.abs() < 0.3, e.square() / 2, 0.3 * (e.abs() - 0.15))),
    ):
        torch.manual_seed(0)
        task = fitted(data, loss=kind, huber_delta=0.3).double()
        ran = task.forward_batch(batch)
        error = ((ran["prediction"] - batch["target"]) / task.scale)[~unknown]
        assert float(ran["loss"].detach()) == pytest.approx(float(f(error.detach()).mean()), rel=1e-9)
        ran["loss"].backward()
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in task.parameters())


def test_scores_by_hand() -> None:
    truth = torch.tensor([[1.0, torch.nan], [2.0, 5.0], [4.0, torch.nan]])
    said = torch.tensor([[2.0, 9.0], [2.0, 8.0], [1.0, 9.0]])
    mae, rmse, count = regression_scores(truth, said)
    assert mae.tolist() == pytest.approx([4 / 3, 3.0]) and count.tolist() == [3, 1]
    assert rmse.tolist() == pytest.approx([(10 / 3) ** 0.5, 3.0])


def test_invariance_and_batches_of_the_whole_task() -> None:
    data = G2Data()
    task = fitted(data)
    randomise(task.network, torch.Generator().manual_seed(0))
    task.double()
    part = data.molecules("test").select([0, 1, 2])
    y = task(part.batch([0, 1, 2])).detach()
    turn = random_rotations(1, generator=torch.Generator().manual_seed(0))[0]
    turned = Molecules(part.numbers, -part.positions @ turn.T + 7, part.ptr)
    assert torch.allclose(task(turned.batch([0, 1, 2])), y, rtol=1e-11)
    assert torch.allclose(task(part.batch([2])), y[2:], rtol=1e-11)
    far = Molecules(part.numbers, part.positions + 1e5, part.ptr)
    single = task.float()
    assert torch.allclose(single(far.batch([0, 1, 2])).double(), y, rtol=1e-4)  # centred before it is rounded


def test_faults() -> None:
    data = G2Data()
    task = fitted(data)
    batch = next(iter(data.val_dataloader()))
    with pytest.raises(ValueError, match=r"target has shape \(10, 1\); expected \(10, 2\)"):
        task.forward_batch({**batch, "target": batch["target"][:, :1]})
    with pytest.raises(ValueError, match="needs 'target'"):
        task.forward_batch({k: v for k, v in batch.items() if k != "target"})
    with pytest.raises(ValueError, match="contain Pu, but the training had only H, Li"):
        task({**batch, "numbers": torch.full_like(batch["numbers"], 94)})
    for options, message in (
        ({"targets": ["a", "a"]}, "expected different names"),
        ({"targets": ["a"], "units": ["eV", "D"]}, "and a unit for each"),
        ({"references": "guess"}, "references are 'guess'"),
        ({"loss": "l3"}, "loss is 'l3'"),
        ({"huber_delta": 0.0}, "huber_delta is 0.0"),
        ({"network": "gem-classifier"}, "this task on molecules; those that do are .*schnet"),
    ):
        with pytest.raises(ValueError, match=message):
            MoleculeRegression(**options)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    small = [
        "--trainer.max_epochs",
        "2",
        "--model.width",
        "8",
        "--model.depth",
        "1",
        "--data.train_size",
        "60",
    ]
    elements = ["--data.units", "{zpve: eV}", "--data.batch_size", "30"]
    options = ["--output", str(folder), *small, *elements]
    assert main(["fit", "regress-molecules", *options]) == 0
    assert main(["test", "regress-molecules", *options]) == 0
    return folder


def test_recipe_trains_tests_and_draws(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    assert found["targets"]["zpve"]["unit"] == "eV" and found["molecules"] == 28
    assert (run / "parity.png").stat().st_size > 5000
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = [abs(float(r["zpve [eV]"]) - float(r["true zpve [eV]"])) for r in rows]
    assert sum(errors) / 28 == pytest.approx(found["targets"]["zpve"]["mae"], rel=1e-6)
    said = found["targets"]["zpve"]["references_mae"]
    assert 0.02 < said < 0.5  # eV: the elements say most of it
    names = [r["sample"] for r in rows]
    assert len(set(names)) == 28 and not names[0].isdigit()


def test_resuming_with_other_targets_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "regress-molecules", "--resume", "--output", str(run), "--data.units", "{zpve: meV}"]
    assert main(arguments) == 2
    assert "was written with units ['kcal/mol', 'eV'] but this run has" in capsys.readouterr().err


def test_audit(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "audit.json"
    assert main(["audit", "regress-molecules", "--output", str(run), "--json", str(table)]) == 0
    found = json.loads(table.read_text())
    changes = found["invariance"]["randomised"]
    kinds = ("rotations", "reflections", "translations", "permutations")
    assert all(changes[kind] < 1e-12 for kind in kinds), changes


def test_predict(run: Path, tmp_path: Path) -> None:
    from ase.io import read

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.xyz").write_text("2\n\nC 0 0 0\nO 1.1 0 0\n1\n\nH 0 0 0\n")
    atom = f"{0.0:10.4f}{0.0:10.4f}{0.0:10.4f} C   0  0"
    (tmp_path / "in" / "b.sdf").write_text(
        f"carbon\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n{atom}\n$$$$\n"
    )
    (tmp_path / "in" / "c.xyz").write_text("1\n\nPu 0 0 0\n")
    out = tmp_path / "out"
    arguments = ["predict", "regress-molecules", "--input", str(tmp_path / "in"), "--output", str(out)]
    assert main([*arguments, "--ckpt", str(run / "checkpoints" / "best.ckpt")]) == 2  # plutonium is reported
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["sample"] for r in rows] == ["a.xyz:0", "a.xyz:1", "b.sdf:0"]
    told = read(out / "a_predicted.xyz", "0")
    assert told.info["predicted_zpve"] == pytest.approx(float(rows[0]["zpve [eV]"]), rel=1e-6)
    assert told.info["unit_zpve"] == "eV"
    task = load(run / "checkpoints" / "best.ckpt")
    assert isinstance(task, MoleculeRegression) and task.targets == ["atomization_energy", "zpve"]


@pytest.mark.realdata
def test_real_sets(real_data: Path) -> None:
    qm9 = str(real_data / "qm9_c7h10o2" / "qm9_reduced_100.xyz")
    for data, references in (
        (QM9Data(qm9, ["U0", "mu"], {"U0": "meV"}, official="random", train=60, val=20), ["given", "mean"]),
        (QM7Data(str(real_data / "qm7")), "auto"),
    ):
        task = fitted(data, references=references)
        loss = task.forward_batch(next(iter(data.train_dataloader())))["loss"].detach()
        assert 0 < float(loss) < 5  # standardised: of order one
    assert float(task.scale[0]) < 25  # kcal/mol: of 220, what the elements do not say
