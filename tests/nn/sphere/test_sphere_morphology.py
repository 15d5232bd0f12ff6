"""Dilation, erosion and diffusion on spheres: dense definitions, symmetry of grids, semigroup, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spheregeo.grids import Equiangular, Grid, HEALPix, Icosahedral
from spheregeo.nn import SphereDiffusion, SphereDilation, SphereErosion
from spheregeo.nn.morphology import morphological_kernel

F64 = torch.float64
LAYERS = (SphereDilation, SphereErosion, SphereDiffusion)
Layer = SphereDilation | SphereDiffusion  # an erosion is a dilation of its kind


def dense(layer: Layer, x: Tensor, log_weights: Tensor) -> Tensor:
    """The definition over all pairs of points; distances from the chord."""
    p, q = layer.target.points, layer.source.points
    d = 2 * torch.asin((torch.cdist(p, q, compute_mode="donot_use_mm_for_euclid_dist") / 2).clamp_max(1))
    outside = d > layer.radius * (1 + 1e-9)
    rho2 = (log_weights.exp()[..., None] * d).square()  # (C, P, Q)
    u = x.flatten(2)
    if isinstance(layer, SphereDiffusion):
        share = (-rho2).exp().masked_fill(outside, 0.0) * layer.source.areas
        y = torch.einsum("cpq,bcq->bcp", share / share.sum(-1, keepdim=True), u)
    else:
        k = morphological_kernel(rho2, layer.alpha).masked_fill(outside, math.inf)
        erosion = isinstance(layer, SphereErosion)
        y = (u[:, :, None] + k).amin(-1) if erosion else (u[:, :, None] - k).amax(-1)
    return y.unflatten(2, layer.target.shape)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        (HEALPix(3), None, {}),
        (Icosahedral(2), None, {"radius": math.pi}),  # all pairs of points
        (Equiangular(8, 16), HEALPix(2, "nested"), {"spacings": 1.5}),
        (HEALPix(4), Equiangular(6, 12), {"radius": 0.9}),
    ],
)
def test_layers_are_their_dense_definitions(
    kind: type[Layer], source: Grid, target: Grid | None, options: dict[str, float]
) -> None:
    torch.manual_seed(0)
    layer = kind(3, source, target, **options).double()
    x = torch.randn(2, 3, *source.shape, dtype=F64, requires_grad=True)
    y, expected = layer(x), dense(layer, x, layer.log_weights)
    assert (y - expected).abs().max() < 1e-12
    g = torch.randn_like(y)
    for a, b in zip(*(torch.autograd.grad(t, (x, layer.log_weights), g) for t in (y, expected)), strict=True):
        assert (a - b).abs().max() < 1e-12 * max(1.0, float(b.abs().max()))
    assert bool((torch.autograd.grad(layer(x), layer.log_weights, g)[0] != 0).all())


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("grid", [HEALPix(4), HEALPix(4, "nested"), Icosahedral(2)])
def test_rotations_of_the_grid_are_exact(kind: type[Layer], grid: Grid) -> None:
    torch.manual_seed(0)
    layer, x = kind(2, grid).double(), torch.randn(1, 2, grid.num_points, dtype=F64)
    assert grid.symmetry is not None
    with torch.no_grad():
        y = layer(x)
        for permutation in grid.symmetry.permutations[::5]:
            turned = torch.empty_like(x)
            turned[..., permutation] = x
            assert (layer(turned)[..., permutation] - y).abs().max() < 1e-12


@pytest.mark.parametrize("alpha", [0.55, 1.0])
def test_dilation_grows_erosion_mirrors_and_steep_kernels_do_nothing(alpha: float) -> None:
    torch.manual_seed(0)
    grid = HEALPix(4)
    dilation, erosion = (kind(2, grid, alpha=alpha).double() for kind in (SphereDilation, SphereErosion))
    erosion.load_state_dict(dilation.state_dict())
    u = torch.randn(1, 2, grid.num_points, dtype=F64)
    with torch.no_grad():
        assert torch.equal(dilation(u), -erosion(-u))
        assert bool((dilation(u) >= u).all() and (erosion(u) <= u).all())
        assert bool((dilation(u) > u).any())
        closed = erosion(dilation(u))
        assert bool((closed >= u - 1e-12).all()), "d(p, q) and d(q, p) agree to rounding"
        assert (erosion(dilation(closed)) - closed).abs().max() < 1e-12, "closings are idempotent"
        for layer in (dilation, erosion):  # 0 at the centre, beyond all features elsewhere
            layer.log_weights.fill_(20.0)
            assert torch.equal(layer(u), u)


def test_pooling_over_a_disc_near_one_half() -> None:
    torch.manual_seed(0)
    grid = HEALPix(4)
    layer = SphereDilation(1, grid, spacings=3, alpha=0.501).double()
    x, d = torch.randn(1, 1, grid.num_points, dtype=F64), layer.distances.unique()[1:]
    gap = (d[1:] / d[:-1]).argmax()  # the disc ends in the widest gap of the distances
    reach = float((d[gap] * d[gap + 1]).sqrt())
    with torch.no_grad():
        layer.log_weights.fill_(-math.log(reach))
        near = torch.cdist(grid.points, grid.points) < 2 * math.sin(reach / 2)
        pooled = x.masked_fill(~near[:, None], -math.inf).amax(-1).squeeze()
        assert 4 * grid.num_points < int(near.sum()) < 30 * grid.num_points
        assert (layer(x).squeeze() - pooled).abs().max() < 1e-4


def test_diffusion_keeps_constants_and_shrinks_oscillations() -> None:
    layer = SphereDiffusion(2, HEALPix(4), Equiangular(8, 16)).double()
    ones = torch.full((1, 2, 192), 3.0, dtype=F64)
    assert (layer(ones) - 3).abs().max() < 1e-14
    x = torch.randn(1, 2, 192, dtype=F64)
    assert layer(x).var() < 0.6 * x.var()


def test_dilations_compose_like_times() -> None:
    """D_s D_t = D_{s+t} on a smooth field, up to the sampling; the error falls with the square of the spacing."""
    errors = []
    for nside in (4, 8):
        grid, alpha, times = HEALPix(nside), 1.0, (0.05, 0.1, 0.15)
        u = (grid.points @ torch.tensor([1.0, 2.0, 3.0], dtype=F64)).sin()[None, None]
        steps = []
        for t in times:
            layer = SphereDilation(1, grid, radius=1.2, alpha=alpha).double()
            layer.log_weights.data.fill_(-math.log(t) / (2 * alpha))
            steps.append(layer)
        with torch.no_grad():
            both = steps[2](u)
            errors.append(float((steps[1](steps[0](u)) - both).abs().max() / (both - u).abs().max()))
    assert errors[1] < 0.05 and errors[1] < 0.35 * errors[0], errors


@pytest.mark.parametrize("kind", LAYERS)
def test_what_does_not_fit_is_refused_by_name(kind: type[Layer]) -> None:
    with pytest.raises(ValueError, match="give the cutoff one way only"):
        kind(2, HEALPix(2), radius=0.5, spacings=2)
    with pytest.raises(ValueError, match=r"radius is 0\.05, which leaves points of HEALPix\(nside=4"):
        kind(2, HEALPix(2), HEALPix(4), radius=0.05)
    with pytest.raises(ValueError, match=r"expected \(batch, 2, 48\)"):
        kind(2, HEALPix(2))(torch.zeros(1, 3, 48))
    if kind is not SphereDiffusion:
        with pytest.raises(ValueError, match=r"alpha is 0\.5; expected a number above 0\.5"):
            SphereDilation(2, HEALPix(2), alpha=0.5)
