"""Planar groups and their fields: the axioms, and that what acts on channels and pixels is an action."""

from __future__ import annotations

import pytest
import torch

from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.groups.planar import cosets

GROUPS = ["C1", "C2", "C4", "C6", "C8", "D1", "D2", "D3", "D4", "D8"]
EXACT = [name for name in GROUPS if PlanarGroup.of(name).is_exact]


@pytest.mark.parametrize("name", GROUPS)
def test_axioms(name: str) -> None:
    group = PlanarGroup.of(name)
    table, every = group.table, torch.arange(group.size)
    assert str(group) == name and PlanarGroup.of(group) == eval(repr(group))
    assert torch.equal(table[0], every) and torch.equal(table[:, 0], every)
    assert torch.equal(table[table], table[:, table])  # (a b) c = a (b c)
    assert all(table[a, group.inverse(a)] == 0 == table[group.inverse(a), a] for a in range(group.size))
    assert torch.equal(table.gather(1, group.relative), every.expand_as(table))  # h (h⁻¹ s) = s
    assert (table.sort(0).values == every[:, None]).all()


@pytest.mark.parametrize("name", GROUPS)
def test_matrices_multiply_as_the_table_states(name: str) -> None:
    group = PlanarGroup.of(name)
    matrices = group.matrices
    products = torch.einsum("aij,bjk->abik", matrices, matrices)
    assert (products - matrices[group.table]).abs().max() < 1e-15
    assert len({tuple(m.flatten().round(decimals=9).tolist()) for m in matrices}) == group.size


@pytest.mark.parametrize("name", EXACT)
def test_pixels_move_as_points_do(name: str) -> None:
    """The value of a turned image at p is that of the image at h⁻¹ p, with y upwards."""
    group = PlanarGroup.of(name)
    size = 5
    i, j = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    points = torch.stack([j - 2, 2 - i], -1).double()  # (x, y) of each pixel
    x = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for h, matrix in enumerate(group.matrices):
        back = points @ matrix  # rows h⁻¹ p
        values = x[(2 - back[..., 1]).long(), (back[..., 0] + 2).long()]
        assert torch.equal(group.turn(x, h), values)


@pytest.mark.parametrize(
    "text", ["2xD4 + 1x0 + 1xD4/C2", "1xD4/D1 + 1xD4/D2", "3xC4 + 1xC4/C2", "2xD2", "1xD4/C4"]
)
def test_fields_are_acted_upon(text: str) -> None:
    kind = PlanarType.of(text)
    assert kind.group is not None
    x = torch.randn(kind.dim, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert sum(kind.widths) == kind.dim and len(kind.widths) == kind.num_fields
    for a in range(kind.group.size):
        for b in range(kind.group.size):
            assert torch.equal(kind.act(kind.act(x, b), a), kind.act(x, kind.group.product(a, b)))
    assert torch.equal(kind.act(x, 0), x) and not torch.equal(kind.act(x, 1), x)


def test_cosets() -> None:
    for name in GROUPS:
        group = PlanarGroup.of(name)
        for sub in GROUPS:
            try:
                within = group.subgroup(sub)
            except ValueError:
                continue
            which, moved = cosets(group, sub)
            assert torch.equal(which.bincount(), torch.full((group.size // len(within),), len(within)))
            assert all(which[group.product(s, k)] == which[s] for s in range(group.size) for k in within)
            assert moved.shape == (group.size, group.size // len(within))


def test_text() -> None:
    kind = PlanarType.of("3x0 + 16xD4 + 4xD4/C2")
    assert kind.dim == 3 + 16 * 8 + 4 * 4 and PlanarType.of(str(kind)) == kind == eval(repr(kind))
    assert PlanarType.of("2xC4 + 3xC4/C1") == PlanarType.of("5xC4") and PlanarType.of("3x0").group is None
    x = torch.randn(3, 4, 4)
    assert torch.equal(PlanarType.of("3x0").act(x, 1, "C4"), torch.rot90(x, 1, (-2, -1)))
    for text, message in (
        ("16", "cannot be read"),
        ("0xD4", "cannot be read"),
        ("2xD4 + 1xC4", "fields of C4 and D4"),
        ("2xD4/C3", "C3 is no subgroup of D4"),
        ("2xC4/D1", "D1 is no subgroup of C4"),
    ):
        with pytest.raises(ValueError, match=message):
            PlanarType.of(text)
    with pytest.raises(ValueError, match="expected a name such as 'C8'"):
        PlanarGroup.of("p4m")
    with pytest.raises(ValueError, match="expected n of 1, 2 or 4"):
        PlanarGroup.of("C8").turn(x, 1)
    with pytest.raises(ValueError, match=r"expected \(..., 3, H, W\)"):
        PlanarType.of("3x0").act(x[:2], 1, "C4")
    with pytest.raises(ValueError, match="give group"):
        PlanarType.of("3x0").act(x, 1)
    with pytest.raises(ValueError, match="index below 8"):
        kind.permutation(8)
