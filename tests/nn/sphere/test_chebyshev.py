"""Chebyshev convolution against the dense polynomial, its graph against brute force, its symmetries, errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.audit import equivariance_error
from spheregeo.grids import Equiangular, Grid, HEALPix, Icosahedral, Plane
from spheregeo.nn import ChebConv
from spheregeo.nn.sphere import chebyshev
from spheregeo.testing import small_grids

GRIDS = small_grids()


def adjacency(grid: Grid, neighbors: int) -> Tensor:
    """Dense weights, by sorting all distances."""
    p = grid.points
    distance = (p[:, None] - p[None]).norm(dim=2)
    reach = distance.sort(1).values[:, neighbors]  # column 0 is the point itself
    near = distance <= reach[:, None] + 1e-8
    near = near | near.T
    four_t = chebyshev.WIDTH / neighbors**0.5 * (reach**2).mean()
    return torch.where(near & ~torch.eye(len(p), dtype=torch.bool), torch.exp(-(distance**2) / four_t), 0.0)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("neighbors", [8, 20])
def test_the_graph(grid: Grid, neighbors: int) -> None:
    a = adjacency(grid, neighbors)
    found = torch.from_numpy(chebyshev.laplacian(grid, neighbors).toarray())
    torch.testing.assert_close(found, a.sum(1).diag() - a, rtol=0, atol=1e-12)
    exact = float(torch.linalg.eigvalsh(found)[-1])
    estimate = chebyshev.largest_eigenvalue(chebyshev.laplacian(grid, neighbors), grid.points.numpy())
    assert exact * 0.995 < estimate < exact * 1.001


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("order", "bias"), [(1, True), (2, False), (5, True)])
def test_against_the_dense_polynomial(grid: Grid, order: int, bias: bool) -> None:
    layer = ChebConv(3, 2, grid, order, neighbors=8, bias=bias).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    n = grid.num_points
    matrix = chebyshev.scaled_laplacian(grid, 8, torch.float64).to_dense()[0]
    powers = [torch.eye(n, dtype=torch.float64), matrix]
    for _ in range(order):
        powers.append(2 * matrix @ powers[-1] - powers[-2])
    polynomials = torch.stack(powers[:order])  # (K, N, N)
    x = torch.randn(2, 3, *grid.shape, dtype=torch.float64)
    g = torch.randn(2, 2, *grid.shape, dtype=torch.float64)

    def dense(x: Tensor) -> Tensor:
        y = torch.einsum("ock,kpq,bcq->bop", layer.weight, polynomials, x.flatten(2))
        return (y if layer.bias is None else y + layer.bias[:, None]).view_as(g)

    results = []
    for run in (layer, dense):
        at = x.clone().requires_grad_()
        y = run(at)
        results.append([y.detach(), *torch.autograd.grad(y, [at, *layer.parameters()], g)])
    for a, b in zip(*results, strict=True):
        assert float((a - b).abs().max()) <= 1e-12 * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("grid", [HEALPix(4), HEALPix(4, "nested"), Icosahedral(2)], ids=str)
@pytest.mark.parametrize("neighbors", [8, 20])
def test_exact_under_the_grids_rotations(grid: Grid, neighbors: int) -> None:
    assert grid.symmetry is not None
    layer = ChebConv(2, 3, grid, 4, neighbors=neighbors).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(1, 2, grid.num_points, dtype=torch.float64)
    y = layer(x)
    for permutation in grid.symmetry.permutations[1::7]:
        moved = torch.empty_like(x).index_copy_(2, permutation, x)
        expected = torch.empty_like(y).index_copy_(2, permutation, y)
        assert float(((layer(moved) - expected).norm() / expected.norm()).detach()) < 1e-13


def test_rotations_beyond_the_grids() -> None:
    """Within the documented error, which more neighbors and a finer grid lessen."""
    errors = {}
    for nside, neighbors in ((8, 20), (16, 8), (16, 20)):
        grid = HEALPix(nside, "nested")
        layer = ChebConv(2, 2, grid, 3, neighbors=neighbors)
        errors[nside, neighbors] = equivariance_error(layer, grid, lmax=8, num_rotations=1, num_signals=1)
    assert errors[16, 20] < 0.008 and errors[16, 20] < errors[16, 8] < 0.02
    assert errors[16, 20] < errors[8, 20] / 2


def test_precision_compile_export_and_checkpoints() -> None:
    layer = ChebConv(2, 3, HEALPix(2), 3, neighbors=8)
    x = torch.randn(2, 2, 48)
    y = layer(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), y)
    exported = torch.export.export(layer, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), y)
    assert set(layer.state_dict()) == {"weight", "bias"}
    wide = copy.deepcopy(layer).double()  # coefficients come from float64 geometry again
    exact = chebyshev.scaled_laplacian(HEALPix(2), 8, torch.float64).values
    assert torch.equal(wide.map.values, exact) and layer.map.values.dtype == torch.float32
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    torch.testing.assert_close(half.float(), y, rtol=0.1, atol=0.1)
    alone = ChebConv(2, 3, HEALPix(2), 1)
    assert not hasattr(alone, "map") and alone.double()(x.double()).shape == (2, 3, 48)


def test_coincident_points_are_neighbors() -> None:
    """Nine columns of a pole are one point: all are joined, however few neighbors are asked for."""
    grid = Equiangular(4, 9, poles=True)
    row, column, distance, _ = chebyshev.nearest(grid.points.numpy(), 2)
    pole = row == 0
    assert set(column[pole]) == set(range(1, 9)) and np.abs(distance[pole]).max() < 1e-12


def test_errors() -> None:
    grid = HEALPix(1)
    with pytest.raises(ValueError, match="neighbors is 20; expected 1 to 11"):
        ChebConv(1, 1, grid)
    with pytest.raises(ValueError, match="order is 0; expected a positive integer"):
        ChebConv(1, 1, grid, 0, neighbors=8)
    with pytest.raises(ValueError, match="expected a grid on the sphere"):
        ChebConv(1, 1, Plane(4, 4), neighbors=8)
    with pytest.raises(ValueError, match=r"x has shape \(1, 2, 12\); expected \(batch, 1, 12\)"):
        ChebConv(1, 1, grid, neighbors=8)(torch.randn(1, 2, 12))
