"""Finite rotation groups: sizes, axioms, axes, and the solids they preserve."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from spheregeo.groups import (
    axis_angle,
    closure,
    cyclic,
    dihedral,
    icosahedral,
    multiplication_table,
    octahedral,
    tetrahedral,
)

GROUPS = {
    "C1": (cyclic(1), 1), "C5": (cyclic(5), 5), "C12": (cyclic(12), 12), "D1": (dihedral(1), 2), "D4": (dihedral(4), 8),
    "D6": (dihedral(6), 12), "T": (tetrahedral(), 12), "O": (octahedral(), 24), "I": (icosahedral(), 60),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_group_axioms(name: str) -> None:
    group, order = GROUPS[name]
    assert group.shape == (order, 3, 3) and group.dtype == torch.float64
    assert torch.equal(group[0], torch.eye(3, dtype=torch.float64))
    assert (group @ group.mT - torch.eye(3)).abs().max() < 2e-15
    assert (torch.linalg.det(group) - 1).abs().max() < 2e-15
    table = multiplication_table(group)
    everything = torch.arange(order)
    # a Latin square: every element once in each row and column, so inverses exist
    for line in (table, table.T):
        assert torch.equal(line.sort(1).values, everything.expand(order, order))
    products = group[:, None] @ group[None]
    assert (products - group[table]).abs().max() < 4e-15


# numbers of elements of each order: Klein 1884
@pytest.mark.parametrize(
    ("name", "orders"),
    [
        ("D4", {1: 1, 2: 5, 4: 2}),
        ("T", {1: 1, 2: 3, 3: 8}),
        ("O", {1: 1, 2: 9, 3: 8, 4: 6}),
        ("I", {1: 1, 2: 15, 3: 20, 5: 24}),
    ],
)
def test_element_orders(name: str, orders: dict[int, int]) -> None:
    group, _ = GROUPS[name]
    found = Counter()
    for rotation in group:
        power, n = rotation, 1
        while (power - torch.eye(3)).abs().max() > 1e-9:
            power, n = power @ rotation, n + 1
        found[n] += 1
    assert dict(found) == orders


def same_set(a: torch.Tensor, b: torch.Tensor) -> bool:
    return len(a) == len(b) and bool(((a[:, None] - b[None]).norm(dim=-1) < 1e-12).any(1).all())


def test_solids_are_preserved() -> None:
    tetrahedron = torch.tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    octahedron = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    latitude, k = math.atan(0.5), torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
    c, s = math.cos(latitude), math.sin(latitude)
    upper = torch.stack([c * k.cos(), c * k.sin(), torch.full_like(k, s)], -1)
    pole = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    icosahedron = torch.cat([pole, upper, -upper, -pole])
    for name, solid in (("T", tetrahedron), ("O", octahedron), ("I", icosahedron)):
        for rotation in GROUPS[name][0]:
            assert same_set(solid, solid @ rotation.T)


def test_cyclic_and_dihedral_elements_are_as_documented() -> None:
    group = dihedral(5)
    for k in range(5):
        turn = axis_angle((0, 0, 1), 2 * math.pi * k / 5)
        assert (group[k] - turn).abs().max() < 1e-15
        assert (group[5 + k] - turn @ axis_angle((1, 0, 0), math.pi)).abs().max() < 1e-15
    assert torch.equal(cyclic(4).round(), cyclic(4)), "quarter turns should have no rounding at all"


def test_errors() -> None:
    with pytest.raises(ValueError, match="n is 0"):
        cyclic(0)
    with pytest.raises(ValueError, match="no small finite group"):
        closure(axis_angle((0, 0, 1), 1.0)[None], largest=50)
    with pytest.raises(ValueError, match="not closed"):
        multiplication_table(octahedral()[:5])
