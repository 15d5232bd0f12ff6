"""Neighbour search and relative geometry against brute force over all pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from spheregeo.grids import (
    Equiangular,
    Fibonacci,
    GaussLegendre,
    Grid,
    HEALPix,
    Icosahedral,
    Plane,
    Scattered,
)
from spheregeo.groups import random_rotations
from spheregeo.sampling import neighbors
from spheregeo.sampling.neighbors import Neighborhood
from spheregeo.sampling.relation import relation


def scattered(n: int) -> Scattered:
    points = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    return Scattered(points / points.norm(dim=1, keepdim=True))


GRIDS = [
    Equiangular(7, 12),
    Equiangular(6, 9, poles=True),
    GaussLegendre(8, 10),
    HEALPix(2),
    HEALPix(2, order="nested"),
    Icosahedral(1),
    Fibonacci(60),
    scattered(50),
]
IDS = [type(g).__name__ + str(g.num_points) for g in GRIDS]
RADII = [0.35, 1.2, math.pi - 1e-3, math.pi]


def by_hand(source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
    """Distance and polar angle of every source point from every target point: (P, Q)."""
    p, q = target.points[:, None], source.points[None]
    r = 2 * torch.atan2((p - q).norm(dim=-1), (p + q).norm(dim=-1))
    south, east = target.frames.unbind(1)
    return r, torch.atan2(east @ source.points.T, south @ source.points.T)


def same_angle(a: Tensor, b: Tensor, tolerance: float, scale: Tensor | float = 1.0) -> None:
    assert bool(((torch.exp(1j * a) - torch.exp(1j * b)).abs() * scale < tolerance).all())


@pytest.mark.parametrize(
    ("source", "target"), list(itertools.product(GRIDS, GRIDS)), ids=lambda g: type(g).__name__
)
def test_pairs_distances_and_angles(source: Grid, target: Grid) -> None:
    r, phi = by_hand(source, target)
    for radius in RADII:
        near = neighbors(source, target, radius)
        assert torch.equal(near.indptr.diff(), (r <= radius * (1 + 1e-9)).sum(1))
        assert torch.equal(torch.stack([near.rows, near.indices]), (r <= radius * (1 + 1e-9)).nonzero().T)
        expected = r[near.rows, near.indices]
        torch.testing.assert_close(near.distance, expected, rtol=0, atol=1e-14)
        assert float(near.distance.max()) <= radius
        # The shorter the way to the point or its antipode, the more rounding turns its direction.
        same_angle(near.angle, phi[near.rows, near.indices], 1e-14, torch.sin(expected))
        assert torch.all(near.angle[expected < 1e-15] == 0)
        torch.testing.assert_close(
            near.offset, source.points[near.indices] - target.points[near.rows], rtol=0, atol=4e-15
        )


def test_a_row_never_depends_on_the_search() -> None:
    """Ring search (HEALPix ring) and tree search (nested) find the same pairs."""
    ring, nested = HEALPix(4), HEALPix(4, order="nested")
    target = Equiangular(9, 8, poles=True)
    order = torch.cdist(nested.points, ring.points).argmin(1)
    for radius in (0.2, 1.0):
        a, b = neighbors(ring, target, radius), neighbors(nested, target, radius)
        assert torch.equal(a.indptr, b.indptr)
        key = torch.argsort(b.rows * ring.num_points + order[b.indices])
        assert torch.equal(a.indices, order[b.indices][key])
        torch.testing.assert_close(a.distance, b.distance[key], rtol=0, atol=1e-14)


def dense(near: Neighborhood, values: Tensor, size: int) -> Tensor:
    out = torch.full((len(near.indptr) - 1, size), math.nan, dtype=torch.float64)
    out[near.rows, near.indices] = values
    return out


@pytest.mark.parametrize("source", GRIDS, ids=IDS)
def test_transport_there_is_minus_transport_back(source: Grid) -> None:
    target = Fibonacci(40)
    there = dense(neighbors(source, target, 1.5), neighbors(source, target, 1.5).transport, source.num_points)
    back = dense(
        neighbors(target, source, 1.5), neighbors(target, source, 1.5).transport, target.num_points
    ).T
    assert torch.equal(there.isnan(), back.isnan())
    found = ~there.isnan()
    same_angle(there[found], -back[found], 1e-11)
    assert float(there[found].abs().max()) <= math.pi


@pytest.mark.parametrize("grid", GRIDS, ids=IDS)
def test_transport_carries_the_frame_along_the_geodesic(grid: Grid) -> None:
    """R(p x q axis) takes q's frame to p's tangent plane; there it is p's frame turned by the transport angle."""
    near = neighbors(grid, grid, 1.0)
    p, q = grid.points[near.rows], grid.points[near.indices]
    f, e = grid.frames[near.indices], grid.frames[near.rows]
    cosine = (p * q).sum(-1)[:, None]
    axis = torch.cross(q, p, dim=-1)

    def carried(v: Tensor) -> Tensor:  # Rodrigues' rotation from q to p with sin folded into the axis
        return (
            v * cosine + torch.cross(axis, v, dim=-1) + axis * (axis * v).sum(-1, keepdim=True) / (1 + cosine)
        )

    south = carried(f[:, 0])
    turned = torch.atan2((south * e[:, 1]).sum(-1), (south * e[:, 0]).sum(-1))
    # a vector with components (cos a, sin a) at q has (cos(a + g), sin(a + g)) at p
    same_angle(near.transport, turned, 1e-12)


def test_holonomy_is_the_enclosed_area() -> None:
    """Round a triangle the transports add up to its area (Gauss-Bonnet), up to its orientation."""
    grid = Scattered(scattered(30).points[:3], areas=torch.full((3,), 4 * math.pi / 3, dtype=torch.float64))
    near = neighbors(grid, grid, math.pi - 1e-6)
    g = dense(near, near.transport, 3)
    a, b, c = grid.points
    triple = torch.dot(a, torch.linalg.cross(b, c))
    area = 2 * torch.atan2(triple, 1 + a @ b + b @ c + c @ a)
    round_trip = g[0, 1] + g[1, 2] + g[2, 0]
    same_angle(round_trip, -area, 1e-12)
    assert float(area.abs()) > 0.1


@pytest.mark.parametrize("angle", [0.4, 2.5])
def test_turning_everything_about_z_changes_nothing(angle: float) -> None:
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    source, target = scattered(60), scattered(45)
    a = neighbors(source, target, 0.8)
    b = neighbors(Scattered(source.points @ turn.T), Scattered(target.points @ turn.T), 0.8)
    assert torch.equal(a.indptr, b.indptr) and torch.equal(a.indices, b.indices)
    torch.testing.assert_close(b.distance, a.distance, rtol=0, atol=1e-13)
    same_angle(b.angle, a.angle, 1e-12)
    same_angle(b.transport, a.transport, 1e-12)
    torch.testing.assert_close(b.offset, a.offset @ turn.T, rtol=0, atol=1e-13)


def test_any_rotation_keeps_the_distances_and_turns_angles_at_a_point_alike() -> None:
    rotation = random_rotations(1, generator=torch.Generator().manual_seed(1))[0]
    source, target = scattered(60), scattered(45)
    a = neighbors(source, target, 0.8)
    b = neighbors(Scattered(source.points @ rotation.T), Scattered(target.points @ rotation.T), 0.8)
    assert torch.equal(a.indices, b.indices)
    torch.testing.assert_close(b.distance, a.distance, rtol=0, atol=1e-13)
    turned = b.angle - a.angle
    first = turned[a.indptr[:-1].clamp_max(len(turned) - 1)][a.rows]
    same_angle(turned, first, 1e-11)


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (HEALPix(2), HEALPix(4)),
        (HEALPix(4, order="nested"), HEALPix(2)),
        (Icosahedral(1), Icosahedral(2)),
        (Equiangular(6, 24), GaussLegendre(5, 16)),
        (Equiangular(5, 16, poles=True), Equiangular(5, 16, poles=True)),
        (Equiangular(6, 9), GaussLegendre(5, 16)),
        (Equiangular(6, 24, offset=0.25), Equiangular(6, 16)),
    ],
    ids=str,
)
def test_symmetry_classes_stand_for_all_pairs(source: Grid, target: Grid, isotropic: bool) -> None:
    radius = 0.9
    full, found = neighbors(source, target, radius), relation(source, target, radius, isotropic=isotropic)
    rows, columns, value = found.pattern.coo()
    assert int(found.multiplicity.sum()) == target.num_points
    assert len(torch.unique(torch.stack([rows, columns]), dim=1).T) == len(rows) == len(full.indices)
    expected = dense(full, full.distance, source.num_points)
    torch.testing.assert_close(
        found.neighborhood.distance[value], expected[rows, columns], rtol=0, atol=1e-13
    )
    if not isotropic:
        apart = (expected[rows, columns] > 1e-9) & (expected[rows, columns] < math.pi - 1e-9)
        angle = dense(full, full.angle, source.num_points)[rows, columns]
        same_angle(found.neighborhood.angle[value][apart], angle[apart], 1e-11)
    transported = dense(full, full.transport, source.num_points)[rows, columns]
    if not isotropic:
        turned = (source.points[columns, 2].abs() < 1) | (source.rings is not None)
        same_angle(found.neighborhood.transport[value][turned], transported[turned], 1e-11)


def test_errors() -> None:
    grid = HEALPix(1)
    for radius in (0, -1.0, 3.2, math.nan, "1"):
        with pytest.raises(ValueError, match="radius is"):
            neighbors(grid, grid, radius)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target is Plane"):
        neighbors(grid, Plane(4, 4), 0.5)
    with pytest.raises(ValueError, match="source is Plane"):
        relation(Plane(4, 4), grid, 0.5)
