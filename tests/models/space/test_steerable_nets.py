"""The default networks for molecules and clouds: invariance, company, borders of the cutoff, degenerate input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spheregeo import models
from spheregeo.audit import randomise
from spheregeo.models import MoleculeGraph
from spheregeo.models.points.steerable_points import _mean
from spheregeo.sampling import random_rotations

SIZES = (7, 1, 12)
OPTIONS: dict[str, dict[str, Any]] = {
    "steerable-molecule": {"width": 8, "depth": 2, "lmax": 2, "cutoff": 3.0, "edge_dim": 4, "hidden": 8},
    "steerable-points": {
        "width": 8, "counts": (6, 3), "radii": (1.5, 3.0), "k": 4, "lmax": 2, "edge_dim": 4, "hidden": 8,
    },
}  # fmt: skip


class Batch:
    """Three molecules or clouds, one of them a single point."""

    def __init__(self, name: str) -> None:
        draw = torch.Generator().manual_seed(2)
        self.name = name
        self.p = 1.3 * torch.randn(sum(SIZES), 3, generator=draw, dtype=torch.float64)
        self.batch = torch.arange(3).repeat_interleave(torch.tensor(SIZES))
        self.numbers = torch.randint(1, 9, (sum(SIZES),), generator=draw)
        in_channels = 10 if name == "steerable-molecule" else 0
        self.model: Any = randomise(
            models.create(name, in_channels, 3, None, **OPTIONS[name]).double()
        ).eval()

    def run(self, p: Tensor, batch: Tensor, numbers: Tensor | None = None) -> Tensor:
        numbers = self.numbers if numbers is None else numbers
        features = numbers if self.name == "steerable-molecule" else None
        y: Tensor = self.model(p, features, batch, self.model.neighbors(p, batch))
        return y


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    assert float((a - b).detach().abs().max()) <= tolerance * float(b.detach().abs().max())


@pytest.mark.parametrize("name", OPTIONS)
def test_motions_change_nothing(name: str) -> None:
    case = Batch(name)
    y = case.run(case.p, case.batch)
    assert y.shape == (3, 3) and float(y.detach().std(0).min()) > 1e-3
    for r in random_rotations(3):
        for sign in (1, -1):
            moved = sign * case.p @ r.T + torch.tensor([4.0, -1.0, 2.0])
            close(case.run(moved, case.batch), y, 1e-9)


@pytest.mark.parametrize("name", OPTIONS)
def test_single_precision(name: str) -> None:
    case = Batch(name)
    y = case.run(case.p, case.batch)
    graph = case.model.neighbors(case.p, case.batch)
    features = case.numbers if name == "steerable-molecule" else None
    close(case.model.float()(case.p.float(), features, case.batch, graph).double(), y, 1e-3)


@pytest.mark.parametrize("name", OPTIONS)
def test_company_and_order_change_nothing(name: str) -> None:
    case = Batch(name)
    y = case.run(case.p, case.batch)
    for k, (p, z) in enumerate(zip(case.p.split(SIZES), case.numbers.split(SIZES), strict=True)):
        alone = case.run(p, torch.zeros(len(p), dtype=torch.int64), z)
        close(alone[0], y[k], 1e-10)
        order = torch.randperm(len(p))
        mixed = case.run(p[order], torch.zeros(len(p), dtype=torch.int64), z[order])
        close(mixed[0], y[k], 1e-10)


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_of_gradients(name: str) -> None:
    case = Batch(name)
    p = case.p.requires_grad_()
    graph = case.model.neighbors(p, case.batch)
    features = case.numbers if name == "steerable-molecule" else None
    run = lambda p: case.model(p, features, case.batch, graph).sum()  # noqa: E731
    assert torch.autograd.gradcheck(run, p, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, p, fast_mode=True)


@pytest.mark.parametrize("name", OPTIONS)
def test_points_in_one_place_are_finite(name: str) -> None:
    case = Batch(name)
    p = torch.zeros_like(case.p).requires_grad_()
    y = case.run(p, case.batch)
    (gradient,) = torch.autograd.grad(y.sum(), p)
    assert bool(torch.isfinite(y).all()) and bool(torch.isfinite(gradient).all())


def test_output_is_smooth_where_an_atom_leaves() -> None:
    """No jump of value, force or the force's derivative at the cutoff."""
    case = Batch("steerable-molecule")
    numbers, batch = torch.tensor([6, 8, 1]), torch.zeros(3, dtype=torch.int64)

    def at(distance: float) -> list[Tensor]:
        x = torch.tensor(
            [0.3, 0.0, 0.0, 0.0, 1.0, 0.0, distance, 0.0, 0.0], dtype=torch.float64
        ).requires_grad_()
        y = case.run(x.view(3, 3), batch, numbers)
        (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first[6], x)
        return [y, first, second]

    for inside, outside, usual in zip(at(3.3 - 1e-5), at(3.3 + 1e-5), at(2.7), strict=True):
        assert float((inside - outside).detach().abs().max()) < 1e-3 * float(usual.detach().abs().max())
    value, *_ = at(3.3 - 1e-7)
    assert float((value - at(3.3 + 1e-7)[0]).detach().abs().max()) < 1e-10


def test_parts_far_apart_add_up() -> None:
    case = Batch("steerable-molecule")
    p, z = case.p[:7], case.numbers[:7]
    far = torch.cat([p, case.p[8:] + 100.0])
    together = case.run(far, torch.zeros(19, dtype=torch.int64), torch.cat([z, case.numbers[8:]]))
    y = case.run(case.p, case.batch)
    close(together[0], y[0] + y[2], 1e-10)


def test_periodic_images_are_neighbours() -> None:
    """A cell repeated twice has twice the output for each cell."""
    case = Batch("steerable-molecule")
    cell = torch.tensor([[2.9, 0.0, 0.0], [0.4, 3.1, 0.0], [-0.3, 0.2, 3.3]], dtype=torch.float64)
    p, z = case.p[:4], case.numbers[:4]

    def run(p: Tensor, z: Tensor, cell: Tensor) -> Tensor:
        batch = torch.zeros(len(p), dtype=torch.int64)
        graph = case.model.neighbors(p, batch, cell[None], torch.ones(1, 3, dtype=torch.bool))
        assert isinstance(graph, MoleculeGraph) and graph.offset is not None
        y: Tensor = case.model(p, z, batch, graph)
        return y

    double = run(torch.cat([p, p + cell[0]]), torch.cat([z, z]), cell * torch.tensor([[2.0], [1.0], [1.0]]))
    close(double, 2 * run(p, z, cell), 1e-9)


def test_normals_turn_with_the_cloud() -> None:
    case = Batch("steerable-points")
    model: Any = models.create(
        "steerable-points", 5, 3, None, feature_irreps="1x1o + 2x0e", **OPTIONS["steerable-points"]
    ).double()
    randomise(model)
    normals, scalars = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, 2, dtype=torch.float64)

    def run(p: Tensor, n: Tensor) -> Tensor:
        y: Tensor = model.eval()(p, torch.cat([n, scalars], 1), case.batch, model.neighbors(p, case.batch))
        return y

    y = run(case.p, normals)
    r = -random_rotations(1)[0]
    close(run(case.p @ r.T, normals @ r.T), y, 1e-9)
    assert float((run(case.p @ r.T, normals) - y).detach().abs().max()) > 1e-3 * float(y.detach().abs().max())


def test_construction_takes_no_time() -> None:
    import time

    for name, channels in (("steerable-molecule", 119), ("steerable-points", 0)):
        models.create(name, channels, 1, None)  # tables are kept from here on
        start = time.process_time()
        models.create(name, channels, 1, None)
        assert time.process_time() - start < 0.5


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="width is 3"):
        models.create("steerable-molecule", 10, 1, None, width=3)
    with pytest.raises(ValueError, match="readout is 'max'"):
        models.create("steerable-molecule", 10, 1, None, readout="max")
    with pytest.raises(ValueError, match="cutoff is 0"):
        models.create("steerable-molecule", 10, 1, None, cutoff=0)
    with pytest.raises(ValueError, match="counts is"):
        models.create("steerable-points", 0, 1, None, counts=(5, 3), radii=(1.0,))
    with pytest.raises(ValueError, match="feature_irreps is 1x1o with 3 numbers"):
        models.create("steerable-points", 2, 1, None, feature_irreps="1x1o")
    case = Batch("steerable-points")
    with pytest.raises(ValueError, match="features have 2 columns; expected 0"):
        case.model(case.p, case.p[:, :2], case.batch, case.model.neighbors(case.p, case.batch))
    with pytest.raises(ValueError, match="a cloud of points has no periods"):
        case.model.neighbors(case.p, case.batch, torch.eye(3))


def test_means_over_clouds_in_low_precision() -> None:
    x, batch = torch.full((1500, 2), 0.5, dtype=torch.bfloat16), torch.zeros(1500, dtype=torch.int64)
    assert torch.equal(_mean(x, batch, 1), torch.full((1, 2), 0.5, dtype=torch.bfloat16))
