"""Harmonic transforms beside dense matrices of harmonics, and beside healpy and torch-harmonics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, HEALPix, Icosahedral
from spheregeo.grids.cache import geometry
from spheregeo.harmonics import real_harmonics
from spheregeo.spectral import SHT, InverseSHT, InverseVectorSHT, VectorSHT
from spheregeo.spectral.engines import portable
from spheregeo.spectral.stages.points import harmonics_at

EXACT = [
    (GaussLegendre(9, 17, offset=0.3), 8),
    (Equiangular(9, 18), 8),
    (Equiangular(10, 17, poles=True), 8),
    (Equiangular(20, 18), 8),
    (Icosahedral(2), 6),
    (Fibonacci(150), 6),
]
RINGS = [(GaussLegendre(9, 6), 8), (HEALPix(3), 8), (HEALPix(4, "nested"), 7)]


def random(*shape: int, spin: int = 0, lmax: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Coefficients of the degrees that a spin has."""
    parts = (2,) if spin else ()
    c = torch.randn(*shape, *parts, (lmax + 1) ** 2, generator=torch.Generator().manual_seed(7), dtype=dtype)
    c[..., : spin**2] = 0
    return c


@pytest.mark.parametrize("spin", [0, 1, 2, 3])
@pytest.mark.parametrize(("grid", "lmax"), [*EXACT, *RINGS], ids=str)
def test_synthesis_is_a_sum_of_harmonics_and_its_adjoint_the_transpose(grid, lmax, spin):
    c = random(2, 3, spin=spin, lmax=lmax)
    synthesis = InverseSHT(grid, lmax, spin)
    harmonics = harmonics_at(grid.colatitude, grid.longitude, lmax, spin)
    if spin:
        expected = torch.einsum("xnkl,abkl->abxn", harmonics, c)
    else:
        assert (harmonics - real_harmonics(grid.points, lmax)).abs().max() < 1e-13
        expected = c @ harmonics.T
    x = synthesis(c)
    assert (x - expected.view(x.shape)).abs().max() < 1e-13
    y = torch.randn(x.shape, dtype=x.dtype)
    weighted = (
        torch.einsum("xnkl,xn->kl", harmonics, y[0, 0].view(2, -1)) if spin else y[0, 0].view(-1) @ harmonics
    )
    assert (synthesis.adjoint(y)[0, 0] - weighted).abs().max() < 1e-12


@pytest.mark.parametrize("spin", [0, 1, 2])
@pytest.mark.parametrize(("grid", "lmax"), EXACT, ids=str)
def test_analysis_undoes_synthesis(grid, lmax, spin):
    c = random(3, spin=spin, lmax=lmax)
    x = InverseSHT(grid, lmax, spin)(c)
    analysis = SHT(grid, lmax, spin).float()  # which is for weights; geometry keeps its digits
    assert (analysis(x) - c).abs().max() < 1e-13
    assert (analysis(x.float()).double() - c).abs().max() < 3e-6
    assert (analysis(torch.complex(x, -2 * x)) - (1 - 2j) * c).abs().max() < 1e-12
    assert analysis(x.bfloat16()).dtype == torch.bfloat16
    y = torch.randn_like(c)
    assert abs((analysis(x) * y).sum() - (x * analysis.adjoint(y)).sum()) < 1e-11


def many_digits(l: int, m: int, theta: float) -> float:
    """The associated Legendre function of real harmonics, m ≥ 0, in 50 digits."""
    import mpmath

    with mpmath.workdps(50):
        x, sine = mpmath.cos(mpmath.mpf(theta)), mpmath.sin(mpmath.mpf(theta))
        p, before = mpmath.sqrt(1 / (4 * mpmath.pi)), mpmath.mpf(0)
        for k in range(1, m + 1):
            p *= mpmath.sqrt(mpmath.mpf(2 * k + 1) / (2 * k)) * sine
        for k in range(m + 1, l + 1):
            b = mpmath.sqrt(mpmath.mpf((k - 1) ** 2 - m * m) / (4 * (k - 1) ** 2 - 1))
            p, before = mpmath.sqrt(mpmath.mpf(4 * k * k - 1) / (k * k - m * m)) * (x * p - b * before), p
        return float(p)


def test_harmonics_to_degree_1024_are_scipys_and_those_of_many_digits():
    from scipy.special import sph_harm_y

    generator = np.random.default_rng(3)
    theta, phi = np.arccos(generator.uniform(-1, 1, 5)), generator.uniform(0, 2 * np.pi, 5)
    found = harmonics_at(torch.from_numpy(theta), torch.from_numpy(phi), 1024).numpy()
    degrees = generator.integers(0, 1025, 400)
    orders = (generator.uniform(-1, 1, 400) * (degrees + 1)).astype(int)
    pairs = [*zip(degrees.tolist(), orders.tolist(), strict=True)]
    for l, m in pairs:
        if l <= 400:  # scipy 1.17 underflows and returns NaN beyond
            y = sph_harm_y(l, abs(m), theta, phi)
            part = y.real if m >= 0 else y.imag
            expected = part if m == 0 else math.sqrt(2) * (-1) ** m * part
            assert np.abs(found[:, l * l + l + m] - expected).max() < 1e-10
    for l, m in [*pairs[:25], (1024, 1024), (904, -900), (1024, 0)]:
        angle = 1.0 if m == 0 else math.sqrt(2) * (np.cos(m * phi) if m > 0 else np.sin(-m * phi))
        expected = np.array([many_digits(l, abs(m), t) for t in theta]) * angle
        assert np.abs(found[:, l * l + l + m] - expected).max() < 1e-12


@pytest.mark.parametrize(("lmax", "spin"), [(1024, 0), (40, 1), (40, 2), (40, 5)])
def test_harmonics_of_a_degree_keep_their_norm_at_every_point(lmax, spin):
    theta, phi = torch.tensor([0.0, 1e-3, 0.3, 1.5, 3.0]), torch.zeros(5)
    total = harmonics_at(theta.double(), phi, lmax, spin) ** 2
    total = total.sum(2).sum(0) / 2 if spin else total
    for l in range(spin, lmax + 1):
        level = total[:, l * l : (l + 1) ** 2].sum(-1)
        assert (level * 4 * math.pi / (2 * l + 1) - 1).abs().max() < 3e-11  # cos θ rounds: l ε / sin θ


def to_alm(c: np.ndarray, lmax: int) -> np.ndarray:
    """healpy's complex coefficients."""
    import healpy

    l, m = healpy.Alm.getlm(lmax)
    centre = l * l + l
    value = (-1.0) ** m * (c[centre + m] - 1j * c[centre - m]) / math.sqrt(2)
    return np.where(m == 0, c[centre], value)


@pytest.mark.parametrize("order", ["ring", "nested"])
@pytest.mark.parametrize("iterations", [0, 3])
def test_healpix_scalars_are_healpys(iterations, order):
    import healpy

    grid, lmax = HEALPix(16, order), 32
    c = random(lmax=lmax)
    x = healpy.alm2map(to_alm(c.numpy(), lmax), 16, lmax=lmax)
    given = torch.from_numpy(healpy.reorder(x, r2n=True) if grid.nested else x)
    assert (InverseSHT(grid, lmax)(c) - given).abs().max() < 1e-12
    expected = healpy.map2alm(x, lmax=lmax, iter=iterations)
    found = to_alm(SHT(grid, lmax, iterations=iterations)(given).numpy(), lmax)
    assert np.abs(found - expected).max() < 1e-12


@pytest.mark.parametrize("spin", [1, 2])
def test_healpix_tangent_fields_are_healpys(spin):
    import healpy

    grid, lmax = HEALPix(8), 16
    c = random(spin=spin, lmax=lmax)
    gradient, curl = (to_alm(part.numpy(), lmax) for part in c)
    x = np.stack(healpy.alm2map_spin([gradient, -curl], 8, spin, lmax))
    assert np.abs(InverseSHT(grid, lmax, spin)(c).numpy() - x).max() < 1e-12
    expected = healpy.map2alm_spin(x, spin, lmax=lmax)  # without iterations
    found = SHT(grid, lmax, spin, iterations=0)(torch.from_numpy(x)).numpy()
    assert np.abs(to_alm(found[0], lmax) - expected[0]).max() < 1e-12
    assert np.abs(to_alm(-found[1], lmax) - expected[1]).max() < 1e-12


def test_ring_weights_integrate_more_degrees_and_converge_faster():
    grid, lmax = HEALPix(16), 16
    c = random(lmax=lmax)
    x = InverseSHT(grid, lmax)(c)
    errors = {
        w: (SHT(grid, lmax, iterations=1, weights=w)(x) - c).abs().max().item() for w in ("grid", "ring")
    }
    assert errors["ring"] < 1e-5 < errors["grid"]


def dense_th(coefficients: torch.Tensor, lmax: int) -> torch.Tensor:
    """Our coefficients in torch-harmonics' (degree, order) arrays."""
    out = torch.zeros(*coefficients.shape[:-1], lmax + 1, lmax + 1, dtype=torch.complex128)
    for l in range(lmax + 1):
        for m in range(l + 1):
            plus, minus = coefficients[..., l * l + l + m], coefficients[..., l * l + l - m]
            out[..., l, m] = plus if m == 0 else (-1) ** m * (plus - 1j * minus) / math.sqrt(2)
    return out


@pytest.mark.parametrize("kind", ["legendre-gauss", "equiangular"])
def test_lat_lon_grids_beside_torch_harmonics(kind):
    import torch_harmonics as th

    lmax, nlat = 15, 33
    grid = GaussLegendre(nlat, 36) if kind == "legendre-gauss" else Equiangular(nlat, 36, poles=True)
    x = torch.randn(2, nlat, 36, dtype=torch.float64)
    theirs = th.RealSHT(nlat, 36, lmax=lmax + 1, mmax=lmax + 1, grid=kind).double()
    assert (dense_th(SHT(grid, lmax)(x), lmax) - theirs(x)).abs().max() < 1e-12
    v = torch.randn(2, nlat, 36, dtype=torch.float64)
    theirs = th.RealVectorSHT(nlat, 36, lmax=lmax + 1, mmax=lmax + 1, grid=kind).double()
    l = torch.arange(1, lmax + 1)
    rounded = (1.0 / l / (l + 1)).double()  # they keep this factor in float32
    scale = torch.cat([torch.ones(1), (l * (l + 1.0).double()) ** -0.5 / rounded])[:, None]
    assert (dense_th(VectorSHT(grid, lmax)(v), lmax) - scale * theirs(v)).abs().max() < 1e-11


def test_vector_coefficients_are_those_of_potentials():
    lmax, grid = 5, GaussLegendre(8, 16)
    c = random(spin=1, lmax=lmax)
    degree = torch.arange(lmax + 1.0).repeat_interleave(2 * torch.arange(lmax + 1) + 1).double()
    potentials = c / (degree * (degree + 1)).clamp(min=1).sqrt()

    points = grid.points.clone().requires_grad_()  # gradients in space of harmonics of the unit vector
    s, t = (real_harmonics(points / points.norm(dim=1, keepdim=True), lmax) @ p for p in potentials)
    south, east = grid.frames.unbind(1)
    ds, dt = (torch.autograd.grad(f.sum(), points, retain_graph=True)[0] for f in (s, t))
    expected = torch.stack([(ds * south + dt * east).sum(1), (ds * east - dt * south).sum(1)])
    assert (InverseVectorSHT(grid, lmax)(c).flatten(1) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("spin", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_functions_made_on_the_way_give_what_a_table_gives(monkeypatch, spin, dtype):
    from spheregeo.grids import clear_cache

    lmax, grid = 90, GaussLegendre(91, 182)
    c = random(2, spin=spin, lmax=lmax, dtype=dtype)
    clear_cache()
    tabled = InverseSHT(grid, lmax, spin)(c)
    back = SHT(grid, lmax, spin)(tabled)
    monkeypatch.setattr(portable, "BUDGET", 0)
    clear_cache()
    streamed = InverseSHT(grid, lmax, spin, engine="portable")(c)
    again = SHT(grid, lmax, spin, engine="portable")(streamed)
    clear_cache()
    small = 1e-12 if dtype == torch.float64 else 2e-5
    assert (streamed - tabled).abs().max() < small * tabled.abs().max()
    assert (again - back).abs().max() < small
    assert (again - c).abs().max() < small


@pytest.mark.parametrize("grid", [HEALPix(2), GaussLegendre(4, 8), Icosahedral(1)], ids=str)
@pytest.mark.parametrize("spin", [0, 2])
def test_derivatives(grid, spin):
    analysis, synthesis = SHT(grid, 3, spin, iterations=1), InverseSHT(grid, 3, spin)
    parts = (2,) if spin else ()
    x = torch.randn(*parts, *grid.shape, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, *parts, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(analysis, x)
    assert torch.autograd.gradgradcheck(lambda t: synthesis(t) ** 2, c)
    gradient = torch.func.grad(lambda t: (analysis(t) ** 2).sum())(x.detach())
    assert (gradient - 2 * analysis.adjoint(analysis(x))).abs().max() < 1e-12
    assert (torch.func.vmap(synthesis)(c) - synthesis(c)).abs().max() < 1e-14


def test_compiled_exported_empty_and_in_autocast():
    grid = HEALPix(2)
    analysis = SHT(grid, 3)
    x = torch.randn(2, 48, requires_grad=True)
    compiled = torch.compile(analysis, fullgraph=True)
    assert torch.equal(compiled(x), analysis(x))
    y = torch.randn(2, 16)
    found = torch.autograd.grad((compiled(x) * y).sum(), x)[0]
    assert (found - analysis.adjoint(y)).abs().max() < 1e-6
    program = torch.export.export(analysis, (x.detach(),))
    assert torch.equal(program.module()(x.detach()), analysis(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(analysis(x), analysis(x).float())
    empty = analysis(x[:0])
    assert empty.shape == (0, 16)
    assert torch.autograd.grad(empty.sum(), x)[0].abs().sum() == 0
    assert not analysis.state_dict()


@pytest.mark.parametrize(
    ("grid", "lmax", "words"),
    [
        (HEALPix(4), 12, "lmax is 12; expected at most 11"),
        (GaussLegendre(8, 32), 8, "lmax is 8; expected at most 7"),
        (Equiangular(8, 32, poles=True), 7, "lmax is 7; expected at most 6"),
        (GaussLegendre(9, 16), 8, "nlon = 16"),
        (Icosahedral(1), 6, "lmax is 6"),
        (GaussLegendre(9, 16), -1, "lmax is -1"),
    ],
)
def test_degrees_that_a_grid_does_not_determine_are_refused(grid, lmax, words):
    with pytest.raises(ValueError, match=words):
        SHT(grid, lmax)


def test_other_arguments_are_refused_by_name():
    grid = GaussLegendre(4, 8)
    with pytest.raises(ValueError, match="spin is -1"):
        SHT(grid, 3, -1)
    with pytest.raises(ValueError, match="weights is 'ring'"):
        SHT(grid, 3, weights="ring")
    with pytest.raises(ValueError, match="engine is 'gpu'"):
        SHT(grid, 3, engine="gpu")
    with pytest.raises(ValueError, match=r"x has shape \(16,\); expected \(..., 4, 8\)"):
        SHT(grid, 3)(torch.randn(16))
    with pytest.raises(TypeError, match=r"coefficients is torch.int64"):
        InverseSHT(grid, 3)(torch.arange(16))
    with pytest.raises(TypeError, match="expected a grid"):
        SHT("GaussLegendre(4, 8)", 3)


@pytest.mark.parametrize("grid", [GaussLegendre(12, 24), HEALPix(6, "ring")], ids=str)
@pytest.mark.parametrize("spin", [0, 1, 3])
def test_ducc0_is_another_engine(grid, spin):
    pytest.importorskip("ducc0")
    c = random(2, spin=spin, lmax=11)
    x = InverseSHT(grid, 11, spin, engine="portable")(c)
    assert (InverseSHT(grid, 11, spin, engine="ducc0")(c) - x).abs().max() < 1e-12
    ours, theirs = (SHT(grid, 11, spin, engine=e) for e in ("portable", "ducc0"))
    assert (theirs(x) - ours(x)).abs().max() < 1e-12
    assert (theirs(x.float()) - ours(x)).abs().max() < 1e-5
    assert (theirs.adjoint(c) - ours.adjoint(c)).abs().max() < 1e-12


def test_memory_of_a_transform():
    lmax = 63
    table = SHT(GaussLegendre(64, 128), lmax, engine="portable").memory_bytes()
    triangle = 4 * 32 * (lmax + 1) * (lmax + 2) // 2  # half the rings of half the square
    assert triangle < table < 2 * triangle + 40 * (lmax + 1) ** 2
    assert SHT(Icosahedral(1), 3).memory_bytes() == 4 * 16 * 42 * 2


def test_the_bounded_cache_counts_transforms():
    geometry.clear()
    grid = HEALPix(8)
    SHT(grid, 4, engine="portable")(torch.zeros(grid.shape))
    assert geometry.nbytes > 8 * grid.num_points  # the points of the rings alone, as whole numbers
