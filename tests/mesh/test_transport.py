"""Ordered rings, intrinsic angles and transports: Gauss-Bonnet, gauge changes, borders, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spheregeo.groups import random_rotations
from spheregeo.mesh import load_mesh
from spheregeo.mesh.halfedges import ordered_rings
from spheregeo.mesh.shape import corner_angles, turn, vertex_normals
from spheregeo.mesh.transport import holonomy, intrinsic_rings, wrap_angle

Surfaces = Callable[..., tuple[np.ndarray, np.ndarray]]
ELLIPSOID = ("icosphere", 3, (1.0, 0.8, 0.6))
BOWTIE = np.array([[0, 1, 2], [0, 3, 4]])


@pytest.mark.parametrize("surface", [("icosphere", 2), ELLIPSOID, ("torus",)], ids=str)
def test_rings_are_counter_clockwise_and_whole(surfaces: Surfaces, surface: tuple) -> None:
    _, faces = surfaces(*surface)
    count = faces.max() + 1
    rings = ordered_rings(faces, count)
    after = {(f[k], f[(k + 1) % 3]): f[(k + 2) % 3] for f in faces.tolist() for k in range(3)}
    assert rings.closed.all() and len(rings.fan_start) == count
    for p in range(count):
        ring = rings.indices[rings.indptr[p] : rings.indptr[p + 1]]
        assert [after[p, q] for q in ring.tolist()] == np.roll(ring, -1).tolist()
    assert np.array_equal(rings.indices[rings.reverse], rings.rows)
    assert np.array_equal(rings.reverse[rings.reverse], np.arange(len(rings.indices)))


def test_a_border_vertex_has_its_ring_from_border_to_border_and_a_bowtie_one_after_another(
    surfaces: Surfaces,
) -> None:
    vertices, faces = surfaces("sheet", 4, 4)
    rings = ordered_rings(faces, len(vertices))
    assert (~rings.closed).sum() == 12 and rings.closed.sum() == 4
    assert rings.indices[rings.indptr[0] : rings.indptr[1]].tolist() == [4, 5, 1]
    bowtie = ordered_rings(BOWTIE, 6)
    assert bowtie.indices[: bowtie.indptr[1]].tolist() == [1, 2, 3, 4] and bowtie.fan_length[:2].tolist() == [
        2,
        2,
    ]
    assert bowtie.indptr[5] == bowtie.indptr[6], "a vertex of no face has no neighbours"


@pytest.mark.parametrize(
    ("surface", "euler"),
    [(("icosphere", 3), 2), (ELLIPSOID, 2), (("torus",), 0), (("torus", 30, 9, 0.7), 0)],
    ids=str,
)
def test_holonomies_sum_to_the_euler_characteristic(
    surfaces: Surfaces, random_frames: Callable[..., np.ndarray], surface: tuple, euler: int
) -> None:
    vertices, faces = surfaces(*surface)
    frames = random_frames(vertex_normals(vertices, faces))
    turns = holonomy(faces, intrinsic_rings(vertices, faces, frames))
    assert abs(turns.sum() - 2 * math.pi * euler) < 1e-11
    # each face holds the stretched angles of its corners less pi
    angles = corner_angles(vertices, faces)
    total = np.bincount(faces.reshape(-1), angles.reshape(-1))
    np.testing.assert_allclose(turns, (angles * 2 * np.pi / total[faces]).sum(1) - np.pi, atol=1e-13)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "euler"), [("rocker-arm", 0), ("homer", 2), ("fandisk", 2)])
def test_holonomies_of_real_meshes(name: str, euler: int, real_data: Path) -> None:
    mesh = load_mesh(real_data / "meshes" / f"{name}.obj")
    turns = holonomy(mesh.faces, intrinsic_rings(mesh.points, mesh.faces, mesh.frames))
    assert abs(turns.sum() - 2 * math.pi * euler) < 1e-10


def test_on_an_open_surface_the_border_turns_the_rest(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("sheet")
    vertices = vertices + np.random.default_rng(1).normal(size=vertices.shape) * 0.1
    turns = holonomy(faces, intrinsic_rings(vertices, faces))
    corners = np.bincount(faces.reshape(-1), corner_angles(vertices, faces).reshape(-1))
    rings = ordered_rings(faces, len(vertices))
    border = np.unique(rings.rows[rings.half_edge < 0])
    assert abs(turns.sum() + (np.pi - corners[border]).sum() - 2 * np.pi) < 1e-11


def test_a_turn_of_the_frames_changes_angles_and_transports_as_it_must(
    surfaces: Surfaces, random_frames: Callable[..., np.ndarray]
) -> None:
    vertices, faces = surfaces(*ELLIPSOID)
    frames = random_frames(vertex_normals(vertices, faces))
    alpha = np.random.default_rng(2).uniform(-4, 4, len(vertices))
    before = intrinsic_rings(vertices, faces, frames)
    after = intrinsic_rings(vertices, faces, turn(frames, alpha))
    p, q = before.rows, before.indices
    assert np.abs(wrap_angle(after.angle - before.angle + alpha[p])).max() < 1e-13
    assert np.abs(wrap_angle(after.transport - before.transport + alpha[p] - alpha[q])).max() < 1e-13
    rotation = random_rotations(1)[0].numpy()
    moved = intrinsic_rings(vertices @ rotation.T, faces, frames @ rotation.T)
    assert np.abs(wrap_angle(moved.transport - before.transport)).max() < 1e-13


def test_transports_are_those_of_the_sphere_up_to_the_size_of_its_faces() -> None:
    from spheregeo.grids import Icosahedral
    from spheregeo.sampling import neighbors

    worst = []
    for level in (2, 3, 4):
        grid = Icosahedral(level)
        rings = intrinsic_rings(grid.points, grid.faces, grid.frames)
        near = neighbors(grid, grid, 1.5 * grid.spacing)
        keys = (near.rows * grid.num_points + near.indices).numpy()
        place = np.searchsorted(keys, rings.rows * grid.num_points + rings.indices)
        assert np.abs(wrap_angle(near.angle.numpy()[place] - rings.angle)).max() < 0.002
        worst.append(np.abs(wrap_angle(near.transport.numpy()[place] - rings.transport)).max())
    assert worst[0] < 3e-3 and worst[2] < 3e-4, worst


def test_bending_changes_nothing(surfaces: Surfaces) -> None:
    flat, faces = surfaces("sheet", 8, 6)
    flat[:, 0] = np.round(flat[:, 0])  # bend along lines of equal x, so that no face is bent itself
    angle = flat[:, 0] / 4
    bent = np.stack([4 * np.sin(angle), flat[:, 1], 4 * np.cos(angle)], axis=1)
    flat[:, 0] *= 8 * np.sin(1 / 8)  # a step in x is a chord of the cylinder
    a, b = intrinsic_rings(flat, faces), intrinsic_rings(bent, faces)
    np.testing.assert_allclose(a.transport, b.transport, atol=1e-12)


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([[0, 1, 1]], r"faces\[0\] is \[0, 1, 1\]; expected three different"),
        ([[0, 1, 2], [1, 0, 3], [0, 1, 4]], r"edge \(0, 1\) belongs to 3 faces; expected at most two"),
        ([[0, 1, 2], [0, 1, 3]], "the same way; expected neighbours that are oriented alike"),
        ([[0, 1, 9]], "outside 0...5"),
    ],
)
def test_no_surface_is_refused(faces: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        intrinsic_rings(np.random.default_rng(0).normal(size=(6, 3)), np.array(faces))


def test_bad_arguments_are_named(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("icosphere", 1)
    with pytest.raises(ValueError, match=r"frames has shape \(3, 2, 3\); expected \(42, 2, 3\)"):
        intrinsic_rings(vertices, faces, np.zeros((3, 2, 3)))
    with pytest.raises(ValueError, match=r"vertices\[7\] is .*nan.*; expected finite"):
        intrinsic_rings(np.where(np.arange(42)[:, None] == 7, np.nan, vertices), faces)
    with pytest.raises(ValueError, match="rings was not built from"):
        holonomy(faces[:-1], intrinsic_rings(vertices, faces))
    with pytest.raises(ValueError, match="rings was not built from"):
        holonomy(faces[::-1], intrinsic_rings(vertices, faces))
