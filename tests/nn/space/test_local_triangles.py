"""RISurConv: the fourteen numbers against angles worked out point by point, order, invariance, attention with absent members."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.audit import randomise
from spheregeo.nn.space import OffsetAttention, RISurConv, order_around, triangle_features
from spheregeo.sampling import random_rotations


def draw(m: int = 5, k: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    near, up, own = torch.randn(m, k, 3).double(), torch.randn(m, k, 3).double(), torch.randn(m, 3).double()
    return near, up / up.norm(dim=2, keepdim=True), own / own.norm(dim=1, keepdim=True)


def plain(near: np.ndarray, up: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The slow twin, a neighbour at a time, with angles taken from sides by the law of cosines."""

    def cos(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    def corner(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        u, v, w = (np.linalg.norm(s) for s in (a - p, b - p, a - b))
        return float((u * u + v * v - w * w) / (2 * u * v))

    rows, k, p = [], len(near), np.zeros(3)
    for i in range(k):
        x, m, b, bm = near[i], up[i], near[i - 1], up[i - 1]
        f, fm = near[(i + 1) % k], up[(i + 1) % k]
        sides = [v / np.linalg.norm(v) for v in (f, x, b)]
        rows.append([
            np.linalg.norm(x), cos(x, own), cos(x, m), corner(p, x, b), cos(b, own), cos(b, bm), corner(b, p, x),
            cos(b - x, m), cos(b - x, bm), corner(p, x, f), corner(f, p, x), cos(f - x, fm), cos(x, fm),
            np.cross(sides[0], sides[1]) @ np.cross(sides[2], sides[1]),
        ])  # fmt: skip
    return np.array(rows)


def test_features_are_lengths_and_angles() -> None:
    near, up, own = draw()
    found = triangle_features(near, up, own)
    expected = np.stack([plain(*(t[i].numpy() for t in (near, up, own))) for i in range(5)])
    assert found.shape == (5, 7, 14) and np.allclose(found.numpy(), expected, atol=1e-12)


def test_rotations_leave_order_and_features_alone() -> None:
    near, up, own = draw(20, 9)
    order = order_around(near, own)
    sorted_near = near.gather(1, order[..., None].expand_as(near))
    plane = sorted_near - (sorted_near * own[:, None]).sum(2, keepdim=True) * own[:, None]
    turns = torch.linalg.cross(plane, plane.roll(-1, 1)) @ own[:, :, None]
    steps = torch.atan2(turns[..., 0], (plane * plane.roll(-1, 1)).sum(2)) % (2 * math.pi)
    assert torch.allclose(
        steps.sum(1), torch.full((20,), 2 * math.pi).double()
    )  # once around, counter-clockwise
    for r in random_rotations(3):
        assert torch.equal(order_around(near @ r.T, own @ r.T), order)
        moved = triangle_features(near @ r.T, up @ r.T, own @ r.T)
        assert float((moved - triangle_features(near, up, own)).abs().max()) < 1e-12
    mirrored = triangle_features(-near, -up, -own)
    assert torch.allclose(mirrored, triangle_features(near, up, own))
    back = order_around(-near, -own)  # what a mirror turns round is the order
    assert not torch.equal(back, order) and torch.equal(back[:, 0], order[:, 0])
    assert torch.equal(back[:, 1:].flip(1), order[:, 1:])


def test_order_of_a_lattice_does_not_turn() -> None:
    """Equal angles and lengths, and the point itself on the axis, are a matter of rounding."""
    side = torch.arange(-2.0, 3.0)
    near = torch.cartesian_prod(side, side, torch.tensor([0.0, 1.0]))[None]
    up = torch.tensor([[0.0, 0.0, 1.0]])
    for dtype in (torch.float32, torch.float64):
        order = order_around(near.to(dtype), up.to(dtype))
        assert order[0, :2].tolist() == [24, 25]  # the two on the axis
        for r in random_rotations(8).to(dtype):
            assert torch.equal(order_around(near.to(dtype) @ r.T, up.to(dtype) @ r.T), order)
    assert order_around(near[:, :0], up).shape == (1, 0)


def test_points_that_coincide_have_finite_gradients() -> None:
    near, up, own = draw(3, 4)
    near[:, 0] = 0
    near[:, 2] = near[:, 1]
    near.requires_grad_()
    found = triangle_features(near, up, own)
    found.sum().backward()
    assert (
        near.grad is not None and bool(torch.isfinite(found).all()) and bool(torch.isfinite(near.grad).all())
    )
    assert float(found[:, 0, :4].detach().abs().max()) == 0
    fresh = draw(2, 4)
    assert torch.autograd.gradcheck(triangle_features, tuple(t.requires_grad_() for t in fresh))


def slow_attention(layer: OffsetAttention, x: Tensor) -> Tensor:
    """Offset attention of one set, an element at a time, in evaluation."""
    q, k = layer.attend(x).split(layer.keys, 1)
    v, n = layer.value(x), len(x)
    rows = torch.stack([torch.softmax(torch.stack([q[i] @ k[j] for j in range(n)]), 0) for i in range(n)])
    mean = torch.stack([sum(rows[i, m] * v[i] for i in range(n)) / rows[:, m].sum() for m in range(n)])  # type: ignore[arg-type, misc]
    return x + layer.norm(layer.mix(x - mean)).relu()


def test_attention_equals_its_slow_twin_and_absent_members_do_nothing() -> None:
    layer: Any = randomise(OffsetAttention(6, 2).double()).eval()
    x = torch.randn(2, 5, 6).double().requires_grad_()
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    y = layer(x, mask)
    twin = [slow_attention(layer, x[0]), slow_attention(layer, x[1, :3])]
    assert torch.allclose(y[0], twin[0], atol=1e-8) and torch.allclose(y[1, :3], twin[1], atol=1e-8)
    assert torch.allclose(layer(x)[0], y[0])
    seed = torch.randn_like(y) * mask[..., None]
    both = [y, torch.cat([twin[0], twin[1], x[1, 3:]]).view_as(y)]
    inputs = [x, *layer.parameters()]
    for a, b in zip(*(torch.autograd.grad((t * seed).sum(), inputs) for t in both), strict=True):
        assert torch.allclose(a, b, atol=1e-7)
    for train in (True, False):
        other = torch.where(mask[..., None], x, 9.0)
        assert torch.allclose(layer.train(train)(other, mask)[mask], layer(x, mask)[mask])


def test_convolution_equals_its_slow_twin() -> None:
    """Neighbour by neighbour, features joined before the linear map: output, gradients of input and weights."""
    layer: Any = randomise(RISurConv(3, 4, embedding=(5, 6)).double()).eval()
    surface = torch.randn(4, 5, 14).double().requires_grad_()
    x = torch.randn(9, 3).double().requires_grad_()
    neighbors = torch.randint(9, (4, 5))
    y = layer(surface, neighbors, x)
    rows = []
    for i in range(4):
        e = surface[i]
        for linear, norm in zip(layer.embed, layer.norms, strict=True):
            e = norm(linear(e))
        e = slow_attention(layer.attention, e.relu())
        joined = torch.cat([e, x[neighbors[i]]], 1)
        weight = torch.cat([layer.join.weight, layer.source.weight], 1)
        rows.append(layer.norm(joined @ weight.T + layer.join.bias).relu().amax(0))
    twin = torch.stack(rows)
    assert torch.allclose(y, twin, atol=1e-8)
    inputs, seed = [surface, x, *layer.parameters()], torch.randn_like(y)
    for a, b in zip(*(torch.autograd.grad((t * seed).sum(), inputs) for t in (y, twin)), strict=True):
        assert torch.allclose(a, b, atol=1e-7)
    order = torch.randperm(5)
    assert torch.allclose(layer(surface[:, order], neighbors[:, order], x), y)
    assert layer(surface[:0], neighbors[:0], x).shape == (0, 4)


def test_wrong_shapes() -> None:
    near, up, own = draw()
    with pytest.raises(ValueError, match=r"near has shape \(5, 7\); expected \(M, k, 3\)"):
        order_around(near[..., 0], own)
    with pytest.raises(ValueError, match=r"normals has shape \(4, 3\); expected \(5, 3\)"):
        order_around(near, own[1:])
    with pytest.raises(ValueError, match="near_normals has shape"):
        triangle_features(near, up[:, 1:], own)
    with pytest.raises(ValueError, match=r"expected \(M, k, 14\) and \(M, k\)"):
        RISurConv(0, 4)(torch.randn(5, 7, 13), torch.zeros(5, 7, dtype=torch.int64))
    with pytest.raises(ValueError, match="x has 0 channels; expected 2"):
        RISurConv(2, 4)(torch.randn(5, 7, 14), torch.zeros(5, 7, dtype=torch.int64))
    with pytest.raises(ValueError, match="mask is"):
        OffsetAttention(4)(torch.randn(1, 2, 4), torch.ones(1, 2))
    with pytest.raises(ValueError, match="channels is 0"):
        OffsetAttention(0)
