"""Spectral layers beside complex tables written out, and rotated coefficient by coefficient; kernels, scales and errors.

The compliance suite (tests/testing/test_every_layer.py) measures S2Conv, SO3Conv, SO3ToS2, SO3Integrate, SO3BatchNorm,
SO3SpectralPool, ZonalConv, SpectralConv, SpectralPool and SpinConv from field to field.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.special import sph_harm_y
from torch import Tensor, nn

from spheregeo.grids import Equiangular, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.groups import random_rotations
from spheregeo.harmonics import packed_wigner, unpack_wigner, z_polar_matrix
from spheregeo.nn import (
    Equatorial,
    FullSpectrum,
    NearIdentity,
    S2Conv,
    SO3BatchNorm,
    SO3Conv,
    SO3Integrate,
    SO3SpectralPool,
    SO3ToS2,
    SpectralConv,
    SpectralPool,
    SpinConv,
    ZonalConv,
)
from spheregeo.nn.sphere.spectral import SpectralKernel
from spheregeo.spectral import SHT, InverseSHT, InverseSO3Transform, SO3Grid, SO3Transform, resolved_degree

LMAX = 3
GRID = GaussLegendre(4, 8)
KERNELS: list[SpectralKernel] = [
    NearIdentity(max_beta=0.7, num_alpha=3, num_beta=2),
    NearIdentity(num_alpha=3, num_beta=1, num_gamma=2, max_gamma=0.4),
    Equatorial(num_alpha=4, max_beta=0.2, num_beta=2),
    FullSpectrum(),
]


# ---- the slow twin: complex harmonics and Wigner matrices by their definitions, every sum one einsum over full tables


def harmonics(points: Tensor) -> Tensor:
    """Complex Y_lm with scipy's phase. Shape: (N, (lmax + 1)²)."""
    theta, phi = (
        torch.acos(points[:, 2].clamp(-1, 1)).numpy(),
        torch.atan2(points[:, 1], points[:, 0]).numpy(),
    )
    columns = [
        sph_harm_y(degree, m, theta, phi) for degree in range(LMAX + 1) for m in range(-degree, degree + 1)
    ]
    return torch.from_numpy(np.stack(columns, -1))


def wigner(alpha: Tensor, beta: Tensor, gamma: Tensor) -> list[Tensor]:
    """Complex D^l = exp(-iα J_z) exp(-iβ J_y) exp(-iγ J_z). Shape: (N, 2l + 1, 2l + 1) for each degree."""
    found = []
    for degree in range(LMAX + 1):
        m = np.arange(-degree, degree + 1)
        raising = np.diag(np.sqrt(degree * (degree + 1) - m[:-1] * (m[:-1] + 1)), -1)
        d = np.stack([expm(-1j * b * (raising - raising.T) / 2j) for b in beta.numpy()])
        left, right = (
            np.exp(-1j * alpha.numpy()[:, None] * m)[:, :, None],
            np.exp(-1j * gamma.numpy()[:, None] * m)[:, None],
        )
        found.append(torch.from_numpy(left * d * right))
    return found


def angles(size: int) -> tuple[Tensor, Tensor, Tensor]:
    beta = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    turn = 2 * math.pi * torch.arange(size, dtype=torch.float64) / size
    b, a, c = torch.meshgrid(beta, turn, turn, indexing="ij")
    return a.flatten(), b.flatten(), c.flatten()


def haar(size: int) -> Tensor:
    """Weights by integrating every Legendre polynomial that the nodes can tell apart. Shape: (size³,), sum 8π²."""
    x = np.cos((np.arange(size) + 0.5) * np.pi / size)
    weights = np.linalg.solve(np.polynomial.legendre.legvander(x, size - 1).T, 2 * np.eye(size)[0])
    return torch.from_numpy(weights).repeat_interleave(size**2) * (2 * math.pi / size) ** 2


def of_kernel(layer: Any, on_sphere: bool) -> list[Tensor]:
    """Complex coefficients of a layer's filters, from its weights: point masses, or functions with real coefficients."""
    weight, kernel = layer.weight.to(torch.complex128), layer.kernel
    if isinstance(kernel, FullSpectrum):
        change = real_to_complex()
        parts = []
        if on_sphere:
            for u, w in zip(change, weight.split([len(u) for u in change], -1), strict=True):
                parts.append(w @ u / math.sqrt(4 * math.pi))
        else:
            for u, w in zip(change, weight.split([len(u) ** 2 for u in change], -1), strict=True):
                size = len(u)
                real = w.unflatten(-1, (size, size)).mT * (math.sqrt(size) / (8 * math.pi**2))
                parts.append(u.conj().mT.conj() @ real @ u.conj())
        return parts
    alpha, beta, gamma = (angle.flatten() for angle in kernel._angles())
    if on_sphere:
        alpha, beta = (angle[..., 0].flatten() for angle in kernel._angles()[:2])
        points = torch.stack([beta.sin() * alpha.cos(), beta.sin() * alpha.sin(), beta.cos()], -1)
        table = weight @ harmonics(points).conj()
        return list(table.split([2 * degree + 1 for degree in range(LMAX + 1)], -1))
    masses = wigner(alpha, beta, gamma)
    return [
        torch.einsum("oik,kmn->oimn", weight, d) * ((2 * degree + 1) / (8 * math.pi**2))
        for degree, d in enumerate(masses)
    ]


def real_to_complex() -> list[Tensor]:
    """Matrices U with complex coefficients = real coefficients @ U, found from values at random points."""
    points = torch.randn(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = points / points.norm(dim=1, keepdim=True)
    from spheregeo.harmonics import real_harmonics

    real, full = real_harmonics(points, LMAX).to(torch.complex128), harmonics(points)
    change = torch.linalg.lstsq(full, real).solution.mT  # S = Y changeᵀ
    return [change[k * k : (k + 1) ** 2, k * k : (k + 1) ** 2] for k in range(LMAX + 1)]


def s2_twin(layer: S2Conv, x: Tensor) -> Tensor:
    size = 2 * (layer.lmax_out + 1)
    f = torch.einsum(
        "bip,p,pl->bil", x.flatten(2).to(torch.complex128), GRID.areas.to(torch.complex128), harmonics(GRID.points).conj()
    )  # fmt: skip
    y: Any = 0
    for degree, (d, psi) in enumerate(zip(wigner(*angles(size)), of_kernel(layer, True), strict=True)):
        part = f[..., degree**2 : (degree + 1) ** 2]
        y = y + torch.einsum("bim,oin,rmn->bor", part, psi.conj(), d.conj())
    bias = 0 if layer.bias is None else layer.bias[:, None]
    return (y.real + bias).unflatten(-1, (size, size, size))


def so3_twin(layer: SO3Conv, x: Tensor) -> Tensor:
    size, after = 2 * (layer.lmax_in + 1), 2 * (layer.lmax_out + 1)
    y: Any = 0
    weighted = (x.flatten(2) * haar(size)).to(torch.complex128)
    pairs = zip(wigner(*angles(size)), wigner(*angles(after)), of_kernel(layer, False), strict=True)
    for degree, (d, back, psi) in enumerate(pairs):
        h = (2 * degree + 1) / (8 * math.pi**2) * torch.einsum("bir,rmn->bimn", weighted, d)
        out = 8 * math.pi**2 / (2 * degree + 1) * torch.einsum("bimn,oikn->bomk", h, psi.conj())
        y = y + torch.einsum("bomk,rmk->bor", out, back.conj())
    bias = 0 if layer.bias is None else layer.bias[:, None]
    return (y.real + bias).unflatten(-1, (after, after, after))


def agree(layer: nn.Module, twin: Callable[..., Tensor], x: Tensor, tolerance: float = 1e-11) -> None:
    """Output, input gradient and weight gradients of both, from one random cotangent."""
    found = []
    for function in (layer, lambda t: twin(layer, t)):
        t = x.clone().requires_grad_()
        y = function(t)
        cotangent = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
        found.append([y, *torch.autograd.grad((y * cotangent).sum(), [t, *layer.parameters()])])
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def drawn(layer: nn.Module) -> nn.Module:
    """The layer in float64 with a random bias."""
    torch.manual_seed(2)
    layer = layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_convolutions_equal_sums_over_complex_tables(kernel: SpectralKernel) -> None:
    torch.manual_seed(0)
    agree(
        drawn(S2Conv(2, 3, GRID, LMAX, kernel=kernel)), s2_twin, torch.randn(2, 2, 4, 8, dtype=torch.float64)
    )
    x = torch.randn(2, 2, 8, 8, 8, dtype=torch.float64)  # not band-limited
    agree(drawn(SO3Conv(2, 3, LMAX, kernel=kernel)), so3_twin, x)
    agree(drawn(SO3Conv(2, 1, LMAX, LMAX + 1, lmax=LMAX, kernel=kernel)), so3_twin, x)


def test_one_input_channel_takes_the_short_way() -> None:
    layer = drawn(S2Conv(1, 3, GRID, LMAX))
    agree(layer, s2_twin, torch.randn(2, 1, 4, 8, dtype=torch.float64))


# ---- rotations, coefficient by coefficient


def blocks(rotation: Tensor, lmax: int) -> list[Tensor]:
    """Real matrices D^l(R) of z-polar harmonics."""
    matrices = unpack_wigner(packed_wigner(rotation, lmax))
    return [z_polar_matrix(k) @ d @ z_polar_matrix(k).mT for k, d in enumerate(matrices)]


def turned(coefficients: Tensor, rotation: Tensor, on_sphere: bool) -> Tensor:
    """Coefficients of the rotated function, on the sphere or on SO(3)."""
    parts, start = [], 0
    for d in blocks(rotation, 8):
        size = len(d) if on_sphere else len(d) ** 2
        if start == coefficients.shape[-1]:
            break
        part = coefficients[..., start : start + size].unflatten(-1, (len(d), -1))
        parts.append((d @ part).flatten(-2))
        start += size
    return torch.cat(parts, -1)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_rotated_signals_give_rotated_signals(kernel: SpectralKernel) -> None:
    rotation = random_rotations(1, torch.Generator().manual_seed(4))[0]
    grid, b = GaussLegendre(8, 16), 6
    first = drawn(S2Conv(2, 3, grid, b, kernel=kernel))
    second = drawn(SO3Conv(3, 2, b, b - 1, kernel=kernel))
    third = drawn(SO3ToS2(2, 2, b - 1, grid, kernel=kernel))
    synthesis, lift, drop = InverseSHT(grid, 7), SO3Transform(b), SO3Transform(b - 1)
    c = torch.randn(2, 2, 64, dtype=torch.float64)
    runs = []
    for coefficients in (c, turned(c, rotation, True)):
        h = first(synthesis(coefficients))
        g = second(h)
        runs.append((lift(h), drop(g), SHT(grid, 5)(third(g))))
    for before, after, on_sphere in zip(*runs, (False, False, True), strict=True):
        expected = turned(before, rotation, on_sphere)
        assert (expected - before).abs().max() > 0.1
        assert (after - expected).norm() < 1e-10 * expected.norm()


def test_full_group_of_degrees_is_reached() -> None:
    """Filters that differ in n alone give outputs that differ: an S2 filter is no zonal one."""
    layer = S2Conv(1, 1, GRID, LMAX, kernel=NearIdentity(max_beta=1.0)).double()
    h = SO3Transform(LMAX)(layer(torch.randn(1, 1, 4, 8, dtype=torch.float64)))
    block = h[0, 0, 35:84].view(7, 7)
    assert block.abs().amax(0).min() > 1e-3


# ---- read-outs, norm, pooling


def test_integration_and_projection() -> None:
    b = 4
    c = torch.randn(2, 3, 84, dtype=torch.float64)
    x = InverseSO3Transform(3, SO3Grid(b))(c)
    torch.testing.assert_close(SO3Integrate(3)(x), c[..., 0])  # D⁰ = 1
    weights = haar(2 * b) / (8 * math.pi**2)
    noise = torch.randn(2, 3, 8, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(SO3Integrate(3).double()(noise), noise.flatten(2) @ weights)
    # a mean over γ is what the filter of one point mass at the pole gives
    plain = SO3ToS2(3, 3, 3)(noise)
    torch.testing.assert_close(SO3ToS2(3, 3, 3, lmax=3)(x), x.mean(-1), rtol=1e-6, atol=1e-6)
    tiny = SO3ToS2(3, 3, 3, kernel=NearIdentity(max_beta=1e-9, num_alpha=1, num_beta=1), bias=False).double()
    nn.init.zeros_(tiny.weight)
    with torch.no_grad():
        tiny.weight[range(3), range(3)] = 1.0
    torch.testing.assert_close(tiny(noise), plain, rtol=1e-6, atol=1e-6)


def test_projection_equals_a_convolution_and_the_mean_over_turns() -> None:
    """Σ_k w_k h(R Q_k), averaged over turns about each point, for filters on SO(3) and on the sphere at inverse places."""
    kernel = NearIdentity(max_beta=0.6, num_alpha=4, num_beta=1, num_gamma=1)
    conv = SO3Conv(2, 1, 3, kernel=kernel, bias=False).double()
    project = SO3ToS2(2, 1, 3, kernel=kernel, bias=False).double()
    x = torch.randn(1, 2, 8, 8, 8, dtype=torch.float64)
    # Q = R_z(α) R_y(β) R_z(−α) and Q⁻¹ differ by α → α + π, half the ring
    with torch.no_grad():
        project.weight.copy_(conv.weight.roll(2, -1))
    expected = SHT(Equiangular(8, 8), 3)(conv(x).mean(-1))
    torch.testing.assert_close(SHT(Equiangular(8, 8), 3)(project(x)), expected)


def test_batch_norm_is_of_the_group() -> None:
    x = torch.randn(3, 2, 6, 6, 6, dtype=torch.float64) * 2 + 1
    norm = SO3BatchNorm(2, 2).double()
    y = norm(x)
    w = haar(6) / (8 * math.pi**2)
    mean = (y.flatten(2) @ w).mean(0)
    torch.testing.assert_close(mean, torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close((y.flatten(2).square() @ w).mean(0), torch.ones(2).double(), atol=1e-4, rtol=0)
    assert not torch.allclose(
        y.mean((0, 2, 3, 4)), torch.zeros(2).double(), atol=1e-3
    )  # rotations weigh unlike


def test_pooling_keeps_low_degrees() -> None:
    c = torch.randn(1, 2, 84, dtype=torch.float64)
    x = InverseSO3Transform(3)(c)
    low = SO3SpectralPool(3, 1)(x)
    torch.testing.assert_close(SO3Transform(1)(low), c[..., :10])
    torch.testing.assert_close(SO3SpectralPool(3, 5)(x), InverseSO3Transform(3, SO3Grid(6))(c))
    f = torch.randn(1, 2, 16, dtype=torch.float64)
    on = SpectralPool(GRID, HEALPix(4), lmax=2)(InverseSHT(GRID, 3)(f))
    torch.testing.assert_close(on, InverseSHT(HEALPix(4), 2)(f[..., :9]))


# ---- degree by degree


def by_degree(weight: Tensor, c: Tensor) -> Tensor:
    """Every degree's matrix by itself, in a loop. Shape: weight (out, in, l), c (B, in, (lmax + 1)²)."""
    columns = [weight[..., math.isqrt(k)] @ c[..., k, None] for k in range(c.shape[-1])]
    return torch.cat(columns, -1)


def zonal_twin(layer: ZonalConv, x: Tensor) -> Tensor:
    c = torch.einsum("bip,p,pk->bik", x.flatten(2), GRID.areas, real(GRID))
    weight = layer.weight
    if layer.anchors is not None:
        at = torch.linspace(0, LMAX, layer.anchors, dtype=torch.float64)
        hats = (1 - (torch.arange(LMAX + 1)[:, None] - at).abs() * (layer.anchors - 1) / LMAX).clamp_min(0)
        weight = torch.einsum("oik,lk->oil", weight, hats)
    y = by_degree(weight, c) @ real(layer.target).mT + layer.bias[:, None]
    return y.unflatten(-1, layer.target.shape)


def real(grid: Grid) -> Tensor:
    from spheregeo.harmonics import real_harmonics

    return real_harmonics(grid.points, LMAX)


def spectral_twin(layer: SpectralConv, x: Tensor) -> Tensor:
    c = torch.einsum("bip,p,pk->bik", x.flatten(2), GRID.areas, real(GRID))
    if layer.operator == "dhconv":
        y = by_degree(layer.weight.permute(1, 2, 0), c)
    else:
        columns: list[Tensor] = []
        weight = torch.complex(layer.weight[0], layer.weight[1])
        for degree in range(LMAX + 1):
            row: list[Any] = [None] * (2 * degree + 1)
            for m in range(degree + 1):
                plus, minus = c[..., degree**2 + degree + m], c[..., degree**2 + degree - m]
                value = torch.complex(plus, minus if m else torch.zeros_like(plus))
                out = value @ (weight[degree * (degree + 1) // 2 + m]).mT
                row[degree - m] = out.imag
                row[degree + m] = out.real
            columns += row
        y = torch.stack(columns, -1)
    return (y @ real(layer.target).mT + layer.bias[:, None]).unflatten(-1, layer.target.shape)


@pytest.mark.parametrize("anchors", [None, 3])
def test_zonal_filters_are_one_number_for_each_degree(anchors: int | None) -> None:
    layer = drawn(ZonalConv(2, 3, GRID, HEALPix(4), lmax=LMAX, anchors=anchors))
    agree(layer, zonal_twin, torch.randn(2, 2, 4, 8, dtype=torch.float64))


@pytest.mark.parametrize("operator", ["dhconv", "diagonal"])
def test_spectral_operators(operator: str) -> None:
    layer = drawn(SpectralConv(2, 3, GRID, HEALPix(4), lmax=LMAX, operator=operator))
    agree(layer, spectral_twin, torch.randn(2, 2, 4, 8, dtype=torch.float64))


def test_a_zonal_filter_is_the_integral_of_driscoll_and_healy() -> None:
    """(f * ψ)(x) = 2π ∫ f(y) ψ(⟨x, y⟩) dy / … for ψ = P_2: only degree 2 is left, times 4π/5 by Funk and Hecke."""
    grid = GaussLegendre(12, 24)
    layer = ZonalConv(1, 1, grid, lmax=3, bias=False).double()
    with torch.no_grad():
        layer.weight.zero_()[..., 2] = 4 * math.pi / 5
    f = InverseSHT(grid, 3)(torch.randn(1, 1, 16, dtype=torch.float64))
    cosine = grid.points @ grid.points.mT
    expected = ((3 * cosine**2 - 1) / 2) @ (grid.areas * f.flatten())
    torch.testing.assert_close(layer(f).flatten(), expected)


def spin_twin(layer: SpinConv, x: Tensor) -> Tensor:
    """Gradients and curls of each degree through a matrix of their own, with transforms of one field at a time."""
    rows, out = [], []
    for channels, count, order in layer.in_type.blocks:
        for k in range(count):
            part = x[:, channels][:, k] if order == 0 else x[:, channels][:, 2 * k : 2 * k + 2]
            c = SHT(GRID, layer.lmax, spin=order)(part)
            rows += [c] if order == 0 else [c[:, 0], c[:, 1]]
    weight = layer.weight if layer.mask is None else layer.weight * layer.mask
    mixed = by_degree(weight, torch.stack(rows, 1))
    for channels, count, order in layer.out_type.blocks:
        for k in range(count):
            c = mixed[:, channels]
            c = c[:, k] if order == 0 else c[:, 2 * k : 2 * k + 2]
            y = InverseSHT(layer.target, layer.lmax, spin=order)(c)
            out += [y[:, None]] if order == 0 else [y]
    y = torch.cat(out, 1)
    bias = torch.cat([layer.bias, layer.bias.new_zeros(y.shape[1] - len(layer.bias))])
    return y + bias.view(-1, *[1] * (y.ndim - 2))


@pytest.mark.parametrize("reflections", [False, True])
def test_spin_weighted_convolution(reflections: bool) -> None:
    layer = drawn(SpinConv("1x0 + 2x1", "2x0 + 1x1 + 1x2", GRID, lmax=LMAX, reflections=reflections))
    agree(layer, spin_twin, torch.randn(2, 5, 4, 8, dtype=torch.float64))


def test_reflections_keep_gradients_and_curls_apart() -> None:
    """The mirror image in the plane y = 0: rows stay, columns are reversed, east components change sign."""
    signs_in, signs_out = torch.tensor([1.0, 1, -1]), torch.tensor([1.0, 1, -1, 1, -1])
    x = torch.randn(1, 3, 4, 8, dtype=torch.float64)

    def mirror(field: Tensor, signs: Tensor) -> Tensor:
        return field.flip(-1).roll(1, -1) * signs[:, None, None]

    for reflections in (True, False):
        layer = drawn(SpinConv("1x0 + 1x1", "1x0 + 2x1", GRID, lmax=2, reflections=reflections))
        with torch.no_grad():
            difference = layer(mirror(x, signs_in)) - mirror(layer(x), signs_out)
        assert (difference.abs().max().item() < 1e-12) == reflections


# ---- kernels, scales, places


def test_kernels_see_where_they_say() -> None:
    """A filter of point masses about the identity reads a signal on SO(3) near each rotation: a bump stays a bump."""
    near = NearIdentity(max_beta=0.2)
    assert near.num_on_sphere(4) == 24 and near.num_on_rotations(4) == 192
    layer = SO3Conv(
        1, 1, 7, kernel=NearIdentity(max_beta=1e-9, num_alpha=1, num_beta=1, num_gamma=1)
    ).double()
    with torch.no_grad():
        layer.weight.fill_(1.0)
    x = InverseSO3Transform(7)(torch.randn(1, 1, 680, dtype=torch.float64))
    torch.testing.assert_close(layer(x), x, rtol=1e-6, atol=1e-6)  # a point mass at the identity


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_unit_variance_stays_of_order_one(kernel: SpectralKernel) -> None:
    torch.manual_seed(0)
    x = InverseSO3Transform(5)(torch.randn(64, 8, 286) * 0.06)
    layer = SO3Conv(8, 8, 5, kernel=kernel)
    assert 0.2 < (layer(x).std() / x.std()).item() < 2
    f = InverseSHT(GaussLegendre(6, 12), 5)(torch.randn(64, 8, 36))
    lifted = S2Conv(8, 8, GaussLegendre(6, 12), 5, kernel=kernel)(f)
    assert 0.2 < (lifted.std() / f.std()).item() < 2


@pytest.mark.parametrize(
    "grid", [Equiangular(7, 12, poles=True), HEALPix(2, order="nested"), Icosahedral(1)], ids=repr
)
def test_any_grid_with_a_transform(grid: Grid) -> None:
    x = torch.randn(1, 2, *grid.shape)
    degree = resolved_degree(grid, "layer")
    assert degree >= 2
    assert S2Conv(2, 1, grid, 2)(x).shape == (1, 1, 6, 6, 6)
    assert SpectralConv(2, 3, grid)(x).shape == (1, 3, *grid.shape)
    assert SpinConv("2x0", "1x1", grid)(x).shape == (1, 2, *grid.shape)


def test_errors() -> None:
    with pytest.raises(ValueError, match="lmax is 5; expected at most 3"):
        S2Conv(1, 1, GRID, 4, lmax=5)
    with pytest.raises(TypeError, match="source is 'grid'"):
        S2Conv(1, 1, "grid", 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected \(batch, 1, 8, 8, 8\)"):
        SO3Conv(1, 1, 3)(torch.zeros(1, 1, 6, 6, 6))
    with pytest.raises(ValueError, match="or a kernel"):
        SO3ToS2(2, 3, 3)
    with pytest.raises(ValueError, match="operator is 'circle'"):
        SpectralConv(1, 1, GRID, operator="circle")
    with pytest.raises(ValueError, match="expected lmax >= 2"):
        SpinConv("1x0", "1x2", GRID, lmax=1)
    with pytest.raises(ValueError, match="num_alpha is 0"):
        NearIdentity(num_alpha=0)
    with pytest.raises(ValueError, match="max_beta is 4"):
        NearIdentity(max_beta=4.0)
    with pytest.raises(ValueError, match="max_beta is 2"):
        Equatorial(max_beta=2.0)
    with pytest.raises(ValueError, match="out_channels is 0"):
        ZonalConv(1, 0, GRID)
