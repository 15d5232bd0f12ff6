"""SEGNN: its published size, norms, odd features, atoms alone or at one place, forces, and how fast it is built."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from spheregeo import models
from spheregeo.models import SEGNN, SEGNNPoints
from spheregeo.models.space.segnn_blocks import NORMS, balanced_irreps
from spheregeo.nn.irreps.instance_norm import IrrepsInstanceNorm
from spheregeo.sampling import random_rotations

F64 = torch.float64


def randomise(network: torch.nn.Module) -> None:
    """Biases and norms' weights drawn too; matrices are already, at a size that lets geometry matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim < 2:
                p.copy_(torch.randn(p.shape, generator=generator) + (p > 0))


def net(**options: object) -> SEGNN:
    torch.manual_seed(0)
    made = SEGNN(10, 2, **{"width": 8, "depth": 2, "cutoff": 2.5, **options})  # type: ignore[arg-type]
    randomise(made)
    return made.double().eval()


def molecule(count: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places = torch.cartesian_prod(*[torch.arange(3.0, dtype=F64)] * 3)[:count]
    x = 1.3 * places + 0.2 * torch.randn(count, 3, generator=generator, dtype=F64)
    return x, torch.randint(1, 9, (count,), generator=generator)


def value(model: SEGNN, x: Tensor, z: Tensor) -> Tensor:
    batch = torch.zeros(len(z), dtype=torch.int64)
    result: Tensor = model(x, z, batch, model.neighbors(x, batch), 1)
    return result


def test_published_size_and_its_construction() -> None:
    assert str(balanced_irreps(128, 2, 3)) == "36x0e+36x1o+36x2e"
    assert str(balanced_irreps(64, 1, 1)) == "32x0e+32x1o"
    for width in range(1, 60):  # the least number of copies with no fewer weights
        copies = balanced_irreps(width, 2, 3)[0].mul
        assert 13 * copies**2 >= width**2 > 13 * (copies - 1) ** 2
    models.create("segnn-base", 5, 1, None)
    start = time.process_time()
    made = models.create("segnn-base", 5, 1, None)
    assert time.process_time() - start < 0.5
    assert sum(p.numel() for p in made.parameters()) == 1_033_489


@pytest.mark.parametrize(
    "options", [{"norm": norm} for norm in NORMS] + [{"head": "molecule", "readout": "mean"}]
)
def test_norms_and_heads_are_invariant_and_see_no_batch(options: dict) -> None:
    model, (x, z) = net(**options), molecule()
    with torch.no_grad():
        y = value(model, x, z)
        change = float((value(model, 1.1 * x, z) - y).abs().max())
        assert change > 1e-5 * float(y.abs().max())
        for turn in random_rotations(2, generator=torch.Generator().manual_seed(0)):
            assert float((value(model, -x @ turn.T + 2, z) - y).abs().max()) < 1e-9 * change
        parts = [(x, z), (x[:1], z[:1]), molecule(5, 3)]
        batch = torch.repeat_interleave(torch.arange(3), torch.tensor([7, 1, 5]))
        both, numbers = (torch.cat(p) for p in zip(*parts))
        together = model(both, numbers, batch, model.neighbors(both, batch), 3)
        assert torch.allclose(together, torch.cat([value(model, *p) for p in parts]), rtol=1e-10, atol=1e-10)


def test_features_of_any_parity_biases_random() -> None:
    model, (x, z) = net(irreps="4x0e + 2x0o + 3x1o + 2x1e + 2x2e + 1x2o"), molecule()
    with torch.no_grad():
        y = value(model, x, z)
        change = float((value(model, 1.1 * x, z) - y).abs().max())
        assert change > 1e-5 * float(y.abs().max())
        for turn in random_rotations(2, generator=torch.Generator().manual_seed(0)):
            for matrix in (turn, -turn):
                assert float((value(model, x @ matrix.T, z) - y).abs().max()) < 1e-9 * change


@pytest.mark.parametrize("envelope", [False, True])
def test_forces_to_second_order(envelope: bool) -> None:
    model, (x, z) = net(envelope=envelope, depth=2, width=4), molecule(3)
    batch, graph = torch.zeros(3, dtype=torch.int64), model.neighbors(x)

    def f(p: Tensor) -> Tensor:
        return model(p, z, batch, graph, 1)[0, :1]

    x.requires_grad_()
    assert torch.autograd.gradcheck(f, (x,), atol=1e-6)
    assert torch.autograd.gradgradcheck(f, (x,), atol=1e-5)
    # the gradient of a first derivative, which takes the differentiable path, is that of the fast one
    model.zero_grad()
    model(x, z, batch, graph, 1)[0, 0].backward()
    fast = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    weights = [p for p in model.parameters() if p.grad is not None]
    slow = torch.autograd.grad(model(x, z, batch, graph, 1)[0, 0], weights, create_graph=True)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(fast, slow, strict=True))
    (fast_force,), (slow_force,) = (
        torch.autograd.grad(f(x), x, create_graph=again) for again in (False, True)
    )
    assert torch.allclose(fast_force, slow_force, rtol=1e-10, atol=1e-12)


def test_the_envelope_ends_smoothly() -> None:
    model, z = net(envelope=True), torch.tensor([6, 8, 1])

    def at(r: float) -> tuple[float, int]:
        x = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [0, r, 0]], dtype=F64)
        return float(value(model, x, z)[0, 0].detach()), model.neighbors(x).edge_index.shape[1]

    inside, outside = at(2.5 - 1e-6), at(2.5 + 1e-6)
    assert inside[1] == outside[1] + 2 and abs(inside[0] - outside[0]) < 1e-10


def test_atoms_at_one_place_send_nothing() -> None:
    model, z = net(), torch.tensor([6, 6, 8])
    x = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1.0, 0.5, 0]], dtype=F64, requires_grad=True)
    y = value(model, x, z)
    (g,) = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(y).all() and torch.isfinite(g).all()
    turn = random_rotations(1, generator=torch.Generator().manual_seed(0))[0].double()
    assert torch.allclose(value(model, x @ turn.T, z), y, rtol=1e-10)


def test_instance_norm_by_hand() -> None:
    norm = IrrepsInstanceNorm("2x0e + 1x1o + 1x0o").double()
    randomise(norm)
    x, batch = torch.randn(5, 6, dtype=F64), torch.tensor([0, 0, 0, 0, 1])
    y = norm(x, batch, 3)
    part, w = x[:4], norm.weight
    centred = part[:, :2] - part[:, :2].mean(0)
    scalars = centred / (centred.square().mean(0) + 1e-5).sqrt() * w[:2] + norm.bias
    vector = part[:, 2:5] / (part[:, 2:5].square().mean() + 1e-5).sqrt() * w[2]
    odd = part[:, 5:] / (part[:, 5:].square().mean() + 1e-5).sqrt() * w[3]
    assert torch.allclose(y[:4], torch.cat([scalars, vector, odd], 1))
    assert torch.allclose(y[4, :2], norm.bias)
    with pytest.raises(ValueError, match=r"eps is 0\.0"):
        IrrepsInstanceNorm("1x0e", eps=0.0)


def test_float32_error() -> None:
    model, (x, z) = net(), molecule()
    y = value(model, x, z).detach()
    assert float((value(model.float(), x.float(), z).detach().double() - y).norm() / y.norm()) < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0.0}, "cutoff is 0.0"),
        ({"norm": "group"}, "norm is 'group'; expected one of 'layer'"),
        ({"head": "molecule", "readout": "dipole"}, "head is 'molecule' with readout 'dipole'"),
        ({"width": 0}, "width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"irreps": "2x1o + 2x0e"}, "0e first"),
        ({"readout": "max"}, "readout is 'max'"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(**options)
    with pytest.raises(ValueError, match=r"cutoff is -1"):
        SEGNNPoints(0, 2, unit=-1.0)
