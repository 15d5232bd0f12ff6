"""Area-weighted norms against their definition in dense float64, their gradients, strides and equivariance."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from spheregeo.grids import Equiangular, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.nn import AreaBatchNorm, AreaGroupNorm, AreaInstanceNorm, BatchNorm, DiscoConv
from spheregeo.sampling import random_rotations
from spheregeo.testing import small_grids

GRIDS = small_grids()


def make(kind: str, channels: int, grid: Grid) -> nn.Module:
    if kind == "batch":
        return AreaBatchNorm(channels, grid)
    return (
        AreaGroupNorm(2, channels, grid) if kind == "group" else AreaInstanceNorm(channels, grid, affine=True)
    )


def randomise(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return module


def by_definition(x: Tensor, module: nn.Module, kind: str) -> Tensor:
    """One set of channels and samples after another, (B, C, N)."""
    w = module.grid.areas / module.grid.areas.sum()
    channels = x.shape[1]
    width = {"batch": 1, "group": channels // 2, "instance": 1}[kind]
    out = torch.zeros_like(x)
    for c in range(0, channels, width):
        for b in [slice(None)] if kind == "batch" else range(len(x)):
            values = x[b, c : c + width].reshape(-1, x.shape[2])
            mean = (values * w).sum(1).mean()
            var = ((values - mean) ** 2 * w).sum(1).mean()
            out[b, c : c + width] = (x[b, c : c + width] - mean) / torch.sqrt(var + module.eps)
    return out * module.weight[:, None] + module.bias[:, None]


@pytest.mark.parametrize("kind", ["batch", "group", "instance"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_value_and_gradients_are_those_of_the_definition(grid: Grid, kind: str) -> None:
    module = randomise(make(kind, 4, grid)).double()
    x = (torch.randn(3, 4, *grid.shape, dtype=torch.float64) * 2 + 5).requires_grad_()
    g = torch.randn_like(x)
    arguments = [x, module.weight, module.bias]
    got = [y := module(x), *torch.autograd.grad(y, arguments, g)]
    y = by_definition(x.flatten(2), module, kind).view_as(x)
    for a, b in zip(got, [y, *torch.autograd.grad(y, arguments, g)], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["batch", "group", "instance"])
def test_gradcheck(kind: str) -> None:
    grid = Equiangular(3, 4)
    module = randomise(make(kind, 2, grid)).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, module.weight, module.bias))
    assert torch.autograd.gradgradcheck(run, (x, module.weight, module.bias), atol=1e-6)


def test_equal_areas_give_torchs_norms() -> None:
    grid = HEALPix(2)
    x = torch.randn(3, 4, 48, dtype=torch.float64)
    batch = randomise(AreaBatchNorm(4, grid)).double()
    theirs = nn.BatchNorm1d(4).double()
    theirs.load_state_dict(batch.state_dict())
    torch.testing.assert_close(batch(x), theirs(x))
    torch.testing.assert_close(batch.running_mean, theirs.running_mean)
    correction = 1 - 1 / (3 * 48)
    start = copy.deepcopy(theirs.running_var) - 0.1 * x.var((0, 2))
    torch.testing.assert_close(batch.running_var, start + 0.1 * correction * x.var((0, 2)))
    theirs.load_state_dict(batch.state_dict())
    torch.testing.assert_close(batch.eval()(x), theirs.eval()(x))
    torch.testing.assert_close(AreaGroupNorm(2, 4, grid).double()(x), nn.GroupNorm(2, 4).double()(x))
    torch.testing.assert_close(AreaInstanceNorm(4, grid).double()(x), nn.InstanceNorm1d(4).double()(x))


def test_running_statistics() -> None:
    grid = Equiangular(6, 8)
    x = torch.randn(5, 2, 6, 8, dtype=torch.float64) * 3 + 1
    w = grid.areas / grid.areas.sum()
    mean = (x.flatten(2) @ w).mean(0)
    var = ((x.flatten(2) - mean[:, None]).square() @ w).mean(0)
    norm = AreaBatchNorm(2, grid, momentum=None).double()
    for _ in range(3):
        norm(x)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    assert int(norm.num_batches_tracked) == 3
    expected = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + norm.eps)
    torch.testing.assert_close(norm.eval()(x), expected)
    untracked = AreaBatchNorm(2, grid, track_running_stats=False, affine=False).double().eval()
    torch.testing.assert_close(untracked(x), expected)
    assert not untracked.state_dict()
    assert set(norm.state_dict()) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("kind", ["batch", "group", "instance"])
@pytest.mark.parametrize("training", [True, False])
def test_strides_and_precision(kind: str, training: bool) -> None:
    grid = HEALPix(4)
    module = randomise(make(kind, 4, grid)).train(training)
    x = torch.randn(3, 192, 4).transpose(1, 2).requires_grad_()
    y = module(x)
    assert y.stride() == x.stride()
    (gradient,) = torch.autograd.grad(y, x, torch.randn(3, 192, 4).transpose(1, 2))
    assert gradient.stride() == x.stride()
    plain = x.detach().contiguous()
    assert module(plain).stride() == plain.stride()
    torch.testing.assert_close(module(plain), y.detach(), atol=2e-2 if kind == "batch" else 1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = module(plain.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), module(plain.bfloat16().float()), atol=0.05, rtol=1e-2)
    # a field far from zero: the variance does not drown in the mean
    if training:
        shifted = module(plain + 1000)
        torch.testing.assert_close(shifted, module(plain), atol=2e-3, rtol=0)


@pytest.mark.parametrize("kind", ["batch", "group", "instance"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_equivariance_under_the_grids_rotations(
    kind: str, training: bool, dtype: torch.dtype, tolerance: float
) -> None:
    """With random parameters, biases and running statistics."""
    for grid in (HEALPix(2), Icosahedral(2)):
        norm = randomise(make(kind, 4, grid)).to(dtype).train(training)
        conv = DiscoConv(4, 4, grid).to(dtype)
        x = torch.randn(2, 4, *grid.shape, dtype=dtype)
        statistics = copy.deepcopy(norm.state_dict())
        y = norm(conv(x))
        assert grid.symmetry is not None
        for g in range(1, len(grid.symmetry.permutations), 7):
            back = torch.argsort(grid.symmetry.permutations[g])
            norm.load_state_dict(statistics)
            turned = norm(conv(x[..., back]))
            assert float(((turned - y[..., back]).norm() / y.norm()).detach()) < tolerance
    grid = Equiangular(6, 8, poles=True)
    norm = randomise(make(kind, 4, grid)).to(dtype)
    x = torch.randn(2, 4, 6, 8, dtype=dtype)
    torch.testing.assert_close(norm(x.roll(3, -1)), norm(x).roll(3, -1), atol=tolerance, rtol=0)


def test_statistics_do_not_see_how_the_sphere_is_turned() -> None:
    """A band-limited field and the same turned by any rotation: equal statistics, where pixel averages differ."""
    grid = GaussLegendre(16, 32)
    rotation = random_rotations(1, generator=torch.Generator().manual_seed(2))[0]

    def field(points: Tensor) -> Tensor:
        x, y, z = points.T
        return torch.stack([z**3 - x * y, z**2 + 0.5 * x]).view(1, 2, 16, 32)

    norm = AreaBatchNorm(2, grid, momentum=1.0).double()
    statistics = []
    for points in (grid.points, grid.points @ rotation):
        norm(field(points))
        statistics.append(torch.cat([norm.running_mean, norm.running_var]))
    torch.testing.assert_close(statistics[0], statistics[1], rtol=0, atol=1e-13)
    pixels = [field(points).var((0, 2, 3)) for points in (grid.points, grid.points @ rotation)]
    assert float((pixels[0] - pixels[1]).abs().max()) > 1e-2


# Tracing instantiates every autograd function, which torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["batch", "group"])
def test_compile_and_export(kind: str) -> None:
    module = randomise(make(kind, 4, Equiangular(6, 8)))
    x = torch.randn(2, 4, 6, 8)
    results = []
    for run in (
        copy.deepcopy(module),
        torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager"),
    ):
        at = x.clone().requires_grad_()
        y = run(at)
        results.append((y, *torch.autograd.grad(y.square().sum(), at)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a)
    module.eval()
    exported = torch.export.export(module, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), module(x))


def test_double_restores_the_digits_and_errors() -> None:
    grid = Equiangular(6, 8)
    for kind in ("batch", "group"):
        module = make(kind, 4, grid)
        assert module.share.dtype == torch.float32
        assert torch.equal(module.double().share, grid.areas / grid.areas.sum())
        assert "Equiangular(nlat=6, nlon=8" in repr(module)
        with pytest.raises(ValueError, match=r"x has shape \(2, 3, 6, 8\); expected \(batch, 4, 6, 8\)"):
            module(torch.zeros(2, 3, 6, 8))
        with pytest.raises(ValueError, match="did you build the layer for another grid"):
            module(torch.zeros(2, 4, 8, 6))
    with pytest.raises(ValueError, match="groups must divide channels"):
        AreaGroupNorm(3, 4, grid)


@pytest.mark.parametrize("added", [False, True])
def test_norm_and_gelu_in_one_pass_are_those_apart(added: bool) -> None:
    """Values, running statistics, gradients and gradients of gradients beside float64, on a field large enough for the loops."""
    torch.manual_seed(0)
    norm = BatchNorm(4)
    assert norm.weight is not None and norm.bias is not None
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x = 3 * torch.randn(2, 4, 91, 97) + 5
    add = torch.randn_like(x) if added else None
    assert norm._fuses(x, add)
    twin = copy.deepcopy(norm).double()
    found, expected = [], []
    for layer, results, kind in ((norm, found, torch.float32), (twin, expected, torch.float64)):
        leaves = [t.detach().to(kind).requires_grad_() for t in (x, add) if t is not None]
        wanted = [*leaves, layer.weight, layer.bias]
        y = layer.gelu(*leaves)
        g = torch.linspace(-1, 2, y.numel()).view_as(y).to(kind)
        results += [y, *torch.autograd.grad(y, wanted, g, retain_graph=True)]
        (slope,) = torch.autograd.grad(y, leaves[:1], g, create_graph=True)
        results += [*torch.autograd.grad(slope.square().sum(), wanted), layer.running_mean, layer.running_var]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(
            a.double(), b.detach(), rtol=2e-5, atol=2e-6 * float(b.detach().abs().max())
        )
    assert int(norm.num_batches_tracked or 0) == 1  # type: ignore[arg-type]
