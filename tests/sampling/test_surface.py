"""Neighbours on surfaces: exact on spheres, symmetric on borders, confined to one side of thin walls, against slow twins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from spheregeo.grids import Fibonacci, Grid, HEALPix, Icosahedral, Plane
from spheregeo.groups import random_rotations
from spheregeo.mesh import TriangleMesh, concatenate, load_arrays, repair
from spheregeo.mesh.geodesics import geodesic_log_map
from spheregeo.sampling import Neighborhood, neighbors, surface_neighbors


def icosphere(level: int, exact: bool = True) -> TriangleMesh:
    grid = Icosahedral(level)
    given = {"normals": grid.points, "frames": grid.frames} if exact else {}
    return TriangleMesh(grid.points, grid.faces, **given)


def ellipsoid(level: int, **options: object) -> TriangleMesh:
    grid = Icosahedral(level)
    return TriangleMesh(grid.points * torch.tensor([1.0, 0.8, 0.6]), grid.faces, **options)


def sheet(rows: int = 9, columns: int = 12, **options: object) -> TriangleMesh:
    """A curved rectangle with an open border."""
    y, x = np.mgrid[:rows, :columns].astype(float)
    vertices = np.stack([x, y, 0.5 * np.sin(0.7 * x + 0.4 * y)], -1).reshape(-1, 3)
    i = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    faces = np.concatenate(
        [np.stack([i, i + 1, i + columns + 1], 1), np.stack([i, i + columns + 1, i + columns], 1)]
    )
    return TriangleMesh(vertices, faces, **options)


def torus(n: int = 30, m: int = 16, **options: object) -> TriangleMesh:
    a, b = np.meshgrid(2 * np.pi * np.arange(n) / n, 2 * np.pi * np.arange(m) / m, indexing="ij")
    ring = 2 + np.cos(b)
    vertices = np.stack([ring * np.cos(a), ring * np.sin(a), np.sin(b)], -1).reshape(-1, 3)
    i, j = np.divmod(np.arange(n * m), m)
    here, east, south, far = (
        ((i + di) % n) * m + (j + dj) % m for di, dj in ((0, 0), (1, 0), (0, 1), (1, 1))
    )
    faces = np.concatenate([np.stack([here, east, far], 1), np.stack([here, far, south], 1)])
    return TriangleMesh(vertices, faces, **options)


def angles_close(a: Tensor, b: Tensor, tolerance: float, scale: Tensor | float = 1.0) -> None:
    assert bool(((torch.exp(1j * a) - torch.exp(1j * b)).abs() * scale < tolerance).all())


def dense(near: Neighborhood, values: Tensor, size: int) -> Tensor:
    out = torch.full((len(near.indptr) - 1, size), math.nan, dtype=torch.float64)
    out[near.rows, near.indices] = values
    return out


def pairs(near: Neighborhood) -> Tensor:
    return torch.stack([near.rows, near.indices])


def same(a: Neighborhood, b: Neighborhood, tolerance: float) -> None:
    assert torch.equal(pairs(a), pairs(b))
    torch.testing.assert_close(a.distance, b.distance, rtol=tolerance, atol=tolerance)
    angles_close(a.angle, b.angle, tolerance)
    angles_close(a.transport, b.transport, tolerance)


# ---- spheres: the closed forms


@pytest.mark.parametrize("radius", [0.15, 0.6, 2.0, 3.0])
def test_exact_on_the_icosphere(radius: float) -> None:
    grid, mesh = Icosahedral(3), icosphere(3)
    expected, found = neighbors(grid, grid, radius), surface_neighbors(mesh, radius=radius)
    assert torch.equal(pairs(found), pairs(expected))
    assert (found.distance - expected.distance).abs().max() < 1e-14  # 7e-16 measured
    near_pole = torch.sin(expected.distance).clamp_min(1e-3)  # towards the antipode a direction fades away
    angles_close(found.angle, expected.angle, 1e-13, near_pole)
    angles_close(found.transport, expected.transport, 1e-12, near_pole)  # 2e-15 measured within 2 radians
    assert torch.equal(found.offset, expected.offset)


@pytest.mark.parametrize("source", [Fibonacci(200), HEALPix(4), Icosahedral(2)], ids=str)
def test_the_same_formula_on_grids_without_faces(source: Grid) -> None:
    target = Fibonacci(60)
    expected, found = neighbors(source, target, 0.7), surface_neighbors(source, target, radius=0.7)
    assert torch.equal(pairs(found), pairs(expected))
    assert (found.distance - expected.distance).abs().max() < 1e-14
    angles_close(found.angle, expected.angle, 1e-12)
    angles_close(found.transport, expected.transport, 1e-12)


def test_planes_are_flat() -> None:
    grid = Plane(5, 7)
    near = surface_neighbors(grid, radius=2.0)
    assert torch.equal(near.distance, near.offset.norm(dim=1)) and near.transport.abs().max() == 0
    assert near.indptr.diff().max() == 13


def test_antipodes_have_no_transport_and_are_left_out() -> None:
    near = surface_neighbors(icosphere(1), radius=math.pi)
    assert len(near.indices) == 42 * 41 and near.distance.max() < 3.0


@pytest.mark.parametrize(
    "mesh", [icosphere(2), ellipsoid(2, frames="random"), sheet(frames="random"), torus()], ids=str
)
def test_there_is_minus_back(mesh: TriangleMesh) -> None:
    for near in (surface_neighbors(mesh, radius=2.1 * mesh.spacing), surface_neighbors(mesh, rings=2)):
        there = dense(near, near.transport, mesh.num_points)
        assert torch.equal(there.isnan(), there.T.isnan()), "a neighbour's neighbour is missing"
        assert (there + there.T).nan_to_num().abs().max() <= 4e-16
        distance = dense(near, near.distance, mesh.num_points)
        assert torch.equal(distance.nan_to_num(), distance.T.nan_to_num())


def test_directions_on_the_sphere_are_turned_by_the_transport() -> None:
    mesh = icosphere(3).with_frames("random")
    near = surface_neighbors(mesh, radius=1.0)
    angle = dense(near, near.angle, mesh.num_points)
    other = pairs(near)[:, near.distance > 0]
    there, back = angle[other[0], other[1]], angle[other[1], other[0]]
    angles_close(there, back + math.pi + near.transport[near.distance > 0], 1e-12)


def solid_angles(points: Tensor, faces: Tensor) -> Tensor:
    a, b, c = points[faces].unbind(1)
    triple = (a * torch.linalg.cross(b - a, c - a)).sum(1)
    return 2 * torch.atan2(triple, 1 + (a * b).sum(1) + (b * c).sum(1) + (c * a).sum(1))


def holonomies(mesh: TriangleMesh, near: Neighborhood) -> Tensor:
    """wrap(g_{i→j} + g_{j→k} + g_{k→i}) of each face (i, j, k): once round it counter-clockwise."""
    key = near.rows * mesh.num_points + near.indices
    i, j, k = mesh.faces.unbind(1)
    places = [torch.searchsorted(key, p * mesh.num_points + q) for p, q in ((j, i), (k, j), (i, k))]
    total = sum(near.transport[place] for place in places)
    return torch.remainder(total + math.pi, 2 * math.pi) - math.pi


@pytest.mark.parametrize("level", [0, 2, 4])
def test_holonomy_round_every_face_is_its_solid_angle(level: int) -> None:
    mesh = icosphere(level).with_frames("random")
    turns = holonomies(mesh, surface_neighbors(mesh, rings=1))
    assert (turns - solid_angles(mesh.points, mesh.faces)).abs().max() < 1e-12
    assert abs(turns.sum().item() - 4 * math.pi) < 1e-12 * len(turns)


@pytest.mark.parametrize("mesh", [ellipsoid(3, frames="random"), torus(frames="random")], ids=str)
def test_intrinsic_holonomies_sum_to_the_euler_characteristic(mesh: TriangleMesh) -> None:
    near = surface_neighbors(mesh, rings=1, transport="intrinsic")
    assert abs(holonomies(mesh, near).sum().item() - 2 * math.pi * mesh.euler_characteristic) < 1e-10
    there = dense(near, near.transport, mesh.num_points)
    angles_close(there[near.rows, near.indices], -there.T[near.rows, near.indices], 1e-12)


# ---- slow twins


def by_hand(source: Grid, target: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance, direction, transport and cosine of normals for all pairs (P, Q), with the rotation written out."""
    d = source.points[None] - target.points[:, None]
    n, m = target.normals[:, None], source.normals[None]
    axis = torch.linalg.cross(m, n)  # (P, Q, 3)
    cosine = (m * n).sum(-1)
    alpha = torch.atan2(axis.norm(dim=-1), cosine)
    chord = d.norm(dim=-1)
    distance = torch.where(alpha > 1e-7, chord * (alpha / 2) / torch.sin(alpha / 2), chord)
    e1, e2 = target.frames[:, None].unbind(2)
    v = source.frames[None, :, 0].expand_as(d)
    turned = cosine[..., None] * v + torch.linalg.cross(axis, v)
    turned = turned + axis * (axis * v).sum(-1, keepdim=True) / (1 + cosine[..., None])
    transport = torch.atan2((turned * e2).sum(-1), (turned * e1).sum(-1))
    return distance, torch.atan2((d * e2).sum(-1), (d * e1).sum(-1)), transport, cosine


def along_edges(mesh: TriangleMesh) -> Tensor:
    ends, n = mesh.edges.numpy(), mesh.num_points
    graph = coo_array((mesh.edge_lengths.numpy(), ends.T), shape=(n, n))
    return torch.from_numpy(dijkstra(graph, directed=False))


@pytest.mark.parametrize(
    "mesh",
    [ellipsoid(2, frames="random"), sheet(normals="area"), torus(normals="uniform", frames="first")],
    ids=str,
)
@pytest.mark.parametrize("spacings", [0.5, 1.4, 3.0, 40.0])
def test_balls_by_hand(mesh: TriangleMesh, spacings: float) -> None:
    radius = spacings * mesh.spacing
    near = surface_neighbors(mesh, radius=radius)
    distance, angle, transport, cosine = by_hand(mesh, mesh)
    wanted = (distance <= radius) & (along_edges(mesh) <= 1.5 * radius) & (cosine > -1 + 1e-7)
    assert torch.equal(pairs(near), wanted.nonzero().T)
    torch.testing.assert_close(
        near.distance, distance[wanted], rtol=1e-7, atol=0
    )  # the twin's α loses half its digits
    itself = near.rows == near.indices
    assert torch.equal(itself, near.distance == 0) and bool((near.angle[itself] == 0).all())
    angles_close(near.angle[~itself], angle[wanted][~itself], 1e-12)
    angles_close(near.transport, transport[wanted], 1e-7 if spacings == 40 else 1e-12)
    assert torch.equal(near.offset, mesh.points[near.indices] - mesh.points[near.rows])


@pytest.mark.parametrize("mesh", [ellipsoid(2), sheet(), torus()], ids=str)
def test_rings_by_hand(mesh: TriangleMesh) -> None:
    n = mesh.num_points
    step = torch.eye(n)
    a, b = mesh.edges.T
    step[a, b] = step[b, a] = 1
    distance, _, transport, _ = by_hand(mesh, mesh)
    for rings in (1, 2, 4):
        near = surface_neighbors(mesh, rings=rings)
        wanted = torch.linalg.matrix_power(step, rings) > 0
        assert torch.equal(pairs(near), wanted.nonzero().T)
        torch.testing.assert_close(near.distance, distance[wanted], rtol=1e-7, atol=0)
        angles_close(near.transport, transport[wanted], 1e-12)
    both = surface_neighbors(mesh, rings=4, radius=1.2 * mesh.spacing)
    wanted &= distance <= 1.2 * mesh.spacing
    assert torch.equal(pairs(both), wanted.nonzero().T) and len(both.indices) < len(near.indices)


def test_threads_change_nothing() -> None:
    mesh = ellipsoid(3, frames="random")
    one = surface_neighbors(mesh, radius=0.3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = surface_neighbors(mesh, radius=0.3)
    finally:
        torch.set_num_threads(before)
    for name in ("indptr", "indices", "distance", "angle", "transport", "offset"):
        assert torch.equal(getattr(one, name), getattr(several, name)), name


# ---- symmetries


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"log_map": "geodesic"},
        {"transport": "intrinsic"},
        {"log_map": "geodesic", "transport": "intrinsic"},
    ],
)
def test_turning_the_mesh_and_turning_frames(options: dict[str, str]) -> None:
    bumpy = ellipsoid(3)  # no two paths of equal length, between which rounding would choose
    mesh = TriangleMesh(bumpy.points + 0.01 * torch.randn(642, 3), bumpy.faces, frames="first")
    radius = 2.37 * mesh.spacing
    near = surface_neighbors(mesh, radius=radius, **options)
    turn = random_rotations(1)[0]
    same(
        near,
        surface_neighbors(
            TriangleMesh(mesh.points @ turn.T, mesh.faces, frames="first"), radius=radius, **options
        ),
        1e-12,
    )
    big = surface_neighbors(
        TriangleMesh(100 * mesh.points, mesh.faces, frames="first"), radius=100 * radius, **options
    )
    torch.testing.assert_close(big.distance, 100 * near.distance)
    assert torch.equal(pairs(big), pairs(near))
    alpha = 2 * math.pi * torch.rand(mesh.num_points, dtype=torch.float64)
    c, s = alpha.cos()[:, None], alpha.sin()[:, None]
    e1, e2 = mesh.frames.unbind(1)
    turned = surface_neighbors(
        mesh.with_frames(torch.stack([c * e1 + s * e2, c * e2 - s * e1], 1)), radius=radius, **options
    )
    assert torch.equal(pairs(turned), pairs(near)) and torch.equal(turned.distance, near.distance)
    other = near.distance > 0  # the point itself is at angle 0 in any frame
    angles_close(turned.angle[other], (near.angle - alpha[near.rows])[other], 1e-12)
    angles_close(turned.transport, near.transport - alpha[near.rows] + alpha[near.indices], 1e-12)


def test_a_reflected_mesh_is_another_one() -> None:
    """Orientation is used: reflecting space reverses angles."""
    mesh = ellipsoid(2, frames="first")
    mirror = TriangleMesh(mesh.points * torch.tensor([1.0, 1.0, -1.0]), mesh.faces.flip(1), frames="first")
    near, other = surface_neighbors(mesh, radius=0.5), surface_neighbors(mirror, radius=0.5)
    assert torch.equal(pairs(near), pairs(other))
    angles_close(near.angle, -other.angle, 1e-12)
    angles_close(near.transport, -other.transport, 1e-12)
    assert (torch.exp(1j * near.transport) - torch.exp(1j * other.transport)).abs().max() > 0.1


# ---- borders, walls, parts


@pytest.mark.parametrize("mesh", [sheet(), sheet(2, 2), TriangleMesh(np.eye(3), [[0, 1, 2]])], ids=str)
def test_open_borders_are_symmetric(mesh: TriangleMesh) -> None:
    for options in ({"rings": 1}, {"rings": 3}, {"radius": 2.5 * mesh.spacing}):
        found = {tuple(pair) for pair in pairs(surface_neighbors(mesh, **options)).T.tolist()}
        assert found == {(q, p) for p, q in found}
    ring = surface_neighbors(mesh, rings=1)
    assert len(ring.indices) == mesh.num_points + 2 * len(mesh.edges)


def test_a_ball_does_not_leak_through_a_thin_wall() -> None:
    """A slab a tenth of a spacing thick: from its middle the other side is far away, from its rim it is not."""
    n = 13
    y, x = np.mgrid[:n, :n].astype(float)
    top = np.stack([x, y, np.full_like(x, 0.1)], -1).reshape(-1, 3)
    i = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).reshape(-1)
    face = np.concatenate([np.stack([i, i + 1, i + n + 1], 1), np.stack([i, i + n + 1, i + n], 1)])
    rim = np.concatenate(
        [
            np.arange(n - 1),
            n * np.arange(n - 1) + n - 1,
            n * n - 1 - np.arange(n - 1),
            n * (n - 1) - n * np.arange(n - 1),
        ]
    )
    after = np.roll(rim, -1)
    wall = np.concatenate(
        [np.stack([after, rim, rim + n * n], 1), np.stack([after, rim + n * n, after + n * n], 1)]
    )
    mesh = TriangleMesh(
        np.concatenate([top, top * [1, 1, 0]]), np.concatenate([face, face[:, ::-1] + n * n, wall])
    )
    assert mesh.euler_characteristic == 2 and not mesh.border.any()
    near = surface_neighbors(mesh, radius=2.5)
    across = (near.rows < n * n) != (near.indices < n * n)
    from_rim = torch.minimum(mesh.points[:, :2], n - 1 - mesh.points[:, :2]).amin(1)
    assert across.any() and from_rim[near.rows[across]].max() <= 2.0
    middle = near.rows == (n * n) // 2
    assert int(middle.sum()) == 21 and not across[middle].any()  # 21 lattice points within 2.5


def test_parts_that_touch_stay_apart() -> None:
    a, b = sheet(frames="random"), ellipsoid(2)
    joint = concatenate([a, b, a])  # two of them lie in the same place
    near = surface_neighbors(joint.mesh, radius=1.7)
    rest = [surface_neighbors(mesh, radius=1.7) for mesh in (a, b, a)]
    first = torch.tensor([0, 108, 270])
    assert torch.equal(near.indices, torch.cat([part.indices + start for part, start in zip(rest, first)]))
    for name in ("distance", "angle", "transport"):
        assert torch.equal(getattr(near, name), torch.cat([getattr(part, name) for part in rest]))


def test_opposite_normals_are_left_out() -> None:
    mesh = sheet(4, 4)
    normals = mesh.normals.clone()
    normals[5] = -normals[6]  # a neighbour whose normal is opposite to the bit
    bent = TriangleMesh(mesh.points, mesh.faces, normals=normals)
    near = surface_neighbors(bent, rings=1)
    gone = {(5, 6), (6, 5)}
    assert {tuple(p) for p in pairs(near).T.tolist()} == {
        tuple(p) for p in pairs(surface_neighbors(mesh, rings=1)).T.tolist()
    } - gone
    assert near.transport.isfinite().all()
    same(
        surface_neighbors(bent, rings=1, log_map="geodesic"),
        surface_neighbors(bent, rings=1, log_map="geodesic"),
        0.5,
    )
    assert len(surface_neighbors(bent, rings=1, log_map="geodesic").indices) == len(near.indices)


# ---- another target


def test_a_coarser_target_sees_what_its_vertices_see() -> None:
    """The first 162 points of a sphere's next level: icospheres keep their points, in another order."""
    fine, coarse = icosphere(3), icosphere(2)
    place = torch.cdist(coarse.points, fine.points).argmin(1)
    near, all_ = surface_neighbors(fine, coarse, radius=0.4), surface_neighbors(fine, radius=0.4)
    for row in (0, 17, 161):
        a, b = slice(*near.indptr[row : row + 2]), slice(*all_.indptr[place[row] : place[row] + 2])
        assert torch.equal(near.indices[a], all_.indices[b])
        torch.testing.assert_close(near.distance[a], all_.distance[b], rtol=0, atol=1e-14)
        angles_close(near.transport[a], all_.transport[b], 1e-12)
    up = surface_neighbors(coarse, fine, radius=0.4)
    assert torch.equal(
        dense(up, up.distance, 162).T.nan_to_num(), dense(near, near.distance, 642).nan_to_num()
    )


def test_other_points_attach_to_their_own_side() -> None:
    """Two sheets back to back; targets hover between them, nearer to the wrong one."""
    up = sheet(6, 6)
    down = TriangleMesh(up.points - torch.tensor([0, 0, 0.3]), up.faces.flip(1))
    both = concatenate([up, down]).mesh
    targets = TriangleMesh(up.points - torch.tensor([0, 0, 0.2]), up.faces)
    near = surface_neighbors(both, targets, radius=1.5)
    assert near.indices.max() < 36 and (near.indptr.diff() > 0).all()
    beneath = TriangleMesh(up.points - torch.tensor([0, 0, 0.1]), up.faces.flip(1))
    assert surface_neighbors(both, beneath, radius=1.5).indices.min() >= 36


def test_the_same_surface_in_other_frames_is_itself() -> None:
    mesh = concatenate(
        [sheet(), sheet()]
    ).mesh  # every vertex has a twin that a search by place could take for it
    other = mesh.with_frames("random")
    near, base = surface_neighbors(mesh, other, radius=2.0), surface_neighbors(mesh, radius=2.0)
    assert torch.equal(pairs(near), pairs(base)) and not torch.equal(near.angle, base.angle)


def test_points_out_of_reach_see_nothing() -> None:
    near = surface_neighbors(
        sheet(), TriangleMesh([[0, 0, 9.0], [1, 0, 9], [0, 1, 9]], [[0, 1, 2]]), radius=2.0
    )
    assert near.indptr.tolist() == [0, 0, 0, 0] and len(near.distance) == 0


# ---- what is measured inside the surface


def test_geodesic_options_are_about_each_other_and_not_the_same() -> None:
    mesh = ellipsoid(3, frames="random")
    chord = surface_neighbors(mesh, radius=0.4)
    geodesic = surface_neighbors(mesh, radius=0.4, log_map="geodesic")
    intrinsic = surface_neighbors(mesh, radius=0.4, transport="intrinsic")
    both = surface_neighbors(mesh, radius=0.4, log_map="geodesic", transport="intrinsic")
    assert torch.equal(pairs(intrinsic), pairs(chord)) and torch.equal(pairs(both), pairs(geodesic))
    assert torch.equal(intrinsic.distance, chord.distance) and torch.equal(intrinsic.angle, chord.angle)
    assert torch.equal(both.distance, geodesic.distance) and torch.equal(both.angle, geodesic.angle)
    n = mesh.num_points
    for name, limit in (("distance", 0.01), ("angle", 0.1), ("transport", 0.05)):
        a = dense(chord, getattr(chord, name), n)
        for other, differs in (
            (geodesic, name != "transport"),
            (intrinsic, name == "transport"),
            (both, True),
        ):
            difference = torch.exp(1j * a) - torch.exp(1j * dense(other, getattr(other, name), n))
            largest = difference.abs().nan_to_num().max()
            assert largest < limit and (largest > 1e-5) == differs, name
    a, b = dense(both, both.transport, n), dense(intrinsic, intrinsic.transport, n)
    shared = ~(a.isnan() | b.isnan())
    angles_close(a[shared], b[shared], 5e-3)  # a wider search may find other ways between the same points


def test_one_ring_of_geodesics_is_the_edges() -> None:
    mesh = torus(frames="random")
    near = surface_neighbors(mesh, rings=1, log_map="geodesic", transport="intrinsic")
    assert torch.equal(pairs(near), pairs(surface_neighbors(mesh, rings=1)))
    torch.testing.assert_close(near.distance, near.offset.norm(dim=1), rtol=1e-14, atol=0)
    angle = dense(near, near.angle, mesh.num_points)
    p, q = pairs(near)[:, near.distance > 0]
    angles_close(angle[p, q], angle[q, p] + math.pi + near.transport[near.distance > 0], 1e-12)
    wide = surface_neighbors(mesh, rings=2, radius=1.0, log_map="geodesic")
    ball = surface_neighbors(mesh, radius=1.0, log_map="geodesic")
    ring = surface_neighbors(mesh, rings=2)
    keys = [{tuple(pair) for pair in pairs(x).T.tolist()} for x in (wide, ball, ring)]
    assert keys[0] == keys[1] & keys[2] and len(keys[0]) < min(len(keys[1]), len(keys[2]))


# ---- accuracy of the log map: the table of relative errors against exact polyhedral geodesics


class Some(Grid):
    """Some points of a mesh, with its normals and frames."""

    is_sphere = False

    def __init__(self, mesh: TriangleMesh, index: np.ndarray) -> None:
        self.mesh, self.index = mesh, torch.from_numpy(index)

    shape = property(lambda self: (len(self.index),))
    points = property(lambda self: self.mesh.points[self.index])
    areas = property(lambda self: self.mesh.areas[self.index])
    normals = property(lambda self: self.mesh.normals[self.index])
    frames = property(lambda self: self.mesh.frames[self.index])


def radius_errors(
    mesh: TriangleMesh, radius: float, count: int, log_map: str = "chord"
) -> tuple[float, float]:
    """Median and 95th percentile of |r/r_exact − 1| over pairs within ``radius``, from ``count`` vertices.

    Exact geodesics are computed on the faces that touch the ball of that radius: no shorter path leaves them.
    """
    igl = pytest.importorskip("igl", reason="libigl is the oracle of exact geodesics")
    points, faces = mesh.points.numpy(), mesh.faces.numpy()
    sources = np.random.default_rng(0).choice(mesh.num_points, count, replace=False)
    if log_map == "chord":
        near = surface_neighbors(mesh, Some(mesh, sources), radius=1.2 * radius)
    else:
        near = geodesic_log_map(points, faces, mesh.frames, 1.2 * radius, sources)
    errors, empty = [], np.empty(0, dtype=np.int64)
    for i, p in enumerate(sources):
        close = np.linalg.norm(points - points[p], axis=1) < radius
        patch = faces[close[faces].any(1)]
        kept, local = np.unique(patch, return_inverse=True)
        start = np.searchsorted(kept, p)
        where = np.full(mesh.num_points, -1)
        where[kept] = np.arange(len(kept))
        row = slice(near.indptr[i], near.indptr[i + 1])
        index, r = np.asarray(near.indices[row]), np.asarray(near.distance[row])
        exact = igl.exact_geodesic(
            points[kept], local.reshape(-1, 3), np.array([start]), empty, np.arange(len(kept)), empty
        )
        exact = np.where(where[index] >= 0, np.asarray(exact).reshape(-1)[where[index]], np.inf)
        within = (exact > 0) & (exact <= radius)
        errors.append(np.abs(r[within] / exact[within] - 1))
    found = np.concatenate(errors)
    return float(np.median(found)), float(np.quantile(found, 0.95))


@pytest.mark.parametrize(
    ("mesh", "median", "p95"),
    [(icosphere(4, exact=False), 5.3e-4, 6.5e-4), (ellipsoid(4), 8.2e-4, 2.75e-3)],
    ids=["sphere", "ellipsoid"],
)
def test_radius_errors_of_the_corrected_chord(mesh: TriangleMesh, median: float, p95: float) -> None:
    found = radius_errors(mesh, 0.5, 40)
    assert found[0] < 1.1 * median and found[1] < 1.1 * p95, found


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "log_map", "median", "p95"),
    [
        ("spot", "chord", 7.4e-3, 0.11),
        ("stanford-bunny", "chord", 6.4e-3, 0.11),
        ("spot", "geodesic", 7.4e-3, 0.11),
        ("stanford-bunny", "geodesic", 1.6e-3, 8e-3),
    ],
)
def test_radius_errors_of_real_shapes(
    name: str, log_map: str, median: float, p95: float, real_data: Path
) -> None:
    mesh, _ = repair(*load_arrays(real_data / "meshes" / f"{name}.obj"))
    mesh = TriangleMesh(mesh.points / math.sqrt(mesh.area), mesh.faces)
    found = radius_errors(mesh, 0.1, 100 if name == "spot" else 50, log_map)
    assert found[0] < 1.25 * median and found[1] < 1.25 * p95, found  # draws differ by 15 %


# ---- errors


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({}, ValueError, "radius and rings are both None"),
        ({"radius": 0.0}, ValueError, "radius is 0.0; expected a positive length"),
        ({"radius": math.inf}, ValueError, "radius is inf"),
        ({"radius": "1"}, ValueError, "radius is '1'"),
        ({"rings": 0}, ValueError, "rings is 0; expected a number of edges"),
        ({"rings": 1.5}, ValueError, "rings is 1.5"),
        ({"rings": True}, ValueError, "rings is True"),
        ({"radius": 1.0, "log_map": "exp"}, ValueError, "log_map is 'exp'; expected one of"),
        ({"radius": 1.0, "transport": "none"}, ValueError, "transport is 'none'; expected one of"),
        ({"rings": 2, "log_map": "geodesic"}, ValueError, "rings is 2 and radius None; give a radius, too"),
        ({"target": sheet(3, 3), "rings": 1}, ValueError, "rings=1 asks for one TriangleMesh; got source"),
        ({"target": sheet(3, 3), "radius": 1.0, "log_map": "geodesic"}, ValueError, "log_map='geodesic' asks for one"),
        ({"target": sheet(3, 3), "radius": 1.0, "transport": "intrinsic"}, ValueError, "transport='intrinsic' asks for"),
        ({"target": torch.eye(3), "radius": 1.0}, TypeError, "target is of type Tensor; expected a TriangleMesh"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(options: dict[str, object], error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        surface_neighbors(sheet(), **options)


def test_rings_need_a_mesh() -> None:
    with pytest.raises(
        ValueError, match=r"rings=1 asks for one TriangleMesh; got source Plane\(height=3, width=3"
    ):
        surface_neighbors(Plane(3, 3), rings=1)
