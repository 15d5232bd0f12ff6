"""Geodesic log map and heat methods: exact where the surface unfolds, close to the sphere, to the oracles and to each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from spheregeo.grids import Icosahedral
from spheregeo.groups import random_rotations
from spheregeo.mesh import load_arrays, repair
from spheregeo.mesh.geodesics import LogMap, geodesic_log_map
from spheregeo.mesh.heat import HeatMethod
from spheregeo.mesh.shape import turn, vertex_normals
from spheregeo.mesh.transport import intrinsic_rings, wrap_angle
from spheregeo.sampling import neighbors
from spheregeo.sampling.neighbors import neighbors_of

Surfaces = Callable[..., tuple[np.ndarray, np.ndarray]]
Frames = Callable[..., np.ndarray]


def rows_of(log: LogMap, sources: np.ndarray) -> np.ndarray:
    return np.repeat(sources, np.diff(log.indptr))


def upright(count: int) -> np.ndarray:
    """Frames of the plane z = 0, each turned by an angle of its own."""
    e = np.zeros((count, 2, 3))
    e[:, 0, 0] = e[:, 1, 1] = 1
    return turn(e, np.linspace(-3, 5, count))


@pytest.mark.parametrize("radius", [2.51, 40.0])
def test_exact_in_the_plane(surfaces: Surfaces, radius: float) -> None:
    vertices, faces = surfaces("sheet")
    frames = upright(len(vertices))
    log = geodesic_log_map(vertices, faces, frames, radius)
    rows = rows_of(log, np.arange(len(vertices)))
    offset = vertices[log.indices] - vertices[rows]
    wanted = cKDTree(vertices).query_ball_point(vertices, radius, return_sorted=True)
    assert np.array_equal(log.indices, np.concatenate(wanted)), "all vertices within the radius, ascending"
    np.testing.assert_allclose(log.distance, np.linalg.norm(offset, axis=1), atol=1e-12)
    other = rows != log.indices
    seen = np.arctan2((offset * frames[rows, 1]).sum(1), (offset * frames[rows, 0]).sum(1))
    assert np.abs(wrap_angle(log.angle - seen)[other]).max() < 1e-10
    e, f = frames[rows], frames[log.indices]
    between = np.arctan2((f[:, 0] * e[:, 1]).sum(1), (f[:, 0] * e[:, 0]).sum(1))
    assert np.abs(wrap_angle(log.transport - between)).max() < 1e-10
    assert not log.distance[~other].any() and not log.angle[~other].any()


def test_exact_on_a_cylinder_as_in_the_plane(surfaces: Surfaces) -> None:
    flat, faces = surfaces("sheet")
    flat[:, 0] = np.round(flat[:, 0])
    bent = np.stack([4 * np.sin(flat[:, 0] / 4), flat[:, 1], 4 * np.cos(flat[:, 0] / 4)], axis=1)
    flat[:, 0] *= 8 * np.sin(1 / 8)
    a, b = (geodesic_log_map(v, faces, None, 6.0) for v in (flat, bent))
    for name in ("indices", "distance", "angle", "transport"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("level", "distance", "angle", "transport"),
    [(3, 2.6e-3, 1.0e-3, 1.0e-3), (4, 1.1e-3, 6e-4, 5.5e-4)],
)
def test_errors_on_the_sphere(level: int, distance: float, angle: float, transport: float) -> None:
    grid = Icosahedral(level)
    sources = np.arange(0, grid.num_points, grid.num_points // 20)
    log = geodesic_log_map(grid.points, grid.faces, grid.frames, 1.0, sources)
    near = neighbors_of(grid, grid, torch.from_numpy(sources), 1.1)
    row = np.repeat(np.arange(len(sources)), np.diff(log.indptr))
    keys = (near.rows * grid.num_points + near.indices).numpy()
    other = sources[row] != log.indices
    place = np.searchsorted(keys, (row * grid.num_points + log.indices)[other])
    assert np.median(np.abs(log.distance[other] / near.distance.numpy()[place] - 1)) < distance
    for name, bound in (("angle", angle), ("transport", transport)):
        error = np.abs(wrap_angle(getattr(log, name)[other] - getattr(near, name).numpy()[place]))
        assert np.median(error) < bound and error.max() < 15 * bound, name


def test_frames_turn_the_log_map_and_rotations_leave_it(surfaces: Surfaces, random_frames: Frames) -> None:
    vertices, faces = surfaces("torus")
    frames = random_frames(vertex_normals(vertices, faces))
    alpha = np.random.default_rng(1).uniform(-4, 4, len(vertices))
    before = geodesic_log_map(vertices, faces, frames, 1.0)
    after = geodesic_log_map(vertices, faces, turn(frames, alpha), 1.0)
    p, q = rows_of(before, np.arange(len(vertices))), before.indices
    assert np.array_equal(after.distance, before.distance)
    other = p != q
    assert np.abs(wrap_angle(after.angle - before.angle + alpha[p])[other]).max() < 1e-12
    assert np.abs(wrap_angle(after.transport - before.transport + alpha[p] - alpha[q])).max() < 1e-12
    rotation = random_rotations(1)[0].numpy()
    moved = geodesic_log_map(vertices @ rotation.T, faces, frames @ rotation.T, 1.0)
    np.testing.assert_allclose(moved.distance, before.distance, atol=1e-12)


def test_rows_do_not_depend_on_which_others_are_asked_for_nor_on_threads(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("icosphere", 3, (1.0, 0.8, 0.6))
    whole = geodesic_log_map(torch.from_numpy(vertices), torch.from_numpy(faces), None, 0.6)
    some = np.array([5, 3, 600])
    part = geodesic_log_map(vertices, faces, None, 0.6, some)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = geodesic_log_map(vertices, faces, None, 0.6)
    finally:
        torch.set_num_threads(before)
    for name in LogMap._fields:
        assert np.array_equal(getattr(whole, name), getattr(again, name))
        if name != "indptr":
            rows = [getattr(whole, name)[whole.indptr[s] : whole.indptr[s + 1]] for s in some]
            assert np.array_equal(getattr(part, name), np.concatenate(rows))


def test_a_ball_stays_on_its_component_and_within_the_border(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("sheet")
    two = np.concatenate([vertices, vertices + np.array([0, 0, 0.01])])
    log = geodesic_log_map(two, np.concatenate([faces, faces + len(vertices)]), None, 3.0)
    rows = rows_of(log, np.arange(len(two)))
    assert ((rows < len(vertices)) == (log.indices < len(vertices))).all()
    # round a slit, the way is longer than the chord
    slit = faces[~((vertices[faces].mean(1)[:, 0] > 4) & (np.abs(vertices[faces].mean(1)[:, 1] - 4.5) < 1))]
    there, here = 11 * 10 + 3, 11 * 10 + 6
    log = geodesic_log_map(vertices, slit, None, 30.0, [here])
    way = log.distance[log.indices == there][0]
    assert 12 < way < 20 and np.linalg.norm(vertices[there] - vertices[here]) < 3.1


def exact_errors(v: np.ndarray, f: np.ndarray, radius: float, sources: np.ndarray) -> np.ndarray:
    """Relative errors of the distance; the exact one from the faces near each source alone."""
    igl = pytest.importorskip("igl", reason="libigl is the oracle of exact geodesics")
    none, errors = np.empty(0, dtype=np.int64), []
    log = geodesic_log_map(v, f, None, radius, sources)
    for i, s in enumerate(sources):
        near = np.linalg.norm(v - v[s], axis=1) <= radius
        kept, local = np.unique(f[near[f].any(1)], return_inverse=True)
        local = local.reshape(-1, 3)
        exact = igl.exact_geodesic(
            v[kept], local, np.searchsorted(kept, [s]), none, np.arange(len(kept)), none
        )
        row = slice(log.indptr[i], log.indptr[i + 1])
        place = np.searchsorted(kept, log.indices[row])
        other = log.indices[row] != s
        errors.append(np.abs(log.distance[row][other] / np.asarray(exact).reshape(-1)[place][other] - 1))
    return np.concatenate(errors)


@pytest.mark.parametrize(
    ("surface", "radius", "median", "most"),
    [(("icosphere", 4), 0.6, 6e-4, 2e-3), (("icosphere", 4, (1.0, 0.8, 0.6)), 0.6, 1e-3, 4e-3), (("torus",), 0.8, 4e-3, 2e-2)],
    ids=str,
)  # fmt: skip
def test_distances_are_close_to_the_exact_ones(
    surfaces: Surfaces, surface: tuple, radius: float, median: float, most: float
) -> None:
    vertices, faces = surfaces(*surface)
    errors = exact_errors(vertices, faces, radius, np.arange(0, len(vertices), len(vertices) // 6))
    assert np.median(errors) < median and np.quantile(errors, 0.95) < most


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "radius", "median", "most"),
    [("stanford-bunny", 0.1, 1.6e-3, 8e-3), ("spot", 0.5, 4e-3, 2e-2), ("rocker-arm", 0.1, 1.6e-3, 1e-2)],
)
def test_distances_on_real_meshes_beat_the_affine_log_map(
    name: str, radius: float, median: float, most: float, real_data: Path
) -> None:
    mesh, _ = repair(*load_arrays(real_data / "meshes" / f"{name}.obj"))
    vertices = mesh.points.numpy() / math.sqrt(mesh.areas.sum())
    sources = np.random.default_rng(0).choice(mesh.num_points, 4, replace=False)
    errors = exact_errors(vertices, mesh.faces.numpy(), radius, sources)
    assert np.median(errors) < median and np.quantile(errors, 0.95) < most


def test_bad_arguments_are_named(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("icosphere", 1)
    for radius in (0, -1.0, math.inf, math.nan, "far"):
        with pytest.raises(ValueError, match=r"radius is .*; expected a positive length"):
            geodesic_log_map(vertices, faces, None, radius)
    for sources in ([42], [-1], [0.5], []):
        with pytest.raises(ValueError, match=r"sources (holds|has).*; expected"):
            geodesic_log_map(vertices, faces, None, 1.0, sources)
    with pytest.raises(ValueError, match="time is 0; expected a positive area"):
        HeatMethod(vertices, faces, time=0)
    with pytest.raises(ValueError, match=r"vectors has shape \(1,\); expected \(2,\)"):
        HeatMethod(vertices, faces).extend([0, 1], [1.0])


# ---- heat


def test_heat_on_the_sphere() -> None:
    grid = Icosahedral(4)
    sources = np.arange(0, grid.num_points, 200)
    near = neighbors_of(grid, grid, torch.from_numpy(sources), 1.0)
    for transports, bound in ((None, 3e-4), (neighbors(grid, grid, 1.5 * grid.spacing), 2.5e-4)):
        heat = HeatMethod(grid.points, grid.faces, grid.frames, transports=transports)
        carried = heat.transport(sources)
        back = wrap_angle(carried[near.rows, near.indices] + near.transport.numpy())  # carried goes s -> q
        assert np.median(np.abs(back)) < bound
    distance = heat.distance(sources)
    exact = np.arccos(np.clip(grid.points.numpy()[sources] @ grid.points.numpy().T, -1, 1))
    close = (exact > 0) & (exact < 1)
    assert np.median(np.abs(distance[close] / exact[close] - 1)) < 0.016
    assert np.abs(distance - exact).max() < 0.1 and not distance[np.arange(len(sources)), sources].any()


def test_heat_distance_is_the_oracles(surfaces: Surfaces) -> None:
    potpourri3d = pytest.importorskip("potpourri3d", reason="potpourri3d is the oracle of heat distances")
    vertices, faces = surfaces("torus")
    edge = intrinsic_rings(vertices, faces)
    mean = np.linalg.norm(vertices[edge.rows] - vertices[edge.indices], axis=1).mean()
    found = HeatMethod(vertices, faces, time=mean**2).distance([0, 100])
    oracle = potpourri3d.MeshHeatMethodDistanceSolver(vertices, faces, use_robust=False)
    for row, source in zip(found, (0, 100), strict=True):
        assert np.abs(row - oracle.compute_distance(source)).max() < 1e-3


def test_heat_stays_on_its_component(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("icosphere", 2)
    two = np.concatenate([vertices, vertices + 3, [[9.0, 9, 9]]])
    heat = HeatMethod(two, np.concatenate([faces, faces + len(vertices)]))
    n = len(vertices)
    distance, carried = heat.distance([1, n + 1]), heat.transport([1, n + 1])
    assert np.isinf(distance[0, n:]).all() and np.isnan(carried[0, n:]).all()
    np.testing.assert_allclose(distance[0, :n], distance[1, n:-1], atol=1e-9)
    assert np.abs(wrap_angle(carried[0, :n] - carried[1, n:-1])).max() < 1e-9
    field = heat.extend([1, 40], [2j, 2j])
    np.testing.assert_allclose(np.abs(field[:n]), 2, rtol=1e-9)
    assert not field[n:].any()


def test_heat_transport_follows_the_frames_and_agrees_with_the_log_map(
    surfaces: Surfaces, random_frames: Frames
) -> None:
    vertices, faces = surfaces("icosphere", 3, (1.0, 0.8, 0.6))
    frames = random_frames(vertex_normals(vertices, faces))
    alpha = np.random.default_rng(1).uniform(-4, 4, len(vertices))
    before = HeatMethod(vertices, faces, frames).transport([7])
    after = HeatMethod(vertices, faces, turn(frames, alpha)).transport([7])
    assert np.abs(wrap_angle(after - before - alpha[7] + alpha)).max() < 1e-10
    log = geodesic_log_map(vertices, faces, frames, 0.7, [7])
    assert np.abs(wrap_angle(before[0, log.indices] + log.transport)).max() < 0.03
