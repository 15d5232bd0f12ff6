"""Sky maps: FITS files as healpy writes and reads them, orders, frames, conventions, units, resolutions, what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pytest
import torch
from astropy.io import fits

from spheregeo.data import SkyMap, read_sky_map, read_sky_mask, read_spectrum, write_sky_map, write_spectrum
from spheregeo.data.sky.maps import frame_rotation, rotate_map
from spheregeo.grids import HEALPix
from spheregeo.groups import axis_angle
from spheregeo.spectral import InverseSHT, synthesis_at

STOKES = ("I_STOKES", "Q_STOKES", "U_STOKES")


def smooth(nside: int = 8, **facts: str) -> SkyMap:
    """I, Q and U of degrees up to 4, with their coefficients."""
    draw = torch.Generator().manual_seed(0)
    grid = HEALPix(nside)
    intensity = InverseSHT(grid, 4)(torch.randn(25, generator=draw, dtype=torch.float64))
    polarisation = InverseSHT(grid, 4, spin=2)(torch.randn(2, 25, generator=draw, dtype=torch.float64))
    values = torch.cat([intensity[None], polarisation]).numpy()
    return SkyMap(values, grid, STOKES, ("mK",) * 3, **facts)


@pytest.mark.parametrize("order", ["ring", "nested"])
@pytest.mark.parametrize("nside", [2, 16])
def test_maps_go_to_healpy_and_come_back(order: str, nside: int, tmp_path: Path) -> None:
    sky = smooth(nside, frame="G", convention="COSMO")
    sky.values[0, 3] = np.nan
    sky = sky.in_order(order)
    path = write_sky_map(tmp_path / "a.fits", sky, "float64")
    theirs = healpy.read_map(path, field=None, nest=order == "nested")
    assert np.array_equal(np.where(np.isnan(sky.values), healpy.UNSEEN, sky.values), theirs)
    back = read_sky_map(path)
    assert np.array_equal(back.values, sky.values, equal_nan=True)
    assert replace(back, values=sky.values) == replace(sky, values=sky.values)
    header = fits.getheader(path, 1)
    assert header["COORDSYS"] == "G" and header["POLCCONV"] == "COSMO" and header["TUNIT2"] == "mK"
    healpy.write_map(
        tmp_path / "b.fits", list(theirs), nest=order == "nested", coord="E", overwrite=True, dtype=np.float64
    )
    theirs = read_sky_map(tmp_path / "b.fits", fields=[2, "TEMPERATURE"])
    assert np.array_equal(theirs.values, sky.values[[2, 0]], equal_nan=True) and theirs.frame == "E"


def test_cut_skies_other_values_and_extensions(tmp_path: Path) -> None:
    full = smooth(4).values[0]
    cut = np.where(np.arange(192) % 3, full, healpy.UNSEEN)
    healpy.write_map(tmp_path / "cut.fits", cut, partial=True, dtype=np.float64)
    found = read_sky_map(tmp_path / "cut.fits")
    assert np.array_equal(found.values[0], np.where(np.arange(192) % 3, full, np.nan), equal_nan=True)
    counts = fits.Column("HITS", "J", array=np.arange(192), null=7)
    masked = fits.Column("I", "E", unit="K_CMB", array=np.where(np.arange(192) == 5, -9.0, full))
    first, second = (
        fits.BinTableHDU.from_columns([masked]),
        fits.BinTableHDU.from_columns([counts], name="HITS"),
    )
    for table in (first, second):
        table.header.update({"PIXTYPE": "HEALPIX", "NSIDE": 4, "ORDERING": "NESTED"})
    first.header["BAD_DATA"] = -9.0
    fits.HDUList([fits.PrimaryHDU(), first, second]).writeto(tmp_path / "two.fits.gz")
    found = read_sky_map(tmp_path / "two.fits.gz")
    assert np.flatnonzero(np.isnan(found.values[0])).tolist() == [5] and found.grid == HEALPix(4, "nested")
    assert found.in_microkelvin().units == ("uK_CMB",)
    assert np.nanmax(np.abs(found.in_microkelvin().values - 1e6 * found.values)) == 0
    units = (
        "K_CMB",
        "mK,thermodynamic",
        "uKcmb",
        "Kelvin",
        "mK (thermodynamic)",
        "K_CMB^2",
        "(K_CMB)^2",
        "MJy/sr",
        "1/K",
        "",
    )
    both = SkyMap(np.ones((10, 192)), HEALPix(4), units, units).in_microkelvin()
    assert both.values[:, 0].tolist() == [1e6, 1e3, 1, 1e6, 1e3, 1, 1, 1, 1, 1]
    assert both.units[:2] == ("uK_CMB", "uK,thermodynamic") and both.units[5:] == units[5:]
    hits = read_sky_map(tmp_path / "two.fits.gz", extension="HITS")
    assert np.flatnonzero(np.isnan(hits.values[0])).tolist() == [7] and hits.values[0, 8] == 8
    for wrong, match in ((9, "extension is 9 but"), ("X", "extension is 'X' but"), (0, "no binary table")):
        with pytest.raises(ValueError, match=match):
            read_sky_map(tmp_path / "two.fits.gz", extension=wrong)
    with pytest.raises(ValueError, match="fields has 'Q'; expected some of HITS"):
        hits.select(["Q"])


@pytest.mark.parametrize(
    "change, match",
    [
        ({"NSIDE": 8}, "192 pixels; expected 12 NSIDE² = 768"),
        ({"NSIDE": "four"}, "says NSIDE 'four'"),
        ({"NSIDE": 4, "OBJECT": "PARTIAL"}, "cut sky without whole pixel numbers"),
    ],
)
def test_maps_that_contradict_themselves_are_refused(
    change: dict[str, object], match: str, tmp_path: Path
) -> None:
    write_sky_map(tmp_path / "a.fits", smooth(4))
    with fits.open(tmp_path / "a.fits", mode="update") as hdus:
        hdus[1].header.update(change)
    with pytest.raises(ValueError, match=match):
        read_sky_map(tmp_path / "a.fits")
    with pytest.raises(FileNotFoundError, match="expected a FITS file"):
        read_sky_map(tmp_path / "b.fits")


def test_masks_and_spectra(tmp_path: Path) -> None:
    mask = SkyMap((np.arange(192) % 2)[None].astype(float), HEALPix(4), ("MASK",))
    mask.values[0, 1] = np.nan
    assert read_sky_mask(write_sky_map(tmp_path / "m.fits", mask)).values[0, :4].tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match=r"expected a mask, 0 \.\.\. 1"):
        read_sky_mask(write_sky_map(tmp_path / "i.fits", smooth(4)))
    spectra = {"TT": np.linspace(0, 1, 5), "TE": -np.ones(5)}
    found = read_spectrum(write_spectrum(tmp_path / "cl.fits", spectra))
    assert list(found) == ["TT", "TE"] and all(np.array_equal(found[name], spectra[name]) for name in spectra)
    healpy.write_cl(tmp_path / "their.fits", spectra["TT"], dtype=np.float64)
    assert np.array_equal(next(iter(read_spectrum(tmp_path / "their.fits").values())), spectra["TT"])


@pytest.mark.parametrize("source, target", [("G", "E"), ("G", "C"), ("C", "E")])
def test_frames_are_healpys(source: str, target: str) -> None:
    sky = smooth(16, frame=source)
    rotator = healpy.Rotator(coord=[source, target])
    # by coefficients: healpy's other way interpolates Q and U as if they were scalars, and is wrong around the poles
    reference = np.array(rotator.rotate_map_alms(list(sky.values), lmax=12, use_pixel_weights=False))
    found = sky.in_frame(target)
    assert found.frame == target
    assert np.abs(found.values - reference).max() < 0.03 * np.abs(sky.values).max()
    back = found.in_frame(source)
    assert np.abs(back.values - sky.values).max() < 0.06 * np.abs(sky.values).max()
    assert torch.allclose(
        frame_rotation(source, target) @ frame_rotation(target, source), torch.eye(3).double()
    )
    with pytest.raises(ValueError, match="does not say its coordinate frame"):
        replace(sky, frame="").in_frame("G")


def test_turned_polarisation_is_the_turned_tangent_field() -> None:
    """Exact for the field itself: synthesis at the turned-back points, components carried to the new frames."""
    draw = torch.Generator().manual_seed(1)
    coefficients = torch.randn(2, 25, generator=draw, dtype=torch.float64)
    rotation = axis_angle(torch.tensor([0.3, 1.0, -0.5], dtype=torch.float64), torch.tensor(0.9).double())
    errors = []
    for nside in (8, 16):
        grid = HEALPix(nside)
        values = InverseSHT(grid, 4, spin=2)(coefficients).numpy()
        turned = rotate_map(SkyMap(values, grid, ("Q", "U")), rotation)
        before = grid.points @ rotation  # R⁻¹p
        theta, phi = torch.acos(before[:, 2]), torch.atan2(before[:, 1], before[:, 0])
        south = torch.stack([theta.cos() * phi.cos(), theta.cos() * phi.sin(), -theta.sin()], -1) @ rotation.T
        angle = torch.atan2((south * grid.frames[:, 1]).sum(1), (south * grid.frames[:, 0]).sum(1))
        q, u = synthesis_at(coefficients, before, spin=2)
        exact = torch.stack(
            [(2 * angle).cos() * q - (2 * angle).sin() * u, (2 * angle).sin() * q + (2 * angle).cos() * u]
        )
        errors.append(float(np.abs(turned.values - exact.numpy()).max() / exact.abs().max()))
        other = rotate_map(SkyMap(values * [[1], [-1]], grid, ("Q", "U"), convention="IAU"), rotation)
        assert np.allclose(other.in_convention("COSMO").values, turned.values)
    assert errors[0] < 0.1 and errors[1] < 0.35 * errors[0]  # second order in the spacing


def test_conventions_and_resolutions() -> None:
    sky = smooth(8)
    assert np.array_equal(sky.in_convention("IAU").values, sky.values * [[1], [1], [-1]])
    assert np.array_equal(sky.in_convention("IAU").in_convention("COSMO").values, sky.values)
    assert np.allclose(sky.at_nside(4).values, healpy.ud_grade(sky.values, 4), atol=1e-12)
    assert np.allclose(sky.at_nside(16).at_nside(8).values, sky.values)
    holes = replace(sky, values=np.where(np.arange(768) % 4 < 2, sky.values, np.nan)).in_order("nested")
    holes = replace(holes, values=np.where(np.arange(768) % 4 < 1, np.nan, sky.in_order("nested").values))
    assert np.allclose(
        holes.at_nside(4).values, sky.in_order("nested").values.reshape(3, 192, 4)[..., 1:].mean(-1)
    )
    gone = replace(holes, values=np.where(np.arange(768) % 4 < 3, np.nan, holes.values))
    assert np.isnan(gone.at_nside(4).values).all()
    with pytest.raises(ValueError, match="nside is 3"):
        sky.at_nside(3)
    with pytest.raises(ValueError, match="frame is 'X'"):
        replace(sky, frame="X")
    with pytest.raises(ValueError, match="there are 3 names and 1 units"):
        replace(sky, units=("K",))
