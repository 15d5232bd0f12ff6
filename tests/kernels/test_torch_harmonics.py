"""Coefficients, layers and weights against torch-harmonics 0.9.3, all bases and normalisations, both directions."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from spheregeo.grids import Equiangular, GaussLegendre
from spheregeo.grids.latlon import LatLon
from spheregeo.kernels import (
    NORMALIZATIONS,
    Kernel,
    from_torch_harmonics,
    normalize,
    radius_from_torch_harmonics,
    weight_from_torch_harmonics,
    weight_to_torch_harmonics,
)

th = pytest.importorskip("torch_harmonics")
quadrature = pytest.importorskip("torch_harmonics.quadrature")

Shape = tuple[int, int]
BASES = [("piecewise linear", s) for s in (3, 4, (3, 3), (4, 3), (5, 4))]
BASES += [("harmonic", (3, 3)), ("zernike", 4), ("fourier-bessel", (3, 2))]
GRIDS = [
    ("equiangular", (17, 32), "equiangular", (17, 32)),
    ("legendre-gauss", (16, 32), "legendre-gauss", (16, 32)),
    ("equiangular", (17, 32), "equiangular", (9, 16)),  # stride 2
    ("legendre-gauss", (16, 32), "equiangular", (9, 8)),  # stride 4 onto a grid with pole rows
]


class Rows(NamedTuple):
    r: Tensor
    phi: Tensor
    index: Tensor
    indptr: Tensor
    weights: Tensor


def neighbourhood(source: tuple[str, Shape], target: tuple[str, Shape], radius: float, columns: int) -> Rows:
    """All source points within the radius of the first `columns` target longitudes of every latitude, by brute force."""
    (source_grid, (_, nlon)), (target_grid, (_, target_nlon)) = source, target
    theta, w = quadrature.precompute_latitudes(source[1][0], source_grid)
    centre = quadrature.precompute_latitudes(target[1][0], target_grid)[0].repeat_interleave(columns)[
        :, None, None
    ]
    at = (torch.arange(columns, dtype=torch.float64) * (2 * math.pi / target_nlon)).repeat(target[1][0])[
        :, None, None
    ]
    theta, delta = theta[:, None], torch.arange(nlon, dtype=torch.float64) * (2 * math.pi / nlon) - at
    u = centre.cos() * theta.sin() * delta.cos() - centre.sin() * theta.cos()  # (rows, nlat, nlon)
    v = theta.sin() * delta.sin()
    z = centre.sin() * theta.sin() * delta.cos() + centre.cos() * theta.cos()
    r, phi = torch.atan2(torch.hypot(u, v), z).flatten(1), torch.atan2(v, u).flatten(1)
    inside = r <= radius
    row, index = inside.nonzero(as_tuple=True)
    areas = (w * 2 * math.pi / nlon).repeat_interleave(nlon)
    indptr = torch.cat([row.new_zeros(1), inside.sum(1).cumsum(0)])
    return Rows(r[row, index], phi[row, index], index, indptr, areas[index])


def dense(values: Tensor, rows: Rows, num_source: int) -> Tensor:
    """(K, nnz) -> (K, P, Q)."""
    row = torch.repeat_interleave(torch.arange(len(rows.indptr) - 1), rows.indptr.diff())
    out = values.new_zeros(len(values), len(rows.indptr) - 1, num_source)
    out[:, row, rows.index] = values
    return out


def coefficients(kernel: Kernel, rows: Rows, radius: float, mode: str) -> Tensor:
    isotropic = [order == 0 for order in kernel.orders]
    support = kernel.support(rows.r, rows.phi, radius)
    values = kernel(rows.r, rows.phi, radius)
    return (
        normalize(values, rows.weights, rows.indptr, radius, mode, support=support, isotropic=isotropic)
        * rows.weights
    )


@pytest.mark.parametrize("mode", NORMALIZATIONS)
@pytest.mark.parametrize(("basis_type", "shape"), BASES)
@pytest.mark.parametrize(("grid_in", "in_shape", "grid_out", "out_shape"), GRIDS)
@pytest.mark.parametrize("spacings", [2.0, 3.3])
def test_coefficients(
    grid_in: str,
    in_shape: Shape,
    grid_out: str,
    out_shape: Shape,
    basis_type: str,
    shape: int | Shape,
    mode: str,
    spacings: float,
) -> None:
    cutoff = spacings * math.pi / (out_shape[0] - 1)
    radius = radius_from_torch_harmonics(cutoff)
    layer = th.DiscreteContinuousConvS2(
        1,
        1,
        in_shape,
        out_shape,
        shape,
        basis_type,
        mode,
        grid_in=grid_in,
        grid_out=grid_out,
        theta_cutoff=cutoff,
    )
    kernel, permutation = from_torch_harmonics(basis_type, shape)
    expected = torch.zeros(kernel.num_functions, out_shape[0], in_shape[0] * in_shape[1], dtype=torch.float64)
    expected[tuple(layer.psi_idx)] = layer.psi_vals
    rows = neighbourhood((grid_in, in_shape), (grid_out, out_shape), radius, 1)
    got = dense(coefficients(kernel, rows, radius, mode), rows, expected.shape[-1])
    latitudes = torch.arange(out_shape[0])
    if mode in ("support", "modal") and isinstance(shape, tuple) and shape[1] == 4:
        # hats of width pi/2: beyond the south pole theirs counts points on a hat's border or not as rounding has it
        latitudes = latitudes[quadrature.precompute_latitudes(out_shape[0], grid_out)[0] < math.pi - radius]
        assert len(latitudes) >= out_shape[0] // 2
    size = float(expected.abs().max())
    torch.testing.assert_close(
        got[:, latitudes], expected[permutation][:, latitudes], rtol=0, atol=2e-12 * size
    )


@pytest.mark.parametrize("mode", NORMALIZATIONS)
@pytest.mark.parametrize(
    ("basis_type", "shape"), [("piecewise linear", 3), ("piecewise linear", (3, 3)), ("harmonic", (3, 3))]
)
@pytest.mark.parametrize(
    ("grid", "coarse", "fine"), [("equiangular", (9, 16), (17, 32)), ("legendre-gauss", (8, 16), (16, 32))]
)
def test_transposed_coefficients(
    grid: str, coarse: Shape, fine: Shape, basis_type: str, shape: int | Shape, mode: str
) -> None:
    """Kernel at the coarse points, coarse areas, sums averaged over each fine ring."""
    cutoff = 2.0 * math.pi / (coarse[0] - 1)
    radius = radius_from_torch_harmonics(cutoff)
    layer = th.DiscreteContinuousConvTransposeS2(
        1, 1, coarse, fine, shape, basis_type, mode, grid_in=grid, grid_out=grid, theta_cutoff=cutoff
    )
    kernel, permutation = from_torch_harmonics(basis_type, shape)
    expected = torch.zeros(kernel.num_functions, coarse[0], fine[0] * fine[1], dtype=torch.float64)
    expected[tuple(layer.psi_idx)] = layer.psi_vals
    rows = neighbourhood((grid, fine), (grid, coarse), radius, coarse[1])  # rows are coarse points
    w = quadrature.precompute_latitudes(coarse[0], grid)[1] * 2 * math.pi / coarse[1]
    row = torch.repeat_interleave(torch.arange(coarse[0] * coarse[1]), rows.indptr.diff())
    order = rows.index.argsort(stable=True)  # now rows are fine points
    counts = torch.bincount(rows.index, minlength=fine[0] * fine[1])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    values, support = (f(rows.r, rows.phi, radius)[:, order] for f in (kernel, kernel.support))
    weights = w.repeat_interleave(coarse[1])[row][order]
    ring = torch.arange(fine[0]).repeat_interleave(fine[1])
    isotropic = [o == 0 for o in kernel.orders]
    got = (
        normalize(values, weights, indptr, radius, mode, support=support, isotropic=isotropic, ring=ring)
        * weights
    )
    full = got.new_zeros(len(got), coarse[0], coarse[1], fine[0] * fine[1])
    full[:, row[order] // coarse[1], row[order] % coarse[1], rows.index[order]] = got
    full, expected = (a.unflatten(-1, fine) for a in (full[:, :, 0], expected[permutation]))
    if grid == "equiangular" and mode in ("nodal", "support", "modal"):
        # fine pole rows: the angle of a coincident point, and with it these sums, is rounding in theirs
        full, expected = full[:, :, 1:-1], expected[:, :, 1:-1]
    torch.testing.assert_close(full, expected, rtol=0, atol=2e-12 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("basis_type", "shape"), [("piecewise linear", (3, 3)), ("harmonic", (3, 3)), ("zernike", 3)]
)
def test_layer_with_its_weights(basis_type: str, shape: int | Shape) -> None:
    """A grouped layer's output from its own weights, through our kernel and normalisation."""
    source, target, cutoff = ("equiangular", (17, 32)), ("equiangular", (9, 16)), 0.8
    layer = th.DiscreteContinuousConvS2(
        4, 6, source[1], target[1], shape, basis_type, groups=2, theta_cutoff=cutoff
    ).double()
    x = torch.randn(2, 4, *source[1], dtype=torch.float64)
    weight = weight_from_torch_harmonics(layer.weight.detach(), basis_type, shape)
    assert torch.equal(weight_to_torch_harmonics(weight, basis_type, shape), layer.weight)
    radius = radius_from_torch_harmonics(cutoff)
    rows = neighbourhood(source, target, radius, target[1][1])
    psi = dense(
        coefficients(from_torch_harmonics(basis_type, shape)[0], rows, radius, "nodal"), rows, 17 * 32
    )
    z = torch.einsum("kpq,bgcq->bgckp", psi, x.reshape(2, 2, 2, -1))
    y = torch.einsum("gock,bgckp->bgop", weight.reshape(2, 3, 2, -1), z).reshape(2, 6, *target[1])
    torch.testing.assert_close(y, layer(x).detach(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("basis_type", "shape"), [("piecewise linear", (3, 3)), ("harmonic", (3, 3)), ("zernike", 3)]
)
@pytest.mark.parametrize(
    ("grid", "name"),
    [(Equiangular(17, 32, poles=True), "equiangular"), (GaussLegendre(16, 32), "legendre-gauss")],
    ids=["equiangular", "legendre-gauss"],
)
def test_grids_give_the_same_geometry(grid: LatLon, name: str, basis_type: str, shape: int | Shape) -> None:
    """Points, frames and areas of our grids, seen from the first longitude, give their coefficients (pole rows too)."""
    cutoff = 2.5 * math.pi / 16
    layer = th.DiscreteContinuousConvS2(
        1, 1, grid.shape, grid.shape, shape, basis_type, grid_in=name, grid_out=name, theta_cutoff=cutoff
    )
    radius, (kernel, permutation) = (
        radius_from_torch_harmonics(cutoff),
        from_torch_harmonics(basis_type, shape),
    )
    expected = torch.zeros(kernel.num_functions, grid.shape[0], grid.num_points, dtype=torch.float64)
    expected[tuple(layer.psi_idx)] = layer.psi_vals
    first = torch.arange(grid.shape[0]) * grid.shape[1]
    u, v = (grid.frames[first] @ grid.points.T).unbind(1)  # (nlat, N): along south and east
    r, phi = torch.atan2(torch.hypot(u, v), grid.points[first] @ grid.points.T), torch.atan2(v, u)
    row, index = (r <= radius).nonzero(as_tuple=True)
    indptr = torch.cat([row.new_zeros(1), (r <= radius).sum(1).cumsum(0)])
    rows = Rows(r[row, index], phi[row, index], index, indptr, grid.areas[index])
    got = dense(coefficients(kernel, rows, radius, "nodal"), rows, grid.num_points)
    torch.testing.assert_close(got, expected[permutation], rtol=0, atol=1e-11 * float(expected.abs().max()))


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="basis_type is 'bessel'"):
        from_torch_harmonics("bessel", 3)
    with pytest.raises(ValueError, match="kernel_shape is"):
        from_torch_harmonics("harmonic", (3, 3, 3))
    with pytest.raises(ValueError, match="weight has shape"):
        weight_from_torch_harmonics(torch.zeros(2, 2, 5), "harmonic", 3)
    values, weights, indptr = torch.ones(2, 4), torch.ones(4), torch.tensor([0, 4])
    with pytest.raises(ValueError, match="mode is 'individual'"):
        normalize(values, weights, indptr, 0.3, "individual")
    with pytest.raises(ValueError, match="expected \\(K, nnz\\)"):
        normalize(values, weights[:3], indptr, 0.3, "nodal")
