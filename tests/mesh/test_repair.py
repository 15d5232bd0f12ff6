"""Checks and repair of broken meshes: every fault is found, mended, and accounted for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spheregeo.grids import Icosahedral
from spheregeo.mesh import TriangleMesh, check, repair, weld

SPHERE = Icosahedral(2)
POINTS, FACES = SPHERE.points.numpy(), SPHERE.faces.numpy()


def same_surface(mesh: TriangleMesh) -> bool:
    return torch.equal(mesh.points, SPHERE.points) and torch.equal(
        mesh.faces.sort(1).values, SPHERE.faces.sort(1).values
    )


def test_a_sound_mesh_comes_back_as_it_was() -> None:
    mesh, report = repair(POINTS, FACES, frames="first")
    assert mesh == TriangleMesh(POINTS, FACES, frames="first") and str(report) == "nothing to mend"
    assert report.before.ok and check(POINTS, FACES).faults == []
    assert torch.equal(report.vertex_index, torch.arange(162)) and torch.equal(
        report.face_index, torch.arange(320)
    )
    assert str(report.before) == "162 vertices, 320 faces, 1 components, 0 border edges, 0 duplicate vertices"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_orientation_is_made_consistent_and_outward(share: float) -> None:
    flipped = np.random.default_rng(0).random(len(FACES)) < share
    faces = np.where(flipped[:, None], FACES[:, ::-1], FACES)
    mesh, report = repair(POINTS, faces)
    assert same_surface(mesh) and len(report.before.misoriented_edges) > 0
    assert (mesh.normals * mesh.points).sum(1).min() > 0.9
    assert report.flipped_faces == flipped.sum() and f"{flipped.sum()} faces turned round" in str(report)


def test_outward_is_a_choice() -> None:
    inside_out, report = repair(POINTS, FACES[:, ::-1], outward=False)
    assert report.flipped_faces == 0 and (inside_out.normals * inside_out.points).sum(1).max() < -0.9
    outward, report = repair(POINTS, FACES[:, ::-1])
    assert report.flipped_faces == 320 and (outward.normals * outward.points).sum(1).min() > 0.9
    # an open surface has no inside: its majority decides
    assert repair(POINTS, FACES[:200, ::-1])[1].flipped_faces == 0
    few = FACES[:200].copy()
    few[:30] = few[:30, ::-1]
    assert repair(POINTS, few)[1].flipped_faces == 30


def test_each_part_is_oriented_by_itself_wherever_it_lies() -> None:
    far = POINTS + np.array([100.0, -50.0, 30.0])
    mesh, report = repair(np.concatenate([far, POINTS]), np.concatenate([FACES[:, ::-1], FACES + 162]))
    assert report.flipped_faces == 320 and mesh.num_components == 2
    assert (mesh.normals[:162] * (mesh.points[:162] - mesh.points[:162].mean(0))).sum(1).min() > 0.9


def test_degenerate_and_doubled_faces_and_loose_vertices_are_dropped() -> None:
    bad = [[0, 0, 1], [5, 9, 5], FACES[7][::-1], FACES[3], [0, 162, 1]]  # the last is collinear
    points = np.concatenate([POINTS, [(POINTS[0] + POINTS[1]) / 2], [[9.0, 9, 9], [math.nan, 0, 0]]])
    mesh, report = repair(points, np.concatenate([FACES, bad]))
    assert same_surface(mesh)
    before = report.before
    assert before.repeated.tolist() == [320, 321] and before.doubled.tolist() == [322, 323]
    assert (
        before.flat.tolist() == [324]
        and before.isolated.tolist() == [163, 164]
        and before.not_finite.tolist() == [164]
    )
    assert report.dropped_faces == 5 and report.dropped_vertices == 3 and not before.ok
    assert torch.equal(report.vertex_index, torch.arange(162)) and torch.equal(
        report.face_index, torch.arange(320)
    )
    values = torch.randn(165)
    assert torch.equal(values[report.vertex_index], values[:162])


def test_faces_at_a_vertex_that_is_not_finite_go_with_it() -> None:
    points = POINTS.copy()
    points[10] = math.inf
    mesh, report = repair(points, FACES)
    assert mesh.num_points == 161 and report.dropped_faces == 6 and int(mesh.border.sum()) == 6
    assert 10 not in report.vertex_index


def test_edges_of_three_faces_are_cut_or_refused() -> None:
    """Three wings on one axis; off the axis vertices stay joined, with the pinched tip as it was."""
    points = [[0, 0, 0], [0, 0, 1], [1, 0, 0], [-1, 1, 0], [-1, -1, 0], [2, 0, 0], [3, 1, 0]]
    faces = [[0, 1, 2], [0, 1, 3], [0, 1, 4], [2, 5, 6]]
    mesh, report = repair(points, faces)
    assert report.before.nonmanifold_edges.tolist() == [[0, 1]] and report.before.num_components == 1
    assert (
        report.cut_edges == 1
        and report.added_vertices == 4
        and mesh.num_points == 11
        and mesh.num_components == 3
    )
    assert report.vertex_index.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 0, 1, 1]
    assert torch.equal(mesh.points, torch.tensor(points).double()[report.vertex_index])
    assert torch.equal(report.vertex_index[mesh.faces].sort(1).values, torch.tensor(faces).sort(1).values)
    with pytest.raises(ValueError, match=r"1 edges belong to more than two faces, the first edge \[0, 1\]"):
        repair(points, faces, nonmanifold="refuse")
    with pytest.raises(ValueError, match="nonmanifold is 'weld'; expected one of"):
        repair(points, faces, nonmanifold="weld")


def test_two_spheres_that_share_an_edge_are_cut_apart() -> None:
    """Round a cut edge, faces stay with those they share a whole edge with."""
    a, b = FACES[0][:2]
    axis = POINTS[b] - POINTS[a]
    middle = (POINTS[a] + POINTS[b]) / 2
    mirror = POINTS - 2 * ((POINTS - middle) @ middle)[:, None] * middle / (middle @ middle)
    number = np.arange(162) + 162
    number[a], number[b] = a, b
    points, faces = np.concatenate([POINTS, mirror]), np.concatenate([FACES, number[FACES][:, ::-1]])
    assert abs(axis @ middle) < 1e-12 and len(check(points, faces).nonmanifold_edges) == 1
    mesh, report = repair(points, faces)
    # round the rest of each sphere its faces still hang together there, so both are whole
    assert mesh.num_components == 2 and mesh.euler_characteristic == 4 and not mesh.border.any()
    assert report.flipped_faces == 0 and report.added_vertices == 2


def test_a_moebius_strip_has_no_two_sides() -> None:
    n = 12
    t = np.arange(n) * 2 * np.pi / n
    rim = [np.stack([(1 + s * np.cos(t / 2)) * np.cos(t), (1 + s * np.cos(t / 2)) * np.sin(t), s * np.sin(t / 2)], 1)
           for s in (-0.3, 0.3)]  # fmt: skip
    low, high = np.arange(n), np.arange(n) + n
    after_low, after_high = np.append(low[1:], high[0]), np.append(high[1:], low[0])
    faces = np.concatenate([np.stack([low, after_low, high], 1), np.stack([after_low, after_high, high], 1)])
    with pytest.raises(ValueError, match="the part of the surface with face 0 has one side only"):
        repair(np.concatenate(rim), faces)


def test_random_soups_come_out_sound() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        points, faces = random.normal(size=(12, 3)), random.integers(0, 12, (15, 3))
        try:
            mesh, report = repair(points, faces)
        except ValueError as error:
            assert "one side only" in str(error)
            continue
        assert check(mesh.points, mesh.faces).ok
        assert str(repair(mesh.points, mesh.faces, outward=False)[1]) == "nothing to mend"
        assert torch.equal(mesh.points, torch.from_numpy(points)[report.vertex_index])
        old = torch.from_numpy(faces)[report.face_index]
        assert torch.equal(report.vertex_index[mesh.faces].sort(1).values, old.sort(1).values)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(ValueError, match="no face is left: 1 faces name a vertex twice"):
        repair(np.eye(3), [[0, 0, 1]])
    with pytest.raises(ValueError, match="outside"):
        repair(np.eye(3), [[0, 1, 3]])


def test_duplicate_vertices_are_reported_and_welded_only_when_asked() -> None:
    points, faces = POINTS[FACES].reshape(-1, 3), np.arange(960).reshape(-1, 3)
    report = check(points, faces)
    assert len(report.duplicates) == 960 - 162 and report.num_components == 320 and report.ok
    assert TriangleMesh(points, faces).num_points == 960
    welded, joined, number = weld(points, faces)
    mesh = TriangleMesh(welded, joined)
    assert (
        mesh.num_points == 162 and mesh.euler_characteristic == 2 and np.array_equal(welded[number], points)
    )
    assert np.array_equal(number[:3], [0, 1, 2]), "vertices come in the order of their first"
