"""The evaluator of moving systems: its kept neighbours, compiled networks and frozen weights change no result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor, nn

from spheregeo.tasks import Forces
from spheregeo.tasks.molecules.calculator import SpheregeoCalculator
from spheregeo.tasks.molecules.dynamics.evaluator import Evaluator, single

SMALL: dict[str, dict[str, Any]] = {
    "schnet": {"width": 8, "depth": 1, "options": {"cutoff": 3.0, "basis": 6}},
    "steerable-molecule": {"width": 8, "depth": 1, "options": {"cutoff": 3.0, "basis": 4, "hidden": 8, "edge_dim": 4}},
    "painn": {"width": 8, "depth": 1, "options": {"cutoff": 3.0, "basis": 4}},
    "nequip": {"width": 4, "depth": 1, "options": {"cutoff": 3.0, "basis": 4}},
    "sphere-molecule": {"width": 4, "depth": 1},
}  # fmt: skip


def task_of(network: str) -> Forces:
    """A task whose weights, biases and free atoms' energies are all drawn at random."""
    torch.manual_seed(0)
    task = Forces(network=network, **SMALL[network]).double().eval()
    with torch.no_grad():
        for p in task.parameters():
            p.copy_(0.5 * torch.randn_like(p))
        task.atom_energy.normal_()
    return task


def systems() -> dict[str, Atoms]:
    crystal = bulk("Cu", cubic=True) * (2, 1, 1)
    crystal.symbols[0] = "Ag"
    slab = crystal.copy()
    slab.pbc = (True, True, False)
    return {"molecule": molecule("CH3CH2OH"), "crystal": crystal, "slab": slab}


def expected(task: Forces, atoms: Atoms, stress: bool) -> dict[str, Tensor]:
    """The slow twin: neighbours found anew, free atoms computed anew, a graph for all weights."""
    return task.derive(single(atoms), stress=stress)


@pytest.mark.parametrize("name", ["molecule", "crystal", "slab"])
@pytest.mark.parametrize("network", ["schnet", "steerable-molecule", "nequip", "sphere-molecule"])
def test_steps_equal_evaluations_from_nothing(network: str, name: str) -> None:
    task, atoms = task_of(network), systems()[name]
    stress = name != "molecule" and network != "sphere-molecule"
    if network == "sphere-molecule" and name != "molecule":
        pytest.skip("its spheres stand in no periodic cell")
    evaluator, rng = Evaluator(task, skin=0.4), np.random.default_rng(0)
    searches = []
    for step in range(12):
        atoms.positions += 0.03 * rng.standard_normal(atoms.positions.shape)
        if step == 9 and name != "molecule":
            atoms.set_cell(1.01 * atoms.cell, scale_atoms=True)
        found, twin = evaluator(atoms, stress=stress), expected(task, atoms, stress)
        torch.testing.assert_close(found["energy"], twin["energy"][0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found["forces"], twin["forces"], rtol=1e-9, atol=1e-9)
        if stress:
            torch.testing.assert_close(found["virial"], twin["virial"], rtol=1e-9, atol=1e-9)
        searches.append(evaluator.searches)
        assert not found["forces"].requires_grad and all(p.requires_grad for p in task.parameters())
    if evaluator.by_pairs:
        assert searches[0] == 1 and 1 < searches[-1] < 9


def test_neighbours_come_and_go_across_the_cutoff() -> None:
    """An atom walks in through the skin and out again: energy and forces are those of fresh neighbours at every step."""
    task = task_of("steerable-molecule")
    evaluator, atoms = Evaluator(task, skin=1.0), Atoms("OHH", [[0, 0, 0], [1, 0, 0], [0, 3.6, 0]])
    for y in (3.6, 3.4, 3.2, 3.05, 2.95, 2.6, 3.1, 5.0):
        atoms.positions[2, 1] = y
        found, twin = evaluator(atoms), expected(task, atoms, False)
        torch.testing.assert_close(found["forces"], twin["forces"], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found["energy"], twin["energy"][0], rtol=1e-12, atol=1e-12)
    assert evaluator.searches < 5


@pytest.mark.parametrize("compiled", [False, True])
def test_other_weights_are_noticed(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda padded, **options: padded)
    task, atoms = task_of("steerable-molecule"), molecule("H2O")
    evaluator = Evaluator(task, compile=compiled)
    for _ in range(2):
        torch.testing.assert_close(evaluator(atoms)["energy"], expected(task, atoms, False)["energy"][0])
        with torch.no_grad():
            for p in task.parameters():
                p.mul_(0.9)
            task.atom_energy.add_(1)


def test_other_elements_and_periods_are_noticed() -> None:
    task = task_of("schnet")
    evaluator, atoms = Evaluator(task), systems()["crystal"]
    evaluator(atoms)
    atoms.symbols[1] = "Au"
    torch.testing.assert_close(evaluator(atoms)["energy"], expected(task, atoms, False)["energy"][0])
    atoms.pbc = False
    torch.testing.assert_close(evaluator(atoms)["energy"], expected(task, atoms, False)["energy"][0])
    lone = Atoms("O", [[1.0, 2, 3]])
    found = evaluator(lone)
    assert float(found["energy"]) == pytest.approx(float(task.atom_energy[8]), abs=1e-12)
    assert not bool(found["forces"].any()) and evaluator.searches == 4


@pytest.mark.parametrize("network", ["schnet", "steerable-molecule", "painn", "nequip"])
def test_edges_that_fill_the_room_change_nothing(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled networks see a fixed number of edges; here they run as they are."""
    sizes: list[int] = []

    def watch(padded: nn.Module, **options: Any) -> Any:
        assert options == {"fullgraph": True, "dynamic": False, "options": {"cpp_wrapper": True}}

        def run(positions: Tensor, numbers: Tensor, index: Tensor, edges: Tensor, offset: Tensor) -> Any:
            sizes.append(edges.shape[1])
            return padded(positions, numbers, index, edges, offset)

        return run

    monkeypatch.setattr(torch, "compile", watch)
    task, rng = task_of(network), np.random.default_rng(0)
    for name, atoms in systems().items():
        evaluator, sizes[:] = Evaluator(task, skin=0.4, compile=True), []
        for _ in range(5):
            atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
            found = evaluator(atoms, stress=name != "molecule")
            twin = expected(task, atoms, name != "molecule")
            for key in ("forces", "virial") if name != "molecule" else ("forces",):
                torch.testing.assert_close(found[key], twin[key], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(found["energy"], twin["energy"][0], rtol=1e-10, atol=1e-10)
        assert len(set(sizes)) == 1


def test_a_compiled_network_and_one_that_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one graph, forward and backward, without the code generator."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda m, options, **more: real(m, backend="aot_eager", **more))
    task, atoms = task_of("schnet"), molecule("H2O")
    evaluator = Evaluator(task, compile=True)
    for _ in range(2):
        atoms.rattle(0.02, rng=np.random.default_rng(1))
        torch.testing.assert_close(
            evaluator(atoms)["forces"], expected(task, atoms, False)["forces"], rtol=1e-9, atol=1e-9
        )
    wrong = Evaluator(task, compile=True)
    monkeypatch.setattr(
        wrong, "_compile", lambda: lambda x, z, b, edges, r: 1e3 * x.square().sum().reshape(1, 1)
    )
    with pytest.raises(RuntimeError, match="forces of the compiled SchNet differ by"):
        wrong(atoms)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="skin is -1"):
        Evaluator(task_of("schnet"), skin=-1)
    direct = Forces(network="scn", width=4, depth=1, options={"direct": True}, direct=True)
    with pytest.raises(ValueError, match="has forces of its own"):
        Evaluator(direct, compile=True)
    found, atoms = Evaluator(direct.double().eval())(molecule("H2O")), molecule("H2O")
    assert torch.equal(found["forces"], expected(direct, atoms, False)["forces"])
    broken = molecule("H2O")
    broken.positions[0, 0] = np.nan
    evaluator = Evaluator(task_of("schnet"))
    evaluator(molecule("H2O"))
    with pytest.raises(ValueError, match=r"coordinates \[nan"):
        evaluator(broken)
    wide, water = Evaluator(task_of("schnet"), skin=9.0), molecule("H2O")
    wide(water)
    water.positions[0] = water.positions[1] + 1e-7
    with pytest.raises(ValueError, match="Å apart; expected atoms at different places"):
        wide(water)


def test_the_calculator_takes_skin_and_type() -> None:
    task = task_of("schnet")
    atoms = molecule("H2O")
    atoms.calc = SpheregeoCalculator(task, dtype=torch.float32, skin=0.3)
    assert atoms.calc.evaluator.skin == 0.3 and next(task.parameters()).dtype == torch.float32
    twin = expected(task, atoms, False)
    np.testing.assert_allclose(atoms.get_forces(), twin["forces"].double().numpy(), atol=1e-5)
