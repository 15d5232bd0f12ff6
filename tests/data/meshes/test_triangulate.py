"""Irregular meshes of parametrised surfaces: sound, even, of the size asked for, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from spheregeo.data.meshes.shapes import SHAPE_CLASSES, bend, primitives, rotation
from spheregeo.data.meshes.triangulate import triangle_areas, triangulate
from spheregeo.mesh import TriangleMesh, check


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


EULER = {"sphere": 2, "torus": 0, "disc": 1}


@pytest.mark.parametrize("name", SHAPE_CLASSES)
def test_every_primitive_is_a_sound_mesh(name: str) -> None:
    rng = np.random.default_rng(3)
    shape = primitives(rng)[name]
    vertices, faces, parameters = triangulate(shape.domain, shape.surface, 300, rng)
    assert check(vertices, faces).ok
    mesh = TriangleMesh(vertices, faces)
    assert mesh.euler_characteristic == EULER[shape.domain] and mesh.num_components == 1
    assert bool(mesh.border.any()) == (shape.domain == "disc")
    assert 0.8 * 300 < len(vertices) < 1.2 * 300
    np.testing.assert_array_equal(shape.surface(parameters), vertices)
    if shape.domain != "disc":
        assert volume(vertices, faces) > 0  # faces look outward
    assert float(mesh.corner_angles.max()) < np.radians(160)
    longest, median = mesh.edge_lengths.max(), mesh.edge_lengths.median()
    assert float(longest / median) < 3  # even: no patch without points


def test_areas_are_those_of_the_surface() -> None:
    rng = np.random.default_rng(0)
    vertices, faces, _ = triangulate("sphere", lambda u: u, 1500, rng)
    assert triangle_areas(vertices, faces).sum() == pytest.approx(4 * np.pi, rel=0.01)  # chords of a sphere
    assert volume(vertices, faces) == pytest.approx(4 / 3 * np.pi, rel=0.02)


def test_the_generator_decides_everything() -> None:
    shape = primitives(np.random.default_rng(0))["torus"]
    one, two = (triangulate(shape.domain, shape.surface, 200, np.random.default_rng(5)) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    other = triangulate(shape.domain, shape.surface, 200, np.random.default_rng(6))
    assert other[0].shape != one[0].shape or not np.allclose(other[0], one[0])


def test_bend_is_smooth_and_its_strength_counts() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, 3))
    near = points + 1e-4 * rng.standard_normal((200, 3))
    moved, beside = (bend(p, 1.0, np.random.default_rng(1)) for p in (points, near))
    gap = np.linalg.norm(moved - beside, axis=1) / np.linalg.norm(points - near, axis=1)
    assert gap.max() < 10
    size = np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean())
    np.testing.assert_allclose(
        bend(points, 0.0, np.random.default_rng(1)), (points - points.mean(0)) / size, atol=1e-12
    )
    assert np.abs(moved - (points - points.mean(0)) / size).max() > 0.1


def test_rotation_is_one() -> None:
    r = rotation(np.random.default_rng(0))
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(r) == pytest.approx(1)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="domain is 'cube'; expected one of 'sphere'"):
        triangulate("cube", lambda u: u, 100, np.random.default_rng(0))
    with pytest.raises(ValueError, match="num_vertices is 10"):
        triangulate("sphere", lambda u: u, 10, np.random.default_rng(0))
