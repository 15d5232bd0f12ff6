"""Spherical channels beside dense twins in float64: rotation matrices, loops over taps, sums over samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.groups import random_rotations
from spheregeo.harmonics import packed_wigner, unpack_wigner, wigner_D, wigner_to_y
from spheregeo.nn.irreps import SphereActivation, Stacks
from spheregeo.nn.space import EdgeGeometry
from spheregeo.nn.space.edge_frame import FrameGate, FrameProduct
from spheregeo.nn.space.spherical_channels import (
    EdgeFrameAttention,
    FrameSphereActivation,
    FrameWays,
    SphereMean,
    StrictMessage,
    TapMessage,
    smooth_attention,
    two_frames,
)
from spheregeo.nn.space.spherical_channels.frames import order_columns, scaled_orders
from spheregeo.nn.space.spherical_channels.messages import channel_irreps

C, L = 3, 2
IRREPS = channel_irreps(C, L)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def edges() -> tuple[Tensor, Tensor]:
    """Edges sorted by target, the last point without one; and their vectors, +y and −y among them."""
    edge_index = torch.tensor([[1, 2, 3, 0, 2, 0, 3, 1], [0, 0, 0, 1, 1, 2, 2, 3]])
    vectors = torch.randn(8, 3)
    vectors[0], vectors[1] = torch.tensor([0.0, 1.5, 0.0]), torch.tensor([0.3, -1.0, 0.1])
    return edge_index, vectors


def geometry(edge_index: Tensor, vectors: Tensor, points: int = 5) -> EdgeGeometry:
    like = EdgeGeometry.of(torch.randn(points, 3), edge_index)
    return EdgeGeometry(vectors, like.edges)


def components(x: Tensor) -> Tensor:
    """Rows in mul_ir as (points, components, channels)."""
    parts = x.split([C * (2 * l + 1) for l in range(L + 1)], 1)
    return torch.cat([part.unflatten(1, (C, -1)).mT for part in parts], 1)


def rows(x: Tensor) -> Tensor:
    return torch.cat([part.mT.flatten(1) for part in x.split([2 * l + 1 for l in range(L + 1)], 1)], 1)


def about_y(angle: float | Tensor) -> Tensor:
    """D of the rotation about ŷ that multiplies z_m + i z_-m by exp(i m angle)."""
    blocks = []
    for l in range(L + 1):
        d = torch.eye(2 * l + 1)
        for m in range(1, l + 1):
            c, s = (wave(torch.as_tensor(m * angle)) for wave in (torch.cos, torch.sin))
            places = torch.tensor([l + m, l + m, l - m, l - m]), torch.tensor([l + m, l - m, l + m, l - m])
            d = d.index_put(places, torch.stack([c, -s, s, c]))
        blocks.append(d)
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("mmax, taps", [(1, 4), (2, 3), (0, 4)])
def test_tap_message_equals_its_dense_twin(mmax: int, taps: int) -> None:
    message = TapMessage(C, L, mmax, hidden=5, taps=taps, num_neighbors=2.0)
    nn.init.normal_(message.bias)
    edge_index, vectors = edges()
    vectors.requires_grad_()
    x, h, envelope = torch.randn(5, IRREPS.dim, requires_grad=True), torch.randn(8, 5), torch.rand(8)

    def ours() -> Tensor:
        ways = FrameWays.of(geometry(edge_index, vectors), message.rotation, L, roll=True)
        return message(Stacks.from_mul_ir(x, IRREPS), ways, h, envelope).to_mul_ir()

    kept = [
        l * l + l + s * m for m in range(mmax + 1) for s in ((1, -1) if m else (1,)) for l in range(m, L + 1)
    ]

    def dense() -> Tensor:
        quaternions, other = two_frames(vectors)
        matrices = unpack_wigner(packed_wigner(quaternions, L))
        total = torch.zeros(5, 9, C)
        for e in range(8):
            source, target = edge_index[:, e].tolist()
            d = torch.block_diag(*[m[e] for m in matrices])
            said = torch.zeros(9, C)
            roll, weight = torch.atan2(other[e, 1], other[e, 0]), other[e, 2]
            both = [(torch.zeros(()), 1 - weight), (roll, weight)]
            for k, (angle, share) in itertools.product(range(message.taps), both):
                turn = about_y(2 * math.pi * k / message.taps + angle) @ d
                flat = [(turn @ components(x)[p])[kept].reshape(-1) for p in (source, target)]
                pre = message.bias + sum(
                    z @ torch.cat([w[i] for w in message.into]) for i, z in enumerate(flat)
                )
                hidden = h[e] * pre * torch.sigmoid(pre)
                out = torch.zeros(9, C).index_add(
                    0, torch.tensor(kept), (hidden @ torch.cat(list(message.onto), 1)).view(-1, C)
                )
                said = said + share * turn.T @ out / message.taps
            total = total.index_add(0, torch.tensor([target]), envelope[e] / 2**0.5 * said[None])
        return rows(total)

    got, expected = ours(), dense()
    assert torch.allclose(got, expected, atol=1e-12) and float(got.detach().abs().max()) > 0.1
    inputs = [x, vectors, message.bias, *message.into, *message.onto]
    cotangent = torch.randn_like(got)
    for a, b in zip(*(torch.autograd.grad(y, inputs, cotangent) for y in (got, expected)), strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def turned_error(message: nn.Module, features: int, roll: bool) -> float:
    """Largest difference between turning before and after a message, relative to the message."""
    edge_index, vectors = edges()
    x, h, envelope = torch.randn(5, IRREPS.dim), torch.randn(8, features), torch.rand(8)

    def said(x: Tensor, vectors: Tensor) -> Tensor:
        ways = FrameWays.of(geometry(edge_index, vectors), message.rotation, L, roll=roll)  # type: ignore[arg-type]
        y: Stacks = message(Stacks.from_mul_ir(x, IRREPS), ways, h, envelope)
        return y.to_mul_ir()

    worst = 0.0
    message.requires_grad_(False)
    for matrix in random_rotations(3, generator=torch.Generator().manual_seed(0)).double():
        d = wigner_D(IRREPS, matrix)
        worst = max(worst, float((said(x @ d.T, vectors @ matrix.T) - said(x, vectors) @ d.T).abs().max()))
    return worst / float(said(x, vectors).abs().max())


def test_more_taps_are_stricter_and_none_is_needed_without_orders() -> None:
    errors: list[float] = []
    for taps in (1, 4, 8, 16, 32):
        torch.manual_seed(0)
        errors.append(turned_error(TapMessage(C, L, 1, 8, taps), 8, True))
    assert errors[0] > 0.3 > errors[1] > 1e-6 and errors[2] < errors[1] / 30
    assert errors[3] < errors[2] / 1000 and errors[4] < 1e-12
    assert turned_error(TapMessage(C, L, 0, 8, 1), 8, False) < 1e-12


@pytest.mark.parametrize("mmax", [None, 1])
def test_strict_message_turns_with_its_edges(mmax: int | None) -> None:
    message = StrictMessage(C, L, 4, mmax)
    assert turned_error(message, message.num_features, False) < 1e-12
    sampled = StrictMessage(C, L, 4, mmax, "sphere", (20, 20))
    assert turned_error(sampled, sampled.num_features, False) < 1e-7


@pytest.mark.parametrize(
    "activation, mmax, scalars", [("gate", None, False), ("sphere", 1, False), ("gate", 1, True)]
)
def test_attention_equals_its_dense_twin(activation: str, mmax: int | None, scalars: bool) -> None:
    """Edge by edge with whole rotation matrices, attention by sums over each target's edges."""
    channels, heads, alpha, hidden = 4, 2, 3, 2
    layer = EdgeFrameAttention(channels, L, hidden, heads, alpha, mmax, activation, (12, 20), scalars)
    irreps, between = channel_irreps(channels, L), channel_irreps(hidden, L)
    nn.init.normal_(layer.norm.weight)
    edge_index, vectors = edges()
    source, target = edge_index
    vectors.requires_grad_()
    x, h = torch.randn(5, irreps.dim, requires_grad=True), torch.randn(8, layer.num_features)
    envelope = torch.rand(8)

    def ours() -> Tensor:
        ways = FrameWays.of(geometry(edge_index, vectors), layer.rotation, L)
        return layer(Stacks.from_mul_ir(x, irreps), ways, h, envelope, target).to_mul_ir()

    def as_frames(values: Tensor) -> EdgeGeometry:  # one edge a point, all along ŷ: a frame that is the world
        up = torch.tensor([[0.0, 1.0, 0.0]]).expand(len(values), 3)
        return geometry(torch.arange(len(values)).repeat(2, 1), up, len(values))

    def dense() -> Tensor:
        turns = [torch.block_diag(*[m[e] for m in unpack_wigner(wigner_to_y(vectors, L))]) for e in range(8)]
        logits, values = [], []
        for e in range(8):
            d = torch.block_diag(*[turns[e][l * l : (l + 1) ** 2, l * l : (l + 1) ** 2]
                                   for l in range(L + 1) for _ in range(channels)])  # fmt: skip
            ends = torch.cat([(d @ x[j])[None] for j in (int(source[e]), int(target[e]))])
            own = FrameWays.of(as_frames(ends[:1]), layer.rotation, L)
            parts = [
                layer.rotation.inward(Stacks.from_mul_ir(z[None], irreps), own.coefficients, own.sources)
                for z in ends
            ]
            z = scaled_orders(layer.first(parts, 1), 1, h[e : e + 1], layer.columns[0])
            logits.append(layer._logits(z[None, : heads * alpha])[0])
            inner = layer.act(torch.cat([z[layer.skipped : layer.row], z[layer.row :]]), 1)
            if layer.apart:
                extra = z[heads * alpha : layer.skipped]
                constant = float(layer.act.act(torch.ones(1))) / float(
                    torch.nn.functional.silu(torch.ones(1))
                )
                inner = torch.cat([constant * extra * torch.sigmoid(extra), inner[hidden:]])
            y = layer.second([inner[: hidden * (L + 1)] if scalars else inner], 1)
            if scalars:
                values.append(y)
                continue
            rows_out = layer.rotation.outward(y, own.coefficients, own.targets).to_mul_ir()[0]
            values.append(d.T @ rows_out)
        out = torch.zeros(5, layer.irreps_out.dim)
        for i in range(5):
            mine = [e for e in range(8) if int(target[e]) == i]
            raised = {e: envelope[e] * torch.exp(logits[e]) for e in mine}
            total = 1 + sum(raised.values())
            for e in mine:
                share = (raised[e] / total).repeat_interleave(channels // heads)
                each = torch.cat([share.repeat_interleave(ir.dim) for _, ir in layer.irreps_out])
                out = out.index_add(0, torch.tensor([i]), (each * values[e])[None])
        result: Tensor = layer.after(out)
        return result

    got, expected = ours(), dense()
    assert torch.allclose(got, expected, atol=1e-11) and float(got.detach().abs().max()) > 0.05
    assert len(between) == L + 1
    inputs = [x, *layer.parameters()] + (
        [] if activation == "sphere" else [vectors]
    )  # samples see a frame's roll
    cotangent = torch.randn_like(got)
    for a, b in zip(*(torch.autograd.grad(y, inputs, cotangent) for y in (got, expected)), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_attention_is_smooth_turns_and_takes_any_logit() -> None:
    layer = EdgeFrameAttention(4, L, 3, heads=2)
    irreps, (edge_index, vectors) = channel_irreps(4, L), edges()
    x, h, envelope = torch.randn(5, irreps.dim), torch.randn(8, layer.num_features), torch.rand(8)

    def said(x: Tensor, vectors: Tensor) -> Tensor:
        ways = FrameWays.of(geometry(edge_index, vectors), layer.rotation, L)
        return layer(Stacks.from_mul_ir(x, irreps), ways, h, envelope, edge_index[1]).to_mul_ir()

    y = said(x, vectors)
    for matrix in -random_rotations(2, generator=torch.Generator().manual_seed(0)).double():
        d = wigner_D(irreps, matrix)
        assert torch.allclose(said(x @ d.T, vectors @ matrix.T), y @ d.T, atol=1e-12)
    # a target whose only neighbour leaves; logits far from one another
    targets, last = torch.tensor([0, 0, 1]), torch.tensor(1e-12)
    envelopes = torch.stack([last + 1, last, last])
    weights = smooth_attention(torch.tensor([[500.0], [-500.0], [30.0]]), envelopes, targets, 3)[:, 0]
    leaving = 1e-12 * math.exp(30)
    assert weights.tolist() == pytest.approx([1.0, 0.0, leaving / (1 + leaving)])
    assert torch.equal(
        smooth_attention(torch.full((3, 1), 800.0), torch.zeros(3), targets, 3), torch.zeros(3, 1)
    )
    with pytest.raises(ValueError, match="expected a multiple of the 4 heads"):
        EdgeFrameAttention(6, L, 3)
    with pytest.raises(ValueError, match="activation is 'relu'"):
        EdgeFrameAttention(4, L, 3, activation="relu")


def test_products_and_gates_of_few_orders_are_those_of_all_with_the_others_zero() -> None:
    count, gate, few = 6, FrameGate(IRREPS), FrameGate(IRREPS, 1)
    full, part = (FrameProduct([IRREPS, IRREPS], gate.irreps_in, 2 * L, mmax=mmax) for mmax in (None, 1))
    part.load_state_dict(full.state_dict())
    keep = count * (C * (L + 1) + 2 * C * L)
    x = torch.randn(2, count * IRREPS.dim)
    x[:, keep:] = 0
    y, z = full(list(x), count), part(list(x[:, :keep]), count)
    assert torch.allclose(y[: len(z)], z, atol=1e-13) and len(z) < len(y) and not bool(y[len(z) :].any())
    a, b = gate(y, count), few(z, count)
    assert torch.allclose(a[: len(b)], b, atol=1e-13)
    factors = torch.randn(count, IRREPS.num_irreps)
    same = scaled_orders(b, count, factors, order_columns(IRREPS, 1))
    assert torch.allclose(same, scaled_orders(a, count, factors, order_columns(IRREPS))[: len(b)])
    assert torch.allclose(same[: count * 9].view(count, 9), b[: count * 9].view(count, 9) * factors)


def test_activation_in_a_frame_that_is_the_world() -> None:
    act, plain = FrameSphereActivation(C, L), SphereActivation(IRREPS, resolution=(5, 9))
    x = torch.randn(4, IRREPS.dim, requires_grad=True)
    rotation = StrictMessage(C, L, 2).rotation
    up = torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3)
    ways = FrameWays.of(geometry(torch.arange(4).repeat(2, 1), up, 4), rotation, L)

    def framed() -> Tensor:
        z = rotation.inward(Stacks.from_mul_ir(x, IRREPS), ways.coefficients, ways.sources)
        return rotation.outward(act(z, 4), ways.coefficients, ways.targets).to_mul_ir()

    assert torch.allclose(framed(), plain(x), atol=1e-12)
    cotangent = torch.randn(4, IRREPS.dim)
    grads = [torch.autograd.grad(y, x, cotangent)[0] for y in (framed(), plain(x))]
    assert torch.allclose(*grads, atol=1e-12)


def test_means_over_the_sphere() -> None:
    """A linear network has the mean of l = 0 and the vector of l = 1 as they are; others turn with the function."""
    x = torch.randn(6, IRREPS.dim)
    for vectors in (False, True):
        mean = SphereMean(C, L, 8, 2, vectors=vectors, resolution=(24, 40))
        turn = random_rotations(1, generator=torch.Generator().manual_seed(1))[0].double()
        said = mean(Stacks.from_mul_ir(x, IRREPS))
        other = mean(Stacks.from_mul_ir(x @ wigner_D(IRREPS, turn).T, IRREPS))
        assert float(said.detach().abs().max()) > 0.01
        assert torch.allclose(other, said @ turn.T if vectors else said, atol=1e-9)
        weight = torch.randn(2, C)
        mean.network = nn.Sequential(nn.Linear(C, 2, bias=False))
        mean.network[0].weight.data = weight
        parts = Stacks.from_mul_ir(x, IRREPS).parts
        # samples have unit variance where components have: each degree counts 1/√(L + 1)
        expected = parts[1].mT if vectors else parts[0].mT
        found = mean(Stacks.from_mul_ir(x, IRREPS))
        wanted = torch.einsum("oc,ncd->nod", weight, expected) / (L + 1) ** 0.5
        assert torch.allclose(found, wanted if vectors else wanted[..., 0], atol=1e-12)


def test_two_frames_of_an_edge() -> None:
    """Both take edges to ŷ, the second is the first turned, and which is given may change at the equator without a trace."""
    _, vectors = edges()
    vectors = torch.cat(
        [vectors, torch.tensor([[0.0, -2.0, 0.0], [1.0, 0.0, 0.0], [0.4, -1e-9, 0.7], [0.4, 1e-9, 0.7]])]
    )
    quaternions, other = two_frames(vectors)
    matrices = unpack_wigner(packed_wigner(quaternions, L))
    seen = torch.einsum("nij,nj->ni", matrices[1], vectors / vectors.norm(dim=1, keepdim=True))
    assert torch.allclose(seen, torch.tensor([0.0, 1.0, 0.0]).expand(12, 3), atol=1e-15)
    below, above = (torch.block_diag(*[m[k] for m in matrices]) for k in (10, 11))
    turn = about_y(float(torch.atan2(other[10, 1], other[10, 0])))
    assert torch.allclose(turn @ below, above, atol=1e-8)
    assert float(other[10, 2]) == pytest.approx(0.5) and not bool(other[:2, 2].any())
    assert torch.autograd.gradcheck(two_frames, (vectors[:9].clone().requires_grad_(),))
    nothing = torch.zeros(1, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(sum(part.sum() for part in two_frames(nothing)), nothing)
    assert bool(torch.isfinite(slope).all())


def test_refusals() -> None:
    with pytest.raises(ValueError, match="mmax is 3; expected 0 to lmax"):
        TapMessage(C, L, 3, 4)
    with pytest.raises(ValueError, match="activation is 'relu'"):
        StrictMessage(C, L, 4, activation="relu")
    with pytest.raises(ValueError, match=r"expected at least \(3, 5\)"):
        SphereMean(C, L, 4, 1, resolution=(2, 9))
    with pytest.raises(ValueError, match=r"expected at least \(3, 3\)"):
        FrameSphereActivation(C, L, 1, resolution=(3, 2))
    assert Irreps(IRREPS).dim == 27
