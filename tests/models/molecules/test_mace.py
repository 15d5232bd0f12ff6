"""MACE beside mace-torch with the weights copied: energies, forces, stress, gradients of weights; its own sides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mace_models import CASES, FILE, describe, evaluate, loss_of, make, positions_and_cell, rebuild
from torch import Tensor, nn
from torch.func import functional_call

from spheregeo.cli.main import main
from spheregeo.models import MACE, create
from spheregeo.models.molecules.mace_import import converted_weights, from_mace


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


class Energies(nn.Module):
    """A network's energies with those of free atoms."""

    def __init__(self, network: MACE) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arguments: Any) -> Tensor:
        return self.network.energy(*arguments)


def compare(model: nn.Module, expected: Any, crystal: bool, head: str | None) -> None:
    """The converted network beside the numbers of mace-torch, to 1e-10."""
    network = from_mace(model, head)
    weights = {f"network.{k}": v for k, v in converted_weights(model, network, head).items()}
    places, cell = positions_and_cell(crystal)
    positions, numbers = torch.from_numpy(places), torch.from_numpy(expected["numbers"])
    batch = torch.zeros_like(numbers)
    periodic = (torch.from_numpy(cell), torch.ones(3, dtype=torch.bool)) if cell is not None else ()
    graph = network.neighbors(positions, batch, *periodic)
    x, strain = positions.requires_grad_(), torch.zeros(3, 3, requires_grad=True)
    even = (strain + strain.T) / 2
    arguments = (x + x @ even, numbers, batch, graph.deformed(even), 1)
    energy = functional_call(Energies(network), weights, arguments)[:, 0]
    slopes = torch.autograd.grad(energy.sum(), [x, strain], create_graph=True)
    forces, stress = -slopes[0], None
    torch.testing.assert_close(energy, torch.from_numpy(expected["energy"]), rtol=0, atol=1e-10)
    torch.testing.assert_close(forces, torch.from_numpy(expected["forces"]), rtol=0, atol=1e-10)
    if cell is not None:
        stress = slopes[1] / abs(float(np.linalg.det(cell)))
        torch.testing.assert_close(stress, torch.from_numpy(expected["stress"]), rtol=0, atol=1e-10)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss_of(energy, forces, stress), list(trained.values()), allow_unused=True)
    for (name, p), slope in zip(trained.items(), found, strict=True):
        theirs = torch.from_numpy(expected[f"slope.{name}"])
        scale = max(1.0, float(theirs.abs().max()))
        got = torch.zeros_like(p) if slope is None else slope
        torch.testing.assert_close(got, theirs, rtol=0, atol=1e-10 * scale, msg=name)
    plain = network.energy(positions, numbers, batch, graph, 1)[:, 0]
    torch.testing.assert_close(plain, energy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_models_of_mace_torch_from_numbers(name: str) -> None:
    with np.load(FILE) as arrays:
        every = {key: arrays[key] for key in arrays.files if key.partition("/")[0].partition(".")[0] == name}
        facts = json.loads(str(arrays["facts"]))
    model = rebuild(facts[name], every, name)
    expected = {key.partition("/")[2]: value for key, value in every.items() if "/" in key}
    compare(model, expected, CASES[name].get("crystal", False), "b" if CASES[name].get("heads") else None)


@pytest.mark.parametrize("name", CASES)
def test_models_of_mace_torch_live(name: str) -> None:
    pytest.importorskip("mace")
    model, options = make(**CASES[name]), CASES[name]
    head = "b" if options.get("heads") else None
    compare(model, evaluate(model, options.get("crystal", False), head), options.get("crystal", False), head)
    arrays: dict[str, np.ndarray] = {}
    assert describe(model, arrays, name)["kind"] == type(model).__name__


def test_all_heads_at_once_and_refusals() -> None:
    with np.load(FILE) as arrays:
        every = {key: arrays[key] for key in arrays.files}
    facts = json.loads(str(every["facts"]))
    model: Any = rebuild(facts["heads"], every, "heads")
    network, one = from_mace(model), from_mace(model, "b")
    positions, numbers = torch.from_numpy(positions_and_cell(False)[0]), torch.tensor([1, 6, 8, 1, 6])
    batch = torch.zeros_like(numbers)
    graph = network.neighbors(positions, batch)
    both = network.energy(positions, numbers, batch, graph, 1)
    assert both.shape == (1, 2)
    torch.testing.assert_close(
        both[:, 1:], one.energy(positions, numbers, batch, graph, 1), rtol=0, atol=1e-12
    )
    with pytest.raises(ValueError, match="expected one of 'a', 'b'"):
        from_mace(model, "c")
    with pytest.raises(ValueError, match="holds the elements 7"):
        network(positions, numbers + 6, batch, graph, 1)
    model.apply_cutoff = False
    with pytest.raises(ValueError, match="apply_cutoff"):
        from_mace(model)
    model.apply_cutoff = True
    type(model.interactions[0]).__name__ = "AnotherBlock"
    with pytest.raises(ValueError, match="AnotherBlock"):
        from_mace(model)


def test_checkpoint_and_calculator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ase = pytest.importorskip("ase")
    from spheregeo.tasks.molecules import imported
    from spheregeo.tasks.molecules.calculator import SpheregeoCalculator

    with np.load(FILE) as arrays:
        every = {key: arrays[key] for key in arrays.files}
    model = rebuild(json.loads(str(every["facts"]))["crystal"], every, "crystal")
    positions, cell = positions_and_cell(True)
    atoms = ase.Atoms(every["crystal/numbers"], positions=positions, cell=cell, pbc=True)
    atoms.calc = SpheregeoCalculator(imported.mace_task(model))
    np.testing.assert_allclose(atoms.get_potential_energy(), every["crystal/energy"][0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), every["crystal/forces"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), every["crystal/stress"], rtol=0, atol=1e-10)
    file, output = tmp_path / "some.model", tmp_path / "mace.ckpt"
    with pytest.raises(FileNotFoundError):
        imported.import_mace(file, output, trust=True)
    torch.save({"no": "model"}, file)
    with pytest.raises(ValueError, match="pass --trust"):
        imported.import_mace(file, output)
    with pytest.raises(ValueError, match="holds a dict"):
        imported.import_mace(file, output, trust=True)
    monkeypatch.setattr(imported, "_unpickled", lambda path: model)
    torch.set_default_dtype(torch.float32)
    assert main(["import", "mace", str(file), "--output", str(output), "--trust"]) == 0
    atoms.calc = SpheregeoCalculator(output)
    np.testing.assert_allclose(atoms.get_forces(), every["crystal/forces"], rtol=0, atol=1e-5)


def small(**options: Any) -> MACE:
    sizes: dict[str, Any] = {
        "width": 3,
        "lmax": 2,
        "hidden": (5,),
        "readout_width": 3,
        "basis": 3,
        "cutoff": 3.0,
    }
    made = create("mace", 20, 2, None, **{**sizes, **options})
    assert isinstance(made, MACE)
    return made


@pytest.mark.parametrize(
    "options",
    [{}, {"skip": "later", "density": True, "transform": "agnesi"}, {"repulsion": True, "skip": "none"}],
)
def test_forces_and_their_derivatives(options: dict[str, Any]) -> None:
    network = small(**options)
    positions = torch.randn(4, 3) * 1.2
    numbers, batch = torch.tensor([1, 6, 8, 1]), torch.zeros(4, dtype=torch.int64)
    graph = network.neighbors(positions, batch)

    def energy(x: Tensor) -> Tensor:
        return network(x, numbers, batch, graph, 1)

    x = positions.requires_grad_()
    assert torch.autograd.gradcheck(energy, x)
    assert torch.autograd.gradgradcheck(energy, x)


def test_smooth_where_an_atom_crosses_the_cutoff() -> None:
    network = small()
    numbers, batch = torch.tensor([1, 8]), torch.zeros(2, dtype=torch.int64)

    def at(distance: float) -> Tensor:
        x = torch.tensor([[0.0, 0, 0], [distance, 0, 0]])
        return network(x, numbers, batch, network.neighbors(x, batch), 1).detach()

    apart = at(10.0)
    assert float((at(3.0 - 1e-4) - apart).abs().max()) < 1e-10
    assert float((at(3.0 - 1e-2) - apart).abs().max()) > 0


def test_options_that_do_not_fit() -> None:
    for options, text in (
        ({"correlation": [2, 3, 2]}, "expected one number, or 2"),
        ({"skip": "first"}, "'all', 'later', 'none'"),
        ({"transform": "soft"}, "'agnesi'"),
        ({"elements": [25]}, "below 20"),
    ):
        with pytest.raises(ValueError, match=text):
            small(**options)
