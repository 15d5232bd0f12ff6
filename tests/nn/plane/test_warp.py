"""Warps: groups, inverses, Jacobians; shifts of images given as functions and of sampled ones; convolutions behind them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo import models
from spheregeo.nn import (
    AspectWarp,
    GroupWarp,
    HemisphereWarp,
    LogPolarWarp,
    PeriodicConv2d,
    PerspectiveWarp,
    Warp2d,
    WarpedConv2d,
)
from spheregeo.nn.plane import additivity_error
from spheregeo.nn.plane.warps import Warp

WARPS = [
    LogPolarWarp((9, 16)),
    AspectWarp((9, 8), quadrant=(-1, 1)),
    PerspectiveWarp((7, 9), horizon=0.25, focal=1.5),
]


def picture(points: Tensor) -> Tensor:
    """A smooth image without any symmetry, as a function of points."""
    x, y = points[..., 0], points[..., 1]
    blobs = ((0.4, 0.1, 0.25), (-0.2, 0.45, 0.3), (-0.3, -0.4, 0.2))
    return sum(
        torch.exp(-((x - a) ** 2 + (y - b) ** 2) / s**2) * (1 + k) for k, (a, b, s) in enumerate(blobs)
    )  # type: ignore[return-value]


def pixels(size: int) -> Tensor:
    """Points of the pixels of a square image, rows running downwards."""
    at = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
    return torch.stack(torch.meshgrid(-at, at, indexing="ij")[::-1], -1)


@pytest.mark.parametrize("warp", WARPS, ids=lambda w: type(w).__name__)
def test_groups_inverses_and_jacobians(warp: Warp) -> None:
    assert additivity_error(warp, reach=1.0) < 2e-15
    u = warp.parameters()
    torch.testing.assert_close(warp.inverse(warp.points()), u, rtol=0, atol=1e-14)
    between = u[:-1, :-1] + 0.3 * torch.tensor(warp.step, dtype=torch.float64)
    torch.testing.assert_close(Warp.inverse(warp, warp.locate(between)), between, rtol=0, atol=1e-8)  # Newton
    difference = torch.stack(
        [
            (warp.locate(between + 1e-6 * e) - warp.locate(between - 1e-6 * e)) / 2e-6
            for e in torch.eye(2, dtype=torch.float64)
        ],
        -1,
    )
    torch.testing.assert_close(warp.jacobian(between), difference, rtol=1e-7, atol=1e-8)
    # an action of a pivot at 0 is that of the group, whatever else the points are
    assert warp == type(warp)(**{k: getattr(warp, k) for k in warp.__dataclass_fields__})  # type: ignore[attr-defined]


def test_area_of_log_polar_pixels() -> None:
    warp = LogPolarWarp((5, 8))
    area = torch.linalg.det(warp.jacobian(warp.parameters()))
    torch.testing.assert_close(area, warp.points().square().sum(-1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("warp", WARPS, ids=lambda w: type(w).__name__)
def test_transformed_functions_are_shifted_exactly(warp: Warp) -> None:
    still = picture(warp.points())
    rows, columns = 2, 3
    by = torch.tensor([rows * warp.step[0], columns * warp.step[1]], dtype=torch.float64)
    moved = picture(warp.act(-by, warp.points()))  # (t f)(p) = f(t⁻¹ p)
    expected = still.roll((rows, columns), (0, 1))
    inside = torch.ones_like(still, dtype=torch.bool)
    for k, periodic in enumerate(warp.periodic):
        if not periodic:
            inside &= (torch.arange(warp.size[k]) >= (rows, columns)[k]).view((-1, 1) if k == 0 else (1, -1))
    torch.testing.assert_close(moved[inside], expected[inside], rtol=0, atol=1e-12)
    assert (moved - still)[inside].abs().max() > 1e-2


def test_sampled_images_are_shifted_to_the_error_of_interpolation() -> None:
    warp = LogPolarWarp((16, 32), inner=0.2, outer=0.9)
    sample = Warp2d(warp)
    p = pixels(64)
    by = torch.tensor([2 * warp.step[0], 5 * warp.step[1]], dtype=torch.float64)
    still, moved = sample(picture(p)[None, None]), sample(picture(warp.act(-by, p))[None, None])
    error = (moved - still.roll((2, 5), (2, 3)))[..., 2:, :].norm() / still.norm()
    assert error < 5e-3
    # sampling reads the right points, up and right: the function itself to h²/8 (|f_xx| + |f_yy|)
    torch.testing.assert_close(still[0, 0], picture(warp.points()), rtol=0, atol=4e-2)
    long = Warp2d(warp)(F.pad(picture(p)[None, None], (8, 8)))
    torch.testing.assert_close(long, still, rtol=0, atol=1e-12)  # the unit is the shorter side


def test_quarter_turns_are_exact() -> None:
    torch.manual_seed(0)
    layer = WarpedConv2d(2, 3, 3, warp=LogPolarWarp((6, 16))).double()
    x = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(layer(torch.rot90(x, 1, (2, 3))), y.roll(4, 3), rtol=0, atol=1e-12)
    assert (y - y.roll(4, 3)).abs().max() > 0.1
    expected = F.conv2d(
        F.pad(F.pad(layer.sample(x), (0, 0, 1, 1)), (1, 1, 0, 0), "circular"),
        layer.conv.weight,
        layer.conv.bias,
    )
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    assert layer.float().double().sample.grid.equal(layer.sample.exact("grid"))


def test_periodic_convolution_shifts_only_where_it_closes() -> None:
    torch.manual_seed(0)
    conv = PeriodicConv2d(1, 2, 3, (1, 2), periodic=(True, False)).double()
    x = torch.randn(1, 1, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(conv(x.roll(2, 2)), conv(x).roll(2, 2), rtol=0, atol=1e-12)
    assert (conv(x.roll(2, 3)) - conv(x).roll(1, 3)).abs().max() > 1e-2
    with pytest.raises(ValueError, match="expected"):
        conv(x[0])


def test_what_is_no_abelian_group_is_refused() -> None:
    shear = lambda u, p: torch.stack([p[..., 0] + u[..., 1] + u[..., 0] * p[..., 1], p[..., 1]], -1)  # noqa: E731
    assert GroupWarp(shear, (4, 4), (0.0, 0.5), (-1, -1), (1, 1)).is_exact
    turns = LogPolarWarp((4, 8))
    closed = GroupWarp(turns.act, (4, 8), (1.0, 0.0), turns.low, turns.high, (False, True))
    torch.testing.assert_close(closed.points(), turns.points(), rtol=0, atol=1e-15)
    sphere = HemisphereWarp((8, 8), 0.6, 0.6)
    with pytest.raises(ValueError, match="no abelian group"):
        GroupWarp(sphere.act, (8, 8), (0.0, 0.0), sphere.low, sphere.high)
    assert not GroupWarp(sphere.act, (8, 8), (0.0, 0.0), sphere.low, sphere.high, approximate=True).is_exact
    with pytest.raises(ValueError, match="its two ends are"):
        GroupWarp(shear, (4, 4), (0.0, 0.5), (-1, -1), (1, 1), (False, True))
    with pytest.raises(ValueError, match="moves the pivot"):
        GroupWarp(lambda u, p: p + u + 1, (4, 4), (0.0, 0.0), (-1, -1), (1, 1))
    with pytest.raises(ValueError, match="ascending"):
        GroupWarp(lambda u, p: p + u, (4, 4), (0.0, 0.0), (1, -1), (1, 1))


def test_hemisphere_is_labelled_and_its_error_grows() -> None:
    errors = [additivity_error(HemisphereWarp((8, 8), a, a), reach=1.0) for a in (0.1, 0.3, 0.6)]
    assert 1e-4 < errors[0] < 2e-3 < errors[1] < 3e-2 < errors[2] < 0.3
    warp = HemisphereWarp((9, 9), 0.6, 0.6)
    torch.testing.assert_close(warp.inverse(warp.points()), warp.parameters(), rtol=0, atol=1e-14)
    # turns about the upright axis alone are shifts
    yaw = torch.tensor([0.0, 2 * warp.step[1]], dtype=torch.float64)
    torch.testing.assert_close(warp.act(yaw, warp.points())[:, :-2], warp.points()[:, 2:], rtol=0, atol=1e-15)


def test_arguments_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"inner is 2\.0 and outer is 1\.0"):
        LogPolarWarp((4, 8), inner=2.0)
    with pytest.raises(ValueError, match="quadrant"):
        AspectWarp((4, 8), quadrant=(0, 1))
    with pytest.raises(ValueError, match="focal"):
        PerspectiveWarp((4, 8), focal=0.0)
    with pytest.raises(ValueError, match="pitch"):
        HemisphereWarp((4, 8), pitch=2.0)
    with pytest.raises(TypeError, match="expected a warp"):
        Warp2d("log-polar")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode is 'cubic'"):
        Warp2d(LogPolarWarp((4, 8)), mode="cubic")


def test_classifier_does_not_see_turns() -> None:
    torch.manual_seed(0)
    net = models.create("warped-cnn", 1, 4, None, width=3, depth=2, angles=32, radii=16).double().eval()
    p = pixels(33)
    y = net(picture(p)[None, None])
    turn = torch.tensor([0.0, 3 * 2 * math.pi / 16], dtype=torch.float64)  # whole steps after the pool
    moved = net(picture(LogPolarWarp((2, 8)).act(-turn, p))[None, None])
    other = net(picture(-p * torch.tensor([1.0, -1.0]))[None, None])  # the mirror image
    assert (moved - y).norm() < 1e-2 * (other - y).norm() + 1e-3 * y.norm()
    with pytest.raises(ValueError, match="multiple of 16"):
        models.create("warped-cnn", 1, 4, None, angles=40)
