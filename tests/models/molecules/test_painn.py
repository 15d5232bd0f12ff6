"""PaiNN beside its equations written out, its tensor head, smoothness at the cutoff, and how few operators it takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spheregeo.audit import randomise
from spheregeo.models import PaiNN, create
from spheregeo.models.molecules.schnet import cosine_envelope
from spheregeo.sampling import random_rotations

F64 = torch.float64


def net(**options: object) -> PaiNN:
    made = create("painn", 20, 2, None, **{"width": 6, "depth": 2, "cutoff": 3.0, "basis": 4, **options})
    assert isinstance(made, PaiNN)
    randomise(made, torch.Generator().manual_seed(1))
    return made.double().eval()


def water_and_more() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.tensor(
        [[0.0, 0.1, 0.2], [0.8, -0.5, 0.1], [-0.7, -0.6, 0.2], [0.3, 1.4, -0.6], [5, 5, 5], [5.9, 5.2, 5.3]]
    )
    return x.double(), torch.tensor([8, 1, 1, 6, 6, 1]), torch.tensor([0, 0, 0, 0, 1, 1])


@pytest.mark.parametrize("envelope", ["polynomial", "cosine"])
def test_equals_its_equations_written_out(envelope: str) -> None:
    model = net(envelope=envelope)
    x, z, batch = water_and_more()

    def plain(x: Tensor) -> Tensor:
        s, v = model.embedding(z), torch.zeros(len(z), 3, 6, dtype=F64)
        layers: Any = zip(model.messages, model.updates)
        for layer, (message, update) in enumerate(layers):
            phi, new_s, new_v = message.perceptron(s), list(s), list(v)
            for i in range(len(z)):
                for j in range(len(z)):
                    r = x[j] - x[i]  # towards the neighbour
                    d = r.norm()
                    if i == j or batch[i] != batch[j] or float(d.detach()) > 3.0:
                        continue
                    t = d / 3.0
                    end = (
                        cosine_envelope(t) if envelope == "cosine" else 1 - 28 * t**6 + 48 * t**7 - 21 * t**8
                    )
                    waves = torch.stack(
                        [2**0.5 * torch.sin(n * torch.pi * t) / (torch.pi * t) for n in range(1, 5)]
                    )
                    rows = slice(18 * layer, 18 * (layer + 1))
                    w = (model.filters.weight[rows] @ waves + model.filters.bias[rows]) * end
                    a, b, c = (phi[j] * w).split(6)
                    new_s[i] = new_s[i] + a
                    new_v[i] = new_v[i] + v[j] * b + (r / d)[:, None] * c
            s, v = torch.stack(new_s), torch.stack(new_v)
            left, right = (v @ w.T for w in update.mix.weight.split(6))
            norm = (right.square().sum(1) + 1e-6).sqrt() - 1e-3
            own, paired, gates = update.perceptron(torch.cat([s, norm], 1)).split(6, 1)
            s, v = s + own + paired * (left * right).sum(1), v + gates[:, None] * left
        assert model.head is not None
        values = model.head(s)
        return torch.stack([values[batch == b].sum(0) for b in range(2)])

    x.requires_grad_()
    ours, theirs = model(x, z, batch, model.neighbors(x.detach(), batch), 2), plain(x)
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-11)
    weights = list(model.parameters())
    found = []
    for y in (ours, theirs):
        (force,) = torch.autograd.grad(y[:, 0].sum(), x, create_graph=True)
        slopes = torch.autograd.grad(force.square().sum(), weights, allow_unused=True, materialize_grads=True)
        found.append([force, *slopes])
    assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-9) for a, b in zip(*found, strict=True))


def test_the_tensor_head_gives_dipoles() -> None:
    model = net(out_vectors=1, out_atoms=2, readout="dipole")
    x, z, batch = water_and_more()
    found = model.outputs(x, z, batch, model.neighbors(x, batch), 2)
    assert [tuple(part.shape) for part in found] == [(2, 2), (2, 1, 3), (6, 2)]
    turn = -random_rotations(1, generator=torch.Generator().manual_seed(0))[0].double()
    moved = x @ turn.T + 7.0
    again = model.outputs(moved, z, batch, model.neighbors(moved, batch), 2)
    assert torch.allclose(again.molecules, found.molecules, rtol=1e-10, atol=1e-12)
    assert torch.allclose(again.vectors, found.vectors @ turn.T, rtol=1e-10, atol=1e-12)
    assert torch.allclose(again.atoms, found.atoms, rtol=1e-10, atol=1e-12)
    assert float(found.vectors.detach().norm(dim=2).min()) > 1e-2
    packed = model.packed(x, z, model.neighbors(x, batch))
    head = model.tensor_head
    assert head is not None
    y = head(packed)
    for b in range(2):
        own = batch == b
        q = y[own, 0, 0] - y[own, 0, 0].mean()
        by_hand = y[own, 1:, 0].sum(0) + (q[:, None] * (x[own] - x[own].mean(0))).sum(0)
        assert torch.allclose(found.vectors[b, 0], by_hand, rtol=1e-10, atol=1e-12)
    sizes = [float(y[batch == 0, 1:, k].sum(0).detach().norm()) for k in (1, 2)]
    assert found.molecules.shape[1] == len(sizes) and bool((found.molecules > 0).all())


def test_smooth_as_an_atom_crosses_the_cutoff() -> None:
    model, z = net(), torch.tensor([6, 8, 1])

    def at(r: float) -> tuple[float, float, int]:
        x = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [0, r, 0]], dtype=F64, requires_grad=True)
        graph = model.neighbors(x.detach())
        y = model(x, z, torch.zeros(3, dtype=torch.int64), graph, 1)[0, 0]
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        (second,) = torch.autograd.grad(g[2, 1], x)
        return float(g[2, 1].detach()), float(second[2, 1]), graph.edge_index.shape[1]

    inside, outside = at(3.0 - 1e-7), at(3.0 + 1e-7)
    assert inside[2] == outside[2] + 2
    assert abs(inside[0] - outside[0]) < 1e-9 and abs(inside[1] - outside[1]) < 1e-4


def test_few_operators() -> None:
    """A layer more is 48 operators at most, views of tensors among them."""
    x, z, batch = water_and_more()

    class Count(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.found += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for depth in (1, 2):
        model = net(depth=depth)
        graph = model.neighbors(x, batch)
        with Count() as mode, torch.no_grad():
            model(x, z, batch, graph, 2)
        counts.append(mode.found)
    assert counts[1] - counts[0] <= 48


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="envelope is 'box'"):
        net(envelope="box")
    with pytest.raises(ValueError, match="width"):
        net(width=1)
