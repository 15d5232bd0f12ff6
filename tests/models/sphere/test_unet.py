"""The spherical U-Net: shapes on any list of grids, its symmetries, checkpointing, precision, errors."""

from __future__ import annotations

import copy

import pytest
import torch

from spheregeo.audit import count_parameters
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.kernels import PiecewiseLinear
from spheregeo.models import Pointwise, SphericalTransformer, SphericalUNet, create


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter, bias and batch-norm statistic drawn at random: zeros would hide faults."""
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    for m in model.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2.0)
            m.weight.data.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize(
    "levels",
    [
        [Equiangular(16, 32), Equiangular(8, 16)],
        [GaussLegendre(12, 24), HEALPix(4), Icosahedral(1)],
        [HEALPix(4, order="nested"), Fibonacci(48)],
        [Icosahedral(2)],
    ],
    ids=lambda levels: "-".join(type(g).__name__ for g in levels),
)
@pytest.mark.parametrize("kind", [SphericalUNet, SphericalTransformer])
def test_any_grid_at_each_level(kind: type[SphericalUNet], levels: list[Grid]) -> None:
    model = kind(2, 5, levels[0], width=4, levels=levels)
    x = torch.randn(2, 2, *levels[0].shape, requires_grad=True)
    y = model(x)
    assert y.shape == (2, 5, *levels[0].shape)
    y.square().mean().backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    untouched = [n for n, p in model.named_parameters() if p.grad is None]
    assert untouched == []


@pytest.mark.parametrize("grid", [Icosahedral(2), HEALPix(8)], ids=repr)
@pytest.mark.parametrize("kind", [SphericalUNet, SphericalTransformer])
def test_commutes_with_every_rotation_of_the_grid(kind: type[SphericalUNet], grid: Grid) -> None:
    assert grid.symmetry is not None
    model = randomise(kind(3, 4, grid, width=4, depth=3)).double()
    x = torch.randn(1, 3, *grid.shape, dtype=torch.float64)
    y = model(x)
    for permutation in grid.symmetry.permutations[1:8]:
        moved = torch.empty_like(x).index_copy_(2, permutation, x)
        expected = torch.empty_like(y).index_copy_(2, permutation, y)
        error = (model(moved) - expected).norm() / expected.norm()
        assert error < 1e-10  # rounding of ten float64 layers


@pytest.mark.parametrize("position", [False, True])
def test_commutes_with_longitude_shifts(position: bool) -> None:
    grid = Equiangular(16, 32)
    model = randomise(
        SphericalUNet(3, 4, grid, width=4, depth=3, kernel=PiecewiseLinear(3, 3), position=position)
    )
    model, x = model.double(), torch.randn(1, 3, 16, 32, dtype=torch.float64)
    shifted = model(x.roll(8, -1))  # 8 columns are whole columns of every level
    torch.testing.assert_close(shifted, model(x).roll(8, -1), rtol=1e-9, atol=1e-9)


def test_position_breaks_rotations() -> None:
    grid = Icosahedral(2)
    model = randomise(SphericalUNet(3, 4, grid, width=4, depth=2, position=True)).double()
    x = torch.randn(1, 3, *grid.shape, dtype=torch.float64)
    assert grid.symmetry is not None
    height = grid.points[:, 2]
    # A rotation of the icosahedron that turns the z axis.
    moves = [p for p in grid.symmetry.permutations if (height[p] - height).abs().max() > 0.5]
    moved = torch.empty_like(x).index_copy_(2, moves[0], x)
    expected = torch.empty_like(model(x)).index_copy_(2, moves[0], model(x))
    assert (model(moved) - expected).norm() / expected.norm() > 1e-3


def test_checkpointing_changes_nothing() -> None:
    grid = Equiangular(8, 16)
    plain = SphericalUNet(2, 3, grid, width=4, depth=2).train()
    saving = copy.deepcopy(plain)
    saving.checkpoint = True
    x = torch.randn(2, 2, 8, 16)
    for model in (plain, saving):
        model(x).square().mean().backward()
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for (name, b), c in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(b, c, msg=f"batch statistics were counted twice: {name}")


def test_autocast_bfloat16_is_close_to_float32() -> None:
    grid = Equiangular(8, 16)
    model = randomise(SphericalUNet(2, 3, grid, width=8, depth=2))
    x = torch.randn(2, 2, 8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x)
    full = model(x)
    assert low.dtype == torch.bfloat16
    assert (
        low.float() - full
    ).norm() / full.norm() < 0.05  # bfloat16 has 8 bits: 0.4 % a rounding, a dozen in a row


def test_weights_serve_at_another_resolution() -> None:
    small = randomise(SphericalUNet(2, 3, Equiangular(16, 32), width=4, depth=2))
    large = SphericalUNet(2, 3, Equiangular(32, 64), width=4, depth=2).eval()
    large.load_state_dict(small.state_dict())
    constant = torch.tensor([0.3, -0.7])[:, None, None]
    low, high = small(constant.expand(1, 2, 16, 32)), large(constant.expand(1, 2, 32, 64))
    # A constant field looks alike at any resolution, up to the filters' strength, whose mean over the points shifts a little.
    assert (low.mean((2, 3)) - high.mean((2, 3))).norm() / low.mean((2, 3)).norm() < 0.1


def test_weights_are_of_order_one_on_every_level() -> None:
    model = SphericalUNet(3, 4, Equiangular(64, 128), width=8, depth=4)
    sizes = [float(p.detach().std()) for n, p in model.named_parameters() if "parametrizations.weight" in n]
    assert len(sizes) == 1 + 4 + 2 * 3 + 3
    assert 0.05 < min(sizes) and max(sizes) < 1.0  # 1 / sqrt(fan in), for 6 to 128


def test_base_is_larger_than_small() -> None:
    grid = Equiangular(32, 64)
    small, base = (create(f"sphere-unet-{size}", 3, 4, grid) for size in ("small", "base"))
    assert count_parameters(base) > 10 * count_parameters(small)


def test_errors_say_what_came_and_what_to_do() -> None:
    grid = Equiangular(8, 16)
    with pytest.raises(ValueError, match="head_channels is 0 and expansion 2; expected at least 1"):
        SphericalTransformer(2, 3, Equiangular(8, 16), head_channels=0)
    with pytest.raises(ValueError, match="depth <= "):
        SphericalUNet(2, 3, Equiangular(6, 12), depth=5)
    with pytest.raises(ValueError, match="levels must start"):
        SphericalUNet(2, 3, grid, levels=[Equiangular(4, 8)])
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 16\).*expects \(B, 2, 8, 16\)"):
        SphericalUNet(2, 3, grid, depth=2)(torch.randn(1, 3, 8, 16))
    with pytest.raises(ValueError, match="choose batch"):
        SphericalUNet(2, 3, grid, depth=2, norm="layer")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_pointwise_maps_equal_sums_over_channels(bias: bool, last: bool) -> None:
    layer, x = Pointwise(5, 7, bias).double(), torch.randn(3, 5, 4, 6, dtype=torch.float64)
    x = x.to(memory_format=torch.channels_last) if last else x
    weight, shift = layer.linear.weight, layer.linear.bias if bias else torch.zeros(7, dtype=torch.float64)
    grads = []
    for path in (layer, lambda x: torch.einsum("oc,bcij->boij", weight, x) + shift[:, None, None]):
        own = x.clone().requires_grad_()
        y = path(own)
        grads.append((y, *torch.autograd.grad((y * y.detach().sin()).sum(), (own, weight))))
    for fast, slow in zip(*grads, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    assert layer(x[:0]).shape == (0, 7, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(x.float()).dtype == torch.bfloat16
