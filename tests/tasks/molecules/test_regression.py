"""Regression of molecules: references, losses and scores by hand, a short run of the recipe, faults named."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spheregeo import models
from spheregeo.audit import randomise
from spheregeo.cli import main
from spheregeo.data import G2Data, QM7Data, QM9Data
from spheregeo.data.molecules.molecules import Molecules, fit_references
from spheregeo.models.space.steerable_blocks import invariants_of
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


def of_all_kinds(count: int = 6, seed: int = 0) -> Molecules:
    """Molecules with a number, a vector and charges, of which some are unknown."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, count)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)
    places = [1.4 * grid[:n] + 0.2 * rng.normal(size=(n, 3)) for n in sizes]
    charges, vectors = rng.normal(size=sizes.sum()), rng.normal(size=(count, 3))
    charges[1], vectors[2] = np.nan, np.nan
    return Molecules.of(
        [rng.choice([1, 6, 8], n) for n in sizes], places, {"gap": rng.normal(size=count)}, {"gap": "eV", "mu": "D", "q": "1"},
        vectors={"mu": vectors}, atomic={"q": charges},
    )  # fmt: skip


class AllKinds:
    """Data of all kinds of targets, as a data module shows them."""

    targets, units, kinds = ["gap", "mu", "q"], ["eV", "D", "1"], ["molecule", "vector", "atom"]

    def molecules(self, split: str) -> Molecules:
        return of_all_kinds()


def of_kinds(network: str = "steerable-molecule", **options: Any) -> MoleculeRegression:
    data = AllKinds()
    task = MoleculeRegression(
        data.targets, data.units, network, kinds=data.kinds, width=8, depth=2, options={"cutoff": 4.0, "basis": 6}, **options
    )  # fmt: skip
    task.holder = Holder(data)  # type: ignore[assignment]
    task.on_fit_start()
    return task


def test_vectors_turn_and_numbers_of_atoms_do_not() -> None:
    """Rotations, reflections and translations in float64, with random weights and biases; and nothing vanishes."""
    task = of_kinds()
    randomise(task.network, torch.Generator().manual_seed(0))
    assert all(float(p.detach().abs().max()) > 0 for p in task.network.parameters())
    task.double()
    part = of_all_kinds()
    plain = {k: v.detach() for k, v in task.answers(part.batch(range(6))).items()}
    assert float(plain["mu"].norm(dim=1).min()) > 1e-2 and float(plain["q"].std()) > 1e-2
    for sign, seed in ((1, 0), (-1, 1)):
        turn = sign * random_rotations(1, generator=torch.Generator().manual_seed(seed))[0].double()
        turned = Molecules(part.numbers, part.positions @ turn.T + 3, part.ptr)
        said = {k: v.detach() for k, v in task.answers(turned.batch(range(6))).items()}
        for name, expected in (("gap", plain["gap"]), ("mu", plain["mu"] @ turn.T), ("q", plain["q"])):
            assert float((said[name] - expected).abs().max()) < 1e-9 * float(expected.abs().max())
    alone = task.answers(part.batch([3]))
    assert torch.allclose(alone["mu"][0], plain["mu"][3], rtol=1e-9)
    # A vector of charges alone, by hand: gates off.
    head = task.network.vector_head
    with torch.no_grad():
        head.mix.zero_()
    atoms = part.select([3])
    graph = task.network.neighbors(atoms.positions)
    x = task.network.stacks(atoms.positions, atoms.numbers, graph)
    charges = head.gates(invariants_of(x))[:, head.copies]
    expected = ((charges - charges.mean())[:, None] * atoms.positions).sum(0) * task.vector_scale
    assert torch.allclose(task.answers(atoms.batch([0]))["mu"][0], expected, rtol=1e-9)


def test_loss_and_scores_of_all_kinds_by_hand(tmp_path: Path) -> None:
    task, source = of_kinds(), of_all_kinds()
    known = source.atomic["q"].isfinite()
    for z in source.elements:
        here = known & (source.numbers == z)
        assert float(task.atomic_values[z, 0]) == pytest.approx(float(source.atomic["q"][here].mean()))
    assert float(task.vector_scale[0]) == pytest.approx(float(source.vectors["mu"].square().nanmean().sqrt()))
    batch = source.batch(range(6), ["gap", "mu", "q"])
    ran = task.forward_batch(batch)
    said = {k: v.detach() for k, v in task.answers(batch).items()}
    errors = {
        "gap": ((said["gap"] - source.targets["gap"]) / task.scale[0]).abs(),
        "mu": ((said["mu"] - source.vectors["mu"]) / task.vector_scale[0]).abs(),
        "q": ((said["q"] - source.atomic["q"]) / task.atomic_scale[0]).abs(),
    }
    expected = torch.stack([e.nanmean() for e in errors.values()]).mean()
    assert float(ran["loss"].detach()) == pytest.approx(float(expected), rel=1e-5)  # in float32
    ran["loss"].backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in task.network.parameters())
    for part in ([4, 5, 0], [1, 2, 3]):
        task.update_metrics(task.forward_batch(source.batch(part, ["gap", "mu", "q"])))
    scores = task.compute_metrics()
    assert scores["mae_mu"] == pytest.approx(float((said["mu"] - source.vectors["mu"]).abs().nanmean()))
    assert scores["mae_q"] == pytest.approx(float((said["q"] - source.atomic["q"]).abs().nanmean()))
    assert scores["relative_mae"] == pytest.approx(float(expected))
    told = task.report()
    assert (
        told["molecules"] == 6
        and told["targets"]["mu"]["unit"] == "D"
        and told["targets"]["mu"]["count"] == 5
    )
    oxygen = known & (source.numbers == 8)
    row = told["targets"]["q"]["elements"]["O"]
    assert row["count"] == int(oxygen.sum())
    assert row["mae"] == pytest.approx(float((said["q"] - source.atomic["q"])[oxygen].abs().mean()))
    task.plot(tmp_path, [])
    rows = list(csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert len(rows) == 6 and float(rows[4]["mu_y [D]"]) == pytest.approx(float(said["mu"][4, 1]))
    assert rows[2]["true mu_x [D]"] == ""
    atoms = list(csv.DictReader((tmp_path / "predictions_atoms.csv").read_text().splitlines()))
    assert [int(row["sample"]) for row in atoms] == source.batch(range(6))["batch"].tolist()
    assert [float(row["q [1]"]) for row in atoms] == pytest.approx(said["q"].tolist())
    assert [row["element"] for row in atoms] == [{1: "H", 6: "C", 8: "O"}[z] for z in source.numbers.tolist()]


def test_networks_without_the_heads_are_refused() -> None:
    for kind, network, message in (
        (
            "vector",
            "schnet",
            "gives no vectors of molecules, which the targets are; choose steerable-molecule",
        ),
        ("atom", "tfn", "gives no numbers of atoms, .*; choose steerable-molecule, painn, nequip or schnet"),
    ):
        with pytest.raises(ValueError, match=message):
            MoleculeRegression(["a"], ["1"], network, kinds=[kind], width=8, depth=1)
    with pytest.raises(ValueError, match="expected one of molecule, vector, atom for each"):
        MoleculeRegression(["a"], ["1"], kinds=["tensor"])
    with pytest.raises(ValueError, match="expected lmax of at least 1"):
        models.create("steerable-molecule", 10, 1, None, width=8, depth=1, lmax=0, out_vectors=1)
    charges = MoleculeRegression(["a"], ["1"], "schnet", kinds=["atom"], width=8, depth=1)
    found = charges.answers({**of_all_kinds().batch([0, 1])})
    assert found["a"].shape == (int(of_all_kinds().counts[:2].sum()),)


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


def test_another_file_is_scored_in_a_folder_of_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = "2\nProperties=species:S:1:pos:R:3 atomization_energy={0} zpve=3.0\nC 0 0 0\nO 1.1 0 0\n"
    (tmp_path / "other.xyz").write_text(frame.format(250.0) + frame.format("nan"))
    call = [
        "test",
        "regress-molecules",
        "--output",
        str(run),
        "--data.test_root",
        str(tmp_path / "other.xyz"),
    ]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert re.search(r"test/mae_zpve +\d+\.\d{4} eV\n", said) and f"report in {run / 'test-other'}" in said
    told = json.loads((run / "test-other" / "metrics.json").read_text())
    assert told["molecules"] == 2 and told["targets"]["atomization_energy"]["count"] == 1
    rows = list(csv.DictReader((run / "test-other" / "predictions.csv").read_text().splitlines()))
    assert [row["sample"] for row in rows] == ["0", "1"] and rows[1][
        "true atomization_energy [kcal/mol]"
    ] == ""


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
