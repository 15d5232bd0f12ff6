"""A force field leaves as operators of torch alone, and as a compiled file that torch alone runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from spheregeo import export
from spheregeo.cli.dynamics.inputs import open_models
from spheregeo.tasks import Forces
from spheregeo.tasks.molecules.dynamics.calculator import SpheregeoCalculator
from spheregeo.tasks.molecules.dynamics.program import ProgramCalculator


def field(network: str, **options: Any) -> Forces:
    torch.manual_seed(0)
    task = Forces(network=network, depth=1, references="none", **options).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in task.network.parameters():
            weight.add_(0.1 * torch.rand(weight.shape, generator=generator, dtype=weight.dtype))
        task.elements[[1, 6, 8]] = True
        task.atom_energy[[1, 6, 8]] = torch.tensor([-13.0, -1000.0, -2000.0]).double()
        task.scale.fill_(1.5)
    return task.eval()


SMALL: dict[str, dict[str, Any]] = {
    "steerable-molecule": {"width": 4},
    "nequip": {"width": 2, "options": {"lmax": 1}},
    "mace": {"width": 2, "options": {"lmax": 1, "hidden_lmax": 1, "correlation": 2, "hidden": [4]}},
}


@pytest.mark.parametrize("network", SMALL)
def test_program_of_another_number_of_atoms(network: str) -> None:
    dtype = torch.float32 if network == "nequip" else torch.float64
    task = field(network, **SMALL[network]).to(dtype)
    before = [p.requires_grad for p in task.parameters()]
    program = export.export_force_field(task).module()
    assert [p.requires_grad for p in task.parameters()] == before
    atoms = molecule("CH3OH")
    positions, numbers = torch.from_numpy(atoms.positions), torch.from_numpy(atoms.numbers)
    network_: Any = task.network
    edges = network_.neighbors(positions, torch.zeros_like(numbers)).edge_index
    energy, forces, _ = program(positions.to(dtype), numbers, edges, torch.zeros(edges.shape[1], 3).to(dtype))
    found = task.derive({"positions": positions, "numbers": numbers, "batch": torch.zeros_like(numbers)})
    assert float(forces.abs().max()) > 1e-3
    single = dtype == torch.float32
    assert energy.dtype == torch.float64 and forces.dtype == dtype
    torch.testing.assert_close(energy, found["energy"][0], rtol=1e-8 if single else 1e-12, atol=1e-12)
    torch.testing.assert_close(
        forces, found["forces"], rtol=1e-4 if single else 1e-10, atol=1e-5 if single else 1e-11
    )


@pytest.mark.parametrize(
    ("task", "word"),
    [
        (
            lambda: field("scn", width=4, direct=True, options={"hidden": 8, "direct": True}),
            "forces of its own",
        ),
        (lambda: field("tfn", width=2), "multilinear.* without this library"),
    ],
)
def test_what_has_no_program_is_told(task: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        export.export_force_field(task())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Forces, Path]:
    task, folder = (
        field("schnet", width=2, options={"basis": 4}),
        tmp_path_factory.mktemp("compiled") / "field",
    )
    quick = {"aot_inductor.compile_wrapper_opt_level": "O0"}
    return task, export.save_force_field(task, folder, export.describe(task), quick)


def systems() -> list[Atoms]:
    crystal = bulk("Cu", "fcc", 3.6) * (3, 2, 1)
    crystal.numbers[:] = [6, 8, 6, 6, 8, 1]
    crystal.rattle(0.05, seed=1)
    return [
        molecule("CH3CH2OH"),
        Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]),
        Atoms("OH", [[0, 0, 0], [0, 0, 20]]),
        crystal,
    ]


def test_compiled_file_equals_the_network_as_atoms_move(compiled: tuple[Forces, Path]) -> None:
    task, folder = compiled
    ours, own = ProgramCalculator(folder, skin=0.4), SpheregeoCalculator(task)
    rng = np.random.default_rng(0)
    for atoms in systems():
        twin = atoms.copy()
        atoms.calc, twin.calc = ours, own
        ours.searches = 0
        for _ in range(6):
            move = rng.normal(scale=0.03, size=atoms.positions.shape)
            atoms.positions += move
            twin.positions += move
            assert atoms.get_potential_energy() == pytest.approx(twin.get_potential_energy(), rel=1e-13)
            assert np.allclose(atoms.get_forces(), twin.get_forces(), atol=1e-11, rtol=1e-10)
            if atoms.pbc.all():
                assert np.allclose(atoms.get_stress(), twin.get_stress(), atol=1e-12)
        assert ours.searches < 6


def test_compiled_file_runs_where_torch_alone_is_imported(
    compiled: tuple[Forces, Path], tmp_path: Path
) -> None:
    task, folder = compiled
    atoms = molecule("H2O")
    positions, numbers = torch.from_numpy(atoms.positions), torch.from_numpy(atoms.numbers)
    network: Any = task.network
    edges = network.neighbors(positions, torch.zeros_like(numbers)).edge_index
    given = (positions, numbers, edges, torch.zeros(edges.shape[1], 3).double())
    wanted = task.derive({"positions": positions, "numbers": numbers, "batch": torch.zeros_like(numbers)})
    torch.save((given, wanted["energy"][0], wanted["forces"]), tmp_path / "pair.pt")
    code = (
        "import sys, torch\n"
        f"given, energy, forces = torch.load({str(tmp_path / 'pair.pt')!r})\n"
        f"found = torch._inductor.aoti_load_package({str(folder / 'forces.pt2')!r})(*given)\n"
        "assert not any(name.split('.')[0] == 'spheregeo' for name in sys.modules)\n"
        "assert abs(float(found[0] - energy)) <= 1e-6 and float((found[1] - forces).abs().max()) <= 1e-6\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_compiled_file_is_opened_when_trusted_and_says_what_it_does_not_take(
    compiled: tuple[Forces, Path], tmp_path: Path
) -> None:
    _, folder = compiled
    with pytest.raises(ValueError, match="pass --trust"):
        open_models([str(folder)], None, "64")
    calculator = open_models([str(folder)], None, "64", trust=True)
    assert isinstance(calculator, ProgramCalculator) and calculator.frame.elements == [1, 6, 8]
    for atoms, word in ((molecule("NH3"), r"elements \[7\]"), (Atoms("O", [[0, 0, 0]]), "takes at least 2")):
        atoms.calc = calculator
        with pytest.raises(ValueError, match=word):
            atoms.get_forces()
    (tmp_path / "forces.pt2").write_bytes(b"no program")
    with pytest.raises(ValueError, match="no compiled force field"):
        ProgramCalculator(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there"):
        ProgramCalculator(tmp_path / "nothing.pt2")
