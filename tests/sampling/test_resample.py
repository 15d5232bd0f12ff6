"""Resampling of fields: shapes, dtypes, labels, averages over cells, errors that help."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
import torch

from spheregeo.grids import (
    Equiangular,
    Fibonacci,
    GaussLegendre,
    Grid,
    HEALPix,
    Icosahedral,
    LatLon,
    Scattered,
)
from spheregeo.groups import FieldType
from spheregeo.sampling import (
    interpolation_map,
    pool,
    random_rotations,
    resample,
    rotate,
    rotate_image,
    tangent_from_wind,
    unpool,
    wind_from_tangent,
)
from spheregeo.sampling.average import cell_bounds
from spheregeo.spectral import InverseSHT


def test_leading_axes_and_grid_shapes_are_kept() -> None:
    x = torch.randn(2, 3, 8, 16)
    y = resample(x, Equiangular(8, 16), HEALPix(4))
    assert y.shape == (2, 3, 192) and y.dtype == torch.float32
    assert resample(y, HEALPix(4), GaussLegendre(6, 12)).shape == (2, 3, 6, 12)
    one = resample(x[1, 2], Equiangular(8, 16), HEALPix(4))
    torch.testing.assert_close(one, y[1, 2], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "dtype,atol", [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)]
)
def test_dtypes(dtype: torch.dtype, atol: float) -> None:
    source, target = HEALPix(4), Equiangular(8, 16)
    x = torch.randn(3, 192, dtype=dtype)
    wanted = interpolation_map(source, target)(x.double()).reshape(3, 8, 16)
    y = resample(x, source, target)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), wanted, atol=atol, rtol=0)
    assert interpolation_map(source, target).values.dtype == torch.float64, "the shared map is left alone"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_labels_by_nearest_only(dtype: torch.dtype) -> None:
    source, target = Equiangular(8, 16), HEALPix(4)
    labels = torch.randint(0, 2, (2, 8, 16)).to(dtype)
    y = resample(labels, source, target, "nearest")
    assert y.dtype == dtype
    dense = interpolation_map(source, target, "nearest")
    assert torch.equal(y.double(), dense(labels.double().flatten(1)))
    with pytest.raises(TypeError, match="'linear' mixes values; labels need 'nearest'"):
        resample(labels, source, target)


def test_gradients() -> None:
    x = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    for method in ("linear", "nearest", "average"):
        assert torch.autograd.gradcheck(lambda v: resample(v, Equiangular(4, 8), HEALPix(1), method), (x,))  # noqa: B023


@pytest.mark.parametrize(
    "source", [Equiangular(16, 32), GaussLegendre(15, 30), Equiangular(17, 30, poles=True)], ids=str
)
@pytest.mark.parametrize(
    "target", [Equiangular(8, 16), GaussLegendre(5, 7), Equiangular(9, 40, poles=True, offset=0.3)], ids=str
)
def test_average_between_lat_lon_grids_is_conservative(source: LatLon, target: LatLon) -> None:
    """Sum of cell areas times values is the same before and after, to rounding, also up and at odd ratios."""

    def cells(grid: LatLon) -> torch.Tensor:
        return -cell_bounds(grid.rings).diff().repeat_interleave(grid.nlon) / grid.nlon

    x = torch.randn(source.num_points, dtype=torch.float64)
    y = interpolation_map(source, target, "average")(x)
    assert abs(cells(source) @ x - cells(target) @ y) < 1e-13
    share = cells(target) @ interpolation_map(source, target, "average").to_dense()[0]
    assert (share - cells(source)).abs().max() < 1e-15, "each source cell is handed out once, whole"


def test_lat_lon_averages_are_the_same_by_axes_and_by_the_map() -> None:
    source, target = Equiangular(12, 20, offset=0.3), GaussLegendre(5, 7)
    x = torch.randn(2, 12, 20, dtype=torch.float64)
    wanted = interpolation_map(source, target, "average")(x.flatten(1)).reshape(2, 5, 7)
    torch.testing.assert_close(resample(x, source, target, "average"), wanted, atol=1e-14, rtol=0)


@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_large_targets_are_done_in_chunks_with_the_same_result(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(2, 192, requires_grad=True)
    wanted = resample(x, HEALPix(4), Equiangular(32, 64), method)
    monkeypatch.setattr(sys.modules[resample.__module__], "LARGE", 100)
    got = resample(x, HEALPix(4), Equiangular(32, 64), method)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)
    (slope,), (wanted_slope,) = (torch.autograd.grad(y.square().sum(), x) for y in (got, wanted))
    torch.testing.assert_close(slope, wanted_slope, atol=1e-4, rtol=1e-5)


def test_average_of_nested_lat_lon_blocks_is_their_area_mean() -> None:
    fine = Equiangular(8, 16)
    x = torch.randn(8, 16, dtype=torch.float64)
    cells = -cell_bounds(fine.rings).diff()[:, None].expand(8, 16)
    weighted = (x * cells).unflatten(0, (4, 2)).unflatten(2, (8, 2)).sum((1, 3))
    total = cells.unflatten(0, (4, 2)).unflatten(2, (8, 2)).sum((1, 3))
    torch.testing.assert_close(
        resample(x, fine, fine.coarsen(), "average"), weighted / total, atol=1e-14, rtol=0
    )


@pytest.mark.parametrize(
    "source,target",
    [
        (HEALPix(16), HEALPix(4)),
        (Equiangular(64, 128), HEALPix(4)),
        (HEALPix(16), Equiangular(8, 16)),
        (Fibonacci(4000), Icosahedral(1)),
    ],
    ids=str,
)
def test_average_is_the_area_mean_over_the_nearest_target(source: Grid, target: Grid) -> None:
    x = torch.randn(source.num_points, dtype=torch.float64)
    nearest = interpolation_map(target, source, "nearest").pattern.coo()[1]
    total = torch.zeros(target.num_points, dtype=torch.float64).index_add_(0, nearest, source.areas)
    assert total.min() > 0
    mean = torch.zeros_like(total).index_add_(0, nearest, source.areas * x) / total
    torch.testing.assert_close(interpolation_map(source, target, "average")(x), mean, atol=1e-13, rtol=0)


def test_cells_without_source_points_are_interpolated() -> None:
    source, target = HEALPix(2), Equiangular(24, 48)
    average, linear = (
        interpolation_map(source, target, method).to_dense()[0] for method in ("average", "linear")
    )
    filled = interpolation_map(target, source, "nearest").pattern.coo()[1].unique()
    empty = torch.ones(target.num_points, dtype=torch.bool)
    empty[filled] = False
    assert int(empty.sum()) == target.num_points - 48
    torch.testing.assert_close(average[empty], linear[empty], atol=1e-14, rtol=0)


def test_average_does_not_alias() -> None:
    """Columns of alternating sign vanish in the mean; sampled linearly at cell centres on the columns they survive."""
    source, target = Equiangular(64, 128), Equiangular(16, 32)
    x = (-1.0) ** torch.arange(128).expand(64, 128)
    assert resample(x, source, target, "average").abs().max() < 1e-6
    assert resample(x, source, target, "linear").abs().max() > 0.9


@pytest.mark.parametrize(
    "shape,source,message",
    [
        (
            (2, 3072),
            HEALPix(8),
            r"x has 3072 on its last axis, source has 768 points; did you build the grid with nside=16\?",
        ),
        (
            (162,),
            Icosahedral(3),
            r"x has 162 on its last axis, source has 642 points; did you build the grid with level=2\?",
        ),
        (
            (3, 16, 8),
            Equiangular(8, 16),
            r"x has shape \(3, 16, 8\), source has shape \(8, 16\); .*did you transpose x\?",
        ),
        ((3, 128), Equiangular(8, 16), r"reshape x to \(..., 8, 16\)"),
        ((3, 9, 18), Equiangular(8, 16), r"did you build the grid with nlat=9, nlon=18\?"),
        (
            (5,),
            Scattered(torch.eye(3).tolist(), areas=[1.0, 1.0, 1.0]),
            "x has 5 on its last axis, source has 3 points",
        ),
        ((), HEALPix(1), r"x has shape \(\), source has 12 points"),
    ],
)
def test_a_field_that_does_not_fit_is_refused_with_a_guess(
    shape: tuple[int, ...], source: Grid, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resample(torch.zeros(shape), source, HEALPix(2))


def test_missing_values_leave_their_weight_to_the_others() -> None:
    source, target = HEALPix(8), Equiangular(24, 48)
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, source.num_points, dtype=torch.float64, generator=draw)
    x[0, ::3], x[1, 5:40] = torch.nan, -1.6375e30  # healpy's UNSEEN
    gone = torch.isnan(x) | (x < -1e30)
    for method in ("linear", "nearest", "average"):
        weights = interpolation_map(source, target, method).to_dense()[
            0
        ]  # the slow way: rows without the missing columns
        for field, away in zip(x, gone, strict=True):
            there = weights * ~away
            share = there.sum(1)
            want = (there @ field.masked_fill(away, 0)) / share
            want[share < 0.5 - 1e-9] = torch.nan
            got = resample(field, source, target, method, missing="renormalize").flatten()
            torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-9, atol=1e-9)
    assert bool(
        torch.isnan(resample(x[0], source, target)).any()
    )  # unless asked for, NaN is a number like others
    with pytest.raises(ValueError, match="missing is 'drop', expected 'propagate' or 'renormalize'"):
        resample(x, source, target, missing="drop")


def test_turns_and_pooling_leave_out_what_is_missing() -> None:
    grid = Equiangular(16, 32)
    x = torch.full((1, 1, 16, 32), 3.0)
    x[..., 2:5, 7:9] = torch.nan
    turn = random_rotations(1, torch.Generator().manual_seed(1))[0]
    for got in (
        rotate(x, grid, turn, missing="renormalize"),
        rotate_image(x, turn, missing="renormalize"),
        pool(x, grid, "area", missing="renormalize"),
        pool(x, grid, "max", missing="renormalize"),
        unpool(x, grid, "linear", missing="renormalize"),
    ):
        known = got[torch.isfinite(got)]
        torch.testing.assert_close(known, torch.full_like(known, 3.0))
        assert 0 <= int(torch.isnan(got).sum()) <= 30 and len(known) >= 0.9 * got.numel()
    only = pool(torch.full((16, 32), torch.nan), grid, "max", missing="renormalize")
    assert bool(torch.isnan(only).all())
    exact = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(pool(exact, grid, missing="renormalize").nansum(), exact)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.sum()) > 0


AXIS = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)


def solid_body(grid: Grid, axis: torch.Tensor = AXIS) -> torch.Tensor:
    """The vector field ω × p of a solid body's rotation, and its square as a complex field: types 1x1 + 1x2."""
    v = torch.linalg.cross(axis.expand(grid.num_points, 3), grid.points)
    c, s = torch.einsum("nij,nj->in", grid.frames, v)
    return torch.stack([c, s, c * c - s * s, 2 * c * s]).reshape(4, *grid.shape)


@pytest.mark.parametrize(
    ("source", "target", "bounds"),
    [
        (Equiangular, HEALPix, (0.003, 0.0008)),
        (HEALPix, Equiangular, (0.0015, 0.0004)),
        (Icosahedral, GaussLegendre, (0.007, 0.0018)),
        (Equiangular, Icosahedral, (0.006, 0.0016)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_vectors_cross_the_poles_to_second_order_and_scalars_of_theirs_do_not(
    source: type[Grid], target: type[Grid], bounds: tuple[float, float]
) -> None:
    sizes = {
        Equiangular: [(32, 64), (64, 128)],
        HEALPix: [(16,), (32,)],
        Icosahedral: [(3,), (4,)],
        GaussLegendre: [(24, 48), (48, 96)],
    }
    for level in range(2):
        one, other = source(*sizes[source][level]), target(*sizes[target][level])  # type: ignore[call-arg]
        wanted = solid_body(other)
        error = (resample(solid_body(one), one, other, fields="1x1 + 1x2") - wanted).abs().amax()
        assert error < 2 * bounds[level], float(error)
        if source is not Equiangular:  # rows above a row of their own longitudes lie well by chance
            assert (resample(solid_body(one), one, other) - wanted).abs().amax() > 0.1


@pytest.mark.parametrize("grid", [HEALPix(16), Equiangular(32, 64), Icosahedral(3)], ids=str)
def test_vectors_turn_with_their_points(grid: Grid) -> None:
    r = random_rotations(1, generator=torch.Generator().manual_seed(0))[0]
    turned = rotate(solid_body(grid), grid, r, fields="1x1 + 1x2")
    assert (turned - solid_body(grid, r @ AXIS)).abs().max() < 0.02
    assert (rotate(solid_body(grid), grid, r) - solid_body(grid, r @ AXIS)).abs().max() > 0.5


def test_vectors_turn_exactly_with_the_grids_own_rotations() -> None:
    for grid in (HEALPix(4), Icosahedral(2)):
        assert grid.symmetry is not None
        for r in grid.symmetry.rotations[1:4]:
            turned = rotate(solid_body(grid), grid, r, fields="1x1 + 1x2")
            assert (turned - solid_body(grid, r @ AXIS)).abs().max() < 1e-10


@dataclass(frozen=True)
class OtherFrames(Fibonacci):
    """The points of a Fibonacci grid with frames turned at random."""

    @property
    def angles(self) -> torch.Tensor:
        return 6 * torch.rand(self.n, generator=torch.Generator().manual_seed(self.n), dtype=torch.float64)

    def _frames(self) -> torch.Tensor:
        e, cos, sin = super()._frames(), self.angles.cos()[:, None], self.angles.sin()[:, None]
        return torch.stack([cos * e[:, 0] + sin * e[:, 1], cos * e[:, 1] - sin * e[:, 0]], 1)


@pytest.mark.parametrize("method", ["linear", "nearest", "average"])
def test_frames_are_free(method: str) -> None:
    kind = FieldType("2x0 + 2x1 + 1x3")
    source, target = OtherFrames(60), OtherFrames(40)
    x = torch.randn(3, kind.dim, 60, dtype=torch.float64)
    resample(
        x.float(), Fibonacci(60), Fibonacci(40), method, fields=kind
    )  # leaves the map of float64 as exact as it was
    wanted = resample(x, Fibonacci(60), Fibonacci(40), method, fields=kind)
    found = resample(kind.transport(x, -source.angles), source, target, method, fields=kind)
    torch.testing.assert_close(found, kind.transport(wanted, -target.angles), atol=1e-12, rtol=0)
    scalars = resample(x[:, :2], Fibonacci(60), Fibonacci(40), method)
    torch.testing.assert_close(found[:, :2], scalars, atol=1e-13, rtol=0)


def test_a_vector_is_missing_with_either_component() -> None:
    source, target = HEALPix(8), Equiangular(8, 16)
    x = torch.cat([torch.ones(1, 768, dtype=torch.float64), solid_body(source)[:2]])
    x[2, source.points[:, 2] > 0.5] = torch.nan
    y = resample(x, source, target, missing="renormalize", fields="1x0 + 1x1")
    gone = y.isnan()
    assert not gone[0].any() and torch.equal(gone[1], gone[2]) and 0 < int(gone[1].sum()) < 64
    kept = ~gone[1]
    assert (y[1:] - solid_body(target)[:2])[:, kept].abs().max() < 0.1
    below = kept & (target.points[:, 2] < 0.3).reshape(8, 16)
    torch.testing.assert_close(y[:, below], resample(x, source, target, fields="1x0 + 1x1")[:, below])


def test_pooled_and_unpooled_vectors() -> None:
    for grid in (HEALPix(8), HEALPix(8, order="nested"), Icosahedral(3), Equiangular(16, 32)):
        x = solid_body(grid)
        for reduce in ("mean", "area"):
            error = (pool(x, grid, reduce, fields="1x1 + 1x2") - solid_body(grid.coarsen())).abs()
            assert error.max() < 0.12
        fine = unpool(x, grid, fields="1x1 + 1x2")
        torch.testing.assert_close(pool(fine, grid.refine(), fields="1x1 + 1x2"), x, atol=1e-12, rtol=0)
        smooth = unpool(x, grid, "linear", fields="1x1 + 1x2")
        assert (smooth - solid_body(grid.refine())).abs().max() < 0.04
        ones = torch.ones(2, 3, *grid.shape)
        torch.testing.assert_close(pool(ones, grid, fields="3x0"), pool(ones, grid))
    with pytest.raises(ValueError, match="reduce is 'max' but fields is '1x1'; expected 'mean' or 'area'"):
        pool(torch.zeros(2, 768), HEALPix(8), "max", fields="1x1")


def test_winds_are_south_and_east() -> None:
    grid = Equiangular(8, 16)
    u, v = grid.points[:, 2].reshape(8, 16), torch.randn(8, 16, dtype=torch.float64)
    x = tangent_from_wind(u, v, grid)
    assert x.shape == (2, 8, 16) and torch.equal(x[0], -v) and torch.equal(x[1], u)
    assert all(torch.equal(a, b) for a, b in zip(wind_from_tangent(x, grid), (u, v), strict=True))
    # a turn about z towards the east
    spin = tangent_from_wind(torch.sin(grid.colatitude).reshape(8, 16), torch.zeros(8, 16).double(), grid)
    torch.testing.assert_close(spin, solid_body(grid, torch.tensor([0.0, 0.0, 1.0]).double())[:2])
    with pytest.raises(ValueError, match=r"v has shape \(8, 8\); expected \(8, 16\), that of u"):
        tangent_from_wind(u, v[:, :8], grid)


def test_fields_that_do_not_fit_are_named() -> None:
    grid = HEALPix(2)
    with pytest.raises(
        ValueError,
        match=r"x has shape \(3, 48\); expected 2 channels before the points, fields of type '1x1'",
    ):
        resample(torch.zeros(3, 48), grid, HEALPix(1), fields="1x1")
    with pytest.raises(
        ValueError, match=r"x has shape \(3, 48\); expected \(..., 2, 48\), fields of type '1x1'"
    ):
        interpolation_map(grid, HEALPix(1), fields="1x1")(torch.zeros(3, 48))
    at = torch.eye(3, dtype=torch.float64)
    assert interpolation_map(grid, at, fields="1x1").double()(torch.zeros(2, 48).double()).shape == (2, 3)


HARMONIC = [
    (GaussLegendre(9, 18), HEALPix(4)),
    (Equiangular(9, 18), Fibonacci(150)),
    (Icosahedral(2), GaussLegendre(7, 14)),
]


@pytest.mark.parametrize(("source", "target"), HARMONIC, ids=str)
def test_harmonic_resampling_is_exact_for_low_degrees(source: Grid, target: Grid) -> None:
    lmax = 6
    c = torch.randn(2, 3, (lmax + 1) ** 2, dtype=torch.float64)
    x, expected = (InverseSHT(grid, lmax)(c) for grid in (source, target))
    assert (resample(x, source, target, "harmonic") - expected).abs().max() < 1e-12
    pairs = torch.stack([c[:, :2], c[:, 1:]], 1)  # two fields of order 2, after a scalar
    pairs[..., :4] = 0
    typed = []
    for grid in (source, target):
        tangent = InverseSHT(grid, lmax, 2)(pairs).flatten(1, 2)
        typed.append(torch.cat([InverseSHT(grid, lmax)(c[:, :1]), tangent], 1))
    found = resample(typed[0], source, target, "harmonic", fields="1x0 + 2x2")
    assert found.shape == typed[1].shape
    assert (found - typed[1]).abs().max() < 1e-12


def test_harmonic_resampling_to_a_coarse_grid_keeps_the_low_degrees() -> None:
    fine, coarse = GaussLegendre(16, 32), GaussLegendre(8, 16)
    c = torch.randn(256, dtype=torch.float64)
    found = resample(InverseSHT(fine, 15)(c), fine, coarse, "harmonic")
    assert (found - InverseSHT(coarse, 7)(c[:64])).abs().max() < 1e-12
    with pytest.raises(ValueError, match="missing is 'renormalize'"):
        resample(torch.zeros(16, 32), fine, coarse, "harmonic", missing="renormalize")
    with pytest.raises(TypeError, match="mixes values"):
        resample(torch.zeros(16, 32, dtype=torch.int64), fine, coarse, "harmonic")
    with pytest.raises(ValueError, match=r"expected one of 'linear', 'nearest', 'average', 'harmonic'"):
        resample(torch.zeros(16, 32), fine, coarse, "spectral")
