"""GaugeConv: its slow twin, any choice of frames, gradients, rotations of the sphere, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.grids import Equiangular, Fibonacci, Grid, HEALPix, Icosahedral
from spheregeo.groups import FieldType, random_rotations
from spheregeo.harmonics import real_harmonics
from spheregeo.kernels import CircularHarmonics, GaussianRings, PolarKernel, Rings
from spheregeo.nn.surface import GaugeConv, GaugeGeometry
from spheregeo.sampling.neighbors import Neighborhood, neighbors

IN, OUT = FieldType("2x0 + 2x1 + 1x2"), FieldType("1x1 + 2x0 + 1x2")
RADIUS = 0.5


def near_of(source: Grid, target: Grid | None = None) -> Neighborhood:
    return neighbors(source, source if target is None else target, RADIUS)


def turned(near: Neighborhood, into: Tensor, out: Tensor) -> Neighborhood:
    """The same pairs with frames turned by +into (Q,) at sources and +out (P,) at targets."""
    angle = near.angle - out[near.rows]
    transport = near.transport - out[near.rows] + into[near.indices]
    return dataclasses.replace(near, angle=angle, transport=transport)


def layer(**options: object) -> GaugeConv:
    torch.manual_seed(0)
    conv = GaugeConv(IN, OUT, num_rings=2, **options).double()  # type: ignore[arg-type]
    return randomise(conv, torch.Generator().manual_seed(1))  # type: ignore[return-value]


def slow(
    conv: GaugeConv, x: Tensor, near: Neighborhood, areas: Tensor, radius: float, smooth: bool = True
) -> Tensor:
    """One matrix rho_out(theta) W rho_in(g - theta) per edge where the profiles do not depend on the frequency."""
    assert not smooth
    profiles = PolarKernel(CircularHarmonics(2, 0), 4, smooth=False)
    values = profiles(near.distance, torch.zeros_like(near.angle), radius)
    out = conv.out_type.representation(near.angle)
    into = conv.in_type.representation(near.transport - near.angle)
    weight = conv.weight
    same = near.distance < 1e-12 * radius
    kernel = torch.zeros(len(near.indices), conv.out_type.dim, conv.in_type.dim, dtype=torch.float64)
    for k in range(2):
        # cosines of frequency j at angle 0: the radial factor of frequency j
        centre, around = values[k], values[2 + k]
        scale = centre[:, None, None]
        full = out @ weight[..., k] @ into * around[:, None, None]
        kernel = kernel + full
        # frequency 0 has its own norm, and the only share at the centre
        kernel = kernel + (scale - around[:, None, None]) * _frequency_zero(conv, weight[..., k], near)
    assert bool(same.any())
    kernel = kernel * (areas[near.indices] / radius**2)[:, None, None]
    y = torch.einsum("eoi,bie->boe", kernel, x[..., near.indices])
    return y.new_zeros(x.shape[0], conv.out_type.dim, len(near.indptr) - 1).index_add(2, near.rows, y)


def _frequency_zero(conv: GaugeConv, weight: Tensor, near: Neighborhood) -> Tensor:
    """Mean of the kernel over directions, transports kept: the part of frequency 0."""
    steps = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    total = torch.zeros(conv.out_type.dim, conv.in_type.dim, dtype=torch.float64)
    for phi in steps:
        total = total + conv.out_type.representation(phi) @ weight @ conv.in_type.representation(-phi) / 16
    return total @ conv.in_type.representation(near.transport)


def test_equals_matrices_on_edges() -> None:
    """Output, input gradient and weight gradient; kernels as published, without the factor r^j."""
    grid = Fibonacci(300)
    near = near_of(grid)
    conv = layer(self_interaction=False, bias=False, smooth=False)
    geometry = GaugeGeometry.from_neighborhood(near, grid.areas, RADIUS, smooth=False, dtype=torch.float64)
    x = torch.randn(2, IN.dim, 300, dtype=torch.float64, requires_grad=True)
    fast, twin = conv(x, geometry), slow(conv, x, near, grid.areas, RADIUS, smooth=False)
    assert (fast - twin).abs().max() < 1e-12 * twin.abs().max()
    g = torch.randn_like(fast)
    ours = torch.autograd.grad(fast, (x, conv.weight), g)
    theirs = torch.autograd.grad(twin, (x, conv.weight), g)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < 1e-12 * b.abs().max()


@pytest.mark.parametrize("bias", [True, "edge"])
@pytest.mark.parametrize("strided", [False, True])
def test_any_frames(bias: bool | str, strided: bool) -> None:
    """Random turns at all points: the output turns along, parameter gradients stay."""
    source, target = Fibonacci(400), Fibonacci(150) if strided else Fibonacci(400)
    conv = layer(bias=bias, self_interaction=not strided)
    near = near_of(source, target)
    into = 6.3 * torch.rand(400, dtype=torch.float64)
    out = 6.3 * torch.rand(150, dtype=torch.float64) if strided else into
    x = torch.randn(1, IN.dim, 400, dtype=torch.float64)
    head = torch.randn(OUT.dim, len(out), dtype=torch.float64)
    results = []
    for pairs, fields, cotangent in (
        (near, x, head),
        (turned(near, into, out), IN.turn(x, into), OUT.turn(head, out)),
    ):
        own = target.areas if strided else None
        geometry = GaugeGeometry.from_neighborhood(
            pairs, source.areas, RADIUS, target_areas=own, dtype=torch.float64
        )
        y = conv(fields, geometry)
        gradients = torch.autograd.grad((y * cotangent).sum(), list(conv.parameters()))
        results.append((y, gradients))
    (y, gradients), (other, others) = results
    assert (OUT.turn(y, out) - other).abs().max() < 1e-12 * y.abs().max()
    for a, b in zip(gradients, others, strict=True):
        assert (a - b).abs().max() < 1e-10 * a.abs().max()


def test_reflected_frames() -> None:
    """O(2): mirrored frames mirror the output; without the option they must not, for orientation is used."""
    kinds = FieldType("2x0 + 1x0o + 2x1"), FieldType("1x1 + 1x0 + 2x0o + 1x2")
    grid = Fibonacci(300)
    near = near_of(grid)
    mirrored = dataclasses.replace(near, angle=-near.angle, transport=-near.transport)
    x = torch.randn(1, kinds[0].dim, 300, dtype=torch.float64)
    for bias in (True, "edge"):
        errors = []
        for reflections in (True, False):
            conv = randomise(GaugeConv(*kinds, reflections=reflections, bias=bias).double())
            y, other = (
                conv(
                    fields,
                    GaugeGeometry.from_neighborhood(
                        pairs, grid.areas, RADIUS, dtype=torch.float64, frequency=3
                    ),
                )
                for pairs, fields in ((near, x), (mirrored, kinds[0].reflect(x)))
            )
            errors.append(float((kinds[1].reflect(y) - other).detach().norm() / y.detach().norm()))
        assert errors[0] < 1e-12 < 0.1 < errors[1]


@pytest.mark.parametrize(
    "grid",
    [
        HEALPix(4),
        HEALPix(4, order="nested"),
        Icosahedral(2),
        Equiangular(12, 24),
        Equiangular(13, 24, poles=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("coarse", [False, True])
def test_shared_rows_are_the_rows(grid: Grid, coarse: bool) -> None:
    """Coefficients found for one row of an orbit hold for all, transports included (poles too)."""
    target = grid.coarsen() if coarse and not getattr(grid, "poles", False) else grid
    radius = 3 * target.spacing
    conv = randomise(GaugeConv(IN, OUT, grid, target, radius=radius, moments=None).double())
    assert conv.geometry is not None
    near = neighbors(grid, target, radius)
    every = GaugeGeometry.from_neighborhood(
        near, grid.areas, radius, target_areas=target.areas, dtype=torch.float64
    )
    x = torch.randn(1, IN.dim, *grid.shape, dtype=torch.float64)
    terms = [[(t.multiplicity, t.order) for t in kind.terms] for kind in (IN, OUT)]
    ours = conv.geometry.map(x.flatten(2), conv.weight, *terms)
    theirs = every.map(x.flatten(2), conv.weight, *terms)
    assert (ours - theirs).abs().max() < 1e-11 * theirs.abs().max()


def rotation_error(grid: Grid, *, spacings: float, moments: int | None, degree: int = 8) -> float:
    """Relative L2 error of scalar -> order 1 -> scalar under a random rotation; signals of degree < ``degree``.

    The output for the unturned signal is expanded in harmonics (to twice the degree) to have it at the turned points.
    """
    torch.manual_seed(0)
    options = {"spacings": spacings, "moments": moments}
    up = randomise(GaugeConv("1x0", "4x1", grid, **options).double())  # type: ignore[arg-type]
    down = randomise(GaugeConv("4x1", "1x0", grid, **options).double())  # type: ignore[arg-type]
    turn = random_rotations(1, generator=torch.Generator().manual_seed(3))[0]
    draw = torch.Generator().manual_seed(4)
    signal = torch.randn(degree**2, generator=draw, dtype=torch.float64)

    def run(points: Tensor) -> Tensor:
        x = real_harmonics(points, degree - 1) @ signal
        with torch.no_grad():
            return down(up(x.reshape(1, 1, *grid.shape))).flatten()  # type: ignore[no-any-return]

    weight = grid.areas.sqrt()
    before = real_harmonics(grid.points, 2 * degree - 1)
    spectrum = torch.linalg.lstsq(weight[:, None] * before, (weight * run(grid.points))[:, None]).solution
    expected = (real_harmonics(grid.points @ turn, 2 * degree - 1) @ spectrum)[:, 0]
    difference = run(grid.points @ turn) - expected
    return float((weight * difference).norm() / (weight * expected).norm())


@pytest.mark.parametrize("grid", [HEALPix(16), HEALPix(32), Equiangular(64, 128), Icosahedral(5)], ids=str)
def test_rotations_of_the_sphere(grid: Grid) -> None:
    """Directional layers commute with rotations: 0.1 % with degree-3 moments, 1 % without at a wide radius."""
    bar = 1.5e-3 if grid == HEALPix(16) else 1e-3
    assert rotation_error(grid, spacings=3, moments=3) < bar
    if grid.num_points > 4000:
        assert rotation_error(grid, spacings=8, moments=None) < 1e-2


def test_rotation_error_falls_with_resolution() -> None:
    errors = [rotation_error(HEALPix(n), spacings=3, moments=3) for n in (8, 16, 32)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_profiles() -> None:
    """Each kernel gives another layer; as many weights as profiles."""
    grid = HEALPix(4)
    x = torch.randn(1, IN.dim, *grid.shape)
    outputs = []
    for kernel in (None, Rings(4), GaussianRings(2)):
        torch.manual_seed(0)
        conv = GaugeConv(IN, OUT, grid, kernel=kernel)
        assert conv.weight.shape[2] == 2
        outputs.append(conv(x))
    for i in range(3):
        assert (outputs[i] - outputs[i - 1]).norm() > 0.05 * outputs[i].norm()


def test_precision_and_copies() -> None:
    """float64 takes the geometry anew instead of rounding it up; a checkpoint holds weights alone."""
    conv = GaugeConv(IN, OUT, HEALPix(4))
    assert set(conv.state_dict()) == {"weight", "bias", "self_interaction.weight"}
    x = torch.randn(1, IN.dim, 192)
    before = conv(x)
    double = conv.double()
    assert double.geometry is not None
    table = double.geometry.map.table
    assert table.dtype == torch.float64 and bool((table != table.float().double()).any())
    assert (double(x.double()) - before).norm() < 1e-5 * before.norm()
    assert conv.float().geometry.map.table.dtype == torch.float32  # type: ignore[union-attr]


def test_every_parameter_acts() -> None:
    conv = layer()
    grid = Fibonacci(200)
    geometry = GaugeGeometry.from_neighborhood(near_of(grid), grid.areas, RADIUS, dtype=torch.float64)
    y = conv(torch.randn(1, IN.dim, 200, dtype=torch.float64), geometry)
    for gradient in torch.autograd.grad(y.square().sum(), list(conv.parameters())):
        assert bool((gradient != 0).all())


def test_flops_and_bytes() -> None:
    conv = GaugeConv("4x0", "4x0", HEALPix(4), num_rings=1, self_interaction=False)
    assert conv.geometry is not None
    pairs = conv.geometry.map.num_nonzeros
    assert conv.flops() == 2 * 4 * pairs + 2 * 16 * 192
    assert conv.memory_bytes() >= 4 * 192
    with pytest.raises(ValueError, match="pairs"):
        GaugeConv("4x0", "4x0").flops()


def test_errors_name_the_argument() -> None:
    grid = HEALPix(2)
    conv = GaugeConv(IN, OUT, grid)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 48\)"):
        conv(torch.zeros(1, 3, 48))
    with pytest.raises(ValueError, match="geometry must be given"):
        GaugeConv(IN, OUT)(torch.zeros(1, IN.dim, 48))
    with pytest.raises(ValueError, match="geometry must be given"):
        conv(torch.zeros(1, IN.dim, 48), conv.geometry)
    with pytest.raises(ValueError, match="bias is 'corner'"):
        GaugeConv(IN, OUT, grid, bias="corner")
    with pytest.raises(ValueError, match="target is given"):
        GaugeConv(IN, OUT, None, grid)
    with pytest.raises(ValueError, match="one way only"):
        GaugeConv(IN, OUT, grid, radius=0.1, spacings=2)
    with pytest.raises(ValueError, match="geometry has 2 rings"):
        GaugeConv(IN, OUT, num_rings=3)(torch.zeros(1, IN.dim, 48), GaugeGeometry.of(grid))
    with pytest.raises(ValueError, match="frequency"):
        GaugeConv(IN, OUT)(torch.zeros(1, IN.dim, 48), GaugeGeometry.of(grid, frequency=2))
    with pytest.raises(TypeError, match="source is str"):
        GaugeConv(IN, OUT, "mesh")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="kernel is 'rings'"):
        GaugeConv(IN, OUT, grid, kernel="rings")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="spec is 16"):
        GaugeConv(16, OUT)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_rings"):
        GaugeConv(IN, OUT, num_rings=0)
    with pytest.raises(ValueError, match="leave them out"):
        GaugeConv(IN, OUT, grid, log_map="geodesic")
    with pytest.raises(ValueError, match="target_areas has shape"):
        GaugeGeometry.from_neighborhood(
            neighbors(grid, grid, 1.0), grid.areas, 1.0, target_areas=torch.ones(3)
        )
    with pytest.raises(ValueError, match="moments"):
        GaugeGeometry.of(grid, moments="many")
