"""SCN and eSCN: what is exact, what sampling and taps leave, periodic systems, and forces of a head of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spheregeo import models
from spheregeo.data.molecules.built_in import packed
from spheregeo.sampling import random_rotations

F64 = torch.float64


def made(name: str, **options: Any) -> Any:
    """A small network in float64 with weights of order one and random biases."""
    torch.manual_seed(0)
    network = models.create(name, 40, 1, None, width=6, depth=2, hidden=12, num_neighbors=5.0, **options)
    for parameter in network.parameters():
        if parameter.ndim < 2:
            nn.init.normal_(parameter, std=0.3)
    return network.double().eval()


def cluster(count: int = 7) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    x = packed(count, 1.6, rng) + 0.1 * rng.normal(size=(count, 3))
    return torch.from_numpy(x), torch.from_numpy(rng.choice([1, 8, 29], count))


def energy(network: Any, x: Tensor, z: Tensor) -> Tensor:
    batch = torch.zeros_like(z)
    found: Tensor = network(x, z, batch, network.neighbors(x, batch), 1)[0, 0]
    return found


def change(network: Any, reflect: bool = False) -> float:
    """Largest change of the energy under rotations, in units of what moving the atoms by 0.1 Å changes."""
    x, z = cluster()
    with torch.no_grad():
        e = energy(network, x, z)
        moves = [
            0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(k), dtype=F64)
            for k in range(3)
        ]
        size = max(abs(float(energy(network, x + move, z) - e)) for move in moves)
        turns = random_rotations(3, generator=torch.Generator().manual_seed(0))
        return max(abs(float(energy(network, x @ (-t if reflect else t).T, z) - e)) for t in turns) / size


@pytest.mark.parametrize(
    "name, options", [("scn", {"mmax": 0}), ("scn", {"taps": 24}), ("escn", {}), ("escn", {"mmax": 1})]
)
def test_invariant_at_sufficient_grids(name: str, options: dict[str, Any]) -> None:
    assert change(made(name, oversampling=10.0, **options)) < 1e-10


def test_taps_and_samples_are_what_is_missing() -> None:
    """The published relaxation: without taps the roll of frames is seen, few taps leave a little; reflections are not kept."""
    assert change(made("scn", taps=1)) > 1e-3 > change(made("scn", taps=4)) > 1e-12
    assert change(made("scn", taps=24, oversampling=3.0), reflect=True) > 1e-6
    for name, options in (("scn", {"mmax": 0}), ("escn", {})):
        coarse, fine = (made(name, oversampling=s, **options) for s in (1.0, 2.0))
        assert change(coarse, True) > 10 * change(fine, True)


@pytest.mark.parametrize("name", ["scn", "escn"])
def test_slopes_are_those_of_the_energy(name: str) -> None:
    """With few taps, too: the roll of frames has its gradient, and edges along y and −y are among the atoms'."""
    network, (x, z) = made(name), cluster()
    x[1] = x[0] + torch.tensor([0.0, 1.5, 0.0], dtype=F64)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(energy(network, x, z), x, create_graph=True)
    assert network.roll == (name == "scn")
    direction, h = torch.randn(x.shape, dtype=F64, generator=torch.Generator().manual_seed(1)), 1e-5
    with torch.no_grad():
        up, down = (energy(network, x + s * h * direction, z) for s in (1, -1))
    assert float((slope * direction).sum().detach()) == pytest.approx(float(up - down) / (2 * h), rel=1e-6)
    x = (x.detach() + 0.05 * direction).requires_grad_()
    (slope,) = torch.autograd.grad(energy(network, x, z), x, create_graph=True)
    with torch.no_grad():
        up, down = (energy(network, x + s * h * direction, z) for s in (1, -1))
    assert float((slope * direction).sum().detach()) == pytest.approx(float(up - down) / (2 * h), rel=1e-6)
    slope.square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["scn", "escn"])
def test_atoms_that_are_written_in_another_cell(name: str) -> None:
    network, (x, z) = made(name, cutoff=3.0), cluster(4)
    cell = torch.tensor([[[3.5, 0, 0], [0.5, 3.8, 0], [0.0, 0.2, 4.0]]], dtype=F64)
    pbc = torch.tensor([[True, True, False]])
    shifts = torch.tensor([[1, -2, 0], [0, 0, 0], [0, 3, 0], [-1, 1, 0]], dtype=F64)

    def said(x: Tensor) -> Tensor:
        batch = torch.zeros_like(z)
        found: Tensor = network(x, z, batch, network.neighbors(x, batch, cell, pbc), 1)
        return found

    with torch.no_grad():
        assert torch.allclose(said(x + shifts @ cell[0]), said(x), rtol=1e-12)
        assert abs(float(said(x) - energy(network, x, z))) > 1e-6  # images count


def test_atoms_at_one_place_do_not_meet() -> None:
    network, (x, z) = made("escn", oversampling=8.0), cluster(4)
    x[1] = x[0]
    with torch.no_grad():
        e, turn = energy(network, x, z), random_rotations(1, generator=torch.Generator().manual_seed(0))[0]
        assert float(energy(network, x @ turn.T, z)) == pytest.approx(float(e), rel=1e-12)


@pytest.mark.parametrize(
    "name, options, bound", [("escn", {}, 1e-9), ("scn", {"taps": 24}, 1e-9), ("scn", {"taps": 1}, None)]
)
def test_direct_forces(name: str, options: dict[str, Any], bound: float | None) -> None:
    """They turn with the atoms as far as the network is strict, and are not the energy's slope."""
    network, (x, z) = made(name, direct=True, oversampling=8.0, **options), cluster()
    batch, turn = torch.zeros_like(z), random_rotations(1, generator=torch.Generator().manual_seed(3))[0]

    def forces(x: Tensor) -> Tensor:
        found: Tensor = network.energy_and_forces(x, z, batch, network.neighbors(x, batch), 1)[1]
        return found

    with torch.no_grad():
        error = float((forces(x @ turn.T) - forces(x) @ turn.T).abs().max() / forces(x).abs().max())
    assert error < bound if bound else error > 1e-3
    x.requires_grad_()
    (slope,) = torch.autograd.grad(energy(network, x, z), x)
    assert float((forces(x) + slope).detach().abs().max()) > 1e-3
    with pytest.raises(ValueError, match="has no head for forces"):
        made(name).energy_and_forces(x, z, batch, network.neighbors(x, batch), 1)
