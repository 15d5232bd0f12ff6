"""Simulations: what is conserved, what a kill leaves, what ends them; committees."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.io import read, write

from spheregeo.audit import randomise
from spheregeo.cli import main
from spheregeo.tasks import Forces
from spheregeo.tasks.molecules.dynamics import many, simulation
from spheregeo.tasks.molecules.dynamics.calculator import SpheregeoCalculator
from spheregeo.tasks.molecules.dynamics.committee import CommitteeCalculator
from spheregeo.tasks.molecules.dynamics.elastic import elastic_constants, phonons, vibrations
from spheregeo.tasks.molecules.dynamics.ensembles import ENSEMBLES, Ensemble
from spheregeo.tasks.molecules.dynamics.many import simulate_many
from spheregeo.tasks.molecules.dynamics.simulation import Plan, SimulationError, simulate
from spheregeo.tasks.molecules.dynamics.structures import Relaxation, relax
from spheregeo.tasks.molecules.dynamics.trajectory import BINARY, FRAMES, LABELS, STATE, TABLE, read_table

F64 = torch.float64


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pictures take a second each; one test looks at one."""
    if "command" not in request.node.name:
        monkeypatch.setattr(simulation, "_picture", lambda folder: None)
        monkeypatch.setattr(many, "dynamics_picture", lambda path, table: None)


def quiet(line: str) -> None:
    """Tell nobody."""


def task_of(seed: int = 1) -> Forces:
    """A small task in float64 with random weights."""
    torch.manual_seed(seed)
    made = Forces(network="schnet", width=8, depth=1, options={"cutoff": 4.0, "basis": 8})
    randomise(made.network, torch.Generator().manual_seed(seed))
    made.scale.fill_(0.1)
    return made.double().eval()


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return atoms


def hydroxyl(*seeds: int) -> Atoms:
    """Three atoms with a model, or a committee of several seeds."""
    atoms = Atoms("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.2, 0.95, 0]])
    members = [SpheregeoCalculator(task_of(seed)) for seed in seeds]
    atoms.calc = members[0] if len(members) == 1 else CommitteeCalculator(members)
    return atoms


def contents(folder: Path) -> list[Any]:
    """All that a simulation has written, in comparable form."""
    with np.load(folder / STATE) as state:
        arrays = {name: state[name].tobytes() for name in state.files}
    texts = [(folder / name).read_bytes() for name in (FRAMES, TABLE)]
    frames = [
        (f.positions.tobytes(), f.get_momenta().tobytes(), f.get_potential_energy())
        for f in read(folder / BINARY, ":")
    ]
    return [arrays, texts, frames]


@pytest.mark.parametrize("kind", [*ENSEMBLES, "full"])
def test_going_on_after_a_fault_changes_no_bit(kind: str, tmp_path: Path) -> None:
    ensemble = Ensemble("npt", 2.0, cell="full") if kind == "full" else Ensemble(kind, 2.0)
    plan = Plan(24, every=2, save_every=3)
    simulate(copper(), ensemble, plan, tmp_path / "whole", tell=quiet)

    class Breaks(EMT):
        left = 15

        def calculate(self, *args: Any, **options: Any) -> None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            super().calculate(*args, **options)

    atoms = copper()
    atoms.calc = Breaks()
    with pytest.raises(KeyboardInterrupt):
        simulate(atoms, ensemble, plan, tmp_path / "cut", tell=quiet)
    before = len(read(tmp_path / "cut" / BINARY, ":"))
    assert 1 < before < 13
    for name in (FRAMES, TABLE):  # what a killed process had begun to write
        with open(tmp_path / "cut" / name, "a") as file:
            file.write("4\nhalf a fra")
    simulate(copper(), ensemble, plan, tmp_path / "cut", resume=True, tell=quiet)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_models_go_on_without_a_changed_bit(tmp_path: Path) -> None:
    ensemble = Ensemble("langevin", 0.2, seed=3)
    simulate(hydroxyl(1), ensemble, Plan(12, every=1, save_every=4), tmp_path / "whole", tell=quiet)
    simulate(hydroxyl(1), ensemble, Plan(8, every=1, save_every=4), tmp_path / "cut", tell=quiet)
    simulate(
        hydroxyl(1), ensemble, Plan(12, every=1, save_every=4), tmp_path / "cut", resume=True, tell=quiet
    )
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # a calculator that has seen other places and forgets answers as a new one
    atoms, first = hydroxyl(1), hydroxyl(1)
    atoms.calc = kept = SpheregeoCalculator(task_of(1), skin=2.0)
    first.calc = SpheregeoCalculator(task_of(1), skin=2.0)
    atoms.get_forces()
    first.positions[0] += 0.3
    atoms.positions[:] = first.positions
    kept.reset()
    assert np.array_equal(atoms.get_forces(), first.get_forces()) and kept.evaluator.searches == 2
    other = simulate(hydroxyl(1), Ensemble("langevin", 0.2, seed=4), Plan(12), tmp_path / "other", tell=quiet)
    assert other["steps"] == 12
    assert (
        read(tmp_path / "other" / BINARY).positions[0, 0] != read(tmp_path / "cut" / BINARY).positions[0, 0]
    )


def test_a_killed_process_goes_on_without_a_changed_bit(
    tmp_path: Path, programs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("copper.xyz", bulk("Cu", cubic=True))
    words = "simulate emt --input copper.xyz --ensemble langevin --timestep 2 --every 2 --save-every 2 --steps 200".split()
    cut, table = programs.start(["-m", "spheregeo", *words, "--output", "cut"], tmp_path), Path("cut") / TABLE
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if table.exists() and table.read_text().count("\n") > 5:  # handed over with the second state
            break
        time.sleep(0.002)
    os.kill(cut, signal.SIGKILL)
    assert programs.finish(cut).returncode == -signal.SIGKILL
    with np.load(Path("cut") / STATE) as state:
        assert 0 < state["step"] < 200
    again = programs.run(["-m", "spheregeo", *words, "--output", "cut", "--resume"], tmp_path)
    assert again.returncode == 0 and "goes on from step" in again.stdout, again.stderr
    assert main([*words, "--output", "whole"]) == 0
    assert contents(Path("cut")) == contents(Path("whole"))


def test_ensembles_keep_what_they_should(tmp_path: Path) -> None:
    atoms = copper().repeat(2)
    atoms.calc = EMT()
    simulate(atoms, Ensemble("nve", 2.0), Plan(40), tmp_path / "nve", tell=quiet)
    finer = copper().repeat(2)
    finer.calc = EMT()
    simulate(finer, Ensemble("nve", 1.0), Plan(80, every=20), tmp_path / "finer", tell=quiet)
    coarse, fine = (read_table(tmp_path / name)["total_eV"][-1] - read_table(tmp_path / name)["total_eV"][0]
                    for name in ("nve", "finer"))  # fmt: skip
    assert coarse / fine == pytest.approx(4, rel=0.1)  # velocity Verlet is of second order
    frames = read(tmp_path / "nve" / FRAMES, ":")
    assert [f.info["step"] for f in frames] == [0, 10, 20, 30, 40]
    table = (tmp_path / "nve" / TABLE).read_text().splitlines()
    assert table[0].startswith("step,time_fs,temperature_K,potential_eV,kinetic_eV,total_eV,pressure_GPa")
    energies = [float(line.split(",")[5]) for line in table[1:]]
    ours = [f.get_potential_energy() + f.get_kinetic_energy() for f in frames]
    assert np.allclose(energies, ours, atol=1e-5)  # eight decimals of momenta in the file
    # fixed atoms stay under friction and noise
    atoms = copper()
    atoms.set_constraint(FixAtoms([0]))
    start = atoms.positions.copy()
    simulate(atoms, Ensemble("langevin", 2.0), Plan(10), tmp_path / "fixed", tell=quiet)
    moved = np.abs(atoms.positions - start).max(1)
    assert moved[0] == 0 and (moved[1:] > 0).all()
    for kind in ("nvt", "npt"):
        with pytest.raises(ValueError, match="held in place"):
            simulate(atoms, Ensemble(kind), Plan(1), tmp_path / "no", tell=quiet)
    with pytest.raises(ValueError, match="npt needs the stress"):
        simulate(hydroxyl(1), Ensemble("npt"), Plan(1), tmp_path / "no", tell=quiet)


def test_stress_once_asked_for_comes_with_the_forces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The barostat asks for forces and stress in turns; each place is evaluated once."""
    crystal = bulk("Cu", cubic=True)
    crystal.calc = calculator = SpheregeoCalculator(task_of())
    asked = []
    inner = calculator.evaluator
    calculator.evaluator = lambda atoms, stress: asked.append(stress) or inner(atoms, stress)  # type: ignore[assignment]
    crystal.get_stress()
    crystal.rattle(0.01)
    crystal.get_forces()
    stress = crystal.get_stress()
    assert asked == [True, True]
    crystal.calc = SpheregeoCalculator(task_of())
    assert np.allclose(crystal.get_stress(), stress, atol=1e-14)


def test_atoms_that_fly_apart_end_a_simulation(tmp_path: Path) -> None:
    with pytest.raises(
        SimulationError, match=r"step \d+: the system flies apart, at .* K; atom \d \(Cu\) moves"
    ):
        simulate(copper(), Ensemble("nve", 200.0), Plan(40), tmp_path, tell=quiet)
    assert len((tmp_path / TABLE).read_text().splitlines()) >= 2
    with pytest.raises(ValueError, match="cannot compute U4"):
        atoms = bulk("Cu", cubic=True)
        atoms.numbers[:] = 92
        atoms.calc = EMT()
        simulate(atoms, Ensemble(), Plan(1), tmp_path, tell=quiet)
    for wrong, named in (
        (lambda: Ensemble("nvx"), "ensemble is 'nvx'"), (lambda: Ensemble(timestep=-1), "timestep is -1"),
        (lambda: Ensemble("langevin", friction=0), "friction is 0"), (lambda: Ensemble(cell="x"), "cell is 'x'"),
        (lambda: Ensemble("nvt", temperature=0), "temperature is 0"), (lambda: Plan(-1), "steps is -1"),
        (lambda: Plan(1, every=0), "every is 0"), (lambda: Plan(1, stop_deviation=-1.0), "stop_deviation is -1"),
        (lambda: Ensemble(pressure=float("nan")), "pressure is nan"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=named):
            wrong()


def test_a_committee_is_the_mean_and_tells_where_it_differs(tmp_path: Path) -> None:
    alone = [hydroxyl(seed) for seed in (1, 2, 3)]
    atoms = hydroxyl(1, 2, 3)
    forces = np.array([one.get_forces() for one in alone])
    energies = np.array([one.get_potential_energy() for one in alone])
    assert np.allclose(atoms.get_forces(), forces.mean(0), atol=1e-12)
    assert atoms.get_potential_energy() == pytest.approx(energies.mean(), abs=1e-12)
    apart = atoms.calc.results["forces_deviation"]
    by_hand = [
        np.sqrt(np.mean([np.sum((f[k] - forces[:, k].mean(0)) ** 2) for f in forces])) for k in range(3)
    ]
    assert np.allclose(apart, by_hand, atol=1e-12) and apart.min() > 1e-4
    assert atoms.calc.results["energy_deviation"] == pytest.approx(np.std(energies), rel=1e-9)
    # frames on which the members differ are kept; where they differ by more than is allowed the simulation ends
    few = Plan(4, every=2, label_deviation=float(apart.max()) / 2)
    simulate(atoms, Ensemble("nve", 0.1), few, tmp_path, tell=quiet)
    labels = read(tmp_path / LABELS, ":")
    assert [f.info["step"] for f in labels] == [0, 2, 4]
    assert np.allclose(labels[0].arrays["forces_deviation"], apart, atol=1e-7)
    head, *rows = (tmp_path / TABLE).read_text().split()
    assert head.endswith("deviation_eV_per_A") and float(rows[0].split(",")[-1]) == pytest.approx(apart.max())
    with pytest.raises(SimulationError, match=r"step 1: the models differ by .* eV/Å on atom \d"):
        simulate(
            hydroxyl(1, 2, 3), Ensemble("nve", 0.1), Plan(4, stop_deviation=float(apart.max()) / 2), tmp_path,
            tell=quiet,
        )  # fmt: skip
    assert read(tmp_path / LABELS).info["step"] == 1
    with pytest.raises(ValueError, match="needs several models"):
        simulate(hydroxyl(1), Ensemble(), Plan(1, stop_deviation=0.1), tmp_path, tell=quiet)
    with pytest.raises(ValueError, match="members has 1"):
        CommitteeCalculator([EMT()])
    crystal = bulk("Cu", cubic=True)
    crystal.calc = CommitteeCalculator([SpheregeoCalculator(task_of(seed)) for seed in (1, 2)])
    stresses = []
    for member in crystal.calc.members:
        one = crystal.copy()
        one.calc = member
        stresses.append(one.get_stress())
    assert np.allclose(crystal.get_stress(), np.mean(stresses, 0), atol=1e-12)


def test_the_command_keeps_to_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("copper.xyz", [bulk("Cu", cubic=True)] * 2)
    words = ["simulate", "emt", "--input", "copper.xyz", "--steps", "4", "--every", "2", "--output", "out"]

    def fails(*more: str) -> str:
        capsys.readouterr()
        assert main([*words, *more]) == 2
        return capsys.readouterr().err

    assert main([*words, "--seed", "1"]) == 0
    assert Path("out/energies.png").stat().st_size > 10_000
    assert json.loads(Path("out/summary.json").read_text())["steps"] == 4
    first = contents(Path("out"))
    assert "already holds a simulation; pass --resume" in fails()
    assert "seed was 1 and is 0" in fails("--resume")
    assert contents(Path("out")) == first
    assert main([*words, "--overwrite", "--steps", "2"]) == 0
    assert "nothing to resume" in fails("--resume", "--output", "new")
    assert "frames is 7, but copper.xyz has 2" in fails("--frame", "7", "--output", "new")
    assert "no checkpoint" in fails_of(["simulate", "nothing", *words[2:-1], "new"], capsys)
    Path("other").mkdir()
    Path("other/thesis.txt").write_text("mine")
    assert "holds other files (thesis.txt)" in fails("--output", "other")
    assert "--all-frames takes one trained model" in fails("--all-frames", "--output", "new")
    assert "stands alone" in fails_of(["simulate", "emt", "lj", *words[2:-1], "new"], capsys)
    Path("bad.xyz").write_text("1\n\nQq 0 0 0\n")
    assert "bad.xyz" in fails("--input", "bad.xyz", "--output", "new")
    write("uranium.xyz", Atoms("U2", [[0, 0, 0], [0, 0, 2.5]]))
    assert "cannot compute U2" in fails("--input", "uranium.xyz", "--output", "new")
    assert not Path("new").exists()


def fails_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    return capsys.readouterr().err


# ---- many systems at once


def several() -> list[Atoms]:
    """Three molecules and a crystal."""
    rng = np.random.default_rng(5)
    made = [Atoms("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.2, 0.95, 0]]), Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])]
    made += [
        Atoms("H", [[0.5, 0, 0]]),
        Atoms("CO", [[0, 0, 0], [1.5, 1.4, 1.6]], cell=[3, 3.2, 3.1], pbc=True),
    ]
    for atoms in made:
        atoms.set_momenta(0.02 * rng.normal(size=(len(atoms), 3)) * atoms.get_masses()[:, None])
    return made


def test_many_systems_move_as_each_alone(tmp_path: Path) -> None:
    task, ensemble = task_of(), Ensemble("nve", 0.2)
    together, alone = several(), several()
    alone[1].set_constraint(FixAtoms([0]))
    together[1].set_constraint(FixAtoms([0]))
    found = simulate_many(together, task, ensemble, Plan(12, every=4), tmp_path / "many", tell=quiet)
    assert found["systems"] == 4 and found["steps"] == 12
    for k, (one, other) in enumerate(zip(together, alone)):
        other.calc = SpheregeoCalculator(task)
        simulate(other, ensemble, Plan(12, every=4), tmp_path / str(k), tell=quiet)
        assert np.abs(one.positions - other.positions).max() < 1e-11
        assert np.allclose(one.get_momenta(), other.get_momenta(), atol=1e-11)
    frames = read(tmp_path / "many" / FRAMES, ":")
    assert [(f.info["system"], f.info["step"]) for f in frames[:5]] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (0, 4),
    ]
    table, single = read_table(tmp_path / "many"), read_table(tmp_path / "0")
    for name in ("total_eV", "temperature_K", "kinetic_eV"):
        assert np.allclose(table[name].reshape(4, 4)[:, 0], single[name], rtol=1e-10)
    assert abs(table["total_eV"].reshape(4, 4)[:, 1] - read_table(tmp_path / "1")["total_eV"]).max() < 1e-10


def test_many_systems_under_noise_go_on_and_end(tmp_path: Path) -> None:
    task, ensemble = task_of(), Ensemble("langevin", 0.2, seed=3)
    whole = Plan(12, every=2, save_every=2)
    simulate_many(several(), task, ensemble, whole, tmp_path / "whole", tell=quiet)
    simulate_many(several(), task, ensemble, Plan(8, 2, 2), tmp_path / "cut", tell=quiet)
    with open(tmp_path / "cut" / TABLE, "a") as file:
        file.write("half a ro")
    simulate_many(several(), task, ensemble, whole, tmp_path / "cut", resume=True, tell=quiet)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # free atoms under strong friction have the thermostat's velocities after a step
    gas = [Atoms("H") for _ in range(400)]
    strong = Ensemble("langevin", 0.5, temperature=250.0, friction=100.0)
    simulate_many(gas, task, strong, Plan(1, every=1), tmp_path / "gas", tell=quiet)
    hot = read_table(tmp_path / "gas")["temperature_K"][400:]
    assert hot.mean() == pytest.approx(250, rel=0.1)  # standard error 4 %
    with pytest.raises(SimulationError, match=r"system 1 flies apart, at .* K; its atom \d \([CO]\) moves"):
        fast = several()[:2]
        fast[1].set_momenta(50 * fast[1].get_momenta())
        simulate_many(fast, task, Ensemble("nve", 5.0), Plan(4), tmp_path / "end", tell=quiet)
    with pytest.raises(ValueError, match="many systems at once know nve, langevin"):
        simulate_many(several(), task, Ensemble("nvt"), Plan(1), tmp_path / "no", tell=quiet)


# ---- relaxations, elastic constants, phonons


def test_relaxed_crystals_are_at_rest_under_their_pressure() -> None:
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    how = Relaxation(cell="full", pressure=5.0, fmax=1e-3)
    row, path = relax(atoms, how)
    assert row["converged"] and len(path) == row["steps"] + 1
    assert np.allclose(atoms.get_stress() / units.GPa, [-5, -5, -5, 0, 0, 0], atol=0.02)
    assert path[-1].get_potential_energy() == row["energy_eV"] < row["energy_before_eV"]
    assert not relax(copper_stretched(), Relaxation("fire", steps=2, cell="isotropic"))[0]["converged"]
    with pytest.raises(ValueError, match="stress of this system is not known"):
        relax(hydroxyl(1), how)
    for wrong, named in (
        (lambda: Relaxation("x"), "optimizer is 'x'"), (lambda: Relaxation(fmax=0), "fmax is 0"),
        (lambda: Relaxation(cell="x"), "cell is 'x'"), (lambda: Relaxation(pressure=1.0), "with a cell that stays"),
        (lambda: Relaxation(steps=-1), "steps is -1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=named):
            wrong()


def copper_stretched() -> Atoms:
    atoms = bulk("Cu", a=3.9)
    atoms.calc = EMT()
    return atoms


def test_elastic_constants_are_the_energy_and_the_speed_of_sound() -> None:
    atoms = copper_stretched()
    relax(atoms, Relaxation(cell="isotropic", fmax=1e-4))
    found = elastic_constants(atoms)
    c = found.constants
    volume, h = atoms.get_volume(), 0.01

    def energy(strain: np.ndarray) -> float:
        bent = atoms.copy()
        bent.calc = EMT()
        bent.set_cell(bent.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
        return float(bent.get_potential_energy())

    def curvature(strain: np.ndarray) -> float:
        return (energy(h * strain) + energy(-h * strain) - 2 * energy(0 * strain)) / h**2 / volume / units.GPa

    shear = np.zeros((3, 3))
    shear[0, 1] = shear[1, 0] = 0.5
    assert c[0, 0] == pytest.approx(curvature(np.diag([1.0, 0, 0])), rel=0.01)
    assert c[5, 5] == pytest.approx(curvature(shear), rel=0.01)
    assert found.bulk == pytest.approx(curvature(np.eye(3)) / 9, rel=0.01) and found.stable
    assert found.bulk == pytest.approx((c[0, 0] + 2 * c[0, 1]) / 3, rel=1e-6)  # a cubic crystal
    assert abs(found.pressure) < 0.05
    # the slope of the longitudinal branch at the zone's centre is the speed of sound
    bands = phonons(atoms, supercell=4, points=200)
    assert np.abs(bands.frequencies[0]).max() < 0.01 and bands.labels[1][:2] == ["G", "X"]
    speed = np.sqrt(c[0, 0] * units.GPa * volume / atoms.get_masses()[0]) * units.fs  # Å/fs, of [100]
    slope = 2 * np.pi * bands.frequencies[4].max() / bands.distance[4] / 1000
    assert slope == pytest.approx(speed, rel=0.03)
    with pytest.raises(ValueError, match="need a crystal"):
        elastic_constants(hydroxyl(1))
    with pytest.raises(ValueError, match="periodic"):
        phonons(hydroxyl(1))


def test_vibrations_of_a_dimer() -> None:
    sigma, epsilon = 2.5, 0.5
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 2 ** (1 / 6) * sigma]])
    atoms.calc = LennardJones(sigma=sigma, epsilon=epsilon, rc=100.0)
    spring, mass = 72 * epsilon / 2 ** (1 / 3) / sigma**2, atoms.get_masses()[0] / 2
    quantum = np.sqrt(spring / mass) * units._hbar * 1e10 / np.sqrt(units._e * units._amu)
    waves = vibrations(atoms, delta=0.001)
    assert waves[-1] == pytest.approx(quantum / units.invcm, rel=1e-3)
    assert np.abs(waves[:-1]).max() < 0.02 * waves[-1]


def test_relax_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    many = [bulk("Cu", cubic=True, a=3.7), bulk("U", "fcc", a=4.0), bulk("Au")]
    write("many.xyz", many)
    words = ["relax", "emt", "--input", "many.xyz", "--cell", "isotropic", "--output", "out"]
    assert main(words) == 2  # the others are done
    told = capsys.readouterr()
    assert "1 of 3 structures failed: frame 1" in told.err and "frame 2, Au: at rest" in told.out
    rows = Path("out/relaxations.csv").read_text().splitlines()
    assert rows[0].startswith("frame,formula,converged") and [row[:4] for row in rows[1:]] == ["0,Cu", "2,Au"]
    relaxed = read("out/relaxed.xyz", ":")
    assert [f.info["frame"] for f in relaxed] == [0, 2] and relaxed[0].cell[0, 0] == pytest.approx(
        3.59, abs=0.01
    )
    assert len(read("out/paths.xyz", ":")) > 4
    assert "pass --overwrite" in fails_of(words, capsys)
    more = ["--frames", "2", "--elastic", "--phonons", "2", "--overwrite"]
    assert main([*words, *more]) == 0
    assert json.loads(Path("out/elastic.json").read_text())["stable"] is True
    assert Path("out/phonons.png").stat().st_size > 10_000
    assert Path("out/phonons.csv").read_text().startswith("distance,band_0_THz")
    assert "frames is 'x'" in fails_of([*words, "--frames", "x", "--overwrite"], capsys)
