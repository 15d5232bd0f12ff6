"""Interpolation maps between every pair of grids: constants, adjoints, nearest points, continuity, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.grids import (
    Equiangular,
    Fibonacci,
    GaussLegendre,
    Grid,
    HEALPix,
    Icosahedral,
    Plane,
    Scattered,
)
from spheregeo.sampling import interpolation_map
from spheregeo.sampling.directions import Directions
from spheregeo.sampling.interpolation import stencil


def directions(n: int, seed: int = 0) -> Tensor:
    p = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return p / p.norm(dim=1, keepdim=True)


GRIDS = [
    Equiangular(12, 24),
    Equiangular(13, 24, poles=True),
    Equiangular(11, 25, offset=-12.0),
    GaussLegendre(12, 24),
    HEALPix(8),
    HEALPix(8, order="nested"),
    HEALPix(3),
    HEALPix(1),
    Icosahedral(3),
    Fibonacci(400),
    Scattered(directions(400, seed=7)),
]
IDS = [str(i) + type(g).__name__ for i, g in enumerate(GRIDS)]


@pytest.mark.parametrize("method", ["linear", "nearest", "average"])
@pytest.mark.parametrize("target", GRIDS, ids=IDS)
@pytest.mark.parametrize("source", GRIDS, ids=IDS)
def test_constants_are_preserved_and_the_adjoint_is_exact(source: Grid, target: Grid, method: str) -> None:
    a = interpolation_map(source, target, method)
    assert (a.num_source, a.num_target) == (source.num_points, target.num_points)
    assert (a(torch.ones(source.num_points, dtype=torch.float64)) - 1).abs().max() < 1e-12
    x = torch.randn(source.num_points, dtype=torch.float64)
    y = torch.randn(target.num_points, dtype=torch.float64)
    left, right = a(x) @ y, x @ a.transpose()(y)
    assert abs(left - right) < 1e-12 * x.norm() * y.norm()
    assert a.values.min() > 0, "a mean: zero weights are left out, negative ones would overshoot"


@pytest.mark.parametrize("method", ["linear", "nearest", "average"])
@pytest.mark.parametrize("grid", GRIDS, ids=IDS)
def test_a_grid_to_itself_is_the_identity(grid: Grid, method: str) -> None:
    dense = interpolation_map(grid, grid, method).to_dense()[0]
    assert torch.equal(dense, torch.eye(grid.num_points, dtype=torch.float64))


@pytest.mark.parametrize("grid", [g for g in GRIDS if not getattr(g, "poles", False)], ids=str)
@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_a_grids_points_read_their_own_values(grid: Grid, method: str) -> None:
    """Not through the shortcut for equal grids: the points come as directions."""
    dense = interpolation_map(grid, grid.points, method).to_dense()[0]
    assert (dense - torch.eye(grid.num_points, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize("grid", GRIDS, ids=IDS)
def test_nearest_is_the_nearest(grid: Grid) -> None:
    p = directions(3000)
    index = interpolation_map(grid, p, "nearest").pattern.coo()[1]
    least = cKDTree(grid.points.numpy()).query(p.numpy())[0]
    assert np.abs((grid.points[index] - p).norm(dim=1).numpy() - least).max() < 1e-15


@pytest.mark.parametrize(
    "grid", [Equiangular(8, 16), Equiangular(64, 8), HEALPix(4), Icosahedral(2)], ids=str
)
def test_of_equally_near_points_the_lowest_index_is_taken(grid: Grid) -> None:
    points = grid.points
    near = cKDTree(points.numpy()).query(points.numpy(), k=2)[1][:, 1]
    middle = points + points[near]
    middle /= middle.norm(dim=1, keepdim=True)
    # rounding must not decide: compare with all distances, equal ones taken together
    distance = torch.cdist(middle, points)
    tied = distance <= distance.min(1, keepdim=True).values + 1e-12
    lowest = tied.to(torch.int64).argmax(1)  # the first of the tied
    assert torch.equal(interpolation_map(grid, middle, "nearest").pattern.coo()[1], lowest)


@pytest.mark.parametrize("grid", GRIDS, ids=IDS)
def test_every_direction_lies_inside_its_stencil(grid: Grid) -> None:
    """No weight is negative before the clean-up, so nothing is extrapolated and the interpolant is continuous."""
    p = torch.cat([directions(20000), torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    index, w = stencil(grid, "linear")(Directions.of(p))
    assert w.min() > -1e-9
    assert (w.sum(1) - 1).abs().max() < 1e-13
    # second order: where the weights put their mean is off by the sagitta of a cell, at most
    mean = (grid.points[index] * w[..., None]).sum(1)
    reach = (grid.points[index] - p[:, None]).norm(dim=2).masked_fill(w.abs() < 1e-9, 0).amax(1)
    assert bool(((mean - p).norm(dim=1) <= 0.75 * reach**2 + 1e-9).all())


@pytest.mark.parametrize("grid", GRIDS, ids=IDS)
def test_no_jump_anywhere_on_a_great_circle(grid: Grid) -> None:
    """Rough values, fine steps: along a path the interpolant moves by no more than its slope allows."""
    x = torch.randn(grid.num_points, dtype=torch.float64)
    if getattr(grid, "poles", False):  # a pole is one point: its row has one value
        x.view(grid.shape)[[0, -1]] = x.view(grid.shape)[[0, -1], :1]
    steps = 20001
    t = torch.linspace(0, 2 * torch.pi, steps, dtype=torch.float64)
    for tilt in (0.0, 0.05, 0.5):  # over both poles, close by, and obliquely
        a = torch.tensor([0.9, 0.3, 0.3], dtype=torch.float64)
        a /= a.norm()
        side = torch.linalg.cross(a, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        b = torch.linalg.cross(side, a) + tilt * side
        b /= b.norm()
        y = interpolation_map(grid, t.cos()[:, None] * a + t.sin()[:, None] * b)(x)
        assert y.diff().abs().max() < 0.06 * (x.max() - x.min())


@pytest.mark.parametrize("n", [8, 32])
def test_healpix_is_no_worse_than_healpy(n: int) -> None:
    """healpy interpolates along rings: the same order over the sphere, but first order at the poles."""
    import healpy

    grid, p = HEALPix(n), directions(20000)
    f = (2 * grid.points[:, 0] - grid.points[:, 1]) * grid.points[:, 2]
    exact = (2 * p[:, 0] - p[:, 1]) * p[:, 2]
    ours = (interpolation_map(grid, p)(f) - exact).abs()
    theirs = healpy.get_interp_val(f.numpy(), *healpy.vec2ang(p.numpy()))
    theirs = (torch.from_numpy(theirs) - exact).abs()
    assert (ours**2).mean() <= 1.05 * (theirs**2).mean()
    assert ours.max() < 0.6 * theirs.max()


def test_ring_and_nested_order_hold_the_same_map() -> None:
    from spheregeo.grids import nested_to_ring

    ring, nested, p = HEALPix(16), HEALPix(16, order="nested"), directions(1000)
    x = torch.randn(nested.num_points, dtype=torch.float64)
    for method in ("linear", "nearest"):
        wanted = interpolation_map(ring, p, method)(nested_to_ring(x))
        torch.testing.assert_close(interpolation_map(nested, p, method)(x), wanted, atol=1e-14, rtol=0)


def test_scattered_points_that_leave_a_hemisphere_empty_take_the_nearest_there() -> None:
    p = directions(300)
    p = p[p[:, 2] > 0.2]
    grid = Scattered(p)
    targets = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    dense = interpolation_map(grid, targets).to_dense()[0]
    assert dense[0].max() == 1 and dense[0].argmax() == p[:, 2].argmin()
    assert (dense[1] > 0).sum() == 3


def test_points_in_one_plane_have_no_triangulation() -> None:
    t = torch.arange(8, dtype=torch.float64)
    flat = Scattered(torch.stack([t.cos(), t.sin(), 0 * t], 1), areas=torch.ones(8))
    with pytest.raises(ValueError, match="must not lie in one plane; use method='nearest'"):
        interpolation_map(flat, Equiangular(4, 8))
    assert interpolation_map(flat, Equiangular(4, 8), "nearest").num_target == 32


def test_gradients() -> None:
    for method in ("linear", "average"):
        a = interpolation_map(HEALPix(1), Equiangular(2, 4), method)
        x = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(a, (x,)) and torch.autograd.gradgradcheck(a, (x,))


def test_a_map_is_built_once_and_what_a_caller_does_to_it_stays_with_him() -> None:
    a, b = (interpolation_map(HEALPix(4), Equiangular(8, 16)) for _ in range(2))
    assert a.values.data_ptr() == b.values.data_ptr()
    a.to(torch.float32)
    assert b.values.dtype == torch.float64
    assert interpolation_map(HEALPix(4), Equiangular(8, 16)).values.dtype == torch.float64


def test_no_points_give_no_rows() -> None:
    a = interpolation_map(HEALPix(2), torch.zeros(0, 3))
    assert (a.num_target, a.num_source) == (0, 48)


@pytest.mark.parametrize(
    "call,message",
    [
        (
            lambda: interpolation_map(HEALPix(2), Equiangular(4, 8), "cubic"),
            "method is 'cubic', expected one of 'linear'",
        ),
        (
            lambda: interpolation_map(Plane(4, 4), HEALPix(2)),
            "source is Plane.*expected a grid on the sphere",
        ),
        (lambda: interpolation_map(HEALPix(2), Plane(4, 4)), "target is Plane"),
        (lambda: interpolation_map(HEALPix(2), torch.ones(5, 2)), r"target has shape \(5, 2\).*\(M, 3\)"),
        (lambda: interpolation_map(HEALPix(2), torch.ones(5, 3)), "length 1.732.*expected unit vectors"),
        (lambda: interpolation_map(HEALPix(2), torch.full((1, 3), torch.nan)), "expected unit vectors"),
        (lambda: interpolation_map(HEALPix(2), directions(4), "average"), "needs a target grid"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
