"""HEALPix convolutions against gathered neighbours in float64: values, gradients, rules, strides, symmetry, transforms."""

from __future__ import annotations

import copy

import healpy
import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.audit import equivariance_error
from spheregeo.grids import Equiangular, HEALPix
from spheregeo.nn import HEALPixConv, HEALPixFaceConv

RULES = ("drop", "renormalize", "mean")


def gathered(x: Tensor, layer: HEALPixConv) -> Tensor:
    """The slow twin: nine gathers by healpy's neighbours, one product. (B, C, N) -> (B, O, N / stride^2)."""
    grid, pixels = layer.grid, np.arange(layer.grid.num_points)
    found = healpy.get_all_neighbours(grid.nside, pixels, nest=grid.nested)
    index = torch.from_numpy(np.concatenate([pixels[None], found]))  # (9, N)
    there = index >= 0
    taps = x[:, :, index.clamp_min(0)] * there  # (B, C, 9, N)
    if layer.missing == "mean":
        around = [x[:, :, index[1 + (k + step) % 8]] for step in (-1, 1) for k in range(8)]
        both = (torch.stack(around[:8], 2) + torch.stack(around[8:], 2)) / 2  # (B, C, 8, N)
        taps = torch.cat([taps[:, :, :1], torch.where(there[1:], taps[:, :, 1:], both)], 2)
    weight = layer.weight.unflatten(0, (layer.groups, -1))
    y = torch.einsum("gock,bgckp->bgop", weight, taps.unflatten(1, (layer.groups, -1))).flatten(1, 2)
    if layer.missing == "renormalize":
        y = y * 9 / there.sum(0)
    y = y if layer.bias is None else y + layer.bias[:, None]
    for _ in range(int(layer.stride).bit_length() - 1):  # child 0 of four, again and again
        y, grid = y[:, :, grid.coarsen().children()[:, 0]], grid.coarsen()
    return y


def randomised(layer: HEALPixFaceConv) -> HEALPixFaceConv:
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    return layer.double()


@pytest.mark.parametrize(
    ("grid", "stride"),
    [
        (HEALPix(1), 1),
        (HEALPix(2), 2),
        (HEALPix(3), 1),
        (HEALPix(4, "nested"), 1),
        (HEALPix(4, "nested"), 4),
        (HEALPix(8), 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("missing", RULES)
@pytest.mark.parametrize(("groups", "bias", "last"), [(1, True, False), (2, False, True), (4, True, False)])
def test_against_gathered_neighbours(
    grid: HEALPix, stride: int, missing: str, groups: int, bias: bool, last: bool
) -> None:
    layer = randomised(
        HEALPixConv(4, 8, grid, groups=groups, bias=bias, stride=stride, missing=missing)  # type: ignore[arg-type]
    )
    x = torch.randn(2, 4, grid.num_points, dtype=torch.float64)
    x = x.transpose(1, 2).contiguous().transpose(1, 2) if last else x
    g = torch.randn(2, 8, grid.num_points // stride**2, dtype=torch.float64)
    results = []
    for run in (layer, lambda x: gathered(x, layer)):
        at = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = run(at)
        results.append([y.detach(), *torch.autograd.grad(y, [at, *layer.parameters()], g)])
    assert results[0][0].shape == g.shape and layer.target.num_points == g.shape[2]
    for a, b in zip(*results, strict=True):
        assert float((a - b).abs().max()) <= 1e-12 * float(b.abs().max())


@pytest.mark.parametrize("missing", RULES)
def test_face_convolution_with_three_rows_is_the_same_layer(missing: str) -> None:
    grid = HEALPix(4)
    layer = randomised(HEALPixConv(2, 3, grid, missing=missing))
    planar = randomised(HEALPixFaceConv(2, 3, grid, missing=missing))
    with torch.no_grad():
        # rows go north-west, columns north-east: S, SE, E / SW, centre, NE / W, NW, N
        planar.weight.copy_(layer.weight[:, :, [8, 7, 6, 1, 0, 5, 2, 3, 4]].unflatten(2, (3, 3)))
        planar.bias.copy_(layer.bias)  # type: ignore[union-attr,arg-type]
    x = torch.randn(2, 2, grid.num_points, dtype=torch.float64)
    torch.testing.assert_close(planar(x), layer(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("missing", RULES)
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (5, 1), (7, 2)])
def test_wide_kernels_are_planar_convolutions_of_padded_faces(missing: str, size: int, stride: int) -> None:
    from spheregeo.nn.sphere.healpix.faces import face_pixels, missing_cells, padded_cells

    grid = HEALPix(4)
    layer = randomised(HEALPixFaceConv(2, 3, grid, size, stride=stride, missing=missing))
    x = torch.randn(2, 2, grid.num_points, dtype=torch.float64)
    order = face_pixels(grid).reshape(-1)
    first, second = padded_cells(4, size // 2)
    images = x[:, :, order[first]]  # (B, C, 12, s, s)
    twice = x[:, :, order[np.maximum(second, 0)]]
    images = torch.where(torch.from_numpy(second >= 0), (images + twice) / 2, images)
    gap = torch.from_numpy(missing_cells(4, size // 2))
    if missing != "mean":
        images = images * ~gap
    y = torch.stack([torch.conv2d(images[:, :, f], layer.weight, stride=stride) for f in range(12)], 2)
    if missing == "renormalize":
        ones = torch.ones(1, 1, size, size, dtype=torch.float64)
        y = y * size**2 / torch.conv2d((~gap)[:, None].double(), ones, stride=stride)[:, 0]
    assert layer.bias is not None
    y = (y + layer.bias[:, None, None, None]).flatten(2)
    expected = torch.empty_like(y)
    expected[:, :, face_pixels(layer.target).reshape(-1)] = y
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_orders_agree() -> None:
    ring, nested = HEALPix(8), HEALPix(8, "nested")
    layer = randomised(HEALPixConv(2, 3, ring))
    twin = HEALPixConv(2, 3, nested).double()
    twin.load_state_dict(layer.state_dict())
    to_ring = healpy.nest2ring(8, np.arange(768))
    x = torch.randn(1, 2, 768, dtype=torch.float64)
    torch.testing.assert_close(twin(x[..., to_ring]), layer(x)[..., to_ring], rtol=0, atol=1e-13)


@pytest.mark.parametrize("grid", [HEALPix(4), HEALPix(8, "nested")], ids=str)
@pytest.mark.parametrize("missing", RULES)
def test_the_eight_rotations(grid: HEALPix, missing: str) -> None:
    """Turns about z with any weights; half turns about x and y with weights equal at opposite taps; reflections not."""
    assert grid.symmetry is not None
    layer = randomised(HEALPixConv(2, 3, grid, missing=missing))
    x = torch.randn(1, 2, grid.num_points, dtype=torch.float64)

    def error(permutation: Tensor) -> float:
        moved = torch.empty_like(x).index_copy_(2, permutation, x)
        y = layer(x)
        expected = torch.empty_like(y).index_copy_(2, permutation, y)
        return float(((layer(moved) - expected).norm() / expected.norm()).detach())

    assert max(error(p) for p in grid.symmetry.permutations[:4]) < 1e-14
    assert min(error(p) for p in grid.symmetry.permutations[4:]) > 0.1
    with torch.no_grad():
        layer.weight[:, :, 1:] += layer.weight[:, :, 1:].clone().roll(4, 2)
    assert max(error(p) for p in grid.symmetry.permutations) < 1e-14


def test_rotations_beyond_the_grids_are_off_by_the_documented_error() -> None:
    grid = HEALPix(16, "nested")
    error = equivariance_error(HEALPixConv(4, 4, grid), grid, lmax=8, num_rotations=2, num_signals=1)
    assert 0.3 < error < 0.7  # 49 % over more rotations and signals


@pytest.mark.parametrize("missing", RULES)
def test_compile_export_precision_and_checkpoints(missing: str) -> None:
    layer = HEALPixConv(3, 4, HEALPix(4), missing=missing)
    x = torch.randn(2, 3, 192)
    y = layer(x)
    assert y.stride(1) == 1  # channels last in memory
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), y)
    exported = torch.export.export(layer, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), y)
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y, rtol=0.1, atol=0.1)
    wide = copy.deepcopy(layer).double()
    torch.testing.assert_close(wide(x.double()), gathered(x.double(), wide), rtol=0, atol=1e-13)
    assert set(layer.state_dict()) == {"weight", "bias"}
    fine = HEALPixConv(3, 4, HEALPix(8, "nested"), missing=missing)
    fine.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert torch.autograd.gradgradcheck(
        HEALPixConv(1, 1, HEALPix(1), missing=missing).double(),
        (torch.randn(1, 1, 12, dtype=torch.float64, requires_grad=True),),
    )
    assert layer.flops() == 2 * 9 * 3 * 4 * 192 and layer.memory_bytes() > 4 * 192


def test_layers_share_their_tables() -> None:
    a, b = HEALPixConv(1, 1, HEALPix(4)), HEALPixConv(2, 2, HEALPix(4), bias=False)
    assert a.pad.get_buffer("index") is b.pad.get_buffer("index")


def test_errors() -> None:
    grid = HEALPix(4)
    with pytest.raises(ValueError, match=r"expected a HEALPix grid.*nn.Resample"):
        HEALPixConv(1, 1, Equiangular(4, 8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing is 'zero'; expected one of 'drop'"):
        HEALPixConv(1, 1, grid, missing="zero")
    with pytest.raises(ValueError, match="stride is 3; expected a divisor of nside, which is 4"):
        HEALPixConv(1, 1, grid, stride=3)
    with pytest.raises(ValueError, match="out_channels is 0"):
        HEALPixConv(1, 0, grid)
    with pytest.raises(ValueError, match="groups must divide both"):
        HEALPixConv(3, 4, grid, groups=2)
    with pytest.raises(ValueError, match="kernel_size is 4; expected an odd number from 1 to 9"):
        HEALPixFaceConv(1, 1, grid, 4)
    with pytest.raises(ValueError, match="kernel_size is 11"):
        HEALPixFaceConv(1, 1, grid, 11)
    with pytest.raises(ValueError, match=r"x has shape \(1, 2, 192\); expected \(batch, 3, 192\)"):
        HEALPixConv(3, 1, grid)(torch.randn(1, 2, 192))


def test_the_former_spelling_of_a_rule() -> None:
    with pytest.warns(DeprecationWarning, match="is spelled"):
        assert HEALPixConv(1, 1, HEALPix(4), missing="renormalise").missing == "renormalize"
