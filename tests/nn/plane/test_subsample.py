"""Subsampling by cosets: exact at every size, its pose through stacks, and its slow twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.groups import PlanarGroup, PlanarType
from spheregeo.nn import CosetSubsample2d, CosetUnsample2d, GroupConv2d, PixelPose
from spheregeo.nn.plane import coset_pixels

D4 = PlanarGroup.of("D4")


def turned_pose(pose: PixelPose, h: int) -> PixelPose:
    """The pose of features after an element of D4: its pixels as they are moved."""
    rows, columns, (height, width) = pose
    m, r = divmod(h, 4)
    if m:
        columns = width - 1 - columns.flip(1)
    for _ in range(r):  # out[i, j] = in[j, n - 1 - i]
        rows, columns = width - 1 - columns.flip(1), rows
        height, width = width, height
    return PixelPose(rows, columns, (height, width))


def slow(x: Tensor, stride: int, circular: bool) -> tuple[Tensor, Tensor, Tensor]:
    """One sample's features and pixels, every pair of subsets tried in turn."""
    best, found = -1.0, None
    for rows in coset_pixels(x.shape[1], stride, circular):
        for columns in coset_pixels(x.shape[2], stride, circular):
            part = x[:, rows][:, :, columns]
            if float(part.square().sum()) > best * (1 + 1e-12):
                best, found = float(part.square().sum()), (part, rows, columns)
    assert found is not None
    return found


def check_symmetries(
    size: tuple[int, int], stride: int, circular: bool, shifts: list[tuple[int, int]]
) -> None:
    """Features and pose of turned, reflected and shifted fields are turned, reflected and shifted."""
    kind = PlanarType.of("1xD4 + 2x0")
    x = torch.randn(1, kind.dim, *size, dtype=torch.float64)
    layer = CosetSubsample2d(stride, circular=circular)
    y, pose = layer(x)
    back = CosetUnsample2d()(y, pose)
    for h in range(D4.size):
        moved, found = layer(kind.act(x, h))
        expected = turned_pose(pose, h)
        assert torch.equal(moved, kind.act(y, h)), (size, stride, circular, h)
        assert torch.equal(found.rows, expected.rows) and torch.equal(found.columns, expected.columns)
        assert found.size == expected.size
        assert torch.equal(CosetUnsample2d()(moved, found), kind.act(back, h))
    for down, right in shifts:
        moved, found = layer(x.roll((down, right), (2, 3)))
        # the same features, rolled: put back, they are the same image, shifted
        assert torch.equal(CosetUnsample2d()(moved, found), back.roll((down, right), (2, 3)))
        rolls = [
            0 if n % stride else (int(first) + t) // stride
            for first, t, n in zip(pose.first[0], (down, right), size, strict=True)
        ]
        assert torch.equal(moved, y.roll(rolls, (2, 3)))


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_exact_at_every_size(stride: int) -> None:
    torch.manual_seed(stride)
    for size in range(16, 65, 7 - stride):
        check_symmetries((size, size), stride, True, [(1, 0), (size // 3, size - 2)])
        check_symmetries((size, size), stride, False, [])
    check_symmetries((16, 17), stride, True, [(5, 3)])
    check_symmetries((18, 25), stride, False, [])


@pytest.mark.parametrize("circular", [True, False])
def test_slow_twin(circular: bool) -> None:
    torch.manual_seed(0)
    for size, stride in (((5, 6), 2), ((7, 4), 3), ((6, 9), 3), ((8, 8), 4), ((3, 2), 5)):
        x = torch.randn(3, 2, *size, dtype=torch.float64)
        y, pose = CosetSubsample2d(stride, circular=circular)(x)
        for k in range(3):
            part, rows, columns = slow(x[k], stride, circular)
            assert torch.equal(y[k], part)
            assert torch.equal(pose.rows[k], rows) and torch.equal(pose.columns[k], columns)


def test_stack_keeps_the_pose_and_is_undone_at_once() -> None:
    torch.manual_seed(1)
    first, second = CosetSubsample2d(2), CosetSubsample2d(3)
    x = torch.randn(2, 3, 18, 24, dtype=torch.float64)
    y, offset = first(x)
    z, pose = second(y, offset)
    _, inner = second(y)
    # offsets add up, each times the strides before it
    assert torch.equal(pose.first, offset.first + 2 * inner.first)
    assert torch.equal(z, torch.stack([x[b][:, pose.rows[b]][:, :, pose.columns[b]] for b in range(2)]))
    up = CosetUnsample2d()
    assert torch.equal(up(z, pose), up(up(z, inner), offset))
    again, found = second(*first(up(z, pose)))
    assert torch.equal(again, z) and torch.equal(found.first, pose.first)
    shifted, moved = second(*first(x.roll((5, -1), (2, 3))))
    assert torch.equal(up(shifted, moved), up(z, pose).roll((5, -1), (2, 3)))


def test_gradients_reach_the_chosen_pixels_alone() -> None:
    torch.manual_seed(2)
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    layer = CosetSubsample2d(2, return_pose=False)
    assert torch.autograd.gradcheck(layer, x)
    y, pose = CosetSubsample2d(2)(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, CosetUnsample2d()(torch.ones_like(y), pose))
    assert torch.autograd.gradcheck(lambda t: CosetUnsample2d()(t, pose), y.detach().requires_grad_())


def test_group_network_stays_exact_under_shifts_and_turns() -> None:
    torch.manual_seed(3)
    lift, conv = (
        GroupConv2d(i, o, 3, padding=1, padding_mode="circular").double()
        for i, o in (("1x0", "2xD4"), ("2xD4", "1xD4"))
    )
    down = CosetSubsample2d(2, return_pose=False)
    for layer in (lift, conv):
        torch.nn.init.normal_(layer.bias)

    def net(x: Tensor) -> Tensor:
        return down(conv(down(lift(x).relu())).relu()).unflatten(1, (-1, 8)).amax((2, 3, 4))

    x = torch.randn(1, 1, 20, 20, dtype=torch.float64)
    y = net(x)
    for h, shift in ((1, 0), (4, 1), (7, 5), (0, 3)):
        torch.testing.assert_close(net(D4.turn(x, h).roll((shift, 2 * shift), (2, 3))), y, rtol=0, atol=1e-12)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="stride is 0"):
        CosetSubsample2d(0)
    with pytest.raises(ValueError, match=r"expected images \(B, C, H, W\)"):
        CosetSubsample2d(2)(torch.zeros(3, 4, 4))
    y, pose = CosetSubsample2d(2)(torch.rand(1, 1, 6, 6))
    with pytest.raises(ValueError, match="expected 6 × 6"):
        CosetSubsample2d(2)(torch.rand(1, 1, 6, 6), pose)
    with pytest.raises(ValueError, match=r"expected \(1, C, 3, 3\)"):
        CosetUnsample2d()(y[:, :, :2], pose)
