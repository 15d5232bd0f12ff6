"""Power spectra, windows, random fields and Wiener filters: healpy's numbers, definitions, expectations."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.grids import GaussLegendre, HEALPix
from spheregeo.harmonics import real_harmonics
from spheregeo.spectral import (
    SHT,
    InverseSHT,
    WienerFilter,
    correlated_coefficients,
    e_and_b,
    fit_wiener_gains,
    gaussian_beam,
    pixel_window,
    polarisation_spectra,
    power_spectrum,
    pseudo_power_spectrum,
    random_coefficients,
    remove_multipoles,
    scale_degrees,
    wiener_gains,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_spectra_are_healpys() -> None:
    maps, grid, lmax = drawn(2, 768), HEALPix(8), 12
    found = SHT(grid, lmax)(maps)
    for pair in ((0, 0), (0, 1)):
        reference = healpy.anafast(maps[pair[0]].numpy(), maps[pair[1]].numpy(), lmax=lmax, iter=3)
        ours = power_spectrum(found[pair[0]], found[pair[1]])
        assert np.allclose(ours, reference, rtol=0, atol=1e-12 * np.abs(reference).max())
    with pytest.raises(ValueError, match="other has lmax 3 but coefficients have lmax 2"):
        power_spectrum(torch.zeros(9), torch.zeros(16))
    with pytest.raises(ValueError, match="a square number"):
        power_spectrum(torch.zeros(8))


def test_what_does_not_fit_is_refused_by_name() -> None:
    grid = GaussLegendre(4, 8)
    filtered = WienerFilter(grid, torch.ones(2, 3))
    for bands in (1, 3):
        with pytest.raises(ValueError, match=r"x has shape .*; expected \(..., 2, 4, 8\), a map per band"):
            filtered(torch.zeros(5, bands, 4, 8))
    with pytest.raises(ValueError, match=r"x has shape \(4, 9\); expected \(..., 4, 8\)"):
        remove_multipoles(torch.zeros(4, 9), grid)
    with pytest.raises(TypeError, match=r"grid is GaussLegendre.*; expected HEALPix"):
        pixel_window(grid, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"spectrum has dtype torch\.int64"):
        random_coefficients(torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"spectrum has shape \(0,\)"):
        random_coefficients(torch.zeros(0))


def test_spectra_of_complex_fields_are_those_of_their_parts() -> None:
    a, b = torch.complex(*drawn(2, 16)), torch.complex(*drawn(2, 16, seed=1))
    assert torch.allclose(power_spectrum(a), power_spectrum(a.real) + power_spectrum(a.imag))
    assert not power_spectrum(a).is_complex()
    assert torch.allclose(power_spectrum(a, b), power_spectrum(b, a).conj())
    turned = a * torch.tensor(1j).exp()
    assert torch.allclose(power_spectrum(turned), power_spectrum(a))


def test_polarised_spectra_are_healpys() -> None:
    maps, grid, lmax = drawn(3, 768), HEALPix(8), 12
    intensity = SHT(grid, lmax)(maps[0])
    polarisation = e_and_b(SHT(grid, lmax, spin=2)(maps[1:]))
    ours = polarisation_spectra(intensity, polarisation)
    reference = healpy.anafast(maps.numpy(), lmax=lmax, iter=3, pol=True)
    for name, spectrum in zip(("TT", "EE", "BB", "TE", "EB", "TB"), reference, strict=True):
        assert np.allclose(ours[name], spectrum, rtol=0, atol=1e-10 * np.abs(reference).max()), name
    assert torch.equal(e_and_b(e_and_b(polarisation)), polarisation)


def test_multipoles_are_removed_as_healpy_removes_them() -> None:
    maps, grid = drawn(2, 3, 192) + 7, HEALPix(4)
    mask = (drawn(192, seed=1) > -0.8).double()
    behind = maps.clone()
    behind[..., mask == 0] = torch.nan
    ours = remove_multipoles(behind, grid, mask=mask)
    unseen = np.where(mask > 0, maps[1, 2], healpy.UNSEEN)
    seen = mask.numpy() > 0
    assert np.allclose(ours[1, 2][seen], healpy.remove_dipole(unseen)[seen], atol=1e-12)
    assert bool(ours[1, 2][mask == 0].isnan().all())
    assert torch.allclose(remove_multipoles(maps[0, 0], grid, 0), maps[0, 0] - maps[0, 0].mean())
    with pytest.raises(ValueError, match="leaves too few points to fit 4"):
        remove_multipoles(maps, grid, mask=(torch.arange(192) < 3).double())


def test_masked_spectrum_is_right_on_average_and_whole_sky_exactly() -> None:
    grid, lmax = GaussLegendre(25, 50), 24
    transform, spectrum = SHT(grid, lmax), torch.ones(lmax + 1, dtype=torch.float64)
    skies = InverseSHT(grid, lmax)(random_coefficients(spectrum, (300,), torch.Generator().manual_seed(2)))
    whole = torch.ones(grid.shape, dtype=torch.float64)
    assert torch.allclose(
        pseudo_power_spectrum(skies, whole, transform, grid), power_spectrum(transform(skies))
    )
    height = grid.points[:, 2].reshape(grid.shape)
    mask = ((height.abs() - 0.2) / 0.3).clamp(0, 1)
    skies[:, mask == 0] = torch.nan
    mean = pseudo_power_spectrum(skies, mask, transform, grid).mean(0)
    assert torch.allclose(
        mean[2:18], spectrum[2:18], atol=0.06
    )  # a flat spectrum is not mixed with others; below the band limit
    with pytest.raises(ValueError, match="0 everywhere"):
        pseudo_power_spectrum(skies, 0 * mask, transform, grid)


def test_beam_is_healpys() -> None:
    reference = healpy.gauss_beam(0.1, 40, pol=True)
    assert np.allclose(gaussian_beam(0.1, 40), reference[:, 0], rtol=1e-12)
    assert np.allclose(gaussian_beam(0.1, 40, spin=2)[2:], reference[2:, 1], rtol=1e-12)


def test_pixel_window_is_that_of_means_over_pixels() -> None:
    """Slow twin: harmonics averaged over every pixel from 256 points each."""
    lmax, window = 8, pixel_window(HEALPix(2), 8)
    fine = real_harmonics(HEALPix(32, "nested").points, lmax)  # (N, K)
    means = fine.reshape(48, 256, -1).mean(1)  # nested children follow one another
    power = 4 * np.pi / 48 * power_spectrum(means).sum(0)
    assert torch.allclose(window, power.sqrt(), atol=2e-3)
    assert abs(float(window[0]) - 1) < 1e-12 and bool((window.diff() < 0).all())
    finer = pixel_window(
        HEALPix(32), 16
    )  # of pixels that are sampled: the same shape at an eighth of the size
    assert torch.allclose(finer[[4, 8, 16]], pixel_window(HEALPix(16), 8)[[2, 4, 8]], atol=1e-3)
    with pytest.raises(ValueError, match="at most 4 nside = 8"):
        pixel_window(HEALPix(2), 9)


def test_random_fields_have_their_spectra() -> None:
    draw = torch.Generator().manual_seed(3)
    spectra = {
        "TT": torch.tensor([0.0, 4.0, 2.0]),
        "EE": torch.tensor([0.0, 1.0, 3.0]),
        "TE": torch.tensor([0.0, -2.0, 1.0]),
    }
    found = correlated_coefficients(spectra, "TEB", (20000,), draw)
    assert found.shape == (20000, 3, 9) and bool((found[:, 2] == 0).all())
    t, e, _ = found.unbind(1)
    for (a, b), name in (((t, t), "TT"), ((e, e), "EE"), ((t, e), "TE")):
        assert torch.allclose(power_spectrum(a, b).mean(0), spectra[name], atol=0.06), name
    assert torch.allclose(t[:, 1:4] * 0.5, -e[:, 1:4], atol=1e-5)  # wholly anticorrelated at l = 1
    with pytest.raises(ValueError, match="l = 1 fit no fields"):
        correlated_coefficients({"TT": torch.ones(3), "TE": torch.tensor([0.0, 2.0, 0.0])}, "TE")
    with pytest.raises(ValueError, match="finite and at least 0"):
        random_coefficients(torch.tensor([1.0, -1.0]))


def test_wiener_filter_of_gaussian_sky_has_the_least_error() -> None:
    """The fitted factors approach C/(C + N), and the error the sum of C N/(C + N)."""
    grid, lmax = GaussLegendre(13, 26), 12
    draw = torch.Generator().manual_seed(4)
    l = torch.arange(lmax + 1, dtype=torch.float64)
    signal, noise = 1 / (1 + l) ** 2, torch.full((lmax + 1,), 0.05, dtype=torch.float64)
    truth = random_coefficients(signal, (400,), draw)
    observed = truth + random_coefficients(noise, (400,), draw)
    exact = wiener_gains(signal, noise)
    fitted = fit_wiener_gains(observed[:, None], truth)
    assert torch.allclose(fitted[0], exact, atol=0.06)
    maps = InverseSHT(grid, lmax)(torch.stack([truth, observed]))
    answer = WienerFilter(grid, exact[None])(maps[1][:, None])
    assert torch.allclose(SHT(grid, lmax)(answer), scale_degrees(observed, exact), atol=1e-10)
    error = ((answer - maps[0]).square().flatten(1) @ grid.areas).mean() / (4 * np.pi)
    expected = ((2 * l + 1) * signal * noise / (signal + noise)).sum() / (4 * np.pi)
    assert float(error) == pytest.approx(float(expected), rel=0.05)
    for other in (0.9 * exact, exact + 0.1, fitted[0].roll(1)):
        worse = WienerFilter(grid, other[None])(maps[1][:, None])
        assert (worse - maps[0]).square().mean() > (answer - maps[0]).square().mean()


def test_wiener_filter_of_two_bands_takes_what_they_share_away() -> None:
    draw = torch.Generator().manual_seed(5)
    flat = torch.ones(5, dtype=torch.float64)
    truth, dust = random_coefficients(flat, (200,), draw), random_coefficients(100 * flat, (200,), draw)
    gains = fit_wiener_gains(torch.stack([truth + dust, truth + 3 * dust], 1), truth)
    assert torch.allclose(gains, torch.tensor([[1.5], [-0.5]]).expand(2, 5).double(), atol=1e-6)


@pytest.mark.realdata
def test_spectrum_of_wmap(real_data: Path) -> None:
    from spheregeo.data import read_sky_map, read_spectrum

    folder = real_data / "cmb_healpix"
    sky = read_sky_map(folder / "wmap_band_iqumap_r9_7yr_W_v4_udgraded32.fits", ["I_STOKES"])
    grid = HEALPix(32)
    values = remove_multipoles(torch.from_numpy(sky.values[0]), grid, 0)
    reference = read_spectrum(
        folder / "cl_wmap_band_iqumap_r9_7yr_W_v4_udgraded32_II_lmax64_rmmono_3iter_nomask.fits"
    )["TEMPERATURE"]
    found = power_spectrum(SHT(grid, 64)(values)).numpy()
    assert np.abs(found[1:] / reference[1:] - 1).max() < 1e-6
