"""Operators of surfaces in layers: slow twins, bases and frames that must not matter, batches, clouds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spheregeo.audit import randomise
from spheregeo.groups import random_rotations
from spheregeo.mesh import TriangleMesh
from spheregeo.nn import (
    DeltaConv,
    DiffusionBlock,
    GradientFeatures,
    LearnedDiffusion,
    OperatorSettings,
    SurfaceOperators,
)
from spheregeo.nn.surface.delta.conv import LENGTH, VectorOperators
from spheregeo.nn.surface.diffusion import heat

ALL = OperatorSettings(pairs=12, diffusion=True, hops=2)


def shape(level: int = 1, seed: int = 0) -> TriangleMesh:
    """A bumpy closed surface of its own."""
    import trimesh

    ball = trimesh.creation.icosphere(level)
    p, draw = torch.tensor(ball.vertices), torch.Generator().manual_seed(seed)
    wave = 3 * torch.rand(3, generator=draw, dtype=torch.float64)
    return TriangleMesh(p * (1 + 0.3 * torch.sin(3 * p @ wave))[:, None], torch.tensor(ball.faces))


def operators(mesh: TriangleMesh, settings: OperatorSettings = ALL) -> SurfaceOperators:
    return SurfaceOperators.of(mesh, settings, torch.float64)


def random(layer: nn.Module) -> Any:
    return randomise(layer.double().eval(), torch.Generator().manual_seed(1))


def agree(fast: Any, slow: Any, layer: nn.Module, x: Tensor, bound: float = 1e-10) -> None:
    """Output, input gradient and weight gradients of two functions of x are alike, to the largest value."""
    found = []
    for function in (fast, slow):
        at = x.clone().requires_grad_()
        y = function(at)
        weights = [p for p in layer.parameters() if p.requires_grad]
        seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
        found.append([y, *torch.autograd.grad((y * seed).sum(), [at, *weights])])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= bound * b.abs().max()
        assert b.abs().max() > 0


def noise(channels: int, points: int) -> Tensor:
    return torch.randn(1, channels, points, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# ---- the operators themselves


def test_surfaces_have_area_one() -> None:
    """Neither size nor units are seen; the scale of the operators is that of a surface of area 1."""
    mesh = shape()
    one, other = operators(mesh), operators(TriangleMesh(100 * mesh.points, mesh.faces))
    assert float(one.areas.sum()) == pytest.approx(1)
    for name, tensor in one.named_buffers():
        if tensor.is_floating_point():
            far = dict(other.named_buffers())[name]
            assert (tensor.abs() - far.abs()).abs().max() < 1e-8 * tensor.abs().max(), name
    basis = one.vectors * one.areas[:, None]
    assert (basis.T @ one.vectors - torch.eye(12)).abs().max() < 1e-10


def test_batches_are_side_by_side() -> None:
    meshes = [shape(), shape(seed=1), shape(seed=2)]
    parts = [operators(mesh) for mesh in meshes]
    both = SurfaceOperators.concatenate(parts)
    x = noise(2, both.num_points)
    pieces = x.split(both.counts, 2)
    for name in ("gradient", "slope", "stiffness"):
        apart = torch.cat([p.map(name)(piece) for p, piece in zip(parts, pieces, strict=True)], 2)
        assert (both.map(name)(x) - apart).abs().max() < 1e-12
    v = noise(2, 2 * both.num_points)
    cut = [2 * n for n in both.counts]
    apart = torch.cat(
        [p.map("divergence")(piece) for p, piece in zip(parts, v.split(cut, 2), strict=True)], 2
    )
    assert (both.map("divergence")(v) - apart).abs().max() < 1e-12
    assert torch.equal(
        both.largest(x), torch.cat([p.largest(q) for p, q in zip(parts, pieces, strict=True)], 2)
    )
    assert torch.allclose(both.mean(x), torch.cat([p.mean(q) for p, q in zip(parts, pieces, strict=True)]))
    for elements in ("vertices", "edges", "faces"):
        apart = torch.cat([p.at(q, elements) for p, q in zip(parts, pieces, strict=True)], 2)
        assert torch.equal(both.at(x, elements), apart)
    with pytest.raises(ValueError, match="expected 1"):
        both.mean(x.expand(2, -1, -1))
    with pytest.raises(ValueError, match="elements is 'corners'"):
        both.at(x, "corners")
    with pytest.raises(ValueError, match="parts is empty"):
        SurfaceOperators.concatenate([])
    with pytest.raises(ValueError, match="different settings"):
        SurfaceOperators.concatenate([parts[0], operators(meshes[1], OperatorSettings(pairs=4))])
    with pytest.raises(ValueError, match="expected 'slope' among them"):
        operators(meshes[0], OperatorSettings(pairs=4)).map("slope")
    with pytest.raises(TypeError, match="grid is Tensor"):
        SurfaceOperators.of(meshes[0].points, ALL)  # type: ignore[arg-type]


def test_largest_is_over_two_rings() -> None:
    mesh, x = shape(), noise(1, 42)
    indptr, indices = mesh.adjacency
    near = torch.eye(42, dtype=torch.bool)
    for p in range(42):
        near[p, indices[indptr[p] : indptr[p + 1]]] = True
    near = (near.double() @ near.double()) > 0
    expected = torch.where(near, x[0, 0], -torch.inf).amax(1)
    assert torch.equal(operators(mesh).largest(x)[0, 0], expected)


# ---- diffusion


def test_spectral_diffusion_twin() -> None:
    mesh = shape()
    held, layer = operators(mesh), random(LearnedDiffusion(3, pairs=12))

    def slow(x: Tensor) -> Tensor:
        times = 0.01 * torch.log1p(layer.raw_time.exp())
        basis, mass = held.vectors, torch.diag(held.areas)
        parts = [
            basis @ torch.diag(torch.exp(-held.values[0] * t)) @ basis.T @ mass @ x[0, c]
            for c, t in enumerate(times)
        ]
        return torch.stack(parts)[None]

    agree(lambda x: layer(x, held), slow, layer, noise(3, 42))


@pytest.mark.parametrize("dense", [True, False])
def test_implicit_diffusion_twin(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Cholesky factors and by conjugate gradients, whose derivatives of second order are right too."""
    monkeypatch.setattr(heat, "DENSE", 1000 if dense else 1)
    mesh = shape()
    held, layer = operators(mesh), random(LearnedDiffusion(3, method="implicit"))
    laplacian = mesh.laplacian("robust").matrix.toarray()

    def slow(x: Tensor) -> Tensor:
        mass, stiff = torch.diag(held.areas), torch.from_numpy(laplacian)
        return torch.stack(
            [torch.linalg.inv(mass + t * stiff) @ mass @ x[0, c] for c, t in enumerate(layer.times())]
        )[None]

    agree(lambda x: layer(x, held), slow, layer, noise(3, 42), 1e-9)
    x = noise(3, 42).requires_grad_()

    def function(raw: Tensor) -> Tensor:
        return heat.implicit(x, 0.01 * nn.functional.softplus(raw), held)[..., :5]

    raw = layer.raw_time.detach().requires_grad_()
    assert torch.autograd.gradcheck(function, raw, atol=1e-6)
    assert torch.autograd.gradgradcheck(function, raw, atol=1e-5)
    monkeypatch.setattr(heat, "STEPS", 1)
    if not dense:
        with pytest.raises(ValueError, match="did not solve"):
            layer(x, held)


def test_both_methods_flow_alike() -> None:
    """One implicit step is a first-order step in time: with all eigenfunctions exp(-λt) and 1/(1 + λt) differ by (λt)²/2."""
    mesh = shape()
    held = operators(mesh, OperatorSettings(pairs=42, diffusion=True))
    x, times = noise(2, 42), torch.tensor([1e-5, 2e-5], dtype=torch.float64)
    a, b = heat.spectral(x, times, held), heat.implicit(x, times, held)
    assert (a - b).abs().max() < 2e-3 and (a - x).abs().max() > 1e-2
    means = [held.mean(y) for y in (x, a, b)]
    assert max((m - means[0]).abs().max() for m in means) < 1e-10  # heat is kept


def test_signs_and_bases_of_eigenvectors_do_not_matter() -> None:
    """On the sphere, whose eigenspaces are degenerate: any basis of each gives the network the same numbers."""
    import trimesh

    ball = trimesh.creation.icosphere(2)
    held = operators(TriangleMesh(ball.vertices, ball.faces), OperatorSettings(pairs=9, diffusion=True))
    other = held.shared()
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = -held.vectors.clone()
    turned[:, 1:4] = turned[:, 1:4] @ torch.from_numpy(q)
    other.vectors = turned
    layer, x = random(DiffusionBlock(3, pairs=9)), noise(3, 162)
    assert (layer(x, held) - layer(x, other)).abs().max() < 1e-12
    cut = operators(TriangleMesh(ball.vertices, ball.faces), OperatorSettings(pairs=6, diffusion=True))
    assert bool((cut.vectors[:, 4:] == 0).all()) and bool((cut.vectors[:, 3] != 0).any())


# ---- gradients


@pytest.mark.parametrize("oriented", [True, False])
def test_gradient_features_twin(oriented: bool) -> None:
    mesh = shape()
    held, layer = operators(mesh), random(GradientFeatures(3, oriented=oriented))
    gradient = held.map("gradient").to_dense()[0]

    def slow(x: Tensor) -> Tensor:
        g = torch.view_as_complex((0.05 * x[0] @ gradient.T).unflatten(1, (42, 2)).contiguous())  # (C, P)
        weight = layer.mix.weight
        c = torch.complex(weight[0], weight[1] if oriented else torch.zeros_like(weight[0]))
        return torch.tanh((g.conj() * (c @ g)).real)[None]

    agree(lambda x: layer(x, held), slow, layer, noise(3, 42))


def test_frames_do_not_matter_and_orientation_does() -> None:
    """Turned frames change neither outputs nor the gradients of a loss; a mirror image looks alike only without orientation."""
    mesh = shape(2)
    turned = mesh.with_frames("random", seed=3)
    mirror = TriangleMesh(
        mesh.points * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64), mesh.faces.flip(1)
    )
    x = noise(3, 162)
    for layer in (
        DiffusionBlock(3, pairs=12),
        DiffusionBlock(3, pairs=12, oriented=False),
        DeltaConv("3x0", "4x0 + 2x1"),
    ):
        random(layer)
        scalars = (lambda y: y[:, :4]) if isinstance(layer, DeltaConv) else (lambda y: y)
        found = []
        for surface in (mesh, turned, mirror):
            y = scalars(layer(x, operators(surface)))
            weights = [p for n, p in layer.named_parameters() if "along" not in n]
            found.append([y, *torch.autograd.grad(y.square().sum(), weights)])
        for a, b in zip(found[0], found[1], strict=True):
            assert (a - b).abs().max() < 1e-12 * max(1.0, float(a.detach().abs().max()))
        same = (found[0][0] - found[2][0]).abs().max() < 1e-10
        assert same == (not isinstance(layer, DiffusionBlock) or not layer.gradients.oriented)  # type: ignore[union-attr]


# ---- scalars and vectors


def test_delta_conv_twin() -> None:
    """Every operator dense, every point by itself, complex numbers for vectors."""
    mesh = shape()
    held, layer = operators(mesh), random(DeltaConv("2x0 + 3x1", "4x0 + 2x1", act="silu"))
    grad = LENGTH * held.map("slope").to_dense()[0]
    div = LENGTH * held.map("divergence").to_dense()[0]
    near = held.map("slope").to_dense()[0].unflatten(0, (42, 2)).abs().sum(1) > 0
    near |= torch.eye(42, dtype=torch.bool)

    def complexes(v: Tensor) -> Tensor:
        return torch.view_as_complex(v.unflatten(-1, (-1, 2)).contiguous())

    def flat(z: Tensor) -> Tensor:
        return torch.view_as_real(z).flatten(-2)

    def normed(norm: Any, x: Tensor) -> Tensor:
        scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps))[:, None]
        return nn.functional.silu((x - norm.running_mean[:, None]) * scale + norm.bias[:, None])

    def slow(x: Tensor) -> Tensor:
        scalars, v = x[0, :2], torch.complex(*x[0, 2:].unflatten(0, (3, 2)).unbind(1))  # (3, P)
        d, c = flat(v) @ div.T, -flat(1j * v) @ div.T
        parts = torch.cat([scalars, d, c, (v.abs() ** 2 + 1e-6).sqrt()])
        here = normed(layer.here_norm, layer.here.matrix() @ parts)
        close = normed(layer.near_norm, layer.near.matrix() @ scalars)
        largest = torch.where(near, close[:, None], -torch.inf).amax(2)
        s = here + largest
        hodge = -(complexes(d @ grad.T) + 1j * complexes(c @ grad.T))
        arrows = torch.cat([v, hodge, complexes(s @ grad.T)])
        moved = torch.complex(*layer.along.weight) @ arrows
        size = (moved.abs() ** 2 + 1e-6).sqrt()
        moved = moved * normed(layer.along_norm, size) / size
        return torch.cat([s, torch.stack([moved.real, moved.imag], 1).flatten(0, 1)])[None]

    agree(lambda x: layer(x, held), slow, layer, noise(8, 42), 1e-9)


def test_vector_calculus_of_features() -> None:
    """The Hodge Laplacian is that of its parts; curl grad is small beside grad on a finer surface."""
    ball = shape(3).points / shape(3).points.norm(dim=1, keepdim=True)
    mesh = TriangleMesh(ball * torch.tensor([1.0, 0.9, 0.8], dtype=torch.float64), shape(3).faces)
    calculus = VectorOperators(operators(mesh, OperatorSettings(hops=2)))
    x = torch.stack([mesh.points[:, 0], mesh.points[:, 1] * mesh.points[:, 2]])[None]
    assert calculus.grad(torch.ones_like(x)).abs().max() < 1e-9
    v = calculus.grad(x)
    assert calculus.curl(v).abs().mean() < 0.05 * calculus.div(v).abs().mean()
    assert torch.equal(calculus.hodge(v), calculus.hodge_of(calculus.div(v), calculus.curl(v)))


def test_vectors_turn_with_their_frames() -> None:
    mesh, layer = shape(2), random(DeltaConv("1x0 + 1x1", "1x0 + 2x1"))
    angle = torch.rand(162, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * 2 * math.pi
    first, second = mesh.frames.unbind(1)
    c, s = torch.cos(angle), torch.sin(angle)
    frames = torch.stack(
        [c[:, None] * first + s[:, None] * second, c[:, None] * second - s[:, None] * first], 1
    )
    back = torch.complex(c, -s)
    x = noise(3, 162)

    def turned(fields: Tensor) -> Tensor:
        z = torch.complex(*fields.unflatten(1, (-1, 2)).unbind(2)) * back
        return torch.stack([z.real, z.imag], 2).flatten(1, 2)

    y = layer(x, operators(mesh))
    other = layer(torch.cat([x[:, :1], turned(x[:, 1:])], 1), operators(mesh.with_frames(frames)))
    assert (other - torch.cat([y[:, :1], turned(y[:, 1:])], 1)).abs().max() < 1e-12 * y.abs().max()


def test_errors() -> None:
    with pytest.raises(ValueError, match="method is 'exact'"):
        LearnedDiffusion(3, method="exact")
    with pytest.raises(ValueError, match="pairs is 0"):
        LearnedDiffusion(3, pairs=0)
    for kind in ("1x1", "2x0 + 1x2", "1x0o"):
        with pytest.raises(ValueError, match="expected scalars and perhaps vectors"):
            DeltaConv(kind, "2x0")
    with pytest.raises(ValueError, match="hops is 0"):
        DeltaConv("2x0", "2x0", hops=0)
    with pytest.raises(ValueError, match="operators must be given"):
        GradientFeatures(2)(torch.zeros(1, 2, 5))
    with pytest.raises(TypeError, match="operators is TriangleMesh"):
        GradientFeatures(2)(torch.zeros(1, 2, 5), shape())  # type: ignore[arg-type]


def test_clouds() -> None:
    """A cloud's layers see motions and other signs of estimated normals not at all, up to rounding."""
    points = shape(2).points.numpy()
    turn = random_rotations(1, generator=torch.Generator().manual_seed(2))[0].numpy()
    layer, x = random(DiffusionBlock(2, pairs=8, oriented=False)), noise(2, len(points))
    settings = OperatorSettings(pairs=8, diffusion=True)
    here, there = (
        layer(x, SurfaceOperators.of_points(p, settings=settings, dtype=torch.float64))
        for p in (points, 3 * points @ turn.T + 1)
    )
    assert (here - there).abs().max() < 1e-8
    cloud = SurfaceOperators.of_points(points, shape(2).normals, OperatorSettings(hops=1), k=12)
    assert DeltaConv("2x0", "2x0 + 1x1")(x.float(), cloud).shape == (1, 4, len(points))
