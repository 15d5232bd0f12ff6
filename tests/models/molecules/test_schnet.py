"""SchNet and the graphs of molecules: invariance, smoothness at the cutoff, batches, periodic images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo import models
from spheregeo.audit import randomise
from spheregeo.models.molecules.schnet import SchNet, cosine_envelope, polynomial_envelope
from spheregeo.models.space.molecule_graph import MoleculeGraph, join_graphs, molecule_graph, split_graph
from spheregeo.models.space.readout import READOUTS, pooled
from spheregeo.sampling import random_rotations

F64 = torch.float64


def net(**options: object) -> SchNet:
    made = models.create(
        "schnet", 20, 3, None, **{"width": 8, "depth": 2, "cutoff": 3.0, "basis": 6, **options}
    )
    assert isinstance(made, SchNet)
    randomise(made, torch.Generator().manual_seed(1))
    return made.double().eval()


def cloud(count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), -1).reshape(-1, 3)[:count]
    positions = torch.from_numpy(1.3 * places + 0.2 * rng.normal(size=(count, 3)))
    return positions, torch.from_numpy(rng.choice([1, 6, 8], count))


def value(model: SchNet, positions: Tensor, numbers: Tensor, **more: Tensor) -> Tensor:
    batch = torch.zeros(len(numbers), dtype=torch.int64)
    result: Tensor = model(positions, numbers, batch, model.neighbors(positions, **more), 1)
    return result


@pytest.mark.parametrize("readout", READOUTS)
def test_motions_reflections_and_order_change_nothing(readout: str) -> None:
    model, (x, z) = net(readout=readout), cloud()
    y = value(model, x, z)
    for turn in random_rotations(3, generator=torch.Generator().manual_seed(0)):
        for sign in (1, -1):
            moved = sign * x @ turn.double().T + torch.tensor([1.0, -2, 3])
            assert torch.allclose(value(model, moved, z), y, rtol=1e-11, atol=1e-11)
    order = torch.randperm(len(z))
    assert torch.allclose(value(model, x[order], z[order]), y, rtol=1e-11, atol=1e-11)
    assert float((value(model, 1.01 * x, z) - y).detach().abs().max()) > 1e-5  # it does see the shape


def test_a_molecule_does_not_depend_on_its_batch() -> None:
    model = net()
    parts = [cloud(5, 1), cloud(1, 2), cloud(9, 3)]
    x, z = (torch.cat(p) for p in zip(*parts))
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([5, 1, 9]))
    together = model(x, z, batch, model.neighbors(x, batch), 3)
    apart = torch.cat([value(model, *p) for p in parts])
    assert torch.allclose(together, apart, rtol=1e-12, atol=1e-12)
    assert torch.equal(model(x, z, batch, model.neighbors(x, batch)), together)


def test_an_atom_alone_says_what_its_element_says() -> None:
    model = net()
    alone = value(model, torch.zeros(1, 3, dtype=F64), torch.tensor([6]))
    far = torch.tensor([[0.0, 0, 0], [50.0, 0, 0]], dtype=F64)
    assert torch.allclose(value(model, far, torch.tensor([6, 6])), 2 * alone)
    assert torch.isfinite(alone).all() and float(alone.detach().abs().max()) > 1e-3


@pytest.mark.parametrize(("envelope", "order"), [(polynomial_envelope, 2), (cosine_envelope, 1)])
def test_envelopes_end_smoothly(envelope: Callable[[Tensor], Tensor], order: int) -> None:
    t = torch.tensor([0.0, 1.0, 1.5], dtype=F64)
    assert envelope(t).tolist() == pytest.approx([1, 0, 0], abs=1e-15)
    near = torch.tensor(1 - 1e-9, dtype=F64, requires_grad=True)
    derivative: Tensor = envelope(near)
    for _ in range(order):
        (derivative,) = torch.autograd.grad(derivative, near, create_graph=True)
        assert abs(float(derivative.detach())) < 1e-6


def test_physical_readouts_by_hand() -> None:
    charges = torch.tensor([[1.0], [-0.5], [-0.5], [2.0]], dtype=F64)
    x = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [5, 5, 5]], dtype=F64)
    z, batch = torch.tensor([8, 1, 1, 6]), torch.tensor([0, 0, 0, 1])
    dipole = pooled(charges, batch, 2, "dipole", x, z)
    assert dipole[:, 0].tolist() == pytest.approx([1.25**0.5, 0.0], abs=1e-5)
    shifted = pooled(charges + 3, batch, 2, "dipole", x + 7, z)  # a neutral molecule's has no origin
    assert torch.allclose(shifted, dipole, atol=1e-9)
    centre = torch.tensor([0.1, 0.2, 0.0], dtype=F64)  # of the charges 8, 1, 1
    expected = float((charges[:3, 0] * (x[:3] - centre).square().sum(1)).sum())
    assert pooled(charges, batch, 2, "extent", x, z)[:, 0].tolist() == pytest.approx([expected, 0.0])
    with pytest.raises(ValueError, match="needs the positions"):
        pooled(charges, batch, 2, "dipole")
    x.requires_grad_()
    (g,) = torch.autograd.grad(pooled(0 * charges, batch, 2, "dipole", x, z).sum(), x)
    assert torch.isfinite(g).all()


def test_smooth_as_an_atom_crosses_the_cutoff() -> None:
    """Value and slope agree on both sides: where the edge is there, and where it is not."""
    model = net()
    z = torch.tensor([6, 8, 1])

    def at(r: float) -> tuple[float, float, int]:
        x = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [0, r, 0]], dtype=F64, requires_grad=True)
        y = value(model, x, z)[0, 0]
        (g,) = torch.autograd.grad(y, x)
        return float(y.detach()), float(g[2, 1]), model.neighbors(x.detach()).edge_index.shape[1]

    h = 1e-6
    inside, outside = at(3.0 - h), at(3.0 + h)
    assert inside[2] == outside[2] + 2
    assert abs(inside[0] - outside[0]) < 1e-10 and abs(inside[1] - outside[1]) < 1e-9


def test_coincident_atoms_have_a_finite_gradient() -> None:
    x = torch.zeros(2, 3, dtype=F64, requires_grad=True)
    y = value(net(), x, torch.tensor([6, 6])).sum()
    (g,) = torch.autograd.grad(y, x)
    assert torch.isfinite(y) and torch.equal(g, torch.zeros_like(g))


def test_gradgradcheck() -> None:
    model, (x, z) = net(), cloud(4)
    graph = model.neighbors(x)
    batch = torch.zeros(4, dtype=torch.int64)
    x.requires_grad_()

    def f(p: Tensor) -> Tensor:
        return model(p, z, batch, graph, 1)

    assert torch.autograd.gradcheck(f, (x,), atol=1e-6)
    assert torch.autograd.gradgradcheck(f, (x,), atol=1e-5)


def test_weights_get_a_gradient_through_the_forces() -> None:
    model, (x, z) = net(), cloud(6)
    x.requires_grad_()
    (g,) = torch.autograd.grad(value(model, x, z)[0, 0], x, create_graph=True)
    g.square().sum().backward()
    weights = {n: p for n, p in model.named_parameters() if "bias" not in n and "head.2" not in n}
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in weights.values())


def test_compiles_whole() -> None:
    model, (x, z) = net(), cloud(6)
    batch, graph = torch.zeros(6, dtype=torch.int64), model.neighbors(x)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(x, z, batch, graph, 1), model(x, z, batch, graph, 1))
    exported = torch.export.export(model, (x, z, batch, graph, 1))
    assert torch.allclose(exported.module()(x, z, batch, graph, 1), model(x, z, batch, graph, 1))


def test_graphs_part_and_join() -> None:
    x, _ = cloud(12)
    counts = torch.tensor([4, 1, 7])
    batch = torch.repeat_interleave(torch.arange(3), counts)
    graph = molecule_graph(x, 2.0, batch)
    parts = split_graph(graph, counts)
    assert [p.edge_index.dtype for p in parts] == [torch.int16] * 3
    assert torch.equal(join_graphs(parts, counts).edge_index, graph.edge_index)
    again = join_graphs([parts[2], parts[0]], torch.tensor([7, 4]))
    assert torch.equal(again.edge_index[:, : parts[2].edge_index.shape[1]], parts[2].edge_index.long())
    offset = torch.ones(parts[0].edge_index.shape[1], 3)
    mixed = join_graphs([parts[2], MoleculeGraph(parts[0].edge_index, offset)], torch.tensor([7, 4]))
    assert mixed.offset is not None and mixed.offset[-len(offset) :].eq(1).all()
    assert mixed.offset[: -len(offset)].eq(0).all()


def supercell(repeats: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two atoms in a triclinic cell, repeated along all axes."""
    cell = torch.tensor([[2.6, 0.0, 0.0], [0.5, 2.8, 0.0], [0.3, -0.4, 3.1]], dtype=F64)
    steps = torch.cartesian_prod(*[torch.arange(repeats, dtype=F64)] * 3).reshape(-1, 3) @ cell
    basis = torch.tensor([[0.1, 0.2, 0.3], [1.4, 1.2, 1.9]], dtype=F64)
    x = (steps[:, None] + basis).reshape(-1, 3)
    return x, torch.tensor([6, 8]).repeat(len(steps)), repeats * cell


def test_periodic_images() -> None:
    """A crystal is the same in any multiple of its cell, wherever its atoms are wrapped to."""
    model, pbc = net(), torch.tensor([True, True, True])
    x, z, cell = supercell(1)
    y = value(model, x, z, cell=cell, pbc=pbc)
    xx, zz, big = supercell(2)
    assert torch.allclose(value(model, xx, zz, cell=big, pbc=pbc), 8 * y, rtol=1e-10)
    wrapped = x + torch.tensor([[0.0, 0, 0], [1, -2, 1]], dtype=F64) @ cell
    assert torch.allclose(value(model, wrapped, z, cell=cell, pbc=pbc), y, rtol=1e-10)
    none = value(model, x, z, cell=cell, pbc=torch.tensor([False] * 3))
    assert torch.allclose(none, value(model, x, z)) and float((none - y).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0.0}, "cutoff is 0.0"),
        ({"envelope": "step"}, "envelope is 'step'"),
        ({"readout": "max"}, "readout is 'max'; expected one of 'sum'"),
        ({"width": 1}, "width is 1; expected at least 2"),
        ({"colour": 1}, "takes no option 'colour'"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(**options)


def test_float32_error() -> None:
    model, (x, z) = net(), cloud()
    y = value(model, x, z).detach()
    single = model.float()
    for turn in random_rotations(3, generator=torch.Generator().manual_seed(1)):
        moved = (x @ turn.double().T).float()
        assert float((value(single, moved, z).detach().double() - y).norm() / y.norm()) < 1e-5


@pytest.mark.parametrize("readout", READOUTS)
def test_readouts_of_many_atoms_in_low_precision(readout: str) -> None:
    """A sum of ones in bfloat16 ends at 256."""
    draw = torch.Generator().manual_seed(0)
    values, positions = torch.rand(1000, 2, generator=draw), torch.randn(1000, 3, generator=draw)
    batch, numbers = torch.zeros(1000, dtype=torch.int64), torch.ones(1000, dtype=torch.int64)
    low = values.bfloat16(), positions.bfloat16()
    found = pooled(low[0], batch, 1, readout, low[1], numbers)
    assert torch.allclose(
        found, pooled(low[0].float(), batch, 1, readout, low[1].float(), numbers), rtol=1e-3
    )
