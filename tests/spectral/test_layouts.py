"""Coefficients in other libraries' layouts: their own transforms of the same fields, and numbers s2fft and pyshtools gave."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import healpy
import numpy as np
import pytest
import torch
import torch_harmonics
from torch import Tensor

from spheregeo.grids import Equiangular, GaussLegendre, HEALPix
from spheregeo.grids.convert import earth_field
from spheregeo.groups import euler_matrix
from spheregeo.harmonics import component_harmonics, from_z_polar, real_harmonics
from spheregeo.spectral import InverseSHT, InverseVectorSHT, layouts, rotate_coefficients

LMAX = 6
SIZE = (LMAX + 1) ** 2


def coefficients(*shape: int) -> Tensor:
    return torch.randn(*shape, SIZE, dtype=torch.float64)


def test_healpy_makes_the_same_map() -> None:
    c = coefficients(2)
    field = InverseSHT(HEALPix(4), LMAX)(c)
    for row, alm in zip(field, layouts.to_healpy(c), strict=True):
        assert np.abs(healpy.alm2map(alm.numpy(), 4, lmax=LMAX) - row.numpy()).max() < 1e-12
    alm = healpy.map2alm(field[0].numpy(), lmax=LMAX, iter=20)
    assert (layouts.from_healpy(alm) - c[0]).abs().max() < 1e-8


@pytest.mark.parametrize("spin", [1, 2, 3])
def test_healpy_makes_the_same_tangent_field(spin: int) -> None:
    c = coefficients(2)
    c[:, : spin * spin] = 0
    e, b = layouts.to_healpy_spin(c).numpy()
    field = InverseSHT(HEALPix(4), LMAX, spin)(c)
    wanted = np.stack(healpy.alm2map_spin([e, b], 4, spin, LMAX))
    assert np.abs(wanted - field.numpy()).max() < 1e-12


def test_torch_harmonics_makes_the_same_field() -> None:
    grid = GaussLegendre(LMAX + 1, 2 * LMAX + 2)
    c = coefficients(3)
    c[:, [0, 1]] = 1
    for csphase in (True, False):
        inverse = torch_harmonics.InverseRealSHT(
            *grid.shape, LMAX + 1, LMAX + 1, "legendre-gauss", csphase=csphase
        ).double()
        wanted = inverse(layouts.to_torch_harmonics(c, csphase))
        assert (wanted - InverseSHT(grid, LMAX)(c)).abs().max() < 1e-12
    vectors = coefficients(3, 2)
    vectors[..., 0] = 0
    inverse = torch_harmonics.InverseRealVectorSHT(*grid.shape, LMAX + 1, LMAX + 1, "legendre-gauss").double()
    wanted = inverse(layouts.to_torch_harmonics_vector(vectors))
    assert (wanted - InverseVectorSHT(grid, LMAX)(vectors)).abs().max() < 1e-12
    few = layouts.from_torch_harmonics(layouts.to_torch_harmonics(c)[..., :3])  # mmax below lmax
    order = torch.cat([torch.arange(-degree, degree + 1) for degree in range(LMAX + 1)])
    assert (few - c * (order.abs() < 3)).abs().max() < 1e-14


def test_e3nn_makes_the_same_field() -> None:
    c = coefficients(2)
    points = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    wanted = real_harmonics(points, LMAX) @ c.T
    got = component_harmonics(points, LMAX, normalization="integral") @ layouts.to_e3nn(c).T
    assert (wanted - got).abs().max() < 1e-12
    irreps = "+".join(f"1x{degree}{'oe'[degree % 2 == 0]}" for degree in range(LMAX + 1))
    assert (from_z_polar(c, irreps) - layouts.to_e3nn(c)).abs().max() < 1e-13


def test_pyshtools_has_these_values() -> None:
    # pyshtools 4.14.1: SHCoeffs.from_array(cilm, normalization, csphase).expand(lat=37, lon=10)
    wanted = {
        ("4pi", 1): 3.2268359500430766,
        ("4pi", -1): -0.4395546055504276,
        ("ortho", 1): 0.9102736154158659,
        ("ortho", -1): -0.1239960649259968,
        ("schmidt", 1): 1.3499267549259681,
        ("schmidt", -1): -0.289732947948091,
        ("unnorm", 1): 5.380144235948825,
        ("unnorm", -1): 2.540170323447665,
    }
    cilm = torch.zeros(2, 4, 4, dtype=torch.float64)
    cilm[0, 2, 0], cilm[0, 2, 1], cilm[1, 3, 2] = 0.5, 1.0, 2.0
    lat, lon = math.radians(37), math.radians(10)
    point = [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
    harmonics = real_harmonics(torch.tensor(point, dtype=torch.float64), 3)
    for arguments, value in wanted.items():
        assert float(harmonics @ layouts.from_pyshtools(cilm, *arguments)) == pytest.approx(value, abs=1e-13)


def test_s2fft_has_these_values() -> None:
    # s2fft 1.5.0: inverse(flm, 4, sampling="dh"), and rotate_flms(flm, 4, (0.3, 1.1, 2.2))
    flm = torch.zeros(4, 7, dtype=torch.complex128)
    flm[2, 3], flm[2, 4], flm[2, 2], flm[3, 5], flm[3, 1] = 0.5, 1 - 0.3j, -1 - 0.3j, 2j, -2j
    c = layouts.from_s2fft(flm)
    field = InverseSHT(Equiangular(8, 7), 3)(c)
    assert float(field[2, 3]) == pytest.approx(1.766060718094025, abs=1e-13)
    assert float(field[5, 1]) == pytest.approx(2.1315114094409666, abs=1e-13)
    turned = layouts.to_s2fft(
        rotate_coefficients(c, euler_matrix(*torch.tensor([0.3, 1.1, 2.2], dtype=torch.float64)))
    )
    assert complex(turned[3, 4]) == pytest.approx(0.3742145233064051 - 0.527003222959791j, abs=1e-13)
    assert complex(turned[2, 5]) == pytest.approx(0.7959879015587464 + 0.137818371039655j, abs=1e-13)


def test_round_trips() -> None:
    c = coefficients(3, 2)
    no_constant = c * (torch.arange(SIZE) > 0)
    pairs = [
        (layouts.to_healpy, layouts.from_healpy),
        (layouts.to_healpy_spin, layouts.from_healpy_spin),
        (layouts.to_torch_harmonics, layouts.from_torch_harmonics),
        (layouts.to_torch_harmonics_vector, layouts.from_torch_harmonics_vector),
        (layouts.to_s2fft, layouts.from_s2fft),
        (layouts.to_pyshtools, layouts.from_pyshtools),
        (layouts.to_e3nn, layouts.from_e3nn),
    ]
    for there, back in pairs:
        assert (back(there(no_constant)) - no_constant).abs().max() < 1e-13, there.__name__
        assert back(there(c.float())).dtype == torch.float32
    for normalization in ("4pi", "ortho", "schmidt", "unnorm"):
        for csphase in (1, -1):
            cilm = layouts.to_pyshtools(c, normalization, csphase)
            assert (layouts.from_pyshtools(cilm.numpy(), normalization, csphase) - c).abs().max() < 1e-13
    high = torch.ones(
        40**2
    )  # factors √((2l)!) are beyond float32 from degree 28 on, beyond float64 from 151 on
    cilm = layouts.to_pyshtools(high.double(), "unnorm")
    assert (layouts.from_pyshtools(cilm, "unnorm") - 1).abs().max() < 1e-11
    for c_high in (high, torch.ones(160**2, dtype=torch.float64)):
        with pytest.raises(ValueError, match="normalization is 'unnorm' with lmax"):
            layouts.to_pyshtools(c_high, "unnorm")
    zonal = torch.tensor([1.0, 2, 0, 3, 0, 0])  # numbers without imaginary parts
    assert torch.equal(layouts.from_healpy(zonal), layouts.from_healpy(zonal + 0j))
    complex_c = torch.complex(c, c.flip(0))
    assert (layouts.from_s2fft(layouts.to_s2fft(complex_c), real=False) - complex_c).abs().max() < 1e-13


def test_differentiable() -> None:
    c = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: torch.view_as_real(layouts.to_torch_harmonics(c)), c)
    assert torch.autograd.gradcheck(lambda c: layouts.from_healpy(layouts.to_healpy(c)), c)


@pytest.mark.parametrize(
    ("function", "value", "words"),
    [
        (layouts.to_healpy, torch.zeros(8), r"shape \(8,\)"),
        (layouts.to_healpy, torch.zeros(9, dtype=torch.complex64), "complex"),
        (layouts.from_healpy, np.zeros(5, complex), r"shape \(5,\)"),
        (layouts.to_healpy_spin, torch.zeros(3, 9), "gradient and curl"),
        (layouts.from_torch_harmonics, torch.zeros(3, 4, dtype=torch.complex64), "mmax <= lmax"),
        (layouts.from_s2fft, torch.zeros(3, 4), "2L - 1"),
        (layouts.from_pyshtools, torch.zeros(3, 3), "lmax"),
    ],
)
def test_errors(function: object, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        function(value)  # type: ignore[operator]
    with pytest.raises(ValueError, match="normalization is 'geodesy'"):
        layouts.to_pyshtools(torch.zeros(9), "geodesy")


@pytest.mark.realdata
def test_topography_of_the_earth_lies_where_it_is(real_data: Path) -> None:
    """Coefficients of degrees to 300 in geodesy's normalisation against heights on a grid of 20 minutes."""
    lmax = 300
    table = np.loadtxt(real_data / "reference" / "srtmp300.msl")
    degree, order = table[:, :2].astype(int).T
    cilm = torch.zeros(2, lmax + 1, lmax + 1, dtype=torch.float64)
    cilm[:, degree, order] = torch.from_numpy(table[:, 2:4].T.copy())
    lat, lon, data = (
        np.loadtxt(gzip.open(real_data / "earth" / f"etopo20{part}.gz")) for part in ("lats", "lons", "data")
    )
    heights, grid = earth_field(torch.from_numpy(data), lat, lon)
    synthetic = InverseSHT(grid, lmax)(layouts.from_pyshtools(cilm)).flatten()
    weights, heights = grid.areas / (4 * math.pi), heights.flatten()
    a, b = heights - heights @ weights, synthetic - synthetic @ weights
    correlation = (a * b) @ weights / ((a * a @ weights) * (b * b @ weights)).sqrt()
    assert float(correlation) > 0.99


@pytest.mark.realdata
def test_lebedev_rules_find_harmonics_orthonormal(real_data: Path) -> None:
    for name, lmax in (("003", 1), ("007", 3), ("015", 7), ("029", 14), ("053", 26), ("131", 30)):
        azimuth, polar, weight = np.loadtxt(real_data / "reference" / "lebedev" / f"lebedev_{name}.txt").T
        azimuth, polar = np.radians(azimuth), np.radians(polar)
        points = np.stack(
            [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], 1
        )
        s = real_harmonics(torch.from_numpy(points), lmax)
        gram = s.T @ (s * torch.from_numpy(4 * math.pi * weight)[:, None])
        assert (gram - torch.eye(len(gram), dtype=torch.float64)).abs().max() < 1e-10
