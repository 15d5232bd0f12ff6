"""DISCO layers against dense float64 quadrature: values, gradients, moments, engines, symmetry, torch's transforms."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

from spheregeo.audit import equivariance_error
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral, Scattered
from spheregeo.kernels import (
    CircularHarmonics,
    FourierBessel,
    GaussianRings,
    Kernel,
    Morlet,
    PiecewiseLinear,
    Rings,
    Zernike,
    continuous_moments,
    correct_moments,
    moment_functions,
)
from spheregeo.nn import DiscoConv, DiscoConvTranspose
from spheregeo.sampling import random_rotations
from spheregeo.sparse import SparseMap
from spheregeo.testing import small_grids

KERNELS: list[Kernel] = [
    Rings(3),
    GaussianRings(3),
    PiecewiseLinear(3, 3),
    CircularHarmonics(2, 2),
    Zernike(2),
    Morlet(2, 2),
    FourierBessel(2, 1),
]
GRIDS: list[Grid] = small_grids()


def dense_polar(centres: Grid, points: Grid) -> tuple[Tensor, Tensor]:
    """Geodesic distance and polar angle of all points seen from all centres, (P, Q) each; written from the definition."""
    u = torch.einsum("pi,qi->pq", centres.frames[:, 0], points.points)
    v = torch.einsum("pi,qi->pq", centres.frames[:, 1], points.points)
    r = torch.atan2(torch.hypot(u, v), centres.points @ points.points.T)
    return r, torch.where(r < 1e-13, 0.0, torch.atan2(v, u))


def dense_coefficients(
    source: Grid,
    target: Grid,
    kernel: Kernel,
    radius: float,
    moments: int | None = None,
    transposed: bool = False,
) -> Tensor:
    """(K, P, Q): kernel times area of the source point; filters at the targets, or at the sources if transposed."""
    r, phi = dense_polar(source, target) if transposed else dense_polar(target, source)
    # The border of the disc is decided with a tolerance, as rounding would otherwise do it.
    r = torch.where((r > radius) & (r <= radius * (1 + 1e-9)), radius, r)
    psi = kernel(r.flatten(), phi.flatten(), radius).view(-1, *r.shape)
    if transposed:
        return psi.transpose(1, 2) * source.areas
    if moments is not None:
        for p in range(len(r)):  # one row at a time
            near = (r[p] <= radius).nonzero()[:, 0]
            ends = torch.tensor([0, len(near)])
            psi[:, p, near] = correct_moments(
                psi[:, p, near], r[p, near], phi[p, near], source.areas[near], ends, kernel, radius, moments
            )
    return psi * source.areas


def dense_layer(x: Tensor, matrix: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """(B, C, Q) -> (B, O, P)."""
    weight = weight.unflatten(0, (groups, -1))
    y = torch.einsum("gock,kpq,bgcq->bgop", weight, matrix, x.unflatten(1, (groups, -1))).flatten(1, 2)
    return y if bias is None else y + bias[:, None]


def compare(layer: DiscoConv | DiscoConvTranspose, matrix: Tensor, tolerance: float = 1e-10) -> None:
    """Output, input gradient, weight and bias gradients against the dense layer, relative to the largest entry."""
    layer.double()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    x = torch.randn(2, layer.in_channels, *layer.source.shape, dtype=torch.float64)
    g = torch.randn(2, layer.out_channels, *layer.target.shape, dtype=torch.float64)
    parameters = list(layer.parameters())
    at = x.clone().requires_grad_()
    got = [y := layer(at), *torch.autograd.grad(y, [at, *parameters], g)]
    assert y.shape == g.shape and y.dtype == torch.float64
    at = x.clone().requires_grad_()
    y = dense_layer(at.flatten(2), matrix, layer.weight, layer.bias, layer.groups).view_as(g)
    expected = [y, *torch.autograd.grad(y, [at, *parameters], g)]
    for a, b in zip(got, expected, strict=True):
        assert float((a - b).detach().abs().max()) <= tolerance * float(b.detach().abs().max())


PAIRS = list(itertools.product(range(len(GRIDS)), range(len(GRIDS))))


@pytest.mark.parametrize(("i", "j"), PAIRS, ids=lambda i: f"{type(GRIDS[i]).__name__}{i}")
def test_every_pair_of_grids_and_every_basis(i: int, j: int) -> None:
    source, target = GRIDS[i], GRIDS[j]
    for kernel in KERNELS:
        radius = 1.9 * max(source.spacing, target.spacing)
        layer = DiscoConv(2, 3, source, target, kernel=kernel, radius=radius, moments=None)
        compare(layer, dense_coefficients(source, target, kernel, radius))


@pytest.mark.parametrize("kernel", [Rings(3), PiecewiseLinear(3, 3), CircularHarmonics(2, 2)], ids=str)
@pytest.mark.parametrize(
    ("i", "j"), [(k, k) for k in range(8)] + [(0, 1), (2, 3), (3, 5), (5, 6), (7, 4), (1, 7)]
)
def test_moment_correction(i: int, j: int, kernel: Kernel) -> None:
    source, target, degree = GRIDS[i], GRIDS[j], 2
    radius = 2.4 * max(source.spacing, target.spacing)
    matrix = dense_coefficients(source, target, kernel, radius, moments=degree)
    compare(DiscoConv(1, 2, source, target, kernel=kernel, radius=radius), matrix)


@pytest.mark.parametrize("grid", GRIDS[:7], ids=str)
@pytest.mark.parametrize("kernel", [Rings(3), PiecewiseLinear(3, 3)], ids=str)
def test_discrete_moments_are_the_continuous_ones(grid: Grid, kernel: Kernel) -> None:
    radius = 2.5 * grid.spacing
    matrix = DiscoConv(1, 1, grid, kernel=kernel, radius=radius).double().map.to_dense()  # (K, P, Q)
    r, phi = dense_polar(grid, grid)
    functions = moment_functions(r / radius, phi, 2)  # (m, P, Q)
    discrete = torch.einsum("kpq,mpq->pmk", matrix, functions)
    exact = continuous_moments(kernel, radius, 2)[0]
    torch.testing.assert_close(discrete, exact.expand_as(discrete), rtol=0, atol=1e-12)


@pytest.mark.parametrize("spacings", [None, 3.0])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Equiangular(8, 24), Equiangular(8, 12)),
        (Equiangular(6, 24), GaussLegendre(8, 16)),  # 3 : 2
        (GaussLegendre(6, 16), Equiangular(7, 24, poles=True)),  # 2 : 3
        (Equiangular(5, 8, poles=True), Equiangular(9, 16, poles=True)),
        (Equiangular(6, 9), Equiangular(5, 16)),  # no common turn
        (Equiangular(8, 16, offset=0.25), Equiangular(8, 16)),
        (Equiangular(8, 16), Equiangular(8, 16).coarsen()),
        (Equiangular(16, 40), Equiangular(16, 40)),
    ],
    ids=str,
)
def test_strides_between_latlon_grids(source: Grid, target: Grid, spacings: float | None) -> None:
    for kernel in (Rings(2), PiecewiseLinear(3, 3)):
        layer = DiscoConv(3, 2, source, target, kernel=kernel, spacings=spacings)
        assert layer.radius == pytest.approx((spacings or 2.0) * max(source.spacing, target.spacing))
        compare(layer, dense_coefficients(source, target, kernel, layer.radius, moments=2))


@pytest.mark.parametrize("grid", [Equiangular(6, 12), HEALPix(2), Fibonacci(40)], ids=str)
@pytest.mark.parametrize(("groups", "channels", "out"), [(1, 1, 1), (2, 4, 6), (6, 6, 12), (5, 5, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_groups_and_bias(grid: Grid, groups: int, channels: int, out: int, bias: bool) -> None:
    layer = DiscoConv(channels, out, grid, kernel=Zernike(1), groups=groups, bias=bias)
    assert (layer.bias is not None) == bias and layer.weight.shape == (out, channels // groups, 3)
    compare(layer, dense_coefficients(grid, grid, Zernike(1), layer.radius, moments=2))


def test_a_disc_that_covers_the_sphere_and_one_that_holds_nothing() -> None:
    grid, coarse = Equiangular(5, 10, poles=True), HEALPix(1)
    compare(
        DiscoConv(1, 1, grid, coarse, radius=math.pi, moments=None),
        dense_coefficients(grid, coarse, Rings(3), math.pi),
    )
    compare(
        DiscoConv(1, 1, coarse, grid, radius=0.1, moments=None),
        dense_coefficients(coarse, grid, Rings(3), 0.1),
    )
    compare(
        DiscoConv(1, 1, coarse, grid, radius=0.1), dense_coefficients(coarse, grid, Rings(3), 0.1, moments=2)
    )
    alone = Scattered(torch.tensor([[0.36, 0.48, 0.8]]), areas=torch.ones(1))
    empty = DiscoConv(1, 2, coarse, alone, radius=1e-3)
    assert empty.map.num_nonzeros == 0
    assert torch.equal(empty(torch.randn(1, 1, 12)), torch.zeros(1, 2, 1))


@pytest.mark.parametrize("grid", [Equiangular(4, 8), HEALPix(1), Fibonacci(12)], ids=str)
@pytest.mark.parametrize("kernel", [Rings(2), CircularHarmonics(1, 1)], ids=str)
@pytest.mark.parametrize("kind", [DiscoConv, DiscoConvTranspose])
def test_gradcheck(grid: Grid, kernel: Kernel, kind: type[DiscoConv]) -> None:
    layer = kind(2, 2, grid, kernel=kernel).double()
    x = torch.randn(1, 2, *grid.shape, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    arguments = (x, layer.weight, layer.bias)
    assert torch.autograd.gradcheck(run, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, arguments, fast_mode=True)


@pytest.mark.parametrize("grid", [Equiangular(12, 32), HEALPix(4), Icosahedral(2), Fibonacci(90)], ids=str)
def test_engines_agree(grid: Grid) -> None:
    x = torch.randn(2, 4, *grid.shape, dtype=torch.float64)
    results = []
    for engine in ("reference", "torch", "cpu", None):
        torch.manual_seed(1)
        layer = DiscoConv(4, 6, grid, kernel=PiecewiseLinear(3, 3), groups=2, engine=engine).double()
        at = x.clone().requires_grad_()
        y = layer(at)
        results.append([y, *torch.autograd.grad(y.square().sum(), [at, layer.weight])])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-12 * float(a.detach().abs().max()))


@pytest.mark.parametrize("kernel", [Rings(3), PiecewiseLinear(3, 3)], ids=str)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (HEALPix(4), HEALPix(4)),
        (HEALPix(4, order="nested"), HEALPix(2, order="nested")),
        (Icosahedral(2), Icosahedral(2)),
    ],
    ids=str,
)
def test_rows_that_share_coefficients_equal_rows_of_their_own(
    source: Grid, target: Grid, kernel: Kernel
) -> None:
    layer = DiscoConv(3, 2, source, target, kernel=kernel).double()
    pattern = layer.map.pattern
    rows, columns, value = pattern.coo()
    assert pattern.num_values < len(rows) / 3
    order = torch.argsort(rows, stable=True)
    indptr = torch.searchsorted(rows[order], torch.arange(target.num_points + 1))
    own = SparseMap(indptr, columns[order], layer.map.values[:, value[order]], source.num_points)
    x = torch.randn(2, 3, source.num_points, dtype=torch.float64)
    expected = own.mix(x, layer.weight)
    torch.testing.assert_close(layer.map.mix(x, layer.weight), expected, rtol=0, atol=1e-13)
    # and those are the coefficients of every row's own geometry
    matrix = dense_coefficients(source, target, kernel, layer.radius, moments=2)
    assert float((own.to_dense() - matrix).abs().max()) < 1e-10 * float(matrix.abs().max())


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 2), (3, 0), (5, 5), (6, 3), (1, 4)])
def test_transposed_layers(i: int, j: int) -> None:
    source, target = GRIDS[i], GRIDS[j]
    radius = 1.9 * max(source.spacing, target.spacing)
    for kernel in (PiecewiseLinear(3, 3), Morlet(2, 2)):
        layer = DiscoConvTranspose(2, 3, source, target, kernel=kernel, radius=radius)
        compare(layer, dense_coefficients(source, target, kernel, radius, transposed=True))
    # Filters of the distance alone are centred at both ends: the plain layer, correction included.
    torch.manual_seed(3)
    a = DiscoConvTranspose(2, 3, source, target, radius=radius).double()
    torch.manual_seed(3)
    b = DiscoConv(2, 3, source, target, radius=radius).double()
    x = torch.randn(1, 2, *source.shape, dtype=torch.float64)
    assert torch.equal(a.weight, b.weight) and torch.equal(a(x), b(x))
    compare(
        DiscoConvTranspose(2, 3, source, target, radius=radius, moments=None),
        dense_coefficients(source, target, Rings(3), radius, transposed=True),
    )


@pytest.mark.parametrize("grid", GRIDS[:7], ids=str)
def test_constants(grid: Grid) -> None:
    """With the correction a constant stays constant, up to the kernel's integrals; without it, it does not."""
    ones = torch.ones(1, 1, *grid.shape, dtype=torch.float64)
    for kernel in (Rings(3), PiecewiseLinear(3, 3)):
        layer = DiscoConv(1, 1, grid, kernel=kernel, bias=False).double()
        integral = continuous_moments(kernel, layer.radius, 0)[0][0]
        expected = float(layer.weight.detach()[0, 0] @ integral)
        torch.testing.assert_close(layer(ones), torch.full_like(ones, expected), rtol=0, atol=1e-13)
        plain = DiscoConv(1, 1, grid, kernel=kernel, bias=False, moments=None).double()
        y = plain(ones).detach()
        assert float(y.std() / y.abs().max()) > 1e-4


@pytest.mark.parametrize("mode", ["nodal", "mean", "support", "geometric", "modal", "none"])
@pytest.mark.parametrize("grid", [HEALPix(2), Icosahedral(1), Fibonacci(40), Equiangular(6, 12)], ids=str)
def test_normalisations_on_any_grid(grid: Grid, mode: str) -> None:
    kernel = CircularHarmonics(2, 1)
    matrix = DiscoConv(1, 1, grid, kernel=kernel, normalization=mode).double().map.to_dense()
    plain = DiscoConv(1, 1, grid, kernel=kernel, moments=None)
    psi = dense_coefficients(grid, grid, kernel, plain.radius) / (4 * math.pi)
    r, _ = dense_polar(grid, grid)
    share = (r <= plain.radius * (1 + 1e-9)) * grid.areas / (4 * math.pi)
    size = psi.abs().sum(2, keepdim=True)
    if mode == "modal":
        directional = torch.tensor([order != 0 for order in kernel.orders])[:, None, None]
        psi = psi - directional * share * psi.sum(2, keepdim=True) / share.sum(1)[:, None]
        size = psi.abs().sum(2, keepdim=True)
    scale = {
        "none": torch.ones(()),
        "geometric": torch.tensor((1 - math.cos(plain.radius / 1.001)) / 4, dtype=torch.float64),
        "support": share.sum(1)[:, None],
        "mean": size.mean(1, keepdim=True),
    }.get(mode, size)
    torch.testing.assert_close(matrix, psi / scale, rtol=0, atol=1e-12)
    if mode in ("nodal", "modal"):
        assert torch.allclose(matrix.abs().sum(2), torch.ones(()).double(), atol=1e-12)
    upward = DiscoConvTranspose(1, 1, grid, kernel=kernel, normalization=mode).double().map.to_dense()
    if mode == "none":
        torch.testing.assert_close(
            upward, dense_coefficients(grid, grid, kernel, plain.radius, transposed=True) / (4 * math.pi)
        )
    if mode == "nodal" and isinstance(grid, HEALPix | Fibonacci):
        # Sums over the filters that reach a point; on the other two they are averaged over rows, or, at the icosahedral
        # poles, of functions that vanish there.
        assert torch.allclose(upward.abs().sum(2), torch.ones(()).double(), atol=1e-12)


def test_initialisation_keeps_the_variance_of_white_signals() -> None:
    for grid in (Equiangular(16, 32), HEALPix(8)):
        layer = DiscoConv(16, 64, grid, kernel=PiecewiseLinear(3, 3))
        y = layer(torch.randn(4, 16, *grid.shape)).detach()
        assert 0.8 < float(y.var()) < 1.25


def test_double_restores_the_digits() -> None:
    for grid in (Equiangular(6, 12), HEALPix(2)):
        for kind in (DiscoConv, DiscoConvTranspose):
            layer = kind(1, 1, grid, kernel=PiecewiseLinear(3, 3))
            assert layer.map.values.dtype == torch.float32
            torch.set_default_dtype(torch.float64)
            try:
                fresh = kind(1, 1, grid, kernel=PiecewiseLinear(3, 3))
            finally:
                torch.set_default_dtype(torch.float32)
            assert torch.equal(layer.double().map.values, fresh.map.values)
            assert torch.equal(layer.float().double().map.values, fresh.map.values)


def test_layers_of_equal_geometry_share_it_and_copies_are_their_own() -> None:
    a, b = DiscoConv(1, 2, HEALPix(2)), DiscoConv(3, 1, HEALPix(2))
    assert a.map.values.data_ptr() == b.map.values.data_ptr()
    c = copy.deepcopy(a)
    assert c.weight.data_ptr() != a.weight.data_ptr() and torch.equal(c.weight, a.weight)
    x = torch.randn(1, 1, 48)
    assert torch.equal(a(x), c(x))
    c.double()
    assert a.map.values.dtype == torch.float32 and torch.equal(a(x), copy.deepcopy(a)(x))


def test_checkpoints_hold_weights_alone_and_fit_another_resolution() -> None:
    small, large = DiscoConv(2, 3, Equiangular(6, 12)), DiscoConv(2, 3, HEALPix(4))
    assert set(small.state_dict()) == {"weight", "bias"}
    large.load_state_dict(small.state_dict())
    assert torch.equal(large.weight, small.weight)


@pytest.mark.parametrize("kind", [DiscoConv, DiscoConvTranspose])
@pytest.mark.parametrize("grid", [Equiangular(8, 16), HEALPix(2)], ids=str)
def test_compile_and_export(grid: Grid, kind: type[DiscoConv]) -> None:
    layer = kind(2, 3, grid, kernel=PiecewiseLinear(3, 3))
    x = torch.randn(2, 2, *grid.shape)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = []
    for run in (layer, compiled):
        at = x.clone().requires_grad_()
        y = run(at)
        results.append([y, *torch.autograd.grad(y.square().sum(), [at, layer.weight, layer.bias])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)
    exported = torch.export.export(layer, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("grid", [Equiangular(8, 16), HEALPix(2)], ids=str)
def test_bfloat16(grid: Grid) -> None:
    layer = DiscoConv(4, 4, grid)
    x = torch.randn(2, 4, *grid.shape)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.nn.functional.conv1d(x.flatten(2), torch.eye(4)[..., None]).view_as(x))
    assert y.dtype == torch.bfloat16
    assert float(((y - exact).norm() / exact.norm()).detach()) < 1e-2
    y.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    assert copy.deepcopy(layer).bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_channels_last_fields_give_the_same() -> None:
    for grid in (Equiangular(6, 12), HEALPix(2)):
        layer = DiscoConv(3, 2, grid)
        x = torch.randn(2, 3, *grid.shape)
        last = x.movedim(1, -1).contiguous().movedim(-1, 1)
        torch.testing.assert_close(layer(last), layer(x))


def test_flops_and_memory_are_counted() -> None:
    layer = DiscoConv(4, 6, HEALPix(2), kernel=Rings(3), groups=2)
    nonzeros, points = layer.map.num_nonzeros, 48
    assert layer.flops() == 2 * 2 * 4 * nonzeros + 2 * 2 * 4 * 6 // 2 * points
    assert layer.memory_bytes() == sum(t.numel() * t.element_size() for t in layer.map.buffers())
    assert "kernel=Rings(num_rings=3)" in repr(layer) and "groups=2" in repr(layer)


def test_errors() -> None:
    grid = HEALPix(2)
    with pytest.raises(ValueError, match="in_channels is 0"):
        DiscoConv(0, 1, grid)
    with pytest.raises(ValueError, match="groups must divide both"):
        DiscoConv(3, 4, grid, groups=2)
    with pytest.raises(ValueError, match="give the cutoff one way only"):
        DiscoConv(1, 1, grid, radius=0.1, spacings=2.0)
    with pytest.raises(ValueError, match=r"radius is 4\.0"):
        DiscoConv(1, 1, grid, radius=4.0)
    with pytest.raises(ValueError, match="engine is 'fast'"):
        DiscoConv(1, 1, grid, engine="fast")
    with pytest.raises(ValueError, match="normalization is 'l2'"):
        DiscoConv(1, 1, grid, normalization="l2")
    layer = DiscoConv(2, 1, grid)
    for shape in ((2, 48), (1, 3, 48), (1, 2, 192), (1, 2, 6, 8)):
        with pytest.raises(ValueError, match=r"x has shape .* expected \(batch, 2, 48\)"):
            layer(torch.zeros(shape))


def test_geometry_survives_changes_of_precision_and_device() -> None:
    layer = DiscoConv(2, 3, Equiangular(64, 256), radius=0.3)  # wide polar rows: spectra too
    exact = layer.map.values.clone()
    assert layer.map.bands
    layer.bfloat16().float()
    torch.testing.assert_close(layer.map.values, exact, rtol=0, atol=0)
    x = torch.randn(1, 2, 64, 256)
    truth = layer(x)
    half = copy.deepcopy(layer).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
    assert (half(x.bfloat16()).float() - truth).norm() < 2e-2 * truth.norm()
    assert layer(x.double()).dtype == torch.float64
    empty = copy.deepcopy(layer).to("meta").to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    torch.testing.assert_close(empty(x), truth)


def test_a_small_radius_on_healpix_sees_itself_alone() -> None:
    layer = DiscoConv(1, 1, HEALPix(8), HEALPix(4), radius=1e-4)
    assert torch.equal(layer(torch.randn(1, 1, 768)), torch.zeros(1, 1, 192))


@pytest.mark.parametrize(
    ("source", "target", "kernel"),
    [
        (Equiangular(16, 32), None, Morlet(2, 2)),
        (Equiangular(24, 48), None, Rings(3)),  # boxes of 2 and 3
        (GaussLegendre(32, 64, offset=0.3), Equiangular(16, 32), Rings(2)),
        (Equiangular(16, 32), Equiangular(32, 64), Rings(2)),
    ],
)
def test_averaged_rows_against_dense_coefficients(source: Grid, target: Grid | None, kernel: Kernel) -> None:
    """Output and both gradients are those of the table without boxes, whose crowded rows alone differ from exact ones."""
    layer = DiscoConv(2, 3, source, target, kernel=kernel, spacings=2.0, polar="averaged").double()
    exact = DiscoConv(2, 3, source, target, kernel=kernel, spacings=2.0).double()
    boxes = layer.map.by_boxes
    assert boxes is not None and int(boxes.pattern.target_box.max()) > 1
    dense, usual = layer.map.to_dense(), exact.map.to_dense()
    torch.testing.assert_close(boxes.to_dense(), dense, rtol=0, atol=1e-14)
    crowded = (boxes.pattern.target_box > 1)[:, None].expand(-1, boxes.pattern.columns)
    points = boxes.pattern.target_base[:, None] + boxes.pattern.target_stride[:, None] * torch.arange(
        boxes.pattern.columns
    )
    plain = points[~crowded]
    torch.testing.assert_close(
        dense[:, plain], usual[:, plain], rtol=0, atol=1e-13 * float(usual.abs().max())
    )
    changed = (dense - usual)[:, points[crowded]].abs().amax() / usual.abs().max()
    assert 1e-6 < changed < 1
    torch.testing.assert_close(dense.sum(2), usual.sum(2), rtol=0, atol=1e-10)  # moment of degree 0
    x = torch.randn(2, 2, *source.shape, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    bias = layer.bias
    assert bias is not None
    expected = torch.einsum("ock,kpq,bcq->bop", layer.weight, dense, x.flatten(2)) + bias[:, None]
    torch.testing.assert_close(y.flatten(2), expected)
    g = torch.randn_like(expected)
    ours = torch.autograd.grad(y.flatten(2), (x, layer.weight), g)
    for a, b in zip(ours, torch.autograd.grad(expected, (x, layer.weight), g), strict=True):
        torch.testing.assert_close(a, b)
    portable = DiscoConv(
        2, 3, source, target, kernel=kernel, spacings=2.0, polar="averaged", engine="torch"
    ).double()
    portable.load_state_dict(layer.state_dict())
    torch.testing.assert_close(portable(x), y)


def test_averaged_rows_keep_moments_and_errors() -> None:
    """Moments up to degree 2 of crowded rows are those of exact rows, and rotations are kept about as well."""
    grid = Equiangular(32, 64)
    maps = [DiscoConv(1, 1, grid, polar=polar).double().map.to_dense() for polar in ("exact", "averaged")]
    p = grid.points  # a quadratic form of positions holds them
    seen = torch.cat([p, (p[:, :, None] * p[:, None]).flatten(1)], 1)
    local = [m[:, :64] @ seen for m in maps]
    scale = float(local[0].abs().max())
    torch.testing.assert_close(local[1], local[0], rtol=0, atol=2e-3 * scale)
    errors, grid = [], Equiangular(16, 32)
    turns = random_rotations(2, generator=torch.Generator().manual_seed(0))
    for polar in ("exact", "averaged"):
        torch.manual_seed(0)
        layer = DiscoConv(2, 2, grid, polar=polar).double()
        errors.append(equivariance_error(layer, grid, turns))
    assert errors[1] < 1.2 * errors[0]


def test_polar_is_checked() -> None:
    with pytest.raises(ValueError, match="polar"):
        DiscoConv(1, 1, Equiangular(8, 16), polar="mean")
    with pytest.raises(ValueError, match="polar"):
        DiscoConv(1, 1, Equiangular(8, 16), polar="averaged", normalization="mean")
    assert DiscoConv(1, 1, HEALPix(2), polar="averaged").map.by_boxes is None
