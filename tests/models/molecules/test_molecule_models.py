"""What every network of molecules promises, whichever it is: invariance, batches, free atoms, forces that can be learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo import models
from spheregeo.audit import randomise
from spheregeo.sampling import random_rotations

NAMES = models.names("label", "molecule")
F64 = torch.float64
THRESHOLDED = (
    "sphere-molecule",
)  # thresholds on the points of spheres: invariance up to aliasing, kinks in the energy


# samples of spheres and turns of frames, by which invariance is exact to rounding
SAMPLES: dict[str, dict[str, Any]] = {
    "scn": {"taps": 24, "oversampling": 3.0},
    "escn": {"oversampling": 3.0},
    "equiformer-v2": {"oversampling": 4.0, "hidden": 8},
}
PROPER = ("scn",)  # perceptrons in edge frames see reflections


def made(name: str) -> Any:
    torch.manual_seed(0)
    network = models.create(name, 20, 2, None, width=8, depth=2, **SAMPLES.get(name, {}))
    randomise(network, torch.Generator().manual_seed(1))
    return network.double().eval()


def molecule(count: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), -1).reshape(-1, 3)[:count]
    x = 1.4 * places + 0.15 * rng.normal(size=(count, 3))
    return torch.from_numpy(x), torch.from_numpy(rng.choice([1, 6, 8], count))


def value(network: Any, x: Tensor, z: Tensor) -> Tensor:
    batch = torch.zeros(len(z), dtype=torch.int64)
    result: Tensor = network(x, z, batch, network.neighbors(x, batch), 1)
    return result


@pytest.mark.parametrize("name", NAMES)
def test_motions_reflections_and_order(name: str) -> None:
    network, (x, z) = made(name), molecule()
    with torch.no_grad():
        y = value(network, x, z)
        size = float(y.abs().max())
        for turn in random_rotations(2, generator=torch.Generator().manual_seed(0)):
            for matrix in (turn,) if name in PROPER else (turn, -turn):
                error = value(network, x @ matrix.T + 3.0, z) - y
                assert float(error.abs().max()) < (2e-4 if name in THRESHOLDED else 1e-9) * size
        assert float((value(network, x + 3.0, z) - y).abs().max()) < 1e-9 * size
        order = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))
        assert float((value(network, x[order], z[order]) - y).abs().max()) < 1e-9 * size
        assert float((value(network, 1.02 * x, z) - y).abs().max()) > 1e-6 * size
        assert torch.equal(value(network, x, z), y)


@pytest.mark.parametrize("name", NAMES)
def test_batches_and_atoms_alone(name: str) -> None:
    network = made(name)
    parts = [molecule(5, 1), molecule(1, 2), molecule(7, 3)]
    x, z = (torch.cat(p) for p in zip(*parts))
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([5, 1, 7]))
    with torch.no_grad():
        together = network(x, z, batch, network.neighbors(x, batch), 3)
        assert together.shape == (3, 2)
        assert torch.equal(network(x, z, batch, network.neighbors(x, batch)), together)
        apart = torch.cat([value(network, *p) for p in parts])
        assert torch.allclose(together, apart, rtol=1e-10, atol=1e-10)
        far = torch.tensor([[0.0, 0, 0], [80.0, 0, 0]], dtype=F64)
        pair, one = value(network, far, torch.tensor([6, 6])), value(network, far[:1], torch.tensor([6]))
        assert torch.isfinite(one).all() and torch.allclose(pair, 2 * one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_forces_can_be_learnt(name: str) -> None:
    network, (x, z) = made(name), molecule(6)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(value(network, x, z)[0, 0], x, create_graph=True)
    slope.square().sum().backward()
    assert torch.isfinite(slope).all() and float(slope.detach().abs().max()) > 0
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert grads and all(bool(torch.isfinite(g).all()) for g in grads)
    assert any(float(g.abs().max()) > 0 for g in grads)
    with torch.no_grad():
        h, step = 1e-5 if name in THRESHOLDED else 1e-4, torch.zeros_like(x)
        step[0, 1] = h
        numeric = (value(network, x + step, z) - value(network, x - step, z))[0, 0] / (2 * h)
    assert float(slope[0, 1].detach()) == pytest.approx(float(numeric), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_loads(name: str) -> None:
    network, (x, z) = made(name), molecule()
    again = models.create(name, 20, 2, None, width=8, depth=2, **SAMPLES.get(name, {})).double().eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(value(again, x, z), value(network, x, z))
