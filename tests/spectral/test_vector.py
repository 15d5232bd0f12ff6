"""Winds and differential operators: identities, finite differences, measured winds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.grids import Equiangular, GaussLegendre, HEALPix, Icosahedral
from spheregeo.harmonics import real_harmonics
from spheregeo.spectral import (
    SHT,
    InverseSHT,
    InverseVectorSHT,
    WindFields,
    gradient,
    inverse_laplacian,
    laplacian,
    resolved_degree,
)

EARTH = 6.371e6
GRIDS = [GaussLegendre(72, 144), Equiangular(73, 144, poles=True)]


def check_identities(fields: WindFields, wind: torch.Tensor, small: float) -> dict[str, torch.Tensor]:
    """What every wind of degrees to lmax satisfies, relative to the largest value."""
    found = fields(wind)
    parts = found["rotational_wind"] + found["divergent_wind"]
    assert (parts - wind).abs().max() < small * wind.abs().max()
    analysis, synthesis = SHT(fields.grid, fields.lmax), InverseSHT(fields.grid, fields.lmax)
    for potential, value in (("streamfunction", "vorticity"), ("velocity_potential", "divergence")):
        twice = synthesis(laplacian(analysis(found[potential]), EARTH))
        assert (twice - found[value]).abs().max() < small * found[value].abs().max()
    largest = found["vorticity"].abs().max(), found["divergence"].abs().max()
    assert fields.vorticity(found["divergent_wind"]).abs().max() < small * largest[0]
    assert fields.divergence(found["rotational_wind"]).abs().max() < small * largest[1]
    for name in ("vorticity", "divergence", "streamfunction", "velocity_potential"):
        assert torch.equal(getattr(fields, name)(wind), found[name])
    coefficients = [analysis(found[n]) for n in ("vorticity", "divergence")]
    assert (fields.wind(*coefficients) - wind).abs().max() < small * wind.abs().max()
    return found


@pytest.mark.realdata
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_winds_of_measured_data_split_into_rotational_and_divergent_ones(grid, real_data: Path) -> None:
    netcdf = pytest.importorskip("netCDF4")
    layers = []
    for name in "uv":
        with netcdf.Dataset(real_data / "earth" / f"{name}wnd_mean.nc") as file:
            values = np.asarray(file[f"{name}wnd"][0], dtype=np.float64)  # January at 200 hPa
            latitudes = np.asarray(file["latitude"][:])
            assert values.shape == (73, 144)
            layers.append(values if latitudes[0] > 0 else values[::-1])
    given = torch.from_numpy(np.stack(layers))
    whole = WindFields(Equiangular(73, 144, poles=True), radius=EARTH)
    if isinstance(grid, GaussLegendre):  # the winds of degrees to 71, on the other grid
        c = whole.coefficients(given)
        south, east = InverseVectorSHT(grid, whole.lmax)(c)
        wind = torch.stack([east, -south])
    else:
        wind = whole.rotational_wind(given) + whole.divergent_wind(given)
        assert (wind - given).abs().max() < 0.2 * given.abs().max()
    found = check_identities(WindFields(grid, radius=EARTH), wind, 1e-10)
    assert 1e-5 < found["vorticity"].abs().max() < 1e-3  # 1/s, of the size of weather


@pytest.mark.parametrize(
    "grid", [GaussLegendre(12, 24), Equiangular(12, 24), Equiangular(13, 24, poles=True)], ids=str
)
def test_identities_of_random_winds(grid) -> None:
    fields = WindFields(grid, radius=EARTH)
    c = torch.randn(3, 2, (fields.lmax + 1) ** 2, dtype=torch.float64)
    c[..., 0] = 0
    south, east = InverseVectorSHT(grid, fields.lmax)(c).unbind(1)
    check_identities(fields, torch.stack([east, -south], 1), 1e-11)


def test_a_planet_that_turns_and_flows_from_pole_to_pole() -> None:
    grid = GaussLegendre(8, 16)
    theta = grid.colatitude.view(grid.shape)
    fields = WindFields(grid, radius=2.0)
    turning = torch.stack([torch.sin(theta), torch.zeros_like(theta)])  # u = Ω r sin θ with Ω = 1/2
    assert (fields.vorticity(turning) - torch.cos(theta)).abs().max() < 1e-13  # 2 Ω cos θ
    assert (fields.streamfunction(turning) + 2 * torch.cos(theta)).abs().max() < 1e-13
    assert fields.divergence(turning).abs().max() < 1e-13
    assert (fields.rotational_wind(turning) - turning).abs().max() < 1e-13
    northward = torch.stack(
        [torch.zeros_like(theta), torch.sin(theta)]
    )  # the gradient of 2 cos θ on radius 2
    assert (fields.velocity_potential(northward) - 2 * torch.cos(theta)).abs().max() < 1e-13
    assert (fields.divergence(northward) + torch.cos(theta)).abs().max() < 1e-13
    assert (fields.divergent_wind(northward) - northward).abs().max() < 1e-13


def test_operators_on_coefficients() -> None:
    lmax, grid = 6, GaussLegendre(8, 16)
    c = torch.randn(2, (lmax + 1) ** 2, dtype=torch.float64)
    points = grid.points.clone().requires_grad_()
    values = real_harmonics(points / points.norm(dim=1, keepdim=True), lmax) @ c[0]
    slope = torch.autograd.grad(values.sum(), points)[0]
    expected = torch.einsum("nkx,nx->kn", grid.frames, slope) / 3
    found = InverseVectorSHT(grid, lmax)(gradient(c, 3.0))[0].flatten(1)
    assert (found - expected).abs().max() < 1e-12
    back = inverse_laplacian(laplacian(c, 3.0), 3.0)
    assert (back[:, 1:] - c[:, 1:]).abs().max() < 1e-14
    assert not back[:, 0].any()
    assert (
        laplacian(c, 3.0) + gradient(gradient(c, 3.0)[:, 0])[:, 0] / 3
    ).abs().max() < 1e-13  # −∇·∇, by the adjoint
    with pytest.raises(ValueError, match=r"coefficients has shape \(5,\)"):
        laplacian(torch.zeros(5))


def test_degrees_that_grids_resolve() -> None:
    expected = {
        GaussLegendre(9, 18): 8,
        GaussLegendre(9, 10): 4,
        Equiangular(9, 18): 8,
        Equiangular(9, 18, poles=True): 7,
        HEALPix(4): 8,
    }
    assert {grid: resolved_degree(grid) for grid in expected} == expected
    layers = {**expected, HEALPix(4): 7}
    assert {grid: resolved_degree(grid, "layer") for grid in expected} == layers
    fine = Icosahedral(5)  # 10242 points
    assert [resolved_degree(fine, use) for use in ("analysis", "synthesis", "layer")] == [40, 70, 50]
    with pytest.raises(ValueError, match="use is 'pooling'; expected one of 'analysis'"):
        resolved_degree(fine, "pooling")
    with pytest.raises(TypeError, match="wind is None; expected a tensor"):
        WindFields(GaussLegendre(4, 8)).vorticity(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radius is 0"):
        WindFields(GaussLegendre(4, 8), radius=0)
    with pytest.raises(ValueError, match=r"wind has shape \(3, 4, 8\); expected \(..., 2, 4, 8\)"):
        WindFields(GaussLegendre(4, 8))(torch.zeros(3, 4, 8))


def test_winds_compile() -> None:
    fields = WindFields(GaussLegendre(4, 8))
    wind = torch.randn(2, 4, 8)
    assert torch.allclose(torch.compile(fields.vorticity, fullgraph=True)(wind), fields.vorticity(wind))
