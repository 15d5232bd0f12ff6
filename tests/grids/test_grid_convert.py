"""Converters: HEALPix orders and faces, torch-harmonics, panoramas, and Earth fields in all their layouts."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import healpy
import numpy as np
import pytest
import torch

from spheregeo.grids import (
    Equiangular,
    GaussLegendre,
    HEALPix,
    LatLon,
    earth_field,
    faces_to_healpix,
    from_torch_harmonics,
    grid_to_panorama,
    healpix_to_faces,
    nested_to_ring,
    panorama_grid,
    panorama_to_grid,
    ring_to_nested,
    roll_columns,
    to_torch_harmonics,
    torch_harmonics_weights,
)


def test_orders_are_healpys_reorder() -> None:
    x = torch.randn(2, 3, 12 * 64)
    nested = ring_to_nested(x)
    np.testing.assert_array_equal(nested[1, 2], healpy.reorder(x[1, 2].numpy(), r2n=True))
    assert torch.equal(nested_to_ring(nested), x)


@pytest.mark.parametrize(("nside", "order"), [(6, "ring"), (8, "ring"), (8, "nested"), (1, "ring")])
def test_faces_round_trip_and_lie_as_documented(nside: int, order: str) -> None:
    grid = HEALPix(nside, order)
    x = torch.randn(2, grid.num_points)
    faces = healpix_to_faces(x, order)
    assert faces.shape == (2, 12, nside, nside)
    assert torch.equal(faces_to_healpix(faces, order), x)
    if nside == 1:
        return
    p = healpix_to_faces(grid.points.T.contiguous(), order)  # (3, face, y, x)
    # inside the equatorial faces +x goes north-east and +y north-west
    theta, phi = torch.acos(p[2, 5]), torch.atan2(p[1, 5], p[0, 5])
    assert (theta.diff(dim=1) < 0).all() and (theta.diff(dim=0) < 0).all()
    assert (phi.diff(dim=1) > 0).all() and (phi.diff(dim=0) < 0).all()


def test_healpix_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="last axis has 100 entries"):
        ring_to_nested(torch.zeros(100))
    with pytest.raises(ValueError, match="nside is 6; nested order exists for powers of two only"):
        nested_to_ring(torch.zeros(432))
    with pytest.raises(ValueError, match="power of two, got 6"):
        healpix_to_faces(torch.zeros(432), "nested")
    with pytest.raises(ValueError, match="order is 'xy'"):
        healpix_to_faces(torch.zeros(12), "xy")
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 12, nside, nside\)"):
        faces_to_healpix(torch.zeros(12, 4, 8))


def test_torch_harmonics_names_and_weights_round_trip() -> None:
    for grid in (Equiangular(17, 32, poles=True), GaussLegendre(16, 32)):
        nlat, nlon, name = to_torch_harmonics(grid)
        assert from_torch_harmonics(nlat, nlon, name) == grid
        th = pytest.importorskip("torch_harmonics.quadrature")
        theta, weights = th.precompute_latitudes(nlat, grid=name)
        assert (torch_harmonics_weights(grid) - weights).abs().max() < 1e-14
        assert (grid.colatitudes - theta).abs().max() < 1e-14
        assert (grid.longitudes - th.precompute_longitudes(nlon)).abs().max() < 1e-14
    for stranger in (Equiangular(16, 32), GaussLegendre(16, 32, offset=0.5)):
        with pytest.raises(ValueError, match="torch-harmonics has no"):
            to_torch_harmonics(stranger)
    with pytest.raises(ValueError, match="grid is 'lobatto'"):
        from_torch_harmonics(8, 16, "lobatto")


@pytest.mark.parametrize(("height", "width"), [(4, 8), (3, 7)])
def test_panoramas_start_half_a_pixel_after_minus_pi(height: int, width: int) -> None:
    grid = panorama_grid(height, width)
    expected = -math.pi + (torch.arange(width, dtype=torch.float64) + 0.5) * 2 * math.pi / width
    assert (grid.longitudes - expected.remainder(2 * math.pi)).abs().max() < 1e-14
    image = torch.randn(3, height, width)
    rolled, where = panorama_to_grid(image)
    assert where == Equiangular(height, width, offset=0.5 if width % 2 == 0 else 0.0)
    assert torch.equal(grid_to_panorama(rolled, where), image)
    # the same value stays at the same place on the sphere
    before = {
        tuple(p): v for p, v in zip(grid.points.mul(1e9).round().tolist(), image[0].reshape(-1).tolist())
    }
    after = {
        tuple(p): v for p, v in zip(where.points.mul(1e9).round().tolist(), rolled[0].reshape(-1).tolist())
    }
    assert before == after and len(before) == height * width


def test_parts_of_a_column_are_never_rolled() -> None:
    x = torch.zeros(4, 8)
    with pytest.raises(ValueError, match="differ by part of a column"):
        grid_to_panorama(x, Equiangular(4, 8))
    with pytest.raises(ValueError, match="differ in more than offset"):
        roll_columns(x, Equiangular(4, 8), GaussLegendre(4, 8))
    with pytest.raises(ValueError, match=r"x has shape \(8, 4\)"):
        roll_columns(x.T, Equiangular(4, 8), Equiangular(4, 8, offset=1.0))
    with pytest.raises(ValueError, match=r"shape \(8,\)"):
        panorama_to_grid(torch.zeros(8))


def field(grid: LatLon) -> torch.Tensor:
    """A field that tells every direction apart."""
    return (grid.points @ torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)).reshape(grid.shape)


CELLS = -90 + (np.arange(18) + 0.5) * 10
GAUSS = 90 - np.degrees(GaussLegendre(18, 36).colatitudes.numpy())


@pytest.mark.parametrize(
    "latitudes", [CELLS, CELLS[::-1], np.linspace(-90, 90, 19), np.linspace(90, -90, 18), GAUSS, GAUSS[::-1]]
)
@pytest.mark.parametrize(
    "longitudes",
    [
        np.arange(36) * 10.0, np.arange(-18, 18) * 10.0 + 5, np.arange(0, 361, 10.0), np.linspace(-180, 180, 37),
        np.arange(36)[::-1] * 10.0, (np.arange(36) * 10.0 + 200) % 360, np.arange(36) * 10.0 + 2.5,
        (np.arange(360) + 0.5).astype(np.float32),
    ],
)  # fmt: skip
def test_earth_fields_in_every_layout_come_out_right(latitudes: np.ndarray, longitudes: np.ndarray) -> None:
    lat, lon = np.radians(np.float64(latitudes))[:, None], np.radians(np.float64(longitudes))[None]
    x = np.cos(lat) * np.cos(lon) + 2 * np.cos(lat) * np.sin(lon) + 4 * np.sin(lat)
    y, grid = earth_field(torch.from_numpy(x)[None], latitudes, longitudes)
    assert y.shape == (1, *grid.shape)
    assert (y[0] - field(grid)).abs().max() < 1e-12
    assert grid.nlon == (len(longitudes) - 1 if len(longitudes) == 37 else len(longitudes))


def test_regional_and_uneven_fields_are_refused() -> None:
    lat, lon = CELLS, np.arange(36) * 10.0
    with pytest.raises(ValueError, match="not 18 equal steps round the whole globe"):
        earth_field(torch.zeros(18, 18), lat, lon[:18])
    uneven = lon.copy()
    uneven[5] += 3
    with pytest.raises(ValueError, match="equal steps"):
        earth_field(torch.zeros(18, 36), lat, uneven)
    with pytest.raises(ValueError, match="neither 18 cell centres, nor pole rows, nor Gaussian"):
        earth_field(torch.zeros(18, 36), lat * 0.5, lon)
    with pytest.raises(ValueError, match=r"x has shape \(36, 18\)"):
        earth_field(torch.zeros(36, 18), lat, lon)
    with pytest.raises(ValueError, match="at least 2 latitudes"):
        earth_field(torch.zeros(1, 36), lat[:1], lon)


@pytest.mark.realdata
def test_measured_earth_layers_sit_the_same_way_up(real_data: Path) -> None:
    """Köppen land (south-up, −180…180) against the land fraction: they agree on 97.5 % of cells when both lie right."""
    koppen = np.load(real_data / "earth" / "koppen_0p5deg_main6.npz")
    land = np.load(real_data / "earth" / "land_fraction_0p25deg.npz")
    labels = torch.from_numpy(
        koppen[next(k for k in koppen.files if koppen[k].shape == (360, 720))].astype(np.int64)
    )
    fraction = torch.from_numpy(
        land[next(k for k in land.files if land[k].shape == (720, 1440))].astype(np.float64)
    )
    half = -90 + (np.arange(360) + 0.5) / 2
    labels, grid = earth_field(labels, half, -180 + (np.arange(720) + 0.5) / 2)
    assert grid == panorama_grid(360, 720)
    fraction = fraction.reshape(360, 2, 720, 2).mean((1, 3))
    sea = labels == labels.mode().values.mode().values  # the commonest label is the sea
    agreement = {}
    for flip in (False, True):
        for shift in (0, 360):
            other = (fraction.flip(0) if flip else fraction).roll(shift, 1)
            hit = ((other < 0.5) == sea).double().mean(1)
            agreement[flip, shift] = (hit * grid.row_areas).sum().item() / grid.row_areas.sum().item()
    assert max(agreement.values()) > 0.95
    assert sorted(agreement.values())[-2] < 0.8, "only one way of laying the two may fit"


@pytest.mark.realdata
def test_measured_elevation_is_recognised(real_data: Path) -> None:
    """A field of longitudes 20…380 with its first column repeated."""
    folder = real_data / "earth"
    lat, lon, data = (
        np.loadtxt(gzip.open(folder / f"etopo20{part}.gz")) for part in ("lats", "lons", "data")
    )
    x, grid = earth_field(torch.from_numpy(data), lat, lon)
    assert isinstance(grid, Equiangular) and grid.shape == (540, 1080) and not grid.poles
    heights = x.reshape(-1)
    for name, lat_deg, lon_deg, low, high in (
        ("Tibet", 33, 88, 4000, 6000), ("Mariana Trench", 11.5, 142.3, -11500, -6000), ("Greenland", 72, -40, 2000, 3500),
        ("South Atlantic", -30, -15, -5500, -2000), ("Andes", -17, -69, 3000, 6000),
    ):  # fmt: skip
        theta, phi = math.radians(90 - lat_deg), math.radians(lon_deg)
        p = torch.tensor(
            [math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)],
            dtype=torch.float64,
        )
        assert low < heights[(grid.points @ p).argmax()] < high, name
