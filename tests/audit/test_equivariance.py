"""The audit finds nothing where there is nothing, and what is known to be there."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from spheregeo import audit
from spheregeo.audit.signals import BandFit, evaluate, random_coefficients
from spheregeo.audit.turned import Turned, find_ending
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral, Plane
from spheregeo.groups import axis_angle, random_rotations
from spheregeo.harmonics import real_harmonics
from spheregeo.kernels import Morlet, Rings
from spheregeo.nn import AreaBatchNorm, DiscoConv

GRIDS = [
    Equiangular(16, 32),
    Equiangular(17, 32, poles=True),
    GaussLegendre(16, 32),
    HEALPix(8),
    Icosahedral(3),
    Fibonacci(600),
]
FAST = {"num_rotations": 1, "num_signals": 1}


def conv(grid: Grid, target: Grid | None = None, **options: object) -> DiscoConv:
    return DiscoConv(2, 2, grid, target, **{"kernel": Rings(3), "spacings": 2.5, **options})  # type: ignore[arg-type]


class LatitudeBias(nn.Module):
    """A bias for every row: invisible while it is zero, as after initialisation."""

    def __init__(self, grid: Grid, bias_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = conv(grid)
        self.rows = nn.Parameter(torch.zeros(bias_shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.rows


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("method", ["resample", "project"])
def test_identity_is_equivariant_to_rounding(grid: Grid, method: str) -> None:
    found = audit.measure_equivariance(nn.Identity(), grid, channels=2, lmax=4, method=method, **FAST)
    assert found.raw < 1e-12 and found.own < 1e-12
    assert found.method == method


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if not isinstance(grid, Fibonacci)], ids=str)
def test_permutations_of_the_grid_are_exact(grid: Grid) -> None:
    net = nn.Sequential(conv(grid), nn.GELU(), conv(grid))
    # rounding of two layers, summed in another order
    assert audit.equivariance_error(net, grid, group="grid") < 1e-12
    assert audit.equivariance_error(net, grid, group="grid", dtype=torch.float32) < 1e-5
    assert audit.equivariance_error(torch.relu, grid, group="grid") == 0


def test_permutations_see_a_marked_point() -> None:
    grid = HEALPix(4)
    mark = torch.zeros(grid.num_points, dtype=torch.float64)
    mark[5] = 1
    assert audit.equivariance_error(lambda x: x + mark, grid, group="grid") > 0.01


@pytest.mark.parametrize("method", ["points", "resample"])
def test_directional_kernels_follow_turns_about_z_only(method: str) -> None:
    grid = GaussLegendre(16, 32)
    layer = conv(grid, kernel=Morlet(3, 3), bias=False)
    error = audit.equivariance_error(layer, grid, method=method, lmax=6)
    assert 0.1 < error < 2
    assert audit.equivariance_error(layer, grid, group="grid", lmax=6) < 1e-12
    column = axis_angle((0, 0, 1), 2 * math.pi / 32 * 3)
    assert audit.equivariance_error(layer, grid, column, method="points", lmax=6) < 1e-11


def test_pole_rows_keep_their_frames_about_z() -> None:
    grid = Equiangular(17, 32, poles=True)
    layer = conv(grid, kernel=Morlet(3, 3), bias=False)
    column = axis_angle((0, 0, 1), 2 * math.pi / 32 * 3)
    assert audit.equivariance_error(layer, grid, column, method="points", lmax=6) < 1e-11


@pytest.mark.parametrize("make", [HEALPix, Icosahedral], ids=["healpix", "icosahedral"])
def test_symmetries_of_the_grid_are_exact_at_turned_points(make: type[Grid]) -> None:
    grid = make(4) if make is HEALPix else make(2)
    assert grid.symmetry is not None
    turns = grid.symmetry.rotations[1:4]
    # geometry computed anew from turned points differs by rounding, which solving for moments amplifies
    assert audit.equivariance_error(conv(grid), grid, turns, method="points") < 1e-10


@pytest.mark.parametrize("fine", [False, True])
def test_points_agree_with_a_slow_twin(fine: bool) -> None:
    """The twin sums a plain layer's definition over all pairs of points, in dense float64, at rotated points."""
    grid, target = HEALPix(4), Equiangular(12, 24) if fine else HEALPix(2)
    layer = DiscoConv(1, 1, grid, target, kernel=Rings(3), radius=0.6, moments=None, bias=True).double()
    nn.init.normal_(layer.bias)
    turn = random_rotations(1)[0]
    found = audit.measure_equivariance(layer, grid, turn, randomise=False, lmax=5, seed=7, num_signals=1)

    generator = torch.Generator().manual_seed(7)
    a = torch.randn(25, dtype=torch.float64, generator=generator)
    a *= math.sqrt(4 * math.pi) / a.norm()

    def at(points: Tensor, signal: Tensor) -> Tensor:
        sine = torch.linalg.cross(*torch.broadcast_tensors(points[:, None], grid.points)).norm(dim=-1)
        r = torch.atan2(sine, points @ grid.points.T)
        psi = layer.kernel(r.flatten(), torch.zeros(r.numel(), dtype=r.dtype), layer.radius).reshape(
            2, *r.shape
        )
        return torch.einsum("k,kpq,q,q->p", layer.weight[0, 0], psi, grid.areas, signal) + layer.bias[0]

    with torch.no_grad():
        moved = at(target.points, real_harmonics(grid.points @ turn, 4) @ a)
        still = at(target.points @ turn, real_harmonics(grid.points, 4) @ a)
        twin = math.sqrt(((moved - still).square() @ target.areas) / (moved.square() @ target.areas))
    assert found.method == "points"
    assert found.error == pytest.approx(twin, rel=1e-8)


@pytest.mark.parametrize("shape", [(16, 1), (16, 32), (1, 32)], ids=["rows", "points", "columns"])
def test_a_bias_that_differs_between_points_is_found(shape: tuple[int, int]) -> None:
    grid = Equiangular(16, 32)
    module = LatitudeBias(grid, shape)
    clean = audit.equivariance_error(conv(grid), grid, lmax=4, method="resample", **FAST)
    hidden = audit.equivariance_error(module, grid, lmax=4, randomise=False, **FAST)
    seen = audit.equivariance_error(module, grid, lmax=4, **FAST)
    assert hidden == pytest.approx(clean, rel=1)  # other weights, no bias: nothing to be seen
    assert seen > 10 * hidden


def test_a_fixed_pattern_of_high_degree_is_seen_by_resampling_and_not_by_projection() -> None:
    grid = HEALPix(8)
    stripes = torch.cos(12 * grid.colatitude)
    errors = {
        method: audit.equivariance_error(
            lambda x: x + stripes, grid, lmax=3, lmax_out=5, method=method, **FAST
        )
        for method in ("resample", "project")
    }
    assert errors["resample"] > 0.3 > 0.15 > errors["project"]


def test_statistics_over_points_are_not_pointwise() -> None:
    grid = Equiangular(8, 16)
    x = torch.randn(1, 2, 8, 16)
    assert (
        find_ending(nn.Sequential(conv(grid), nn.GELU(), nn.Dropout(0.5).eval(), nn.Conv2d(2, 3, 1)), x)
        is not None
    )
    for tail in (nn.GroupNorm(1, 2), nn.Conv2d(2, 2, 3, padding=1)):
        assert find_ending(nn.Sequential(conv(grid), tail), x) is None
    assert find_ending(nn.GELU(), x) is None


def test_norms_after_the_last_layer_stay_on_their_grid() -> None:
    grid = Equiangular(8, 16)
    net = nn.Sequential(conv(grid), AreaBatchNorm(2, grid), nn.GELU())
    found = audit.measure_equivariance(net, grid, lmax=3, max_points=40, **FAST)
    assert found.method == "points" and found.error < 0.1


def test_own_error_is_subtracted_and_the_rest_agrees_with_exact_evaluation() -> None:
    grid = HEALPix(8)
    net = nn.Sequential(conv(grid), nn.GELU(), conv(grid))
    exact, sampled = (
        audit.measure_equivariance(net, grid, method=method, lmax=6) for method in ("points", "resample")
    )
    assert exact.own == 0 and exact.error == exact.raw
    assert sampled.own > 0 and sampled.error < sampled.raw
    assert exact.error / 2 < sampled.error < 2 * exact.error


def test_error_falls_with_resolution() -> None:
    def error(grid: Grid) -> float:
        net = nn.Sequential(conv(grid), nn.GELU(), conv(grid))
        return audit.equivariance_error(net, grid, lmax=4, max_points=500, num_rotations=2)

    # second order at least: three times an octave leaves room for chance
    for coarse, fine in (
        (HEALPix(8), HEALPix(16)),
        (Icosahedral(3), Icosahedral(4)),
        (Equiangular(16, 32), Equiangular(32, 64)),
    ):
        assert error(fine) < error(coarse) / 3


def test_between_two_grids() -> None:
    source, target = HEALPix(8), Equiangular(8, 16)
    layer = conv(source, target, spacings=2)
    assert audit.equivariance_error(layer, source, lmax=4) < 0.03
    wrapped = nn.ModuleList([layer])
    with pytest.raises(ValueError, match="pass target="):
        audit.equivariance_error(lambda x: wrapped[0](x.float()).double(), source, lmax=4, channels=2)
    error = audit.equivariance_error(
        lambda x: wrapped[0](x.float()).double(), source, lmax=3, channels=2, target=target
    )
    assert error < 0.03


def test_the_module_is_left_alone_and_the_seed_decides() -> None:
    grid = HEALPix(4)
    net = nn.Sequential(conv(grid), nn.BatchNorm1d(2), nn.GELU()).train()
    before = copy.deepcopy(net.state_dict())
    first = audit.measure_equivariance(net, grid, seed=1, **FAST)
    assert net.training and all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert first == audit.measure_equivariance(net, grid, seed=1, **FAST)
    assert first != audit.measure_equivariance(net, grid, seed=2, **FAST)


def test_fit_returns_the_coefficients_of_band_limited_fields() -> None:
    a = random_coefficients(3, 6, torch.Generator().manual_seed(0))
    for grid in GRIDS:
        y = evaluate(a, grid.points)
        assert (y.square() @ grid.areas / (4 * math.pi) - 1).abs().max() < 0.05  # quadrature of degree 10
        band, rest = BandFit(grid, 8)(y)
        assert (band[:, :36] - a).abs().max() < 1e-12 and band[:, 36:].abs().max() < 1e-12
        assert rest.abs().max() < 1e-12


def test_turned_points() -> None:
    grid, turn = HEALPix(4), random_rotations(1)[0]
    some = Turned(grid, tuple(turn.flatten().tolist()), 50)
    assert some.shape == (50,) and some.areas.shape == (50,)
    torch.testing.assert_close(some.points @ turn.T, grid.points[some.index])
    assert Turned(grid, tuple(turn.flatten().tolist()), 10**6).num_points == grid.num_points
    assert Turned(Equiangular(8, 16), some.rotation, 50).shape == (50,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field_in": "1y1"}, "field_in is '1y1'; expected 'scalar', tangent fields such as"),
        ({"field_in": 1.5}, "field_in is 1.5; expected text"),
        ({"field_in": "2x1"}, r"x has shape \(2, 4, 192\)"),
        ({"field_out": "2x1"}, "field_out is 2x1, 4 channels, but the module returned 2"),
        ({"field_out": "vector"}, "field_out is 'vector'"),
        ({"method": "magic"}, "method is 'magic'"),
        ({"group": "su2"}, "group is 'su2'"),
        ({"lmax": 99}, "lmax is 99, expected 1 to"),
        ({"lmax_out": 99, "method": "project"}, "lmax_out is 99"),
        ({"num_rotations": 0}, "num_rotations is 0"),
        ({"dtype": torch.int32}, "dtype is torch.int32"),
        ({"rotations": 2 * torch.eye(3)}, "not orthonormal"),
    ],
)
def test_errors_name_the_argument(options: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        audit.equivariance_error(conv(HEALPix(4)), HEALPix(4), **options)  # type: ignore[arg-type]


def test_errors_about_grids_and_modules() -> None:
    with pytest.raises(ValueError, match="pass that grid"):
        audit.equivariance_error(conv(HEALPix(4)), HEALPix(8))
    with pytest.raises(ValueError, match="expected a grid on the sphere"):
        audit.equivariance_error(nn.Identity(), Plane(4, 4))
    with pytest.raises(ValueError, match="expected a module"):
        audit.equivariance_error(3, HEALPix(4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no rotation permutes"):
        audit.equivariance_error(nn.Identity(), Fibonacci(100), group="grid")
    with pytest.raises(ValueError, match="method is 'points' but"):
        audit.equivariance_error(nn.Identity(), HEALPix(4), method="points")
    declared = nn.Identity()
    declared.field_out = "8x1"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="field_out is 8x1, 16 channels, but the module returned 1"):
        audit.equivariance_error(declared, HEALPix(4))


def test_vectors_are_compared_as_they_stand() -> None:
    """A classifier's output: the mean over the sphere is invariant, the first point's value is not."""
    grid = GaussLegendre(16, 32)
    share = grid.areas / grid.areas.sum()

    def mean(x: Tensor) -> Tensor:
        return (x.flatten(2).square() @ share).tanh()

    for group in ("so3", "azimuthal", "grid"):
        found = audit.measure_equivariance(mean, grid, channels=2, group=group)
        assert found.error < 1e-10  # degrees below 16, which Gauss weights integrate exactly
        assert found.method == ("permute" if group == "grid" else "invariant") and found.own == 0
    by_hand = audit.measure_equivariance(lambda x: x.flatten(2)[..., 0], grid, channels=2, num_rotations=1)
    assert by_hand.error > 0.1
