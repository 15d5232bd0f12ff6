"""Molecules on spheres: potentials beside sampled ones, what motions change, smoothness, batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ase.data import covalent_radii
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.grids import GaussLegendre
from spheregeo.models.molecules.atom_spheres import AtomSpheres
from spheregeo.models.molecules.sphere_molecule import SphereMolecule
from spheregeo.models.space.molecule_graph import molecule_graph
from spheregeo.sampling import random_rotations
from spheregeo.spectral import SHT

F64 = torch.float64


def cloud(count: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack(torch.meshgrid(*[torch.arange(3.0, dtype=F64)] * 3, indexing="ij"), -1).reshape(
        -1, 3
    )[:count]
    positions = 1.4 * places + 0.15 * torch.randn(count, 3, dtype=F64, generator=generator)
    return positions, torch.tensor([1, 6, 8, 1, 14, 7, 6, 1, 16, 1])[:count]


def net(**options: Any) -> SphereMolecule:
    torch.manual_seed(0)
    made = (
        SphereMolecule(20, 2, **{"width": 4, "hidden": 8, "lmax": 4, "cutoff": 4.0, **options})
        .double()
        .eval()
    )
    randomise(made, torch.Generator().manual_seed(1))
    return made


def value(model: SphereMolecule, positions: Tensor, numbers: Tensor) -> Tensor:
    batch = torch.zeros(len(numbers), dtype=torch.int64)
    result: Tensor = model(positions, numbers, batch, model.neighbors(positions), 1)
    return result


@pytest.mark.parametrize("power", [1.0, 2.0, 6.0])
def test_coefficients_are_those_of_sampled_potentials(power: float) -> None:
    """Slow twin: |x − r_j|^(−p) at the points of a fine grid on the sphere, its transform, and the ratio of each degree."""
    lmax, radius = 5, 0.4
    x, z = cloud(4)
    spheres = AtomSpheres(
        20, (1, 6), lmax, radius, (power,), cutoff=1e4
    ).double()  # so far away it has no effect
    found = spheres(x, z, molecule_graph(x, 1e4))
    grid = GaussLegendre(48, 96)
    transform = SHT(grid, lmax)
    sizes = 2 * torch.arange(lmax + 1) + 1

    def coefficients(vector: Tensor) -> Tensor:
        return transform((((radius * grid.points - vector) ** 2).sum(1) ** (-power / 2)).reshape(grid.shape))

    for i in range(4):
        expected = torch.zeros(3, (lmax + 1) ** 2, dtype=F64)
        for j in range(4):
            if i == j:
                continue
            bond = float(covalent_radii[z[i]] + covalent_radii[z[j]])
            pole = coefficients(torch.tensor([0.0, 0.0, bond], dtype=F64))[
                torch.arange(lmax + 1) ** 2 + torch.arange(lmax + 1)
            ]
            # of an atom over the pole, degree l has 4π h_l S_l0(pole)
            unit = (pole * (4 * torch.pi / sizes.double()).sqrt()).repeat_interleave(sizes)
            channel = {1: 0, 6: 1}.get(int(z[j]), 2)
            charge = float(z[j]) / 6 if channel == 2 else 1.0
            expected[channel] += charge * coefficients(x[j] - x[i]) / unit
        torch.testing.assert_close(found[i], expected, rtol=1e-9, atol=1e-9)


def test_translations_and_order_change_nothing_and_rotations_little() -> None:
    x, z = cloud()
    model = net()
    y = value(model, x, z)
    torch.testing.assert_close(value(model, x + torch.tensor([1.0, -2, 3]), z), y, rtol=1e-11, atol=1e-11)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(value(model, x[order], z[order]), y, rtol=1e-11, atol=1e-11)
    stretched = float((value(model, 1.05 * x, z) - y).detach().abs().max())
    errors = []
    for oversampling in (1, 2, 4):
        model = net(oversampling=oversampling)
        y = value(model, x, z)
        worst = 0.0
        for turn in random_rotations(3, generator=torch.Generator().manual_seed(0)):
            for sign in (1, -1):
                worst = max(
                    worst, float((value(model, sign * x @ turn.double().T, z) - y).detach().abs().max())
                )
        errors.append(worst)
    assert errors[0] < 0.3 * stretched and errors[1] < errors[0] / 2 and errors[2] < errors[1] / 2, (
        errors,
        stretched,
    )


def test_without_thresholds_and_absolute_values_rotations_change_nothing() -> None:
    """What is left is exact: the potentials, the convolutions and the means of squares."""
    x, z = cloud()
    model: Any = net()
    for shrinkage in model.shrinkages:
        torch.nn.init.zeros_(shrinkage.weight)
    turn = random_rotations(1, generator=torch.Generator().manual_seed(0))[0].double()
    fields = [model.spheres(p, z, molecule_graph(p, 4.0)) for p in (x, x @ turn.T)]
    means = []
    for c in fields:
        bands = model.shrinkages[0](model.convs[0](c))
        again = model.convs[1](model.frame.reconstruct(bands))
        means.append([b.square().flatten(2) @ model.frame.areas(j, b).flatten() for j, b in enumerate(again)])
    for a, b in zip(*means):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


def test_a_molecule_does_not_depend_on_its_batch() -> None:
    model = net()
    parts = [cloud(5, 1), cloud(1, 2), cloud(9, 3)]
    x, z = (torch.cat(p) for p in zip(*parts))
    batch = torch.arange(3).repeat_interleave(torch.tensor([5, 1, 9]))
    together = model(x, z, batch, model.neighbors(x, batch), 3)
    torch.testing.assert_close(together, torch.cat([value(model, *p) for p in parts]), rtol=1e-11, atol=1e-11)


def test_it_is_smooth_in_the_positions_also_at_the_cutoff() -> None:
    model = net(cutoff=2.5, width=2, lmax=2, depth=1)
    x, z = cloud(4)
    assert torch.autograd.gradcheck(lambda p: value(model, p, z), (x.requires_grad_(),))
    pair, numbers = torch.zeros(2, 3, dtype=F64), torch.tensor([6, 8])
    values = []
    for distance in (2.5 - 1e-4, 2.5 + 1e-4):
        pair[1, 0] = distance
        values.append(value(model, pair, numbers))
    assert float((values[0] - values[1]).detach().abs().max()) < 1e-8


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="radius is 0"):
        AtomSpheres(20, radius=0.0)
    with pytest.raises(ValueError, match="powers"):
        AtomSpheres(20, powers=())
    with pytest.raises(ValueError, match="threshold is 'hard'"):
        net(threshold="hard")
