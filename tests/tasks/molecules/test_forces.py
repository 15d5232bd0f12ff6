"""Energies and forces: gradients, conservation, free atoms, crystals, and the ASE calculator on top."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from spheregeo import models
from spheregeo.audit import randomise
from spheregeo.cli import main
from spheregeo.data import ClustersData, ForcesData, collate_molecules
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.sampling import random_rotations
from spheregeo.tasks import Forces, load
from spheregeo.tasks.molecules.forces import ForceScores

F64 = torch.float64
TINY = {"cutoff": 4.0, "basis": 8}


def task_of(**options: Any) -> Forces:
    """A task in float64 whose weights, references and scale are all random."""
    torch.manual_seed(1)
    made = Forces(width=8, depth=2, options=TINY, **options)
    randomise(made.network, torch.Generator().manual_seed(2))
    made.atom_energy.copy_(torch.linspace(-3, 5, 119, dtype=F64))
    made.scale.fill_(1.7)
    return made.double().eval()


def molecule(count: int = 7, seed: int = 0) -> Molecules:
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)[:count]
    x = 1.4 * places + 0.2 * rng.normal(size=(count, 3))
    return Molecules.of(
        [rng.choice([1, 6, 8], count)], [x], energy=[-7.0], forces=[rng.normal(size=(count, 3))]
    )


def energy(task: Forces, molecules: Molecules) -> Tensor:
    return task(molecules.batch(range(len(molecules))))["energy"]


def moved(molecules: Molecules, positions: Tensor) -> Molecules:
    return Molecules(molecules.numbers, positions, molecules.ptr)


def test_forces_are_the_numeric_gradient() -> None:
    task, one = task_of(), molecule()
    forces = task(one.batch([0]))["forces"]
    h = 1e-4
    for atom in range(3):
        for axis in range(3):
            step = torch.zeros_like(one.positions)
            step[atom, axis] = h
            up, down = (energy(task, moved(one, one.positions + s * step)) for s in (1, -1))
            assert float(forces[atom, axis]) == pytest.approx(-float(up - down) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_energies_of_atoms_keep_their_digits(dtype: torch.dtype) -> None:
    """Thousands of eV in bfloat16 would be off by tens, and no force would tell."""
    task, one = task_of(), molecule()
    task.atom_energy.fill_(-1029.4321)
    before = energy(task, one)
    task.to(dtype)
    assert task.atom_energy.dtype == task.scale.dtype == F64
    assert next(task.network.parameters()).dtype == dtype
    assert float((energy(task, one) - before).abs()) < (1e-5 if dtype == torch.float32 else 1.0)


def test_no_net_force_and_no_net_torque() -> None:
    task, one = task_of(), molecule()
    forces = task(one.batch([0]))["forces"]
    assert float(forces.sum(0).abs().max()) < 1e-10 * float(forces.abs().max())
    torque = torch.linalg.cross(one.positions, forces).sum(0)
    assert float(torque.abs().max()) < 1e-10 * float(forces.abs().max())
    assert float(forces.abs().max()) > 1e-2


def test_work_on_a_loop_is_zero() -> None:
    """∮ F · dx over a small closed path of one atom."""
    task, one = task_of(), molecule()
    angle = torch.arange(64, dtype=F64) * (2 * torch.pi / 64)
    work = 0.0
    for a in angle:
        step = torch.zeros_like(one.positions)
        step[0, 0], step[0, 1] = 0.1 * torch.cos(a), 0.1 * torch.sin(a)
        tangent = torch.tensor([-torch.sin(a), torch.cos(a), 0.0], dtype=F64) * 0.1 * (2 * torch.pi / 64)
        work += float(task(moved(one, one.positions + step).batch([0]))["forces"][0] @ tangent)
    assert abs(work) < 1e-8


def test_forces_turn_with_the_molecule() -> None:
    task, one = task_of(), molecule()
    said = task(one.batch([0]))
    for turn in random_rotations(2, generator=torch.Generator().manual_seed(0)):
        for matrix in (turn, -turn):
            other = task(moved(one, one.positions @ matrix.T + 5.0).batch([0]))
            assert torch.allclose(other["energy"], said["energy"], rtol=1e-11)
            assert torch.allclose(other["forces"], said["forces"] @ matrix.T, rtol=1e-9, atol=1e-10)


def test_free_atoms_and_parts_far_away() -> None:
    task = task_of()
    alone = Molecules.of([[8], [6]], [np.zeros((1, 3)), np.ones((1, 3))])
    said = task(alone.batch([0, 1]))
    assert torch.equal(said["energy"], task.atom_energy[[8, 6]])
    assert float(said["forces"].abs().max()) == 0
    a, b = molecule(5, 1), molecule(4, 2)
    both = Molecules.of(
        [torch.cat([a.numbers, b.numbers])], [torch.cat([a.positions, b.positions + 100]).numpy()]
    )
    sums = energy(task, a) + energy(task, b)
    assert torch.allclose(energy(task, both), sums, rtol=1e-12)
    together = Molecules.of([a.numbers, b.numbers], [a.positions, b.positions])
    forces = task(together.batch([0, 1]))["forces"]
    assert torch.allclose(forces, task(both.batch([0]))["forces"], atol=1e-12)


def test_a_molecule_does_not_depend_on_its_batch() -> None:
    task = task_of()
    parts = [molecule(5, 1), molecule(1, 2), molecule(7, 3)]
    together = Molecules.of([p.numbers for p in parts], [p.positions for p in parts])
    said = task(together.batch([2, 0, 1]))
    apart = [task(parts[k].batch([0])) for k in (2, 0, 1)]
    assert torch.allclose(said["energy"], torch.cat([p["energy"] for p in apart]), rtol=1e-13)
    assert torch.allclose(said["forces"], torch.cat([p["forces"] for p in apart]), atol=1e-13)


def test_an_atom_that_crosses_the_cutoff() -> None:
    task = task_of()

    def at(r: float) -> tuple[Tensor, Tensor]:
        three = Molecules.of([[6, 8, 1]], [[[0, 0, 0], [1.1, 0, 0], [0, r, 0]]])
        said = task(three.batch([0]))
        return said["energy"], said["forces"]

    (e1, f1), (e2, f2) = at(4.0 - 1e-7), at(4.0 + 1e-7)
    assert float((e1 - e2).abs()) < 1e-10 and float((f1 - f2).abs().max()) < 1e-8


def test_the_loss_by_hand_and_its_gradient() -> None:
    task, one = task_of(energy_weight=2.0, force_weight=5.0), molecule()
    assert one.energy is not None and one.forces is not None
    batch = one.batch([0])
    said = task(batch)
    expected = (
        2 * ((said["energy"] - one.energy) / 7).square()
        + 5 * (said["forces"] - one.forces).square().sum() / 21
    )
    task.train()
    loss = task.forward_batch(batch)["loss"]
    assert float(loss.detach()) == pytest.approx(float(expected) / 1.7**2, rel=1e-12)
    loss.backward()
    weight = task.network.interactions[0].filter[0].weight
    h = 1e-6
    with torch.no_grad():
        weight[1, 2] += h
        up = float(task.forward_batch(batch)["loss"])
        weight[1, 2] -= 2 * h
        down = float(task.forward_batch(batch)["loss"])
        weight[1, 2] += h
    assert weight.grad is not None
    assert float(weight.grad[1, 2]) == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_inference_mode_and_kept_graphs() -> None:
    """Lightning evaluates in inference mode; what is kept there must serve the training that follows."""
    task, one = task_of(), molecule()
    with torch.inference_mode():
        batch = {k: v.clone() for k, v in one.batch([0]).items()}
        first = task.forward_batch(batch)
    assert task._graphs is not None and len(task._graphs._graphs) == 1
    task.train()
    second = task.forward_batch(one.batch([0]))
    second["loss"].backward()
    assert float(first["loss"]) == pytest.approx(float(second["loss"].detach()), rel=1e-12)


class Holder:
    """What a trainer shows a task of the data."""

    def __init__(self, data: Any) -> None:
        self.datamodule = data


def fitted(task: Forces, data: Any) -> Forces:
    task._trainer = Holder(data)  # type: ignore[assignment]
    task.on_fit_start()
    return task


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forces, "trainer", property(lambda self: self._trainer))


@pytest.mark.usefixtures("holding")
def test_references(tmp_path: Path) -> None:
    data = ClustersData(train=8, val=2, test=2)
    task = fitted(Forces(width=8, depth=1), data)
    assert float(task.atom_energy[29]) == pytest.approx(3.51)
    assert float(task.scale) == pytest.approx(float(data.molecules("train").forces.square().mean().sqrt()))
    fit = fitted(Forces(width=8, depth=1, references="fit"), data)
    assert float(fit.atom_energy[29]) != pytest.approx(3.51)
    assert float(fitted(Forces(width=8, depth=1, references="none"), data).atom_energy.abs().max()) == 0
    with pytest.raises(ValueError, match=r"given for Cu but the molecules also contain Ag, Au"):
        fitted(Forces(width=8, depth=1, free_atoms={"Cu": 3.5}), data)
    with pytest.raises(ValueError, match=r"expected a few eV: are energies"):
        fitted(Forces(width=8, depth=1, free_atoms={"Cu": -1e4, "Ag": -1e4, "Au": -1e4}), data)
    with pytest.raises(ValueError, match="has an atom 'Q'"):
        fitted(Forces(width=8, depth=1, free_atoms={"Q": 3.5}), data)
    data = ClustersData(train=8, val=2, test=2)
    data.__class__ = type("Bare", (ClustersData,), {"isolated": None})
    with pytest.raises(ValueError, match=r"the data hold no free atoms"):
        fitted(Forces(width=8, depth=1), data)


def test_molecules_without_forces_count_by_their_energies() -> None:
    """The loss of a batch in which one molecule's forces are unknown, by hand; and of one in which all are."""
    task, parts = task_of(force_weight=10.0).train(), [molecule(5, 1), molecule(7, 2)]
    batch = collate_molecules([part.batch([0]) for part in parts])
    batch |= {"energy": torch.tensor([1.0, 2.0]).double(), "forces": torch.randn(12, 3).double()}
    lonely = {k: v for k, v in parts[1].batch([0]).items()} | {
        "energy": batch["energy"][1:],
        "forces": batch["forces"][5:],
    }
    unknown = batch["forces"].index_fill(0, torch.arange(5), torch.nan)
    loss = task.forward_batch({**batch, "forces": unknown})["loss"]
    energies = task.forward_batch({**batch, "forces": batch["forces"] * torch.nan})["loss"]
    with_forces, without = (
        task.forward_batch({**lonely, "forces": f})["loss"]
        for f in (lonely["forces"], lonely["forces"] * torch.nan)
    )
    assert loss.item() == pytest.approx((energies + with_forces - without).item(), rel=1e-5)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in task.parameters() if p.grad is not None)
    scores = ForceScores()
    scores.update(torch.tensor([1.0]), torch.full((3, 3), torch.nan))
    assert scores.compute() == {"energy_mae": 1000.0, "energy_rmse": 1000.0}


@pytest.mark.usefixtures("holding")
def test_scale_and_monitor_of_energies_alone(tmp_path: Path) -> None:
    text = "".join(
        f"2\nProperties=species:S:1:pos:R:3 energy={-20.0 - k}\nC 0 0 0\nO {1.1 + k / 100} 0 0\n"
        for k in range(12)
    )
    (tmp_path / "bare.xyz").write_text(text)
    data = ForcesData(str(tmp_path / "bare.xyz"), val=2, test=2)
    task = Forces(width=8, depth=1, references="fit")
    callback = ModelCheckpoint(monitor="val/force_mae")
    task._trainer = Holder(data)  # type: ignore[assignment]
    task._trainer.callbacks = [callback]  # type: ignore[union-attr]
    task.setup("fit")
    task.on_fit_start()
    assert callback.monitor == "val/energy_mae"
    assert 0.1 < float(task.scale) < 10
    found = task.forward_batch(next(iter(data.val_dataloader())))
    task.update_metrics(found)
    assert set(task.compute_metrics()) == {"energy_mae", "energy_rmse"}


def test_energies_alone_from_fit_to_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(
        f"2\nProperties=species:S:1:pos:R:3 energy={-20.0 - k % 3}\nC 0 0 0\nO {1.1 + k / 100} 0 0\n"
        for k in range(12)
    )
    (tmp_path / "bare.xyz").write_text(text)
    run = str(tmp_path / "run")
    options = (
        f"--data spheregeo.data.ForcesData --data.root {tmp_path / 'bare.xyz'} --data.train 8 --data.val 2 --data.test 2 "
        "--model.width 8 --model.depth 1 --model.references fit --trainer.max_epochs 2"
    )
    assert main(["fit", "fit-forces", "--output", run, *options.split()]) == 0
    said = capsys.readouterr().out
    assert "energies alone train" in said and re.search(r"val/energy_mae \d+\.\d{4} meV/atom", said)
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file() and "force" not in said.replace("fit-forces", "").split(
        "energies alone train", 1)[1]  # fmt: skip
    assert main(["fit", "fit-forces", "--output", run, "--resume", "--trainer.max_epochs", "3"]) == 0
    assert main(["test", "fit-forces", "--output", run]) == 0
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told["units"] == {"energy_mae": "meV/atom", "energy_rmse": "meV/atom"} and "force_mae" not in told


def test_bad_batches_and_options() -> None:
    task, one = task_of(), molecule()
    task.elements[[1, 6]] = True
    with pytest.raises(ValueError, match="contain O, but the training had only H, C"):
        task(one.batch([0]))
    task.elements.zero_()
    batch = one.batch([0])
    with pytest.raises(ValueError, match="NaN"):
        task({**batch, "positions": batch["positions"] * torch.nan})
    with pytest.raises(ValueError, match="expected 1 to 118"):
        task({**batch, "numbers": 0 * batch["numbers"]})
    with pytest.raises(ValueError, match="without atoms"):
        task({**batch, "batch": batch["batch"] + 1, "index": torch.arange(2)})
    with pytest.raises(ValueError, match="without atoms"):
        task({k: v[:0] for k, v in batch.items()})
    with pytest.raises(ValueError, match="Å apart"):
        task({**batch, "positions": 0 * batch["positions"]})
    with pytest.raises(ValueError, match=r"expected \(P,\), \(P, 3\)"):
        task({**batch, "positions": batch["positions"][1:]})
    with pytest.raises(ValueError, match="needs 'forces'"):
        task.forward_batch({k: v for k, v in batch.items() if k != "forces"})
    for options, message in (
        ({"references": "guess"}, "references is 'guess'"),
        ({"loss": "l3"}, "loss is 'l3'"),
        ({"force_weight": -1.0}, "force_weight is -1.0"),
        ({"options": {"readout": "mean"}}, "readout is 'mean'; energies are sums"),
        ({"network": "disco-classifier"}, "works on signals on grids, this task on molecules"),
    ):
        with pytest.raises(ValueError, match=message):
            Forces(**options)


SMALL = [
    "--data.train",
    "12",
    "--data.val",
    "4",
    "--data.test",
    "4",
    "--model.width",
    "8",
    "--model.depth",
    "1",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forces")
    options = ["--output", str(folder), "--trainer.max_epochs", "2", *SMALL]
    assert main(["fit", "fit-forces", *options]) == 0
    assert main(["test", "fit-forces", *options]) == 0
    return folder


def test_recipe_trains_tests_and_draws(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    assert found["force_mae"] > 0 and found["units"]["energy_mae"] == "meV/atom"
    for name in ("atoms.png", "parity.png", "forces.png", "curves.png"):
        assert (run / name).stat().st_size > 5000
    assert len((run / "predictions.csv").read_text().splitlines()) == 5
    assert "val/force_mae" in (run / "logs" / "version_0" / "metrics.csv").read_text()


def test_scores_by_hand(run: Path) -> None:
    task = load(run / "checkpoints" / "best.ckpt")
    assert isinstance(task, Forces)
    data = ClustersData(train=12, val=4, test=4)
    test = data.molecules("test")
    said = task(test.batch(range(4)))
    found = json.loads((run / "metrics.json").read_text())
    assert test.forces is not None and test.energy is not None
    assert 1000 * float((said["forces"] - test.forces).abs().mean()) == pytest.approx(
        found["force_mae"], rel=1e-4
    )
    error = (said["energy"] - test.energy) / test.counts
    assert 1000 * float(error.abs().mean()) == pytest.approx(found["energy_mae"], rel=1e-4)
    for z, name in ((29, "Cu"), (47, "Ag"), (79, "Au")):
        here = test.numbers == z
        row = found["elements"][name]
        assert row["count"] == int(here.sum())
        mae = 1000 * float((said["forces"] - test.forces)[here].abs().mean())
        assert row["force_mae"] == pytest.approx(mae, rel=1e-4)


# ---- the calculator


def test_calculator_relaxes_and_conserves_energy(run: Path) -> None:
    from ase import Atoms, units
    from ase.md.verlet import VelocityVerlet
    from ase.optimize import BFGS

    from spheregeo.tasks.molecules.calculator import SpheregeoCalculator

    calculator = SpheregeoCalculator(task_of())
    one = molecule()
    atoms = Atoms(one.numbers.numpy(), one.positions.numpy(), calculator=calculator)
    begin = atoms.get_potential_energy()
    assert begin == pytest.approx(float(energy(task_of(), one)), rel=1e-12)
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=5)
    assert atoms.get_potential_energy() < begin
    speeds = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(0.1 * np.sqrt(atoms.get_masses())[:, None] * speeds)  # some 100 K
    total = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.05 * units.fs).run(20)
    assert atoms.get_total_energy() == pytest.approx(total, abs=1e-4)
    trained = SpheregeoCalculator(run / "checkpoints" / "best.ckpt")
    assert np.isfinite(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]], calculator=trained).get_forces()).all()
    free = Atoms("Au", [[1.0, 2.0, 3.0]], calculator=trained)
    assert free.get_potential_energy() == pytest.approx(3.80)  # that of the training data, exactly
    with pytest.raises(ValueError, match="contain H, but the training had only Cu, Ag, Au"):
        Atoms("H", calculator=trained).get_potential_energy()
    with pytest.raises(ValueError, match="no atoms"):
        Atoms(calculator=trained).get_potential_energy()
    with pytest.raises(ValueError, match="at the same place"):
        Atoms("Cu2", calculator=trained).get_potential_energy()
    with pytest.raises(ValueError, match="expected finite numbers"):
        Atoms("Cu", [[np.nan, 0, 0]], calculator=trained).get_forces()


def test_stress_is_the_numeric_derivative() -> None:
    from ase import Atoms
    from ase.calculators.calculator import PropertyNotImplementedError
    from ase.calculators.fd import calculate_numerical_stress

    from spheregeo.tasks.molecules.calculator import SpheregeoCalculator

    cell = np.array([[2.6, 0.0, 0.0], [0.5, 2.8, 0.0], [0.3, -0.4, 3.1]])
    atoms = Atoms("CO", [[0.1, 0.2, 0.3], [1.4, 1.2, 1.9]], cell=cell, pbc=True)
    atoms.calc = SpheregeoCalculator(task_of())
    stress = atoms.get_stress()
    assert float(np.abs(stress).max()) > 1e-3
    assert np.allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), rtol=1e-5, atol=1e-7)
    twice = atoms.repeat((2, 1, 1))
    twice.calc = SpheregeoCalculator(task_of())
    assert twice.get_potential_energy() == pytest.approx(2 * atoms.get_potential_energy(), rel=1e-10)
    assert np.allclose(twice.get_forces()[:2], atoms.get_forces(), atol=1e-9)
    atoms.pbc = [True, True, False]  # a slab: the volume is that of the whole cell
    assert np.allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), rtol=1e-5, atol=1e-7)
    for nothing in ({"pbc": False}, {"pbc": [True, True, False], "cell": cell * [[1], [1], [0]]}):
        alone = Atoms("CO", atoms.positions, **{"cell": cell, **nothing})
        alone.calc = SpheregeoCalculator(task_of())
        with pytest.raises(PropertyNotImplementedError):
            alone.get_stress()


def test_calculator_wants_a_task_with_forces() -> None:
    from spheregeo.tasks import MoleculeRegression
    from spheregeo.tasks.molecules.calculator import SpheregeoCalculator

    with pytest.raises(FileNotFoundError):
        SpheregeoCalculator("nowhere.ckpt")
    with pytest.raises(ValueError, match="holds a MoleculeRegression; expected a checkpoint of fit-forces"):
        SpheregeoCalculator(MoleculeRegression(width=8, depth=1))


def test_predict_writes_extended_xyz(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ase.io import read

    path = tmp_path / "in.xyz"
    path.write_text(
        '2\nProperties=species:S:1:pos:R:3 tag=a pbc="F F F"\nCu 0 0 0\nAg 0 0 2.6\n1\n\nAu 0 0 0\n'
    )
    ckpt = str(run / "checkpoints" / "best.ckpt")
    assert (
        main(
            ["predict", "fit-forces", "--input", str(path), "--ckpt", ckpt, "--output", str(tmp_path / "out")]
        )
        == 0
    )
    frames = read(tmp_path / "out" / "in_predicted.xyz", ":")
    assert len(frames) == 2 and frames[0].arrays["predicted_forces"].shape == (2, 3)
    assert frames[1].info["predicted_energy"] == pytest.approx(3.80)
    assert frames[0].info["unit_energy"] == "eV" and frames[0].info["tag"] == "a"
    head, first, _ = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert (
        head == "sample,energy [eV],formula,id"
        and first.startswith("in.xyz:0,")
        and first.endswith(",AgCu,a")
    )
    path.write_text("1\n\nH 0 0 0\n")
    assert (
        main(
            ["predict", "fit-forces", "--input", str(path), "--ckpt", ckpt, "--output", str(tmp_path / "out")]
        )
        == 2
    )
    assert "contain H, but the training had only" in capsys.readouterr().err


def test_a_large_file_goes_through_in_pieces_and_on_within_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers, faults and files are those of the small way; stopped in its middle, it goes on to the same bytes."""
    from ase.db import connect
    from ase.io import read

    from spheregeo.tasks.molecules import predict

    text = "".join(
        f"2\nProperties=species:S:1:pos:R:3 tag=t{k}\nCu 0 0 0\nAg 0 0 {2.5 + 0.01 * k}\n" for k in range(30)
    )
    text += "3\nno sense\nCu 0 0 0\nAg 0 zero 0\nAg 0 0 5\n\n" + text
    (tmp_path / "in.xyz").write_text("\ufeff" + text)
    words = ["--ckpt", str(run / "checkpoints" / "best.ckpt"), "--batch-size", "4"]

    def ask(source: str, output: str, *more: str) -> tuple[int, str]:
        place = ["--input", str(tmp_path / source), "--output", str(tmp_path / output)]
        code = main(["predict", "fit-forces", *place, *words, *more])
        return code, capsys.readouterr().err

    assert ask("in.xyz", "small")[0] == 2
    monkeypatch.setattr(predict, "LARGE", 0)
    code, told = ask("in.xyz", "large")
    assert code == 2 and "1 of 61 molecules failed" in told and "in.xyz, frame 30" in told

    def same(other: str) -> None:
        for name in ("in_predicted.xyz", "predictions.csv"):
            assert (tmp_path / "large" / name).read_bytes() == (tmp_path / other / name).read_bytes(), name
        assert [p.name for p in sorted((tmp_path / other).iterdir())] == [
            ".predictions.jsonl", "failures.csv", "in_predicted.xyz", "predictions.csv",
        ]  # fmt: skip

    same("large")
    pairs = [read(tmp_path / name / "in_predicted.xyz", ":") for name in ("small", "large")]
    assert len(pairs[0]) == len(pairs[1]) == 60
    for one, other in zip(*pairs, strict=True):  # in other batches: the last digits of float32
        assert one.info["tag"] == other.info["tag"]
        assert np.allclose(one.arrays["predicted_forces"], other.arrays["predicted_forces"], atol=1e-5)
    names = [
        [row.split(",")[0] for row in (tmp_path / name / "predictions.csv").read_text().splitlines()]
        for name in ("small", "large")
    ]
    assert names[0] == names[1] and names[0][31] == "in.xyz:31"
    annotate, seen = predict.annotate, []

    def stopped(*given: Any) -> bytes:
        seen.append(given)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return annotate(*given)

    monkeypatch.setattr(predict, "annotate", stopped)
    assert "stopped: 32 molecules are done" in ask("in.xyz", "again")[1]
    assert not (tmp_path / "again" / "predictions.csv").exists()
    with open(tmp_path / "again" / "in_predicted.part.xyz", "ab") as file:
        file.write(b"cut in its midd")
    seen.clear()
    monkeypatch.setattr(predict, "annotate", lambda *given: (seen.append(given), annotate(*given))[1])
    assert ask("in.xyz", "again", "--resume")[0] == 2 and len(seen) == 2
    same("again")
    base = connect(tmp_path / "in.db")
    for atoms in read(tmp_path / "small" / "in_predicted.xyz", ":9"):
        base.write(atoms)
    assert ask("in.db", "base")[0] == 0
    assert ask("in.db", "base", "--resume")[0] == 0
    monkeypatch.setattr(predict, "LARGE", 10**9)
    assert ask("in.db", "little")[0] == 0
    tables = [
        (tmp_path / name / "predictions.csv").read_text().splitlines() for name in ("base", "little", "small")
    ]
    assert tables[0] == tables[1] and tables[0][9].endswith(",AgCu,9")
    energies = [[float(row.split(",")[1]) for row in table[1:10]] for table in tables[1:]]
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)


@pytest.mark.realdata
@pytest.mark.usefixtures("holding")
def test_real_trajectories(real_data: Path) -> None:
    folder = real_data / "md_forces"
    for path, atoms in (
        ("3BPA/train_300K.xyz", "3BPA/iso_atoms.xyz"),
        ("ethanol/train.xyz", "ethanol/isolated_atoms.xyz"),
    ):
        data = ForcesData(str(folder / path), isolated=str(folder / atoms), train=20, val=5, test=5)
        task = fitted(Forces(width=8, depth=1, options=TINY), data)
        loss = task.forward_batch(next(iter(data.train_dataloader())))["loss"]
        assert bool(torch.isfinite(loss))
    with pytest.raises(ValueError, match="given for H but the molecules also contain C, O"):
        fitted(Forces(width=8, depth=1, options=TINY, free_atoms={"H": -13.6}), data)


def slab(count: int = 2) -> Molecules:
    """Systems in a cell with vacuum, periodic along two vectors, of which the second's stress is not known."""
    rng = np.random.default_rng(3)
    cell = np.array([[2.6, 0.0, 0.0], [0.5, 2.8, 0.0], [0.0, 0.0, 12.0]])
    places = [
        np.array([[0.1, 0.2, 4.3], [1.4, 1.2, 5.9], [0.3, 1.9, 7.1]]) + 0.1 * rng.normal(size=(3, 3))
        for _ in range(count)
    ]
    stress = rng.normal(size=(count, 3, 3))
    stress = stress + stress.transpose(0, 2, 1)
    stress[1:] = np.nan
    return Molecules.of(
        [[6, 8, 1]] * count, places, energy=rng.normal(size=count), forces=[rng.normal(size=(3, 3)) for _ in range(count)],
        cell=[cell] * count, pbc=[[True, True, False]] * count, stress=stress, fixed=[[True, False, False]] * count,
    )  # fmt: skip


def test_virials_of_a_batch_and_the_loss_of_stresses_by_hand() -> None:
    task, some = task_of(stress_weight=3.0, energy_weight=0.0, force_weight=0.0), slab()
    batch = some.batch([0, 1])
    found = task.derive(batch, stress=True)
    apart = [task.derive(some.select([k]).batch([0]), stress=True)["virials"][0] for k in range(2)]
    assert torch.allclose(found["virials"], torch.stack(apart), rtol=1e-10) and some.cell is not None
    assert torch.allclose(found["virial"], found["virials"].sum(0))
    h = 1e-5
    for i, j in ((0, 0), (0, 1), (1, 2)):
        strain = torch.zeros(3, 3, dtype=F64)
        strain[i, j] += h / 2
        strain[j, i] += h / 2
        energies = [
            energy(task, replace(some, positions=some.positions @ f, cell=some.cell @ f))
            for f in (torch.eye(3) + strain, torch.eye(3) - strain)
        ]
        numeric = (energies[0] - energies[1]) / (2 * h)
        assert torch.allclose(found["virials"][:, i, j], numeric, rtol=1e-6, atol=1e-8)
    task.train()
    loss = task.forward_batch(batch)["loss"]
    assert some.stress is not None
    error = (found["virials"][0] - some.stress[0] * float(torch.linalg.det(some.cell[0]))) / (3 * 1.7)
    assert float(loss.detach()) == pytest.approx(3 * float(error.square().mean()), rel=1e-10)
    loss.backward()
    weight = task.network.interactions[0].filter[0].weight
    with torch.no_grad():
        values = []
        for sign in (1, -2):
            weight[1, 2] += sign * 1e-6
            values.append(float(task.forward_batch(batch)["loss"]))
    assert weight.grad is not None
    assert float(weight.grad[1, 2]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
    scores = ForceScores()
    task.scores = scores
    task.update_metrics(task.eval().forward_batch(batch))
    assert 0 < scores.compute()["stress_mae"] < 1e6
    with pytest.raises(ValueError, match="no head for forces"):
        Forces(direct=True)


def test_forces_on_atoms_that_are_held_may_be_left_out() -> None:
    some = slab()
    batch = some.batch([0, 1])
    task = task_of(free_only=True, energy_weight=0.0, force_weight=5.0).train()
    loss, moved = (
        float(task.forward_batch({**batch, "forces": f})["loss"].detach())
        for f in (batch["forces"], batch["forces"] + 9.0 * batch["fixed"][:, None])
    )
    assert loss == moved
    said = task.eval()(batch)["forces"] - batch["forces"]
    mean = said.unflatten(0, (2, 3))[:, 1:].square().mean((1, 2)).mean()
    assert loss == pytest.approx(5 * float(mean) / 1.7**2, rel=1e-10)
    task.update_metrics(task.forward_batch(batch))
    free = said[~batch["fixed"]]
    assert task.compute_metrics()["force_mae"] == pytest.approx(1000 * float(free.abs().mean()), rel=1e-6)


def test_relaxations_again_with_the_same_potential_end_at_the_same_place() -> None:
    """The data's ends are those of the task itself; other atoms stay where they are held."""
    from spheregeo.tasks.molecules.relaxation import relax_again

    task, some = task_of(), slab(2)
    found = relax_again(task, some, [(0, 1)], fmax=0.05, steps=3)
    assert (
        found["relaxed_distance"] > 0 and found["relaxed_near"] in (0.0, 1.0) and found["relaxed_steps"] <= 3
    )
    same = relax_again(task, some, [(0, 0)], fmax=1e9)
    assert same == {"relaxed_distance": 0.0, "relaxed_worst": 0.0, "relaxed_near": 1.0, "relaxed_steps": 0.0}


def test_slabs_from_fit_to_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SCN with forces of a head of its own: scores of free atoms, ends of relaxations, the audit beside the strict network."""
    run = str(tmp_path / "run")
    words = (
        "--data.train=2 --data.val=1 --data.test=1 --data.frames=2 --data.size=[1,1,2] --data.metals=[Cu] --data.adsorbates=[O] "
        "--model.network=scn --model.width=4 "
        "--model.depth=2 --model.direct=true --model.stress_weight=0 --model.relax=1 --trainer.max_epochs=1"
    ).split()
    words.append("--model.options={scn: {lmax: 1, hidden: 8, cutoff: 4.0, direct: true}}")
    assert main(["fit", "fit-slabs", "--output", run, *words]) == 0
    assert main(["test", "fit-slabs", "--output", run]) == 0
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (
        told["relaxed_distance"] >= 0
        and told["units"]["relaxed_distance"] == "Å"
        and "stress_mae" not in told
    )
    assert main(["audit", "fit-slabs", "--output", run]) == 0
    said = capsys.readouterr().out
    assert "not conservative" in said and "beside it ESCN, strict" in said


@pytest.mark.parametrize("name", ["scn", "escn"])
def test_stress_of_spherical_channels_is_the_numeric_derivative(name: str) -> None:
    """With four taps, too: straining turns edges, and the roll of their frames has its gradient."""
    torch.manual_seed(0)
    options = {"cutoff": 3.5, "lmax": 1, "hidden": 8, "num_neighbors": 4.0}
    task, some = Forces(network=name, width=4, depth=2, options=options).double().eval(), slab(1)
    found = task.derive(some.batch([0]), stress=True)["virials"][0]
    assert float(found.abs().max()) > 1e-4
    h, direction = 1e-5, torch.tensor([[0.3, -0.5, 0.2], [-0.5, 0.1, 0.7], [0.2, 0.7, -0.4]], dtype=F64)
    changes = [torch.eye(3) + s * h * direction for s in (1, -1)]
    assert some.cell is not None
    up, down = (
        energy(task, replace(some, positions=some.positions @ f, cell=some.cell @ f)) for f in changes
    )
    assert float((found * direction).sum()) == pytest.approx(float(up - down) / (2 * h), rel=1e-6, abs=1e-9)


TINY_OF: dict[str, dict[str, Any]] = {
    "scn": {"lmax": 1, "hidden": 8, "num_neighbors": 4.0},
    "escn": {"lmax": 1, "hidden": 8, "num_neighbors": 4.0},
}
KINKED = ("sphere-molecule",)  # thresholds: no slope by differences


@pytest.mark.parametrize("name", models.names("label", "molecule"))
def test_a_rattled_crystal_whose_cutoff_is_longer_than_half_its_cell(name: str) -> None:
    """Its supercell of 27 cells has 27 times the energy, the same forces and stress; wrapping atoms anew changes nothing."""
    from ase import Atoms

    from spheregeo.tasks.molecules.calculator import SpheregeoCalculator

    torch.manual_seed(0)
    options = {"cutoff": 3.6, **TINY_OF.get(name, {})}
    task = Forces(network=name, width=4, depth=1, options=options).double().eval()
    randomise(task.network, torch.Generator().manual_seed(1))
    task.scale.fill_(10.0)
    cell = np.array([[2.9, 0.0, 0.0], [0.4, 3.1, 0.0], [-0.3, 0.5, 3.0]])
    one = Atoms("NaCl", [[0.1, 0.2, 0.3], [1.6, 1.3, 1.8]], cell=cell, pbc=True)
    wrapped, twentyseven = one.copy(), one.repeat(3)
    wrapped.positions += np.array([[2, -1, 0], [0, 3, -2]]) @ cell
    for atoms in (one, wrapped, twentyseven):
        atoms.calc = SpheregeoCalculator(task)
    size, sizes = abs(one.get_potential_energy()), np.abs(one.get_stress()).max()
    largest = np.abs(one.get_forces()).max()
    assert min(size, sizes, largest) > 1e-6
    assert abs(twentyseven.get_potential_energy() / 27 - one.get_potential_energy()) < 1e-10 * max(size, 1)
    assert np.abs(twentyseven.get_forces()[-2:] - one.get_forces()).max() < 1e-10 * max(largest, 1)
    assert np.abs(twentyseven.get_stress() - one.get_stress()).max() < 1e-10 * max(sizes, 1)
    assert abs(wrapped.get_potential_energy() - one.get_potential_energy()) < 1e-12 * max(size, 1)
    assert np.abs(wrapped.get_forces() - one.get_forces()).max() < 1e-12 * max(largest, 1)
    if name in KINKED:
        return
    h, numeric = 1e-5, []
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * h / 2
            strain[j, i] += sign * h / 2
            strained = Atoms(one.numbers, one.positions @ strain, cell=cell @ strain, pbc=True)
            strained.calc = one.calc
            energies.append(strained.get_potential_energy())
        numeric.append((energies[0] - energies[1]) / (2 * h) / one.get_volume())
    assert np.abs(one.get_stress() - numeric).max() < 1e-6 * max(sizes, 1e-2)


# ---- weights, phases, schedules, tables


def test_weights_of_molecules_by_hand() -> None:
    task, some = task_of(stress_weight=3.0, energy_weight=2.0, force_weight=5.0).train(), slab()
    batch = some.batch([0, 1])
    alone = [float(task.forward_batch(some.batch([k]))["loss"].detach()) for k in range(2)]
    weight = torch.tensor([[0.5, 0.5, 0.5], [2.0, 2.0, 2.0]], dtype=F64)
    ones = float(task.forward_batch({**batch, "weight": torch.ones_like(weight)})["loss"].detach())
    assert ones == float(task.forward_batch(batch)["loss"].detach())
    for label, row in (("energy_weight", 0), ("force_weight", 1)):
        other = task_of(**{"energy_weight": 0.0, "force_weight": 0.0, label: 1.0}).train()
        terms = [float(other.forward_batch(some.batch([k]))["loss"].detach()) for k in range(2)]
        own = torch.ones_like(weight)
        own[1, row] = 3.0
        found = float(other.forward_batch({**batch, "weight": own})["loss"].detach())
        assert found == pytest.approx((terms[0] + 3 * terms[1]) / 2, rel=1e-10)
    assert min(alone) > 0


def test_tables_of_elements_and_types(tmp_path: Path) -> None:
    from spheregeo.tasks.molecules.forces.scores import error_table, write_errors

    scores, nan = ForceScores(), torch.nan
    forces = torch.tensor([[3.0, 0, 0], [0, 0, 0], [nan, nan, nan], [0.6, 0.6, 0.6]])
    scores.update(
        torch.tensor([1.0, -3.0, 0.5]), forces, torch.tensor([1, 8, 8, 1]),
        types=torch.tensor([1, 0, 1]), batch=torch.tensor([0, 0, 1, 2]),
    )  # fmt: skip
    found = scores.compute()
    assert found["energy_mae"] == pytest.approx(1500) and found["force_mae"] == pytest.approx(4800 / 9)
    elements, types = scores.of_elements, {"ab"[k]: one for k, one in scores.of_types.items()}
    assert elements["H"]["force_rmse"] == pytest.approx(1000 * ((9 + 3 * 0.36) / 6) ** 0.5, rel=1e-6)
    assert elements["O"] == {"force_mae": 0.0, "count": 1, "force_rmse": 0.0}
    assert types["a"]["energy_mae"] == pytest.approx(3000) and "force_mae" not in types["a"]
    assert types["b"] == {
        "energy_mae": 750.0, "energy_rmse": pytest.approx(1000 * (1.25 / 2) ** 0.5),
        "force_mae": pytest.approx(4800 / 9), "force_rmse": pytest.approx(1000 * (10.08 / 9) ** 0.5), "count": 2,
    }  # fmt: skip
    write_errors(tmp_path / "errors.csv", elements, types)
    lines = (tmp_path / "errors.csv").read_text().splitlines()
    assert lines[0] == "of,name,quantity,mae,rmse,unit,count" and len(lines) == 6
    assert "config_type,a,energy,3000,3000,meV/atom,1" in lines
    assert "element" in error_table(elements, types) and error_table({}, {}) == ""


def test_two_phases_types_and_a_plateau_from_fit_to_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ""
    for k in range(12):
        text += f"2\nProperties=species:S:1:pos:R:3:forces:R:3 energy={-20.0 - k} config_type={'ab'[k % 2]}\n"
        text += f"C 0 0 0 0.1 0 0\nO {1.1 + 0.01 * k} 0 0 -0.1 0 0\n"
    (tmp_path / "a.xyz").write_text(text)
    run = str(tmp_path / "run")
    words = (
        f"--data.root={tmp_path / 'a.xyz'} --data.train=0 --data.val=2 --data.test=4 --model.references=fit "
        "--model.network=schnet --model.width=4 --model.depth=1 --model.schedule=plateau --model.plateau_patience=0 "
        "--model.optimizer=adamw --model.amsgrad=true --model.swa_share=0.5 --trainer.max_epochs=4"
    ).split()
    words += ["--data.config_weights={a: 0.5}", "--model.swa_weights={energy: 1000.0}"]
    assert main(["fit", "fit-md", "--output", run, *words]) == 0
    assert "the second phase begins: weights of the loss energy 1000, forces 100" in capsys.readouterr().out
    stored = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["epoch"] >= 2 and stored["lr_schedulers"][0]["patience"] == 0
    assert stored["optimizer_states"][0]["param_groups"][0]["amsgrad"] is True
    assert main(["test", "fit-md", "--output", run]) == 0
    assert "config_type" in capsys.readouterr().out
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(told["config_types"]) == {"a", "b"} and (tmp_path / "run" / "errors.csv").is_file()
    with pytest.raises(ValueError, match="an option of adamw"):
        Forces(amsgrad=True, optimizer="soap")
    for wrong in ({"schedule": "steps"}, {"swa_lr": 1.0}, {"swa_share": 0.5, "swa_weights": {"dipole": 1.0}}):
        with pytest.raises(ValueError, match="expected"):
            Forces(**wrong)  # type: ignore[arg-type]


def test_fine_tuning_with_replay_starts_where_the_checkpoint_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Energies of another method differ by constants of atoms, which are fitted; scale and forces stay, when resumed, too."""
    from ase.io import read, write

    def file(name: str, shift: float, seed: int) -> str:
        rng, frames = np.random.default_rng(seed), []
        for k in range(12):
            z = rng.permutation([29, 29, 47] if k % 2 else [29, 47, 47])
            x = np.array([[0.0, 0, 0], [2.6, 0, 0], [1.2, 2.3, 0]]) + 0.1 * rng.normal(size=(3, 3))
            frames.append(Atoms(z, x, info={"REF_energy": 3.0 + 0.1 * x.sum() + shift * (z == 29).sum()}))
            frames[-1].arrays["REF_forces"] = np.full((3, 3), 0.1) - 0.1 * np.eye(3)
        write(tmp_path / name, frames, format="extxyz")
        return str(tmp_path / name)

    from ase import Atoms

    first, second = file("first.xyz", 0.0, 0), file("second.xyz", -7.0, 1)
    net = "--model.network=schnet --model.width=4 --model.depth=1 --model.references=fit --data.val=2 --data.test=2".split()
    net += ["--data.train=0", "--trainer.max_epochs=1"]
    run, tuned = tmp_path / "run", tmp_path / "tuned"
    assert main(["fit", "fit-md", "--output", str(run), f"--data.root={first}", *net]) == 0
    before = load(run / "checkpoints" / "last.ckpt")
    words = [
        "--init",
        str(run / "checkpoints" / "last.ckpt"),
        f"--data.root={second}",
        f"--data.replay={first}",
    ]
    assert main(["fit", "fit-md", "--output", str(tuned), *words, "--model.lr=1e-9", *net]) == 0
    assert "8 frames of" in capsys.readouterr().out
    after = load(tuned / "checkpoints" / "last.ckpt")
    assert isinstance(before, Forces) and isinstance(after, Forces)
    assert float(after.scale) == float(before.scale)
    shift = after.atom_energy - before.atom_energy
    assert abs(float(shift[29] - shift[47]) + 7.0) < 0.2 and float(shift[1]) == 0
    batch = Molecules.of([[29, 47, 29]], [read(first, "0").positions]).batch([0])
    assert torch.allclose(after(batch)["forces"], before(batch)["forces"], atol=1e-6)
    data = ForcesData(second, val=2, test=2, replay=first, replay_share=0.5)
    whole = data.molecules("train")
    assert whole.replayed is not None and whole.replayed.tolist() == [False] * 8 + [True] * 8
    assert (
        main(
            [
                "fit",
                "fit-md",
                "--output",
                str(tuned),
                "--resume",
                *words[2:],
                *net[:-1],
                "--trainer.max_epochs=2",
            ]
        )
        == 0
    )
    resumed = load(tuned / "checkpoints" / "last.ckpt")
    assert isinstance(resumed, Forces) and torch.equal(resumed.atom_energy, after.atom_energy)
    assert float(resumed.scale) == float(before.scale)
    after._shift = shift
    some = whole.batch([8, 9])
    plain = {k: v for k, v in some.items() if k != "replayed"}
    truth = after.forward_batch(some)["truth"] - after.forward_batch(plain)["truth"]
    z = some["numbers"].reshape(2, 3)
    assert torch.allclose(truth, shift[z].sum(1))
    with pytest.raises(ValueError, match="share of the frames between 0 and 1"):
        ForcesData(second, replay_share=1.0)
