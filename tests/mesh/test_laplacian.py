"""Scalar and connection Laplacians: identities, the sphere's spectrum, triangle soups, oracles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import eigsh

from spheregeo.grids import Icosahedral
from spheregeo.mesh import load_arrays, repair
from spheregeo.mesh.connection import connection_laplacian
from spheregeo.mesh.laplacian import cotangent_laplacian, robust_laplacian
from spheregeo.mesh.shape import turn, vertex_normals
from spheregeo.mesh.transport import intrinsic_rings
from spheregeo.sampling import neighbors

Surfaces = Callable[..., tuple[np.ndarray, np.ndarray]]
REAL = ("spot", "rocker-arm", "homer", "fandisk", "cheburashka", "stanford-bunny")


def soup(vertices: int, faces: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random triangles between random points: edges of many faces, no orientation."""
    rng = np.random.default_rng(seed)
    corners = np.stack([rng.choice(vertices, 3, replace=False) for _ in range(faces)])
    return rng.normal(size=(vertices, 3)), np.unique(np.sort(corners), axis=0)


def off_diagonal(matrix: csr_matrix) -> csr_matrix:
    return matrix - diags(matrix.diagonal())


def lowest(matrix: csr_matrix, mass: np.ndarray, count: int) -> np.ndarray:
    """Eigenvalues, ascending; a few more than needed, so that none of a multiple one is missed."""
    start = np.random.default_rng(0).normal(size=len(mass))
    found = eigsh(matrix, k=count, M=diags(mass), sigma=-0.01, v0=start, return_eigenvectors=False)
    return np.sort(found)


def check_identities(matrix: csr_matrix, size: float = 1.0) -> None:
    assert abs(matrix - matrix.T).max() <= 1e-13 * size
    assert np.abs(matrix.sum(axis=1)).max() < 1e-12 * size


@pytest.mark.parametrize("surface", [("icosphere", 3), ("torus",), ("sheet",)], ids=str)
@pytest.mark.parametrize("build", [cotangent_laplacian, robust_laplacian])
def test_symmetric_with_zero_row_sums_and_no_negative_eigenvalue(
    surfaces: Surfaces, surface: tuple, build: Callable
) -> None:
    vertices, faces = surfaces(*surface)
    vertices = vertices + 0.02 * np.random.default_rng(0).normal(size=vertices.shape)
    matrix, mass = build(vertices, faces)
    check_identities(matrix)
    assert np.linalg.eigvalsh(matrix.toarray()).min() > -1e-12
    area = np.linalg.norm(np.cross(*(vertices[faces[:, k]] - vertices[faces[:, 0]] for k in (1, 2))), axis=1)
    assert abs(mass.sum() / (area.sum() / 2) - 1) < (1e-13 if build is cotangent_laplacian else 1e-3)
    double, more = build(2 * vertices[:, [2, 0, 1]], faces)
    assert abs(double - matrix).max() < 1e-12 and np.allclose(more, 4 * mass, rtol=1e-12)


def test_weights_are_half_the_cotangents_and_linear_functions_are_harmonic(surfaces: Surfaces) -> None:
    vertices = np.array([[0.0, 0, 0], [2, 0, 0], [0.5, 1, 0], [1, -2, 0]])
    matrix = cotangent_laplacian(vertices, [[0, 1, 2], [1, 0, 3]]).matrix.toarray()
    u, w = vertices[0] - vertices[2], vertices[1] - vertices[2]
    s, t = vertices[0] - vertices[3], vertices[1] - vertices[3]
    wanted = -(u @ w / np.linalg.norm(np.cross(u, w)) + s @ t / np.linalg.norm(np.cross(s, t))) / 2
    assert abs(matrix[0, 1] - wanted) < 1e-15 and matrix[2, 3] == 0
    flat, faces = surfaces("sheet")
    residual = cotangent_laplacian(flat, faces).matrix @ flat
    inner = (flat[:, 0] > 0) & (flat[:, 0] < 11) & (flat[:, 1] > 0) & (flat[:, 1] < 9)
    assert np.abs(residual[inner]).max() < 1e-13 and np.abs(residual).max() > 0.1


@pytest.mark.parametrize(("level", "wanted"), [(3, (1.0, 0.9943, 0.9856)), (4, (1.0, 0.9986, 0.9964))])
def test_eigenvalues_of_the_sphere(level: int, wanted: tuple[float, ...]) -> None:
    grid = Icosahedral(level)
    for build in (cotangent_laplacian, robust_laplacian):
        matrix, mass = build(grid.points, grid.faces)
        found = lowest(matrix, mass, 20)
        for degree, ratio in zip((1, 2, 3), wanted, strict=True):
            values = found[degree**2 : (degree + 1) ** 2] / (degree * (degree + 1))
            assert np.abs(values - ratio).max() < 6e-4


@pytest.mark.parametrize(("level", "wanted"), [(3, (1.0, 4.977, 10.86)), (4, (1.0, 4.994, 10.96))])
@pytest.mark.parametrize("intrinsic", [True, False])
def test_eigenvalues_of_tangent_fields_on_the_sphere(
    level: int, wanted: tuple[float, ...], intrinsic: bool
) -> None:
    grid = Icosahedral(level)
    pairs = (
        intrinsic_rings(grid.points, grid.faces, grid.frames)
        if intrinsic
        else neighbors(grid, grid, 1.5 * grid.spacing)
    )
    matrix, mass = cotangent_laplacian(grid.points, grid.faces)
    connection = connection_laplacian(matrix, pairs)
    assert abs(connection - connection.getH()).max() < 1e-14
    found = lowest(connection, mass, 20)
    ends = (0, 3, 8, 15)
    for k, value in enumerate(wanted):
        assert np.abs(found[ends[k] : ends[k + 1]] - value).max() < 6e-3


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_turn_of_the_frames_turns_the_connection_laplacian(
    surfaces: Surfaces, random_frames: Callable[..., np.ndarray], order: int
) -> None:
    vertices, faces = surfaces("torus")
    matrix = cotangent_laplacian(vertices, faces).matrix
    frames = random_frames(vertex_normals(vertices, faces))
    alpha = np.random.default_rng(1).uniform(-4, 4, len(vertices))
    before = connection_laplacian(matrix, intrinsic_rings(vertices, faces, frames), order)
    after = connection_laplacian(matrix, intrinsic_rings(vertices, faces, turn(frames, alpha)), order)
    change = diags(np.exp(-1j * order * alpha))
    assert abs(after - change @ before @ change.conj()).max() < 1e-12
    if order == 0:
        assert abs(before - matrix).max() < 1e-14


def test_edges_without_transport_are_named(surfaces: Surfaces) -> None:
    vertices, faces = surfaces("icosphere", 3, (1, 1, 5))
    rings = intrinsic_rings(vertices, faces)
    stretched = robust_laplacian(vertices, faces).matrix  # after edge flips
    with pytest.raises(ValueError, match=r"no transport from vertex \d+ to \d+; expected one for every edge"):
        connection_laplacian(stretched, rings)
    with pytest.raises(ValueError, match="pairs has 642 rows; expected 42"):
        connection_laplacian(cotangent_laplacian(*surfaces("icosphere", 1)).matrix, rings)


@pytest.mark.parametrize(("vertices", "faces"), [(8, 12), (20, 60), (60, 300)])
def test_a_triangle_soup_has_a_robust_laplacian(vertices: int, faces: int) -> None:
    v, f = soup(vertices, faces)
    matrix, mass = robust_laplacian(v, f)
    check_identities(matrix, abs(matrix).max())
    assert off_diagonal(matrix).max() <= 1e-10 and (mass >= 0).all()
    assert np.linalg.eigvalsh(matrix.toarray()).min() > -1e-10


def test_the_robust_laplacian_takes_what_is_no_surface() -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=(9, 3))
    v[3] = v[2]  # two vertices at one place
    v[6] = (v[4] + v[5]) / 2  # a face without area
    f = np.array([[0, 1, 2], [0, 1, 3], [1, 0, 4], [2, 3, 5], [4, 6, 5], [0, 0, 1], [0, 1, 4]])
    matrix, mass = robust_laplacian(v, f)
    assert np.isfinite(matrix.data).all() and np.isfinite(mass).all()
    check_identities(matrix, abs(matrix).max())
    assert off_diagonal(matrix).max() <= 1e-9 * abs(matrix).max()
    assert mass[7] == 0 and matrix[8].nnz == 0, "vertices of no face have an empty row"
    with pytest.raises(ValueError, match=r"faces have no area, the first faces\[3\] = \[2, 3, 5\]"):
        cotangent_laplacian(v, f[:5])
    with pytest.raises(ValueError, match=r"mollify is -1; expected a number"):
        robust_laplacian(v, f, mollify=-1)


def test_weights_of_a_surface_that_is_delaunay_are_the_cotangents_and_else_are_made_positive(
    surfaces: Surfaces,
) -> None:
    vertices, faces = surfaces("icosphere", 3)
    plain, robust = cotangent_laplacian(vertices, faces), robust_laplacian(vertices, faces)
    assert abs(plain.matrix - robust.matrix).max() < 1e-13
    np.testing.assert_allclose(robust.mass, plain.mass, rtol=1e-13)
    vertices = vertices * [1, 1, 5]
    assert off_diagonal(cotangent_laplacian(vertices, faces).matrix).max() > 0.1
    assert off_diagonal(robust_laplacian(vertices, faces).matrix).max() < 1e-10
    # the order and orientation of faces do not matter
    shuffled = np.random.default_rng(0).permutation(faces)
    shuffled[::2] = shuffled[::2, ::-1]
    again = robust_laplacian(vertices, shuffled)
    assert abs(again.matrix - robust_laplacian(vertices, faces).matrix).max() < 1e-9


@pytest.mark.parametrize("surface", [("icosphere", 4), ("torus",), ("sheet",)], ids=str)
def test_equals_the_oracles(surfaces: Surfaces, surface: tuple) -> None:
    vertices, faces = surfaces(*surface)
    compare(vertices * [1, 1, 1.7], faces)


def compare(vertices: np.ndarray, faces: np.ndarray) -> None:
    potpourri3d = pytest.importorskip("potpourri3d", reason="potpourri3d is the oracle of Laplacians")
    matrix, mass = cotangent_laplacian(vertices, faces)
    assert abs(matrix - potpourri3d.cotan_laplacian(vertices, faces)).max() < 1e-12
    np.testing.assert_allclose(mass, potpourri3d.vertex_areas(vertices, faces), rtol=1e-12)
    oracle = pytest.importorskip(
        "robust_laplacian", reason="robust_laplacian is the oracle of tufted Laplacians"
    )
    wanted = oracle.mesh_laplacian(vertices, faces)[0]  # stops flipping at weights of -1e-6
    assert abs(robust_laplacian(vertices, faces).matrix - wanted).max() < 1e-5


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_equals_the_oracles_on_real_meshes(name: str, real_data: Path) -> None:
    mesh, _ = repair(*load_arrays(real_data / "meshes" / f"{name}.obj"))
    compare(mesh.points.numpy(), mesh.faces.numpy())


@pytest.mark.parametrize(("vertices", "faces"), [(20, 60), (60, 300)])
def test_a_soup_equals_the_oracle(vertices: int, faces: int) -> None:
    oracle = pytest.importorskip(
        "robust_laplacian", reason="robust_laplacian is the oracle of tufted Laplacians"
    )
    v, f = soup(vertices, faces)
    matrix, mass = robust_laplacian(v, f)
    wanted, areas = oracle.mesh_laplacian(v, f)
    assert abs(matrix - wanted).max() < 1e-5
    np.testing.assert_allclose(mass, areas.diagonal(), rtol=1e-6)
