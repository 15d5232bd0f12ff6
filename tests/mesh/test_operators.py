"""Operators of surfaces: eigenbases, gradients, patches, divergences, clouds, each with what it has to give exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse.linalg import ArpackNoConvergence

from spheregeo.mesh import Laplacian, TriangleMesh
from spheregeo.mesh.operators import (
    Patches,
    cloud_laplacian,
    cloud_normals,
    edge_gradient,
    edge_patches,
    eigenbasis,
    heat_kernel_signature,
    metric_map,
    nearest_patches,
    quadratic_fit,
    spectrum,
    vector_calculus,
    whole_eigenspaces,
)
from spheregeo.mesh.shape import turn

Surfaces = Callable[..., tuple[np.ndarray, np.ndarray]]


def sphere(surfaces: Surfaces, level: int = 3) -> tuple[TriangleMesh, np.ndarray, np.ndarray]:
    mesh = TriangleMesh(*surfaces("icosphere", level))
    return mesh, mesh.points.numpy(), mesh.frames.numpy()


def scattered(count: int = 40, seed: int = 0) -> np.ndarray:
    """Points of the plane round the origin, which comes first."""
    points = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    points[0] = 0
    return points


# ---- eigenbases


def test_eigenpairs_solve_the_problem(surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """By dense and by sparse solver alike, in a surface of any size."""
    vertices, faces = surfaces("icosphere", 2)
    laplacian = TriangleMesh(3 * vertices, faces).laplacian("robust")
    dense = eigenbasis(laplacian, 9)
    monkeypatch.setattr(spectrum, "DENSE", 10)
    for basis in (dense, eigenbasis(laplacian, 9)):
        values, vectors = basis
        assert np.abs(vectors.T @ (laplacian.mass[:, None] * vectors) - np.eye(9)).max() < 1e-10
        rest = laplacian.matrix @ vectors - laplacian.mass[:, None] * vectors * values
        assert np.abs(rest).max() < 1e-9
        assert np.abs(values - dense.values).max() < 1e-10
        assert np.abs(9 * values[1:4] - 2).max() < 0.05  # l(l + 1) on the sphere of radius 3
    assert len(eigenbasis(laplacian, 1000).values) == len(vertices)


def test_a_failed_factorisation_is_tried_again(surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch) -> None:
    laplacian = TriangleMesh(*surfaces("icosphere", 1)).laplacian()
    monkeypatch.setattr(spectrum, "DENSE", 4)
    shifts, solve = [], spectrum.eigsh

    def stubborn(*args: object, sigma: float, **options: object) -> object:
        shifts.append(sigma)
        if len(shifts) < 3:
            raise ArpackNoConvergence("none", np.zeros(0), np.zeros(0))
        return solve(*args, sigma=sigma, **options)

    monkeypatch.setattr(spectrum, "eigsh", stubborn)
    assert len(eigenbasis(laplacian, 4).values) == 4
    assert shifts == [-0.01, -0.1, -1.0]
    monkeypatch.setattr(spectrum, "TRIES", 1)
    shifts.clear()
    with pytest.raises(ValueError, match="repair the mesh"):
        eigenbasis(laplacian, 4)
    with pytest.raises(ValueError, match="at least 1 pair"):
        eigenbasis(laplacian, 0)


def test_large_surfaces_say_so(
    surfaces: Surfaces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    laplacian = TriangleMesh(*surfaces("icosphere", 1)).laplacian()
    monkeypatch.setattr(spectrum, "DENSE", 4)
    monkeypatch.setattr(spectrum, "LARGE", 10)
    eigenbasis(laplacian, 3)
    assert "3 eigenpairs of a surface of 42 vertices" in capsys.readouterr().err


def test_cuts_leave_eigenspaces_whole(surfaces: Surfaces) -> None:
    """On the icosphere multiplicities are 1, 3, 5, then 4 and 3 (l = 3 splits)."""
    basis = eigenbasis(TriangleMesh(*surfaces("icosphere", 2)).laplacian(), 20)
    for pairs, left in ((1, 1), (2, 1), (4, 4), (8, 4), (9, 9), (12, 9), (13, 13)):
        found = whole_eigenspaces(basis, pairs)
        assert found.vectors.shape[1] == len(found.values)
        assert len(found.values) in (left, {13: 12, 12: 12}.get(pairs, left)), pairs


def test_heat_kernel_signature(surfaces: Surfaces) -> None:
    """All at time 0; equal everywhere on a sphere; unchanged by another basis of degenerate eigenspaces."""
    laplacian = TriangleMesh(*surfaces("icosphere", 1)).laplacian()
    basis = eigenbasis(laplacian, 42)
    assert np.abs(heat_kernel_signature(basis, np.zeros(1))[0] * laplacian.mass - 1).max() < 1e-9
    few = whole_eigenspaces(basis, 9)
    times = np.array([0.1, 1.0])
    signature = heat_kernel_signature(few, times)
    turned = few.vectors.copy()
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned[:, 1:4] = -turned[:, 1:4] @ q
    assert np.abs(heat_kernel_signature(few._replace(vectors=turned), times) - signature).max() < 1e-12
    mean = laplacian.mass @ signature.T
    assert np.abs(mean - np.exp(-few.values * times[:, None]).sum(1)).max() < 1e-10


# ---- gradients over edges


def test_gradients_of_linear_functions_in_the_plane(surfaces: Surfaces) -> None:
    mesh = TriangleMesh(*surfaces("sheet", 6, 5))
    gradient = edge_gradient(
        edge_patches(mesh.points.numpy(), mesh.frames.numpy(), mesh.edges.numpy()), eps=0.0
    )
    a = np.array([0.3, -0.7, 0.0])
    expected = mesh.frames.numpy() @ a
    assert np.abs((gradient @ (mesh.points.numpy() @ a)).reshape(-1, 2) - expected).max() < 1e-12
    assert np.abs(gradient @ np.ones(mesh.num_points)).max() < 1e-12


@pytest.mark.parametrize("size", [0.01, 100.0])
def test_scale(surfaces: Surfaces, size: float) -> None:
    """Gradients and divergences of a scaled shape are scaled by the inverse: nothing absolute is added."""
    mesh, p, frames = sphere(surfaces, 2)
    edges = mesh.edges.numpy()
    for hops, operator in (
        (1, lambda patches: edge_gradient(patches)),
        (2, lambda patches: vector_calculus(quadratic_fit(patches), frames).gradient),
        (2, lambda patches: vector_calculus(quadratic_fit(patches), frames).divergence),
    ):
        one, other = (operator(edge_patches(s * p, frames, edges, hops)) for s in (1.0, size))
        assert abs(size * other - one).max() < 1e-9 * abs(one).max()


def test_frames_turn_operators(surfaces: Surfaces) -> None:
    mesh, p, frames = sphere(surfaces, 2)
    angle = np.random.default_rng(0).uniform(0, 6, len(p))
    other, edges = turn(frames, angle), mesh.edges.numpy()
    back = np.exp(-1j * angle)
    f = p[:, 0] * p[:, 1]
    v = np.random.default_rng(1).normal(size=(len(p), 2)) @ np.array([1, 1j])

    def number(x: np.ndarray) -> np.ndarray:
        return np.asarray(x.reshape(-1, 2) @ np.array([1, 1j]))

    def pair(z: np.ndarray) -> np.ndarray:
        return np.stack([z.real, z.imag], 1).ravel()

    one, two = (edge_gradient(edge_patches(p, e, edges)) @ f for e in (frames, other))
    assert np.abs(number(two) - back * number(one)).max() < 1e-12
    one, two = (vector_calculus(quadratic_fit(edge_patches(p, e, edges, 2)), e) for e in (frames, other))
    assert np.abs(number(two.gradient @ f) - back * number(one.gradient @ f)).max() < 1e-12
    assert np.abs(two.divergence @ pair(back * v) - one.divergence @ pair(v)).max() < 1e-11
    assert np.abs(two.curl @ pair(back * v) - one.curl @ pair(v)).max() < 1e-11
    assert np.abs(number(two.hodge @ pair(back * v)) - back * number(one.hodge @ pair(v))).max() < 1e-9


# ---- quadratic patches


def patch_of(points: np.ndarray) -> Patches:
    """One patch: points (n, 3) as the first of them sees them."""
    count = len(points)
    return Patches(np.array([0, count]), np.arange(count), points)


def test_quadratics_are_recovered() -> None:
    """From clean values to 1e-6, and with outliers and noise roughly."""
    c = np.array([0.4, -0.3, 0.2, 0.7, -0.5, 0.6])
    x, y = scattered().T
    f = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], 1) @ c
    fit = quadratic_fit(patch_of(np.stack([x, y, f - c[0]], 1)))
    assert np.abs(fit.coefficients(f)[0] - c).max() < 1e-6
    assert np.abs(fit.surface[0, 1:] - c[1:]).max() < 1e-6
    noisy = f + 0.01 * np.random.default_rng(1).normal(size=len(f))
    noisy[3] += 0.5
    assert np.abs(fit.coefficients(noisy)[0] - c).max() < 0.5
    assert np.abs(quadratic_fit(patch_of(np.stack([x, y, f], 1)), h=3.0).weights - fit.weights).max() > 1e-3
    with pytest.raises(ValueError, match="h is 0"):
        quadratic_fit(fit.patches, 0)


def test_metric_map_on_an_analytic_patch() -> None:
    """Vectors a_x Γ_x + a_y Γ_y at the points of a paraboloid, in frames of their own, come back as a."""
    x, y = scattered().T
    z = 0.3 * x * x - 0.2 * x * y + 0.1 * y * y
    zx, zy = 0.6 * x - 0.2 * y, -0.2 * x + 0.2 * y
    one, zero = np.ones_like(x), np.zeros_like(x)
    tangents = np.stack([np.stack([one, zero, zx], 1), np.stack([zero, one, zy], 1)], 1)
    normal = np.cross(tangents[:, 0], tangents[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    e1 = tangents[:, 0] / np.linalg.norm(tangents[:, 0], axis=1, keepdims=True)
    angle = np.random.default_rng(2).uniform(0, 6, len(x))
    angle[0] = 0.0  # the first point's frame is that of the coordinates
    frames = turn(np.stack([e1, np.cross(normal, e1)], 1), angle)
    fit = quadratic_fit(patch_of(np.stack([x, y, z], 1)))
    assert np.abs(fit.slopes() - np.stack([zx, zy], 1)).max() < 1e-6
    map_, area = metric_map(fit, frames)
    a = np.random.default_rng(3).normal(size=(len(x), 2))
    v = np.einsum("tij,tj->ti", frames, np.einsum("tik,ti->tk", tangents, a))
    assert np.abs(np.einsum("tij,tj->ti", map_, v) - a).max() < 1e-6
    assert np.abs(area - np.sqrt(1 + zx**2 + zy**2)).max() < 1e-6


def test_calculus_on_the_sphere(surfaces: Surfaces) -> None:
    """Known gradients, divergences and curls; grad of a constant is 0, curl grad is small, Hodge of a rotation is known."""
    mesh, p, frames = sphere(surfaces)
    calculus = vector_calculus(quadratic_fit(edge_patches(p, frames, mesh.edges.numpy(), 2)), frames)
    a = np.array([0.3, 0.5, -0.2])
    assert np.abs(calculus.gradient @ np.ones(len(p))).max() < 1e-9
    grad = calculus.gradient @ (p @ a)
    assert np.abs(grad.reshape(-1, 2) - frames @ a).max() < 5e-3
    assert np.abs(calculus.curl @ grad).mean() < 1e-2
    assert np.abs(calculus.divergence @ grad + 2 * p @ a).max() < 1e-2
    rotation = np.einsum("vij,vj->vi", frames, np.cross(a, p)).ravel()
    assert np.abs(calculus.divergence @ rotation).max() < 1e-2
    assert np.abs(calculus.curl @ rotation - 2 * p @ a).max() < 1e-2  # counter-clockwise seen from outside
    assert np.abs(calculus.hodge @ rotation - 2 * rotation).mean() < 1e-2


def test_patches(surfaces: Surfaces) -> None:
    mesh, p, frames = sphere(surfaces, 1)
    edges = mesh.edges.numpy()
    one, two = (edge_patches(p, frames, edges, hops) for hops in (1, 2))
    assert sorted(np.diff(one.indptr)) == [6] * 12 + [7] * 30
    assert (one.indices[one.indptr[:-1]] == np.arange(42)).all() and np.diff(two.indptr).min() > 12
    assert (
        np.abs(np.linalg.norm(one.local, axis=1) - np.linalg.norm(p[one.indices] - p[one.rows], axis=1)).max()
        < 1e-12
    )
    near = nearest_patches(p, frames, 5)
    corner = int(np.diff(one.indptr).argmin())  # of the icosahedron, with five neighbours
    sets = [set(q.indices[q.indptr[corner] : q.indptr[corner + 1]]) for q in (near, one)]
    assert sets[0] == sets[1] and (np.diff(near.indptr) == 6).all()
    doubled = nearest_patches(np.concatenate([p[:3]] * 3), np.concatenate([frames[:3]] * 3), 4)
    assert (doubled.indices[doubled.indptr[:-1]] == np.arange(9)).all()
    with pytest.raises(ValueError, match="hops is 0"):
        edge_patches(p, frames, edges, 0)
    with pytest.raises(ValueError, match="k is 0"):
        nearest_patches(p, frames, 0)


# ---- clouds


def test_clouds_against_the_oracle(surfaces: Surfaces) -> None:
    oracle = pytest.importorskip("robust_laplacian")
    ball = surfaces("icosphere", 2)[0]
    matrix, mass = cloud_laplacian(ball)
    expected, areas = oracle.point_cloud_laplacian(ball)
    assert abs(matrix - expected).max() < 1e-9 and np.abs(mass - areas.diagonal()).max() < 1e-12
    # where local triangulations disagree, both glue them as they like: the spectrum hardly sees it
    points = ball * [1.0, 0.8, 0.6]
    expected, areas = oracle.point_cloud_laplacian(points)
    ours, theirs = (
        eigenbasis(Laplacian(m, a), 9).values
        for m, a in (cloud_laplacian(points), (expected, areas.diagonal()))
    )
    assert np.abs(ours[1:] / theirs[1:] - 1).max() < 0.03
    normals = cloud_normals(ball)
    assert np.abs(np.abs((normals * ball).sum(1)) - 1).max() < 1e-2
    flipped = cloud_laplacian(points, -cloud_normals(points))
    assert abs(flipped.matrix - cloud_laplacian(points).matrix).max() < 1e-9
    matrix, mass = cloud_laplacian(points)
    assert abs(matrix - matrix.T).max() < 1e-12 and matrix.sum(1).max() < 1e-10 and mass.min() > 0
    with pytest.raises(ValueError, match="points has shape"):
        cloud_laplacian(points[:3])
    with pytest.raises(ValueError, match="normals has shape"):
        cloud_laplacian(points, points[:4])
