"""Layers in edge frames beside e3nn's tensor products: the same maps, gates and gradients, with weights taken over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from e3nn.o3 import FullyConnectedTensorProduct, Irreps
from torch import Tensor

from spheregeo.harmonics import component_harmonics, wigner_to_y
from spheregeo.nn.irreps import Stacks
from spheregeo.nn.space.edge_frame.frame_product import FrameProduct
from spheregeo.nn.space.edge_frame.gate import FrameGate
from spheregeo.nn.space.edge_frame.products import FrameRotation, PointProduct
from spheregeo.sparse import Rows

F64 = torch.float64
IRREPS = ["3x0e + 2x1o + 4x2e", "3x0e + 2x0o + 2x1e + 3x1o + 1x2o", "4x0e", "2x0e + 1x2e + 2x1e + 2x3o"]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """e3nn keeps its coefficients in the dtype of the moment of construction."""
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(torch.float32)


def gated(x: Tensor, gate: FrameGate) -> Tensor:
    """A gate on rows in mul_ir, copy by copy."""
    s, g = gate.scalars, gate.gates
    factor, out, at, k = gate.gate(x[:, s : s + g]), [gate.act(x[:, :s])], s + g, 0
    for mul, ir in gate.irreps_out[1:]:
        part = x[:, at : at + mul * ir.dim].unflatten(1, (mul, ir.dim))
        out.append((part * factor[:, k : k + mul, None]).flatten(1))
        at, k = at + mul * ir.dim, k + mul
    return torch.cat(out, 1)


def graph(points: int = 6, edges: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(points, (edges,), generator=generator)
    target = torch.randint(points - 1, (edges,), generator=generator).sort().values  # the last has no edge
    r = torch.randn(edges, 3, generator=generator, dtype=F64)
    r[0], r[1] = torch.tensor([0.0, 1, 0]), torch.tensor([0.0, -2, 0])
    return source, target, r


@pytest.mark.parametrize("irreps", IRREPS)
def test_message_layer_equals_e3nn(irreps: str) -> None:
    """Rotation in, product, gate, product, gate, rotation out: outputs and all gradients as from e3nn's products."""
    torch.manual_seed(0)
    h, lmax = Irreps(irreps), 3
    source, target, r = graph()
    points, edges = 6, len(r)
    gate = FrameGate(h)
    first = FrameProduct([h, h], gate.irreps_in, lmax, scalars=1).double()
    second = FrameProduct([h], gate.irreps_in, lmax).double()
    a = Irreps.spherical_harmonics(lmax)
    both = Irreps([*h, *h, (1, (0, 1))])
    theirs = [FullyConnectedTensorProduct(i, a, gate.irreps_in).double() for i in (both, h)]
    rotation = FrameRotation(h)
    for ours, product in zip((first, second), theirs, strict=True):
        ours.load_e3nn(product)
    x = torch.randn(points, h.dim, dtype=F64, requires_grad=True)
    v = r.clone().requires_grad_()
    weight = torch.rand(edges, 1, dtype=F64)

    def frames() -> Tensor:
        k = rotation.coefficients(wigner_to_y(v, max(ir.l for _, ir in h)))
        flat = Stacks.from_mul_ir(x, h)
        own = rotation.inward(flat, k, Rows.of(target, points, ordered=True))
        other = rotation.inward(flat, k, Rows.of(source, points))
        square = v.square().sum(1, keepdim=True)
        hidden = gate(second([gate(first([own, other], edges, square), edges)], edges), edges)
        parts = rotation.outward(hidden, weight * k, Rows.of(target, points, ordered=True))
        return parts.to_mul_ir(h)

    def e3nn() -> Tensor:
        y, square = component_harmonics(v, lmax), v.square().sum(1, keepdim=True)
        m = torch.cat([x[target], x[source], square], 1)
        for ours, product in zip((first, second), theirs, strict=True):
            m = product(m, y)
            scalars = len(ours.bias)
            m = gated(torch.cat([m[:, :scalars] + ours.bias, m[:, scalars:]], 1), gate)
        return torch.zeros_like(x).index_add(0, target, weight * m)

    got, expected = frames(), e3nn()
    assert torch.allclose(got, expected, rtol=1e-10, atol=1e-10)
    cotangent = torch.randn_like(got)
    # positions: the twin's biases are ours, so the same leaves
    inputs = [x, v, first.bias, second.bias]
    grads = torch.autograd.grad(got, [*inputs, *first.weights, *second.weights], cotangent)
    wanted = torch.autograd.grad(expected, [*inputs, *[p.weight for p in theirs]], cotangent)
    for g, w in zip(grads[:4], wanted[:4], strict=True):
        assert torch.allclose(g, w, rtol=1e-10, atol=1e-10)
    # weights: the directional derivative along one's own weights is the same number
    n = len(list(first.weights))
    for ours, product, mine, his in (
        (first, theirs[0], grads[4 : 4 + n], wanted[4]), (second, theirs[1], grads[4 + n :], wanted[5])
    ):  # fmt: skip
        change = torch.randn_like(product.weight)
        with torch.no_grad():
            before = [w.clone() for w in ours.weights]
            product.weight.copy_(change)
            ours.load_e3nn(product)
        along = sum((g * w).sum() for g, w in zip(mine, ours.weights, strict=True)).detach()
        assert float(along) == pytest.approx(float((his * change).sum()), rel=1e-10, abs=1e-10)
        with torch.no_grad():
            for w, b in zip(ours.weights, before, strict=True):
                w.copy_(b)


@pytest.mark.parametrize("irreps", IRREPS)
def test_point_product_equals_e3nn(irreps: str) -> None:
    torch.manual_seed(0)
    h, a = Irreps(irreps), Irreps.spherical_harmonics(3)
    ours = PointProduct(h + h, h, 3).double()
    theirs = FullyConnectedTensorProduct(h + h, a, h).double()
    ours.load_e3nn(theirs)
    x, y = torch.randn(5, 2 * h.dim, dtype=F64), torch.randn(5, a.dim, dtype=F64)
    got = ours(Stacks.from_mul_ir(x, h + h), y).to_mul_ir(h)
    expected = theirs(x, y)
    expected[:, : h[0].mul] += ours.bias
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_rotations_in_and_out_are_adjoint_and_inverse() -> None:
    h = Irreps(IRREPS[1])
    _, _, r = graph()
    rotation = FrameRotation(h)
    x = torch.randn(len(r), h.dim, dtype=F64)
    where, k = Rows.of(torch.arange(len(r)), len(r)), rotation.coefficients(wigner_to_y(r, 2))
    flat = rotation.inward(Stacks.from_mul_ir(x, h), k, where)
    assert torch.allclose(rotation.outward(flat, k, where).to_mul_ir(h), x, atol=1e-12)
    sizes = [d * c for d, c in rotation.maps.groups]
    assert sizes == [6, 5, 12, 2]  # natural m = 0, unnatural m = 0, m = ±1, ±2


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="of which 2e cannot be reached from 3x0e"):
        PointProduct("3x0e", "2x0e + 1x2e", 1)
    with pytest.raises(ValueError, match="expected distinct irreps, 0e first"):
        FrameGate("2x1o + 3x0e")
    few = FrameProduct(["2x0e + 2x1o"], "2x0e", 2, mmax=0)
    with pytest.raises(ValueError, match=r"parts have \[24\] values; expected \[4\] for each of 3 edges"):
        few([torch.randn(3 * 8)], 3)  # with order 1, which the product leaves out
    with pytest.raises(ValueError, match="product is of"):
        PointProduct("3x0e", "2x0e", 1).load_e3nn(FullyConnectedTensorProduct("2x0e", "1x0e + 1x1o", "2x0e"))
