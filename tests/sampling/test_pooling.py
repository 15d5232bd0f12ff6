"""Pooling and unpooling: means, areas, maxima, exact adjoints, inverses, equivariance under the grids' symmetries."""

from __future__ import annotations

import pytest
import torch

from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.sampling import pool, pooling_map, resample, unpool, unpooling_map

GRIDS = [Equiangular(8, 16), GaussLegendre(6, 8), HEALPix(4), HEALPix(4, order="nested"), Icosahedral(2)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_each_reduction_against_a_loop_over_the_children(grid: Grid) -> None:
    x = torch.randn(2, grid.num_points, dtype=torch.float64)
    coarse, parents = grid.coarsen(), grid.parents()
    field = x.reshape(2, *grid.shape)
    results = {reduce: pool(field, grid, reduce).reshape(2, -1) for reduce in ("mean", "area", "max")}
    assert pool(field, grid).shape == (2, *coarse.shape)
    for p in range(coarse.num_points):
        mine = (parents == p).nonzero()[:, 0]
        values, area = x[:, mine], grid.areas[mine]
        torch.testing.assert_close(results["mean"][:, p], values.mean(1), atol=1e-14, rtol=0)
        torch.testing.assert_close(results["area"][:, p], values @ area / area.sum(), atol=1e-14, rtol=0)
        assert torch.equal(results["max"][:, p], values.max(1).values)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_unpooling_is_undone_by_pooling_and_constants_stay(grid: Grid) -> None:
    x = torch.randn(2, *grid.shape, dtype=torch.float64)
    fine = unpool(x, grid)
    assert fine.shape == (2, *grid.refine().shape)
    for reduce in ("mean", "area", "max"):
        torch.testing.assert_close(pool(fine, grid.refine(), reduce), x, atol=1e-13, rtol=0)
    ones = torch.ones(grid.shape, dtype=torch.float64)
    for method in ("nearest", "linear"):
        assert (unpool(ones, grid, method) - 1).abs().max() < 1e-12
    assert torch.equal(unpool(x, grid, "linear"), resample(x, grid, grid.refine()))


@pytest.mark.parametrize("grid", [Equiangular(4, 8), HEALPix(2, order="nested"), Icosahedral(1)], ids=str)
def test_adjoints_and_gradients(grid: Grid) -> None:
    for a in (pooling_map(grid, "mean"), pooling_map(grid, "area"), unpooling_map(grid)):
        x, y = torch.randn(a.num_source, dtype=torch.float64), torch.randn(a.num_target, dtype=torch.float64)
        assert abs(a(x) @ y - x @ a.transpose()(y)) < 1e-12 * x.norm() * y.norm()
    x = torch.randn(grid.shape, dtype=torch.float64)
    torch.testing.assert_close(unpool(x, grid).flatten(), unpooling_map(grid)(x.flatten()))
    x.requires_grad_()
    for reduce in ("mean", "area", "max"):
        assert torch.autograd.gradcheck(lambda v: pool(v, grid, reduce), (x,))  # noqa: B023
    assert torch.autograd.gradcheck(lambda v: unpool(v, grid), (x,))


def test_copying_up_is_the_adjoint_of_area_pooling_under_the_areas() -> None:
    """<unpool y, x> with fine areas = <y, pool x> with the parents' summed areas."""
    grid = Equiangular(8, 16)
    fine, down, up = (
        grid.areas,
        pooling_map(grid, "area").to_dense()[0],
        unpooling_map(grid.coarsen()).to_dense()[0],
    )
    total = up.T @ fine
    torch.testing.assert_close(fine[:, None] * up, down.T * total, atol=1e-16, rtol=0)


@pytest.mark.parametrize("order", ["ring", "nested"])
def test_healpix_pooling_commutes_with_the_symmetries(order: str) -> None:
    grid = HEALPix(4, order=order)
    fine, coarse = grid.symmetry, grid.coarsen().symmetry
    x = torch.randn(grid.num_points, dtype=torch.float64)
    for a, b in zip(fine.permutations, coarse.permutations):
        for reduce in ("mean", "area", "max"):
            turned, pooled = torch.empty_like(x), torch.empty(grid.num_points // 4, dtype=torch.float64)
            turned[a] = x
            pooled[b] = pool(x, grid, reduce)
            torch.testing.assert_close(pool(turned, grid, reduce), pooled, atol=1e-14, rtol=0)


def test_dtypes() -> None:
    grid = HEALPix(4)
    x = torch.randn(3, 192)
    torch.testing.assert_close(pool(x, grid).double(), pool(x.double(), grid), atol=1e-6, rtol=0)
    assert pool(x.bfloat16(), grid).dtype == torch.bfloat16
    labels = torch.randint(0, 9, (192,), dtype=torch.uint8)
    assert pool(labels, grid, "max").dtype == torch.uint8 and unpool(labels, grid).dtype == torch.uint8
    with pytest.raises(TypeError, match="labels need 'nearest'"):
        pool(labels, grid)


def test_errors() -> None:
    with pytest.raises(ValueError, match="reduce is 'sum', expected one of 'mean', 'area', 'max'"):
        pool(torch.zeros(48), HEALPix(2), "sum")
    with pytest.raises(
        ValueError,
        match="x has 192 on its last axis, grid has 48 points; did you build the grid with nside=4",
    ):
        pool(torch.zeros(192), HEALPix(2))
    with pytest.raises(ValueError, match="nside is odd"):
        pool(torch.zeros(12), HEALPix(1))
    with pytest.raises(ValueError, match=r"are not nested; use sampling\.resample"):
        pool(torch.zeros(100), Fibonacci(100))
    with pytest.raises(ValueError, match="method is 'cubic', expected 'nearest' or 'linear'"):
        unpool(torch.zeros(12), HEALPix(1), "cubic")
    with pytest.raises(ValueError, match="max is not linear"):
        pooling_map(HEALPix(2), "max")
