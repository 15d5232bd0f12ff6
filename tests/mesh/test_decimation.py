"""Decimation: sound surfaces, connected clusters of like size, borders and components kept, nothing left to chance."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spheregeo.grids import Icosahedral
from spheregeo.mesh import check, load_arrays, repair
from spheregeo.mesh.decimation import Decimation, decimate
from spheregeo.mesh.halfedges import ordered_rings
from spheregeo.mesh.shape import face_vectors, vertex_areas
from spheregeo.mesh.topology import edges_of

Surfaces = Callable[..., tuple[np.ndarray, np.ndarray]]


def euler(vertices: np.ndarray, faces: np.ndarray) -> int:
    return len(np.unique(faces)) - len(edges_of(faces, len(vertices)).vertices) + len(faces)


def check_sound(vertices: np.ndarray, faces: np.ndarray, coarse: Decimation) -> None:
    """What holds of every decimation: a surface of the same topology, each vertex in one connected cluster."""
    before, after = check(vertices, faces), check(coarse.vertices, coarse.faces)
    assert not after.faults
    assert after.num_components == before.num_components
    assert (len(after.border_edges) == 0) == (len(before.border_edges) == 0)
    assert euler(coarse.vertices, coarse.faces) == euler(vertices, faces)
    count = len(coarse.vertices)
    assert coarse.parents.shape == (len(vertices),) and np.array_equal(
        np.unique(coarse.parents), np.arange(count)
    )
    a, b = edges_of(faces, len(vertices)).vertices.T
    inside = coarse.parents[a] == coarse.parents[b]
    graph = coo_matrix((np.ones(inside.sum()), (a[inside], b[inside])), shape=2 * (len(vertices),))
    assert connected_components(graph, directed=False)[0] == count, "a cluster is in several pieces"
    # neighbouring clusters are neighbours in the coarse mesh, and the other way round
    fine = np.unique(np.sort(np.stack([coarse.parents[a], coarse.parents[b]], 1)[~inside], axis=1), axis=0)
    kept = edges_of(coarse.faces, count).vertices
    assert {tuple(e) for e in kept.tolist()} <= {tuple(e) for e in fine.tolist()}


@pytest.mark.parametrize(
    "surface",
    [("icosphere", 3), ("icosphere", 3, (1.0, 0.8, 0.3)), ("torus",), ("sheet", 20, 15)],
    ids=str,
)
@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_a_quarter_of_the_vertices(surfaces: Surfaces, surface: tuple, ratio: float) -> None:
    vertices, faces = surfaces(*surface)
    coarse = decimate(vertices, faces, ratio)
    check_sound(vertices, faces, coarse)
    assert len(coarse.vertices) == round(ratio * len(vertices))
    area = vertex_areas(vertices, faces)
    clusters = np.bincount(coarse.parents, area)
    assert clusters.std() / clusters.mean() < 0.5 and clusters.max() < 2.5 * clusters.mean()
    spacing = np.sqrt(area.sum() / len(clusters))
    assert np.linalg.norm(vertices - coarse.vertices[coarse.parents], axis=1).max() < 1.6 * spacing
    assert abs(vertex_areas(coarse.vertices, coarse.faces).sum() / area.sum() - 1) < 0.04
    again = decimate(vertices.copy(), faces.copy(), ratio)
    for a, b in zip(coarse, again, strict=True):
        assert np.array_equal(a, b)


def test_coarse_points_lie_on_the_surface_and_face_the_same_way() -> None:
    grid = Icosahedral(4)
    coarse = decimate(grid.points, grid.faces)
    assert np.abs(np.linalg.norm(coarse.vertices, axis=1) - 1).max() < 0.02
    outward = (face_vectors(coarse.vertices, coarse.faces) * coarse.vertices[coarse.faces[:, 0]]).sum(1)
    assert (outward > 0).all()
    levels = [coarse]
    for _ in range(3):  # a hierarchy
        levels.append(decimate(*levels[-1][:2]))
        check_sound(*levels[-2][:2], levels[-1])
    assert [len(level.vertices) for level in levels] == [640, 160, 40, 10]


def test_a_flat_sheet_stays_flat_with_its_corners(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("sheet", 21, 16)
    coarse = decimate(vertices, faces, 0.1, evenness=0.01)
    check_sound(vertices, faces, coarse)
    assert np.abs(coarse.vertices[:, 2]).max() < 1e-12
    for corner in ([0, 0], [20, 0], [0, 15], [20, 15]):
        assert np.linalg.norm(coarse.vertices[:, :2] - corner, axis=1).min() < 1.5
    assert abs(vertex_areas(coarse.vertices, coarse.faces).sum() / 300 - 1) < 0.03


def test_evenness_trades_detail_for_clusters_of_like_size(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("icosphere", 4, (1.0, 1.0, 4.0))
    spread, lost = [], []
    for evenness in (1e-3, 10.0):
        coarse = decimate(vertices, faces, 0.1, evenness=evenness)
        clusters = np.bincount(coarse.parents, vertex_areas(vertices, faces))
        spread.append(clusters.std() / clusters.mean())
        lost.append(
            1 - vertex_areas(coarse.vertices, coarse.faces).sum() / vertex_areas(vertices, faces).sum()
        )
    assert spread[1] < 0.8 * spread[0] and lost[1] > 1.5 * lost[0]


def test_small_components_isolated_vertices_and_bowties_survive(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("icosphere", 2)
    tetrahedron = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    n = len(vertices)
    v = np.concatenate([vertices, np.eye(4)[:, :3] + 3, [[7.0, 7, 7]], np.eye(3) + 9, np.eye(5)[:, :3] - 9])
    bowtie = np.array([[0, 1, 2], [0, 3, 4]]) + n + 8
    v[n + 11 : n + 13] += [[1, 1, 0], [1, 0, 1]]
    f = np.concatenate([faces, tetrahedron + n, [[n + 5, n + 6, n + 7]], bowtie])
    coarse = decimate(v, f, 0.01)
    parents = coarse.parents
    assert len(np.unique(parents[n : n + 4])) == 4, "a tetrahedron is the smallest closed surface"
    assert len(np.unique(parents[n + 5 : n + 8])) == 3 and len(np.unique(parents[n + 8 :])) == 5
    np.testing.assert_allclose(coarse.vertices[parents[n + 4]], 7.0, rtol=1e-12)
    assert 4 <= len(np.unique(parents[:n])) < 12
    report = check(coarse.vertices, coarse.faces)
    assert len(report.isolated) == 1 and not len(report.nonmanifold_edges) and not len(report.flat)
    rings = ordered_rings(coarse.faces, len(coarse.vertices))
    assert rings.closed.sum() == len(np.unique(parents[: n + 4]))


def test_scale_and_place_do_not_matter(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("torus")
    plain = decimate(vertices, faces)
    moved = decimate(1024 * vertices, faces)
    assert np.array_equal(plain.parents, moved.parents)
    np.testing.assert_allclose(moved.vertices, 1024 * plain.vertices, rtol=1e-12, atol=1e-9)
    whole = decimate(vertices, faces, 1.0)
    assert np.array_equal(whole.faces, faces) and np.array_equal(whole.parents, np.arange(len(vertices)))
    np.testing.assert_allclose(whole.vertices, vertices, atol=1e-14)


def test_a_large_mesh_takes_seconds() -> None:
    grid = Icosahedral(6)  # 40962 vertices
    decimate(grid.points[:12], Icosahedral(0).faces)  # compiled now, if it was not before
    begin = time.process_time()
    coarse = decimate(grid.points, grid.faces)
    assert time.process_time() - begin < 5  # 0.4 s; a million vertices take 12 s
    assert len(coarse.vertices) == 10240


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name",
    ["cheburashka", "cow", "fandisk", "homer", "rocker-arm", "spot", "stanford-bunny", "suzanne", "teapot"],
)
def test_real_meshes(name: str, real_data: Path) -> None:
    mesh, _ = repair(*load_arrays(real_data / "meshes" / f"{name}.obj"))
    vertices, faces = mesh.points.numpy(), mesh.faces.numpy()
    coarse = decimate(vertices, faces)
    check_sound(vertices, faces, coarse)
    assert len(coarse.vertices) < 0.3 * len(vertices) + 200 * check(vertices, faces).num_components


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0}, "ratio is 0; expected the share of vertices to keep"),
        ({"ratio": 1.5}, "ratio is 1.5; expected"),
        ({"evenness": 0}, "evenness is 0; expected a positive weight"),
    ],
)
def test_bad_arguments_are_named(surfaces: Surfaces, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decimate(*surfaces("icosphere", 1), **options)
    with pytest.raises(ValueError, match="belongs to 3 faces"):
        decimate(np.random.default_rng(0).normal(size=(5, 3)), [[0, 1, 2], [1, 0, 3], [0, 1, 4]])
