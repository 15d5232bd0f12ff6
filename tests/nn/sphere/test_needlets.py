"""Needlet layers: slow twins written out, thresholds, what rotations do, what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.grids import GaussLegendre
from spheregeo.groups import axis_angle, euler_matrix
from spheregeo.harmonics import needlet_profile, real_harmonics
from spheregeo.nn import NeedletBlock, NeedletConv, NeedletLift, ScaleInvariants, Shrinkage, SO3NeedletConv
from spheregeo.nn.sphere.needlets import _near_identity
from spheregeo.spectral import SHT, InverseSO3Transform, NeedletFrame, SO3Grid, SO3NeedletFrame

LMAX = 9
FINE = GaussLegendre(2 * LMAX + 2, 4 * LMAX + 4)
ROTATION = axis_angle((1.0, -2.0, 0.5), 1.1)


def coefficients(*batch: int, lmax: int = LMAX) -> Tensor:
    return torch.randn(
        *batch, (lmax + 1) ** 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def rotated(c: Tensor) -> Tensor:
    """Coefficients of f(R⁻¹x), by sampling: independent of any Wigner matrix."""
    moved = c @ real_harmonics(FINE.points @ ROTATION, LMAX).T
    return SHT(FINE, LMAX).double()(moved.unflatten(-1, FINE.shape))


def random_layer(layer: Any) -> Any:
    layer = layer.double()
    randomise(layer, torch.Generator().manual_seed(2))
    return layer


def test_the_convolution_is_an_integral_over_rings() -> None:
    """Slow twin: ∫ ψ(angle of x and y) f(y) dy with the filter's profile summed in space, ring by ring."""
    frame = NeedletFrame(LMAX)
    layer = random_layer(NeedletConv(2, 3, frame, taps=3))
    c = coefficients(4, 2).requires_grad_()
    bands = layer(c)
    field = c @ real_harmonics(FINE.points, LMAX).T  # (B, in, N)
    for scale in (0, 2, frame.num_scales - 1):
        grid, top = frame.grids[scale], frame.largest[scale]
        expected = torch.zeros(4, 3, grid.num_points, dtype=torch.float64)
        angle = torch.arccos((grid.points @ FINE.points.T).clamp(-1, 1))
        for tap in range(3):
            # Σ_l b(l) P_l(cos θ_k) (2l + 1)/4π P_l(cos r): the needlet averaged over a ring about its centre
            ring = torch.tensor(tap * math.pi / (top + 1), dtype=torch.float64)
            alone = [
                needlet_profile(torch.eye(LMAX + 1, dtype=torch.float64)[degree], ring)
                for degree in range(LMAX + 1)
            ]
            legendre = torch.stack(alone) * 4 * math.pi / (2 * torch.arange(LMAX + 1) + 1)
            kernel = needlet_profile(frame.windows[scale] * legendre, angle) * FINE.areas
            mixed = torch.einsum("oi,bin->bon", layer.weight[scale, :, :, tap], field)
            expected = expected + torch.einsum("pn,bon->bop", kernel, mixed)
        if scale == 0:
            expected = expected + layer.bias[:, None]
        torch.testing.assert_close(
            bands[scale].flatten(2), expected, rtol=0, atol=1e-6
        )  # arccos loses half the digits
        weights = [c, layer.weight]
        found = torch.autograd.grad(bands[scale].tanh().sum(), weights, retain_graph=True)
        slow = torch.autograd.grad(expected.tanh().sum(), weights, retain_graph=True)
        for a, b in zip(found, slow):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_convolution_and_reconstruction_commute_with_rotations() -> None:
    frame = NeedletFrame(LMAX)
    layer = random_layer(NeedletConv(2, 3, frame))
    c = coefficients(4, 2)
    expected = rotated(frame.reconstruct(layer(c)))
    assert (frame.reconstruct(layer(rotated(c))) - expected).norm() < 1e-10 * expected.norm()


@pytest.mark.parametrize("threshold", ["learned", "relative", "noise"])
def test_a_blocks_error_falls_with_oversampling(threshold: str) -> None:
    errors = []
    for oversampling in (1, 2, 3):
        block = NeedletBlock(
            2, 2, NeedletFrame(LMAX, oversampling=oversampling), threshold=threshold
        ).double()
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            block.conv.weight.normal_(generator=generator).mul_(0.4)
            assert block.conv.bias is not None
            block.conv.bias.normal_(generator=generator)
        c = coefficients(4, 2)
        with torch.no_grad():
            expected = rotated(block(c) - c)
            errors.append(float((block(rotated(c)) - rotated(c) - expected).norm() / expected.norm()))
    assert errors[0] < 0.12 and errors[1] < 0.04 and errors[2] < errors[0] / 4, errors


# ---- SO(3)


def so3_coefficients(lmax: int, *batch: int) -> Tensor:
    size = sum((2 * degree + 1) ** 2 for degree in range(lmax + 1))
    return torch.randn(*batch, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def turned(h: Tensor, lmax: int) -> Tensor:
    """Coefficients of h(Q⁻¹R): D^l(Q) h^l, with D found by turning points."""
    parts, start = [], 0
    points = GaussLegendre(lmax + 1, 2 * lmax + 2).points
    areas = GaussLegendre(lmax + 1, 2 * lmax + 2).areas
    harmonics, moved = real_harmonics(points, lmax), real_harmonics(points @ ROTATION.T, lmax)
    for degree in range(lmax + 1):
        size, block = 2 * degree + 1, slice(degree**2, (degree + 1) ** 2)
        matrix = moved[:, block].T @ (areas[:, None] * harmonics[:, block])  # S(Q x) = D S(x)
        part = h[..., start : start + size**2].unflatten(-1, (size, size))
        parts.append((matrix @ part).flatten(-2))
        start += size**2
    return torch.cat(parts, -1)


def test_lift_and_convolution_on_rotations_commute_with_rotations() -> None:
    frame = SO3NeedletFrame(LMAX)
    lift, layer = random_layer(NeedletLift(2, 3, LMAX)), random_layer(SO3NeedletConv(3, 2, frame))
    c = coefficients(2, 2)
    h, moved = lift(c), lift(rotated(c))
    torch.testing.assert_close(moved, turned(h, LMAX), rtol=0, atol=1e-11)
    expected = turned(frame.reconstruct(layer(h)), LMAX)
    assert (frame.reconstruct(layer(moved)) - expected).norm() < 1e-10 * expected.norm()


def test_the_lift_is_an_integral_against_turned_filters() -> None:
    """h(R) = ∫ f(x) ψ(R⁻¹x) dx, with the filters' point masses as harmonics up to lmax."""
    lmax = 3
    layer, c = random_layer(NeedletLift(2, 3, lmax)), coefficients(1, 2, lmax=lmax)
    grid, rotations = GaussLegendre(lmax + 1, 2 * lmax + 2), SO3Grid(lmax + 1)
    filters = layer.weight @ layer.table  # (out, in, (lmax + 1)²)
    moved = torch.einsum("...ji,nj->...ni", rotations.rotations, grid.points)  # R⁻¹x
    field = c @ (real_harmonics(grid.points, lmax) * grid.areas[:, None]).T
    expected = torch.einsum("oik,abcnk,sin->soabc", filters, real_harmonics(moved, lmax), field)
    torch.testing.assert_close(InverseSO3Transform(lmax)(layer(c)), expected, rtol=0, atol=1e-11)


def test_the_convolution_on_rotations_reads_the_band_at_moved_places() -> None:
    """Slow twin: Σ_k w_k (h * needlet)(R Q_k), by evaluating the band of h at the moved rotations through D itself."""
    lmax = 2
    frame = SO3NeedletFrame(lmax)
    layer, h = (
        random_layer(SO3NeedletConv(2, 3, frame, taps=2)),
        so3_coefficients(lmax, 1, 2).requires_grad_(),
    )
    for scale in range(frame.num_scales):
        top = frame.largest[scale]
        alpha, beta, gamma = _near_identity(math.pi / (top + 1), 2)
        places = frame.grids[scale].rotations.flatten(0, 2)
        moved = torch.einsum("nij,kjl->nkil", places, euler_matrix(alpha, beta, gamma))
        values = torch.zeros(1, 2, *moved.shape[:2], dtype=torch.float64)
        start = 0
        for degree in range(top + 1):
            size, block = 2 * degree + 1, slice(degree**2, (degree + 1) ** 2)
            harmonics = real_harmonics(FINE.points, top)[:, block]
            turned_points = torch.einsum("nkij,pj->nkpi", moved, FINE.points)
            matrices = torch.einsum(
                "nkpa,pb,p->nkab", real_harmonics(turned_points, top)[..., block], harmonics, FINE.areas
            )
            part = h[..., start : start + size**2].unflatten(-1, (size, size))
            values = values + frame.windows[scale, degree] * torch.einsum("siab,nkab->sink", part, matrices)
            start += size**2
        expected = torch.einsum("oik,sink->son", layer.weight[scale], values)
        if scale == 0:
            expected = expected + layer.bias[:, None]
        found = layer(h)[scale].flatten(2)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        wanted = [h, layer.weight]
        fast = torch.autograd.grad(found.tanh().sum(), wanted)
        slow = torch.autograd.grad(expected.tanh().sum(), wanted)
        for a, b in zip(fast, slow):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_shrinkage_is_the_soft_threshold() -> None:
    frame = NeedletFrame(4)
    bands = [b.detach() for b in frame(coefficients(3, 2, lmax=4))]
    layer = Shrinkage(2, frame, "learned", start=0.5).double()
    with torch.no_grad():
        layer.weight[1, 0] = -1.25  # the sign of a threshold means nothing
    for scale, (band, found) in enumerate(zip(bands, layer(bands))):
        if scale == 0:
            assert torch.equal(found, band)
            continue
        limit = torch.full((2,), 0.5, dtype=torch.float64)
        limit[0] = 1.25 if scale == 2 else 0.5
        expected = band.sign() * (band.abs() - limit[:, None, None]).clamp(min=0)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("threshold", ["learned", "relative", "noise"])
def test_no_threshold_is_the_identity(threshold: str) -> None:
    frame = NeedletFrame(4)
    bands = frame(coefficients(3, 2, lmax=4))
    for band, found in zip(bands, Shrinkage(2, frame, threshold, start=0.0).double()(bands)):
        assert torch.equal(found, band)


def test_noise_is_estimated_on_every_grid_and_removed() -> None:
    """White noise of standard deviation 0.1 in the coefficients has σ_j = 0.1 √(freedom / 4π); coarse scales keep more of it."""
    c = 0.1 * coefficients(8, 1, lmax=16)
    for frame in (NeedletFrame(16), NeedletFrame(16, grids="healpix")):
        layer = Shrinkage(1, frame, "noise", start=1.0)
        bands = frame(c)
        expected = 0.1 * math.sqrt(frame.freedom[-1] / (4 * math.pi))
        assert abs(float(layer._noise(bands[-1]).mean()) / expected - 1) < 0.1
        assert max(float((b != 0).double().mean()) for b in layer(bands)[-2:]) < 0.01
        loud = [
            b * (1 + 99 * (b.abs() > 3 * expected)) for b in bands
        ]  # a few large values hardly move a median
        assert abs(float(layer._noise(loud[-1]).mean()) / expected - 1) < 0.1


def test_gradients_away_from_the_kink() -> None:
    frame = NeedletFrame(2)
    for threshold in ("learned", "relative", "noise"):
        block = NeedletBlock(1, 2, frame, taps=2, threshold=threshold).double()
        c = coefficients(2, 1, lmax=2).requires_grad_()
        weights = [block.conv.weight, block.shrinkage.weight]

        def call(c: Tensor, *_: Tensor, block: NeedletBlock = block) -> Tensor:
            return block(c)

        assert torch.autograd.gradcheck(call, (c, *weights))


def test_invariants_are_means_over_the_sphere_and_see_no_rotation() -> None:
    frame = NeedletFrame(LMAX, oversampling=2)
    c = coefficients(3, 2)
    layer = ScaleInvariants(frame)
    found = layer(frame(c)).unflatten(1, (frame.num_scales, 2, 2))
    torch.testing.assert_close(found[:, 0, 1], c[..., 0] / math.sqrt(4 * math.pi), rtol=0, atol=1e-12)
    windows = frame.windows.repeat_interleave(2 * torch.arange(LMAX + 1) + 1, 1)
    squares = torch.einsum("bcn,sn->bsc", c.square(), windows.square()) / (4 * math.pi)
    torch.testing.assert_close(found[:, :, 0], squares, rtol=0, atol=1e-12)
    turned = layer(frame(rotated(c))).unflatten(1, (frame.num_scales, 2, 2))
    torch.testing.assert_close(turned[:, :, 0], found[:, :, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(turned[:, :, 1], found[:, :, 1], rtol=0.03, atol=1e-12)


def test_what_does_not_fit_is_refused_by_name() -> None:
    frame = NeedletFrame(2)
    with pytest.raises(ValueError, match=r"coefficients has shape \(1, 3, 9\); expected \(batch, 2"):
        NeedletConv(2, 3, frame)(torch.zeros(1, 3, 9))
    with pytest.raises(ValueError, match="threshold is 'hard'"):
        Shrinkage(2, frame, "hard")
    with pytest.raises(ValueError, match="start is -1"):
        Shrinkage(2, frame, start=-1)
    with pytest.raises(ValueError, match=r"bands\[1\] has shape"):
        Shrinkage(2, frame)([torch.zeros(1, 2, 2, 4), torch.zeros(1, 3, 2, 4), torch.zeros(1, 2, 3, 8)])
