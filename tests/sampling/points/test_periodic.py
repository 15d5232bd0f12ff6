"""Periodic neighbours equal those of explicitly repeated cells and ASE's, for any cell, flags and cutoff."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spheregeo.sampling import periodic_radius_graph, radius_graph, random_rotations

FLAGS = [(True, True, True), (True, False, True), (False, False, True), (False, False, False)]


def offsets(x: Tensor, edges: Tensor, shift: Tensor, cell: Tensor) -> Tensor:
    return x[edges[0]] + shift.to(x.dtype) @ cell - x[edges[1]]


def repeated(
    x: Tensor, cutoff: float, cell: Tensor, flags: tuple[bool, ...], reach: int
) -> list[tuple[int, ...]]:
    """(target, source, shift) in the order of (target, distance, source, shift), from all cells up to ``reach`` away."""
    ranges = [torch.arange(-reach if f else 0, (reach if f else 0) + 1) for f in flags]
    shifts = torch.cartesian_prod(*ranges)
    found = []
    for t in range(len(x)):
        distance = (x[:, None] + (shifts.to(x.dtype) @ cell)[None] - x[t]).norm(dim=2)
        source, image = (distance <= cutoff).nonzero(as_tuple=True)
        for s, i in zip(source.tolist(), image.tolist()):
            if s != t or shifts[i].any():
                found.append((t, round(float(distance[s, i]), 8), s, *shifts[i].tolist()))
    return [(t, s, *rest) for t, _, s, *rest in sorted(found)]


def listed(edges: Tensor, shift: Tensor) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([edges.flip(0).T, shift], 1).tolist()]


def skewed(scale: float) -> Tensor:
    return scale * (torch.eye(3, dtype=torch.float64) + 0.35 * torch.randn(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize(
    ("count", "scale", "cutoff"), [(1, 1.0, 2.2), (3, 1.3, 1.9), (12, 4.0, 3.0), (40, 9.0, 3.0)]
)
def test_equal_to_repeated_cells(
    engine: str, flags: tuple[bool, ...], count: int, scale: float, cutoff: float
) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        cell = skewed(scale)
        x = torch.rand(count, 3, dtype=torch.float64) @ cell
        heights = 1 / torch.linalg.inv(cell).norm(dim=0)
        reach = int((cutoff / heights).ceil().max()) + 1
        if reach > 15:
            continue
        if flags == FLAGS[0]:
            x = x + torch.randint(-2, 3, (count, 3)).double() @ cell  # not wrapped
            reach += 4
        found = listed(*periodic_radius_graph(x, cutoff, cell, flags))
        assert found == repeated(x, cutoff, cell, flags, reach)
        assert found or flags != FLAGS[0] or count != 1


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize(("count", "scale", "cutoff"), [(1, 1.0, 3.3), (5, 2.0, 4.5), (60, 9.0, 3.5)])
def test_equal_to_ase(flags: tuple[bool, ...], count: int, scale: float, cutoff: float) -> None:
    ase = pytest.importorskip("ase")
    neighborlist = pytest.importorskip("ase.neighborlist")
    for _ in range(3):
        cell = skewed(scale)
        x = 2 * scale * torch.randn(count, 3, dtype=torch.float64)
        atoms = ase.Atoms(f"H{count}", positions=x.numpy(), cell=cell.numpy(), pbc=flags)
        i, j, shift = neighborlist.neighbor_list("ijS", atoms, cutoff)
        expected = {(int(a), int(b), *s.tolist()) for a, b, s in zip(i, j, shift)}
        found = listed(*periodic_radius_graph(x, cutoff, cell, flags))
        assert len(found) == len(expected) and set(found) == expected


def test_vectors_have_the_stated_sign_and_length(engine: str) -> None:
    x, cell = 5 * torch.rand(20, 3, dtype=torch.float64), skewed(5.0)
    edges, shift = periodic_radius_graph(x, 4.0, cell)
    length = offsets(x, edges, shift, cell).norm(dim=1)
    assert 0 < length.min() and length.max() <= 4.0
    assert (length.diff()[edges[1].diff() == 0] >= 0).all()
    there = {(a, b, *s) for (a, b), s in zip(edges.T.tolist(), shift.tolist())}
    assert there == {(b, a, *(-x for x in s)) for a, b, *s in there}  # each edge has its reverse


def test_one_cell_a_graph(engine: str) -> None:
    sizes = [4, 1, 0, 9]
    batch = torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))
    cells = torch.stack([skewed(s) for s in (3.0, 1.2, 5.0, 4.0)])
    flags = torch.tensor([[True] * 3, [True, False, True], [True] * 3, [False] * 3])
    x = 4 * torch.rand(14, 3, dtype=torch.float64)
    edges, shift = periodic_radius_graph(x, 2.5, cells, flags, batch)
    expected, start = [], 0
    for n, cell, flag in zip(sizes, cells, flags):
        e, s = periodic_radius_graph(x[start : start + n], 2.5, cell, flag)
        expected += [(a + start, b + start, *rest) for a, b, *rest in listed(e, s)]
        start += n
    assert listed(edges, shift) == expected and len(expected) > 50


def test_without_period_it_is_the_radius_graph(engine: str, cloud: Tensor) -> None:
    batch = torch.arange(len(cloud)) // 50
    for options in ({}, {"loop": True}, {"max_neighbors": 5}, {"max_neighbors": 5, "ties": "all"}):
        edges, shift = periodic_radius_graph(cloud, 0.5, torch.zeros(3, 3), False, batch, **options)  # type: ignore[arg-type]
        assert not shift.any()
        plain = radius_graph(cloud, 0.5, batch, **options)  # type: ignore[arg-type]
        assert torch.equal(edges, plain) or cloud.unique(dim=0).shape[0] == 1


# number of neighbours up to and including each shell's distance, in units of the cubic edge
CRYSTALS = {
    "simple cubic": ([[0, 0, 0]], {1.0: 6, math.sqrt(2): 18, math.sqrt(3): 26, 2.0: 32}),
    "body-centred": ([[0, 0, 0], [0.5, 0.5, 0.5]], {math.sqrt(3) / 2: 8, 1.0: 14, math.sqrt(2): 26}),
    "face-centred": (
        [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
        {math.sqrt(0.5): 12, 1.0: 18, math.sqrt(1.5): 42},
    ),
}


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shells_of_crystals_in_any_orientation(engine: str, name: str, dtype: torch.dtype) -> None:
    basis, shells = CRYSTALS[name]
    edge = 3.61
    x = edge * torch.tensor(basis, dtype=torch.float64)
    first = None
    for rotation in random_rotations(8):
        cell = (edge * rotation.T).to(dtype)
        y = (x @ rotation.T + torch.randn(3, dtype=torch.float64)).to(dtype)
        for shell, count in shells.items():
            edges, _ = periodic_radius_graph(y, edge * shell, cell)
            assert torch.equal(torch.bincount(edges[1]), torch.full((len(x),), count))
        capped = listed(*periodic_radius_graph(y, 2 * edge, cell, max_neighbors=9))
        first = first or capped
        assert capped == first
        every, _ = periodic_radius_graph(y, 2 * edge, cell, max_neighbors=min(shells.values()), ties="all")
        assert torch.equal(torch.bincount(every[1]), torch.full((len(x),), min(shells.values())))


def test_wrapping_and_other_cells_of_one_lattice_change_nothing(engine: str) -> None:
    cell = skewed(3.0)
    x = torch.rand(7, 3, dtype=torch.float64) @ cell
    edges, shift = periodic_radius_graph(x, 3.2, cell)
    moved = torch.randint(-3, 4, (7, 3))
    edges_moved, shift_moved = periodic_radius_graph(x + moved.double() @ cell, 3.2, cell)
    assert torch.equal(edges_moved, edges)
    assert torch.equal(shift_moved, shift - moved[edges[0]] + moved[edges[1]])
    turn = torch.tensor([[1, 1, 0], [0, 1, -1], [0, 0, 1]])  # another basis of the lattice
    other = turn.double() @ cell
    edges_other, shift_other = periodic_radius_graph(x, 3.2, other)
    assert torch.equal(edges_other, edges)
    assert torch.equal(shift_other @ turn, shift)


def test_loops(engine: str) -> None:
    x, cell = torch.tensor([[0.2, 0.0, 0.0]]), torch.eye(3)
    edges, shift = periodic_radius_graph(x, 1.0, cell, loop=True)
    assert edges.tolist() == [[0] * 7, [0] * 7]
    assert shift[0].tolist() == [0, 0, 0]
    assert periodic_radius_graph(x, 1.0, cell)[1].abs().sum(1).tolist() == [1] * 6
    assert periodic_radius_graph(x, 0.9, cell)[0].shape == (2, 0)


def test_no_points(engine: str) -> None:
    for cell in (torch.eye(3), torch.eye(3).expand(2, 3, 3)):
        edges, shift = periodic_radius_graph(torch.zeros(0, 3), 1.0, cell)
        assert edges.shape == (2, 0) and shift.shape == (0, 3) and shift.dtype == torch.int64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, c: periodic_radius_graph(x, math.inf, c), "cutoff is inf; expected a finite length"),
        (lambda x, c: periodic_radius_graph(x, 0, c), "cutoff is 0"),
        (lambda x, c: periodic_radius_graph(x * math.nan, 1.0, c), "finite coordinates"),
        (lambda x, c: periodic_radius_graph(x, 1.0, c * 0), r"cell\[0\] is singular"),
        (lambda x, c: periodic_radius_graph(x, 1.0, torch.ones(3, 3)), "singular along its periodic axes"),
        (lambda x, c: periodic_radius_graph(x, 1.0, c * math.nan), "cell is not finite"),
        (lambda x, c: periodic_radius_graph(x, 1.0, c[0]), r"cell has shape \(3,\)"),
        (lambda x, c: periodic_radius_graph(x, 1.0, c.long()), "cell is of torch.int64"),
        (
            lambda x, c: periodic_radius_graph(x, 1.0, c[None], True, torch.tensor([0, 0, 1, 1])),
            "has 1 cells",
        ),
        (lambda x, c: periodic_radius_graph(x, 1.0, c, (True, False)), r"pbc has shape \(2,\)"),
        (lambda x, c: periodic_radius_graph(x, 1.0, c, torch.ones(3)), "torch.float32; expected flags"),
        (lambda x, c: periodic_radius_graph(x, 1.0, c * 1e-4), "periodic images"),
    ],
)
def test_errors(call: Callable[[Tensor, Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.rand(4, 3), torch.eye(3))


def test_a_singular_cell_is_named() -> None:
    cells = torch.stack([torch.eye(3), torch.tensor([[1.0, 0, 0], [2.0, 0, 0], [0, 0, 1.0]])])
    flags = torch.tensor([[True] * 3, [True, False, True]])
    batch = torch.tensor([0, 0, 1])
    periodic_radius_graph(torch.rand(3, 3), 1.0, cells, flags, batch)  # the second vector is not used
    with pytest.raises(ValueError, match=r"cell\[1\] is singular"):
        periodic_radius_graph(torch.rand(3, 3), 1.0, cells, True, batch)
