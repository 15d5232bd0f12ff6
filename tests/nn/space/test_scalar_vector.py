"""PaiNN's layers beside loops over edges and atoms in float64: values, gradients, gradients of gradients, rotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.groups import random_rotations
from spheregeo.nn.space.scalar_vector import GatedEquivariantBlock, ScalarVectorMessage, ScalarVectorUpdate

C = 3
SOURCE, TARGET = torch.tensor([1, 2, 0, 3, 0, 1]), torch.tensor([0, 0, 1, 1, 3, 3])  # the third hears nobody


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def message_twin(layer: ScalarVectorMessage, x: Tensor, weights: Tensor, directions: Tensor) -> Tensor:
    """Equations 7 and 8, edge by edge, channel by channel."""
    out = [list(atom.unbind(1)) for atom in x]  # channels (4,) of each atom
    for e, (j, i) in enumerate(zip(SOURCE.tolist(), TARGET.tolist())):
        phi = layer.perceptron(x[j, 0])
        for c in range(C):
            scalar, along, outward = (phi[k * C + c] * weights[e, k * C + c] for k in range(3))
            vector = along * x[j, 1:, c] + outward * directions[e]
            out[i][c] = out[i][c] + torch.cat([scalar[None], vector])
    return torch.stack([torch.stack(atom, 1) for atom in out])


def norm(v: Tensor) -> Tensor:
    return (v @ v + 1e-6).sqrt() - 1e-3


def update_twin(layer: ScalarVectorUpdate, x: Tensor) -> Tensor:
    """Equations 9 and 10, atom by atom."""
    rows = []
    for atom in x:
        left, right = (atom[1:] @ w.T for w in layer.mix.weight.split(C))
        values = layer.perceptron(torch.cat([atom[0], torch.stack([norm(v) for v in right.T])]))
        own, paired, gates = values.split(C)
        scalars = atom[0] + own + paired * torch.stack([u @ w for u, w in zip(left.T, right.T)])
        rows.append(torch.cat([scalars[None], atom[1:] + left * gates]))
    return torch.stack(rows)


def gated_twin(layer: GatedEquivariantBlock, x: Tensor) -> Tensor:
    rows = []
    for atom in x:
        left, right = (atom[1:] @ w.T for w in layer.mix.weight.split([2, C]))
        scalars, gates = layer.perceptron(
            torch.cat([atom[0], torch.stack([norm(v) for v in right.T])])
        ).split(2)
        rows.append(torch.cat([(scalars * torch.sigmoid(scalars))[None], left * gates]))
    return torch.stack(rows)


def cases() -> list[tuple[nn.Module, Callable[..., Tensor], tuple[Tensor, ...], tuple[Tensor, ...]]]:
    x, edges = torch.randn(4, 4, C), (torch.randn(6, 3 * C), torch.nn.functional.normalize(torch.randn(6, 3)))
    return [
        (ScalarVectorMessage(C), message_twin, (x, *edges), (SOURCE, TARGET)),
        (ScalarVectorUpdate(C), update_twin, (x,), ()),
        (GatedEquivariantBlock(C, 2, activate=True), gated_twin, (x,), ()),
    ]


@pytest.mark.parametrize("k", range(3))
def test_equals_the_loop_with_all_derivatives(k: int) -> None:
    layer, twin, inputs, rest = cases()[k]
    randomise(layer, torch.Generator().manual_seed(1))
    inputs = tuple(t.requires_grad_() for t in inputs)
    wanted = (*inputs, *layer.parameters())

    def derivatives(y: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(y.sin().sum(), wanted, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), wanted)
        return [y, *first, *second]

    for ours, theirs in zip(
        derivatives(layer(*inputs, *rest)), derivatives(twin(layer, *inputs)), strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("k", range(3))
def test_vectors_turn_and_reflect(k: int) -> None:
    layer, _, inputs, rest = cases()[k]
    randomise(layer, torch.Generator().manual_seed(1))
    matrix = -random_rotations(1, generator=torch.Generator().manual_seed(0))[0].double()

    def turned(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], matrix @ x[:, 1:]], 1)

    others = [t @ matrix.T if t.shape[-1] == 3 and t.ndim == 2 else t for t in inputs[1:]]
    y = layer(*inputs, *rest)
    assert torch.allclose(layer(turned(inputs[0]), *others, *rest), turned(y), rtol=1e-12, atol=1e-13)
    assert float((turned(y) - y).detach().abs().max()) > 0.1


def test_vanishing_vectors_and_what_does_not_fit() -> None:
    update = ScalarVectorUpdate(C)
    x = torch.zeros(2, 4, C, requires_grad=True)
    (g,) = torch.autograd.grad(update(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(g.square().sum(), x)
    assert torch.isfinite(g).all() and torch.isfinite(second).all()
    with pytest.raises(ValueError, match=r"expected \(points, 4, 3\)"):
        update(torch.zeros(2, 3, C))
    with pytest.raises(ValueError, match="channels is 0"):
        ScalarVectorMessage(0)
    assert math.isclose(float(norm(torch.zeros(3))), 0, abs_tol=1e-15)
