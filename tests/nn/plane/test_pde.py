"""PDE layers on SE(2) and the plane: distances against geodesics, kernels against their definitions, symmetries, limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spheregeo.groups import PlanarType, se2_exp, se2_half_angle, se2_inverse
from spheregeo.nn import (
    CakeLift,
    FieldMix,
    MaxPlusConv2d,
    PlaneConvection,
    PlaneDiffusion,
    PlaneDilation,
    PlaneErosion,
    PlanePDELayer,
    SE2Convection,
    SE2Diffusion,
    SE2Dilation,
    SE2Erosion,
    SE2PDELayer,
)
from spheregeo.nn.plane.pde import morphological_kernel, se2_convolve, se2_distance
from spheregeo.nn.plane.pde.distances import KINDS
from spheregeo.nn.plane.pde.lift import cake_wavelets, low_pass_profile
from spheregeo.nn.plane.pde.stencil import relative_motions
from spheregeo.sparse import max_plus_planes

F64 = torch.float64


def randomised(layer: nn.Module) -> nn.Module:
    """A layer in float64 and evaluation, all numbers random, those of the norm too."""
    layer.double().eval()
    for name, t in [*layer.named_parameters(), *layer.named_buffers()]:
        if "norm." in name and t.is_floating_point():
            t.data.uniform_(0.5, 1.5)
    return layer


# ---- distances: geodesics by shooting are the oracle


def _flow(state: Tensor, w: Tensor) -> Tensor:
    """Hamilton's equations of H = ½ Σ (p_i/w_i)² in the moving frame: (x, y, θ, p₁, p₂, p₃)."""
    angle, p = state[:, 2], state[:, 3:]
    v1, v2, v3 = (p / w.square()).unbind(-1)
    p1, p2, _ = p.unbind(-1)
    c, s = angle.cos(), angle.sin()
    return torch.stack([c * v1 - s * v2, s * v1 + c * v2, v3, v3 * p2, -v3 * p1, p1 * v2 - v1 * p2], -1)


def shoot(weights: tuple[float, float, float], rays: int, reach: float, step: float) -> tuple[Tensor, Tensor]:
    """Ends and lengths of geodesics from the unit, of rays of length 1 in the metric, by Runge's and Kutta's steps."""
    w = torch.tensor(weights, dtype=torch.float64)
    state = torch.zeros(rays, 6, dtype=torch.float64)
    state[:, 3:] = torch.nn.functional.normalize(torch.randn(rays, 3, dtype=torch.float64), dim=-1) * w
    ends, lengths = [], []
    for k in range(1, round(reach / step) + 1):
        a = _flow(state, w)
        b = _flow(state + step / 2 * a, w)
        c = _flow(state + step / 2 * b, w)
        d = _flow(state + step * c, w)
        state = state + step / 6 * (a + 2 * b + 2 * c + d)
        ends.append(state[:, :3])
        lengths.append(torch.full((rays,), k * step, dtype=torch.float64))
    end, length = torch.cat(ends), torch.cat(lengths)
    inside = end[:, 2].abs() <= math.pi
    return end[inside], length[inside]


def shortest(
    weights: tuple[float, float, float],
    rays: int = 20000,
    reach: float = 3.0,
    step: float = 0.1,
    cell: float = 0.15,
) -> tuple[Tensor, Tensor]:
    """Ends and lengths of the geodesics that arrive first in their cell: longer ones are no distances."""
    end, length = shoot(weights, rays, reach, step)
    place = (se2_half_angle(end) / cell).round().long()
    key = (place[:, 0] * 10000 + place[:, 1]) * 10000 + place[:, 2]
    order = length.argsort(stable=True)
    cells, which = torch.unique(key[order], return_inverse=True)
    first = torch.full((len(cells),), len(key)).scatter_reduce(0, which, torch.arange(len(key)), "amin")
    return end[order[first]], length[order[first]]


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 8.0, 1.0), (4.0, 0.5, 2.0)])
def test_the_accurate_distance_is_that_of_geodesics(weights: tuple[float, float, float]) -> None:
    torch.manual_seed(0)
    end, length = shortest(weights)
    far = length >= 0.8
    w = torch.tensor(weights, dtype=F64)
    error = {kind: ((se2_distance(end, w, kind) - length).abs() / length)[far].mean() for kind in KINDS}
    assert int(far.sum()) > 5000
    assert error["accurate"] <= (1e-3 if weights[0] == weights[1] else 0.03)
    if weights[1] == 8:
        assert error["log"] > 1.1, "the common estimate is this wrong"


def test_distances_do_not_change_with_the_inverse_and_lie_above_their_bound() -> None:
    torch.manual_seed(0)
    g, w = torch.randn(500, 3, dtype=F64) * 2, torch.rand(500, 3, dtype=F64) * 4 + 0.1
    lower = se2_distance(g, w, "lower")
    for kind in KINDS:
        rho = se2_distance(g, w, kind)
        assert (se2_distance(se2_inverse(g), w, kind) - rho).abs().max() < 1e-12
        assert bool((rho >= lower - 1e-12).all()) or kind == "log"
    swapped = torch.stack(
        [g[:, 1], -g[:, 0], g[:, 2]], -1
    )  # the plane turned by a quarter renames forwards and sideways
    rho = se2_distance(swapped, w[:, [1, 0, 2]])
    assert (rho - se2_distance(g, w)).abs().max() < 1e-12
    with pytest.raises(ValueError, match="kind is 'exact'"):
        se2_distance(g, w, "exact")


# ---- kernels


@pytest.mark.parametrize("alpha", [0.55, 0.65, 0.8, 1.0])
def test_kernels_are_legendre_transforms_and_a_semigroup(alpha: float) -> None:
    p = torch.logspace(-6, 4, 100001, dtype=F64)
    for d in (0.3, 1.0, 2.0):  # k_1(d) = sup_p (p d - p^{2 alpha})
        exact = (p * d - p ** (2 * alpha)).max()
        found = morphological_kernel(torch.tensor(d * d, dtype=F64), alpha)
        assert abs(found - exact) < 1e-6 * max(1.0, float(found))
    x = torch.arange(-400, 401, dtype=F64) / 200
    first, second, both = (morphological_kernel(x.square(), alpha, t) for t in (0.4, 0.7, 1.1))
    shifts = [(0, 0, s) for s in range(-400, 401)]
    composed = max_plus_planes(-first.view(1, 1, 1, 1, -1), -second.view(1, 1, 1, -1), shifts)[0, 0, 0, 0]
    inside = slice(200, 601)
    assert (composed + both)[inside].abs().max() < 1e-4


def test_layers_on_the_plane_are_semigroups() -> None:
    """Two layers in turn are one of both times: dilations to 1e-3 on a lattice of 0.02 (6.5e-4 measured), diffusions to 1e-6."""
    step, half, alpha = 0.02, 30, 0.65
    size = 2 * half + 1

    def timed(kind: type, time: float) -> nn.Module:
        layer = kind(1, size, **({"alpha": alpha} if kind is PlaneDilation else {})).double()
        power = 1 / (2 * alpha) if kind is PlaneDilation else 0.5
        layer.log_weights.data.fill_(math.log(step * time**-power))
        return layer

    def crop(x: Tensor, by: int) -> Tensor:
        return x[..., by:-by, by:-by]

    x = step * torch.arange(-65, 66, dtype=F64)
    image = (0.5 * torch.sin(x)[:, None] * torch.cos(1.5 * x) + 0.2 * x[:, None])[None, None]
    with torch.no_grad():
        for kind, first, second, bound in (
            (PlaneDilation, 0.2, 0.3, 1e-3),
            (PlaneDiffusion, 0.01, 0.015, 1e-6),
        ):
            twice = timed(kind, second)(crop(timed(kind, first)(image), half))
            once = timed(kind, first + second)(crop(image, half))
            error = float(crop(twice - once, half).abs().max())
            assert (
                error < bound and float((crop(once, half) - crop(image, 2 * half)).abs().max()) > 10 * bound
            ), error


def test_kernels_near_one_half_are_max_pooling_over_a_ball() -> None:
    torch.manual_seed(0)
    layer = SE2Dilation(2, 8, 5, 3, alpha=0.501).double()
    layer.log_weights.data = torch.tensor([[0.31, 1.3, 0.9], [0.7, 0.41, 0.6]], dtype=F64).log()
    for c in range(2):  # the ball's radius, 1, half-way between two radii far apart
        radii = layer.squared_distances(F64)[c].detach().sqrt().unique()
        near, far = radii[:-1], radii[1:]
        widest = torch.where((near > 0.6) & (far < 1.8), far / near, 0.0).argmax()
        layer.log_weights.data[c] -= (near * far).sqrt()[widest].log()
    x = torch.randn(1, 16, 9, 9, dtype=F64)
    inside = layer.squared_distances(F64) <= 1
    flat = torch.where(inside, 0.0, float("-inf"))[:, None]
    pooled = max_plus_planes(x.unflatten(1, (2, 8)), flat, layer.shifts).flatten(1, 2)
    assert 20 < int(inside.sum()) < inside.numel() / 2  # an oriented ball
    assert (layer(x) - pooled).abs().max() < 1e-4
    assert (SE2Dilation(2, 8, alpha=1.0).double()(x) - pooled).abs().max() > 0.1


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_diffusion_kernels_sum_to_one_and_are_positive(alpha: float) -> None:
    for layer in (SE2Diffusion(3, 8, 7, 5, alpha=alpha), PlaneDiffusion(3, 7, alpha=alpha)):
        kernel = layer.double().kernel()
        assert bool((kernel > 0).all())
        assert (kernel.sum((-1, -2, -3)) - 1).abs().max() < 1e-14
        centre = kernel[..., kernel.shape[-3] // 2, 3, 3]
        assert bool((centre[..., None, None, None] >= kernel).all())


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
def test_delta_kernels_return_the_input(size: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 7, 7, dtype=F64)
    delta = torch.zeros(3, 1, 9, size, size, size, dtype=F64)
    delta[..., size // 2, size // 2, size // 2] = 1
    assert torch.equal(se2_convolve(x, delta), x)
    r = size // 2
    shifts = [(a, i, j) for a in range(-r, r + 1) for i in range(-r, r + 1) for j in range(-r, r + 1)]
    for semiring, fill in (("max", float("-inf")), ("min", float("inf"))):
        kernel = torch.full((3, 1, 1, len(shifts)), fill, dtype=F64)
        kernel[..., shifts.index((0, 0, 0))] = 0
        assert torch.equal(max_plus_planes(x, kernel, shifts, semiring=semiring), x)


# ---- layers against their definitions


def brute_dilation(u: Tensor, layer: SE2Dilation) -> Tensor:
    """sup over all voxels h of the window of u(h) - k(rho(g^-1 h)), one g after the other."""
    n, out = layer.orientations, torch.full_like(u, float("-inf"))
    k = morphological_kernel(
        se2_distance(relative_motions(layer.shifts, n), layer.weights()[:, None, None]).square(), layer.alpha
    )
    _, _, height, width = u.shape
    fields, result = u.unflatten(1, (-1, n)), out.unflatten(1, (-1, n))
    for o in range(n):
        for i in range(height):
            for j in range(width):
                for t, (turn, down, right) in enumerate(layer.shifts):
                    if 0 <= i + down < height and 0 <= j + right < width:
                        v = fields[:, :, (o + turn) % n, i + down, j + right] - k[:, o, t]
                        result[:, :, o, i, j] = torch.maximum(result[:, :, o, i, j], v)
    return out


def test_dilation_is_its_definition_and_erosion_its_mirror() -> None:
    torch.manual_seed(0)
    u = torch.randn(2, 8, 4, 5, dtype=F64)
    dilation, erosion = SE2Dilation(2, 4, 3, 3).double(), SE2Erosion(2, 4, 3, 3).double()
    erosion.load_state_dict(dilation.state_dict())
    with torch.no_grad():
        assert (dilation(u) - brute_dilation(u, dilation)).abs().max() < 1e-14
    assert torch.equal(dilation(u), -erosion(-u))
    assert bool((erosion(u) <= u).all() and (u <= dilation(u)).all())
    closed = erosion(dilation(u))
    assert bool((closed >= u - 1e-14).all())
    assert (erosion(dilation(closed)) - closed).abs().max() < 1e-14, "closings are idempotent"
    plane, other = PlaneDilation(3).double(), PlaneErosion(3).double()
    other.load_state_dict(plane.state_dict())
    v = torch.randn(1, 3, 6, 6, dtype=F64)
    distance = math.hypot(1, 2)
    assert torch.equal(plane(v), -other(-v))
    tap = plane.shifts.index((0, 1, 2))
    expected = morphological_kernel((plane.weights()[:, 0] * distance).square(), 0.65)
    assert torch.allclose(plane.kernel()[:, 0, tap], expected, rtol=1e-13)


def test_convection_moves_fields_by_the_motion() -> None:
    """On a field that is linear in x, y and (away from the seam) in the angle, interpolation is exact: out(g) = u(g exp(-c))."""
    torch.manual_seed(0)
    n, size = 8, 9
    layer = SE2Convection(1, n).double()
    layer.velocity.data = torch.tensor([[0.7, -0.4, 0.3]], dtype=F64)
    x = torch.arange(size, dtype=F64).expand(size, size)
    y = -x.T
    angle = 2 * math.pi / n * torch.arange(n, dtype=F64).view(n, 1, 1)
    field = 0.3 * x + 0.5 * y + 0.2 * angle
    out = layer(field[None])[0]
    x1, x2, turn = se2_exp(-layer.velocity[0]).tolist()
    moved = (
        field
        + 0.3 * (angle.cos() * x1 - angle.sin() * x2)
        + 0.5 * (angle.sin() * x1 + angle.cos() * x2)
        + 0.2 * turn
    )
    inner = (slice(2, n - 1), slice(2, -2), slice(2, -2))
    assert (out - moved)[inner].abs().max() < 1e-13
    plane = PlaneConvection(1).double()
    plane.velocity.data = torch.tensor([[1.0, 2.0]], dtype=F64)
    image = torch.randn(1, 1, 7, 7, dtype=F64)
    expected = torch.zeros_like(image)
    expected[..., :-2, 1:] = image[..., 2:, :-1]  # one to the right, two up
    assert (plane(image) - expected).abs().max() < 1e-14
    flat = torch.ones(1, 3, 7, 7, dtype=F64)  # by random motions: a constant stays as it is inside
    for steady in (PlaneConvection(3), SE2Convection(3, 1)):
        assert (steady.double()(flat) - flat)[..., 3:-3, 3:-3].abs().max() < 1e-14


def test_diffusion_is_its_kernel_voxel_by_voxel() -> None:
    torch.manual_seed(0)
    layer = SE2Diffusion(2, 4, 3, 3).double()
    kernel, u = layer.kernel(), torch.randn(1, 8, 4, 4, dtype=F64)
    fields, expected = u.unflatten(1, (2, 4)), torch.zeros(1, 2, 4, 4, 4, dtype=F64)
    for o in range(4):
        for a, i, j in layer.shifts:
            source = nn.functional.pad(fields[:, :, (o + a) % 4], (1, 1, 1, 1))[
                ..., 1 + i : 5 + i, 1 + j : 5 + j
            ]
            expected[:, :, o] += kernel[:, o, a + 1, i + 1, j + 1].view(1, 2, 1, 1) * source
    assert (layer(u) - expected.flatten(1, 2)).abs().max() < 1e-14


def test_cake_wavelets_sum_to_the_low_pass_and_see_lines_along_their_angle() -> None:
    size, n = 11, 8
    psi = cake_wavelets(n, size)
    k = torch.arange(size, dtype=F64) - size // 2
    profile = low_pass_profile(torch.hypot(2 * k / size, 2 * k[:, None] / size))
    whole = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(profile.to(torch.complex128))))
    assert (psi.sum(0) - whole).abs().max() < 1e-15
    assert psi.sum(0).imag.abs().max() < 1e-15
    frequency = torch.linspace(0.01, 1.5, 2001, dtype=F64)
    slope = low_pass_profile(frequency).diff()
    assert abs(float(frequency[slope.argmin()]) - 0.8) < 2e-3  # the inflection
    line = torch.zeros(1, 1, 15, 15, dtype=F64)
    for step in range(15):
        line[0, 0, 14 - step, step] = 1  # along 45 degrees: up and to the right
    response = CakeLift(1, n).double()(line)[0, :n, 7, 7]
    assert int(response.argmax()) % 4 == 1
    assert torch.equal(response, CakeLift(1, n).double()(line.flip(-1))[0, :n, 7, 7]) is False


# ---- symmetry


N = 8
LAYERS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    **{f"dilation-{a}": (lambda a=a: SE2Dilation(2, N, alpha=a), 2, 2) for a in (0.55, 0.65, 1.0)},
    "erosion": (lambda: SE2Erosion(2, N, 3, 5), 2, 2),
    "convection": (lambda: SE2Convection(2, N), 2, 2),
    "diffusion": (lambda: SE2Diffusion(2, N), 2, 2),
    "mix": (lambda: FieldMix(2, 3, N), 2, 3),
    "layer": (lambda: SE2PDELayer(2, 3, N, diffusion=True), 2, 3),
    "cake": (lambda: CakeLift(1, N), 0, 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_quarter_turns_are_exact(name: str) -> None:
    torch.manual_seed(0)
    make, before, after = LAYERS[name]
    layer = randomised(make())
    x = torch.randn(2, before * N or 1, 9, 9, dtype=F64)

    def turn(t: Tensor, fields: int, quarters: int) -> Tensor:
        """The action of C_n by quarter turns on regular fields, or on plain channels."""
        if not fields:
            return torch.rot90(t, quarters, (-2, -1))
        found = torch.rot90(t, quarters, (-2, -1)).index_select(
            1, PlanarType.of(f"{fields}xC{N}").permutation(quarters * N // 4)
        )
        own = (
            torch.rot90(t, quarters, (-2, -1))
            .unflatten(1, (fields, N))
            .roll(quarters * N // 4, 2)
            .flatten(1, 2)
        )
        assert torch.equal(found, own)
        return found

    for quarters in (1, 2, 3):
        with torch.no_grad():
            ours, theirs = layer(turn(x, before, quarters)), turn(layer(x), after, quarters)
        assert (ours - theirs).abs().max() < 1e-12


@pytest.mark.parametrize(
    "make",
    [
        lambda: PlaneDilation(2),
        lambda: PlaneErosion(2),
        lambda: PlaneDiffusion(2),
        lambda: PlanePDELayer(2, 3, diffusion=True),
    ],
)
def test_layers_of_the_plane_keep_turns_and_reflections(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    layer, x = randomised(make()), torch.randn(1, 2, 9, 9, dtype=F64)
    for act in (lambda t: torch.rot90(t, 1, (-2, -1)), lambda t: t.flip(-1)):
        assert (layer(act(x)) - act(layer(x))).abs().max() < 1e-13


# ---- derivatives, types


@pytest.mark.parametrize(
    "make",
    [lambda: SE2Dilation(1, 4, 3, alpha=0.55), lambda: SE2Erosion(1, 4, 3, alpha=1.0), lambda: SE2Convection(1, 4),
     lambda: SE2Diffusion(1, 4, 3), lambda: PlaneDilation(4, 3), lambda: MaxPlusConv2d(4, 2, 3, groups=2)],
    ids=["dilation", "erosion", "convection", "diffusion", "plane", "max-plus"],
)  # fmt: skip
def test_gradients(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    layer = make().double()
    x = torch.randn(1, 4, 4, 4, dtype=F64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *given: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, given, strict=True)), (x,))

    given = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(call, (x, *given))
    assert torch.autograd.gradgradcheck(call, (x, *given), fast_mode=True)


def test_flat_and_far_kernels_have_finite_gradients() -> None:
    layer = SE2Dilation(1, 4, 9, 3, alpha=0.505)
    layer.log_weights.data.fill_(2.0)
    layer(torch.randn(1, 4, 9, 9)).sum().backward()
    assert layer.log_weights.grad is not None and bool(layer.log_weights.grad.isfinite().all())


def test_missing_numbers_are_seen() -> None:
    x = torch.zeros(1, 4, 9, 9)
    x[0, 0, 4, 4] = float("nan")
    for engine in ("cpu", "torch"):
        y = SE2Dilation(1, 4, 3, 1, engine=engine)(x)
        assert int(y[0, 0].isnan().sum()) == 9 and not bool(y[0, 1:].isnan().any())


def test_max_plus_convolution_is_unfold_and_max() -> None:
    torch.manual_seed(0)
    layer = MaxPlusConv2d(4, 6, 3, dilation=2, groups=2).double()
    x = torch.randn(2, 4, 7, 8, dtype=F64, requires_grad=True)
    columns = nn.functional.unfold(nn.functional.pad(x, (2, 2, 2, 2), value=-1e30), 3, dilation=2)
    columns = columns.view(2, 2, 1, 2 * 9, 7 * 8)
    expected = (columns + layer.weight.view(1, 2, 3, 2 * 9, 1)).amax(3).view(2, 6, 7, 8)
    y, g = layer(x), torch.randn(2, 6, 7, 8, dtype=F64)
    assert torch.equal(y, expected)
    for a, b in zip(*(torch.autograd.grad(t, (x, layer.weight), g) for t in (y, expected)), strict=True):
        assert (a - b).abs().max() < 1e-13


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SE2Dilation(2, 8, 4), "kernel_size is 4; expected an odd number"),
        (lambda: SE2Dilation(2, 4, 3, 5), "turns is 5; expected at most the 4 orientations"),
        (lambda: SE2Dilation(2, 8, alpha=0.5), "alpha is 0.5; expected a number above 0.5"),
        (lambda: SE2Diffusion(2, 8, alpha=0.7), "alpha is 0.7; expected 1"),
        (lambda: MaxPlusConv2d(3, 4, groups=2), "groups is 2; expected a divisor"),
        (lambda: SE2Convection(2, 8)(torch.zeros(1, 8, 3, 3)), r"expected \(B, 16, H, W\)"),
        (lambda: max_plus_planes(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2), [(0, 0, 0)]), "there are 1 shifts"),
        (lambda: se2_convolve(torch.zeros(1, 1, 2, 3, 3), torch.zeros(1, 1, 2, 3, 3, 3)), "at most 2 turns"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
