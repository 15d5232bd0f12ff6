"""``ImplicitConv`` against its own kernels applied pair by pair, and on odd graphs."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor

from spheregeo.audit.randomise import randomise
from spheregeo.groups import random_rotations
from spheregeo.harmonics import wigner_D
from spheregeo.nn import ImplicitConv
from spheregeo.nn.space import EdgeGeometry, EdgeList
from spheregeo.sparse import segment_apply, segment_outer

IN, OUT = Irreps("2x0e + 2x1o + 1x2e + 1x0e"), Irreps("2x0e + 2x1o + 1x1e + 1x2e")
TURNING = "1x0e + 1x1o + 1x1e"
CASES = [
    {},
    {"attributes": "2x0e", "envelope": True},
    {"attributes": TURNING},
    {"group": "SO3"},
    {"group": "tetrahedral", "attributes": TURNING},
    {"reduce": "sum", "num_neighbors": 6.0, "bias": False},
]


def build(case: dict, **more: object) -> ImplicitConv:
    conv = ImplicitConv(IN, OUT, **{"hidden": 3, "radius": 2.0, **case, **more})
    return randomise(conv, torch.Generator().manual_seed(0)).double()


def graph(
    conv: ImplicitConv, points: int = 9, edges: int = 40
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Unsorted edges with doubles and a self edge; the last point has none."""
    generator = torch.Generator().manual_seed(3)
    positions = torch.randn(points, 3, dtype=torch.float64, generator=generator)
    edge_index = torch.randint(0, points - 1, (2, edges), generator=generator)
    edge_index[:, 0] = 4
    x = torch.randn(points, conv.irreps_in.dim, dtype=torch.float64, generator=generator)
    a = conv.attributes
    attributes = None if a is None else torch.randn(edges, a.dim, dtype=torch.float64, generator=generator)
    return x, positions, edge_index, attributes


def materialised(
    conv: ImplicitConv, x: Tensor, positions: Tensor, edge_index: Tensor, attributes: Tensor | None
) -> Tensor:
    """The slow twin: one matrix a pair."""
    source, target = edge_index
    kernel = conv.kernel(positions[source] - positions[target], attributes)
    messages = torch.einsum("eij,ej->ei", kernel, x[source])
    y = x.new_zeros(len(positions), conv.irreps_out.dim).index_add(0, target, messages)
    if conv.reduce == "mean":
        y = y / torch.bincount(target, minlength=len(positions)).clamp(min=1)[:, None]
    else:
        y = y / conv.num_neighbors**0.5
    return y if conv.fixed is None else y + conv.fixed()


def everything(call: object, conv: ImplicitConv, data: tuple) -> list[Tensor]:
    """Output, gradients of input, positions, attributes and all parameters, and the gradient of a force's square."""
    x, positions, edge_index, attributes = data
    leaves = [t.clone().requires_grad_() for t in (x, positions, attributes) if t is not None]
    given = iter(leaves)
    y = call(next(given), next(given), edge_index, None if attributes is None else next(given))
    weights = list(conv.parameters())
    cotangent = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
    first = torch.autograd.grad((y * cotangent).sum(), leaves + weights, create_graph=True)
    second = torch.autograd.grad(
        first[1].square().sum(), leaves + weights, allow_unused=True, materialize_grads=True
    )
    return [y, *first, *second]


@pytest.mark.parametrize("chunk", [None, 7])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_materialised_kernel(case: dict, chunk: int | None) -> None:
    conv = build(case, chunk=chunk)
    data = graph(conv)
    fast = everything(conv, conv, data)
    slow = everything(lambda *given: materialised(conv, *given), conv, data)
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10 * max(1.0, float(b.detach().abs().max())))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equivariance(case: dict) -> None:
    conv = build(case)
    x, positions, edge_index, attributes = graph(conv)
    y = conv(x, positions, edge_index, attributes)
    if conv.group == "tetrahedral":
        turns = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))[None]
    else:
        turns = random_rotations(4)
        turns[:2] *= -1.0 if conv.group == "O3" else 1.0
    order = torch.randperm(len(x))
    shuffled = torch.argsort(order)[edge_index]
    for g in turns:
        turned = None if attributes is None else attributes @ wigner_D(conv.attributes, g).T
        moved = positions @ g.T + torch.tensor([10.0, -3.0, 2.0], dtype=torch.float64)
        z = conv((x @ wigner_D(IN, g).T)[order], moved[order], shuffled, turned)
        error = (z - (y @ wigner_D(OUT, g).T)[order]).abs().max() / y.abs().max()
        assert float(error.detach()) < 1e-12


def test_single_precision() -> None:
    conv = build({"attributes": TURNING})
    x, positions, edge_index, attributes = graph(conv)
    exact = conv(x, positions, edge_index, attributes)
    single = conv.float()(x.float(), positions.float(), edge_index, attributes.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5 * float(exact.detach().abs().max()))


def test_digits_return_with_double_precision() -> None:
    conv = build({})
    x, positions, edge_index, _ = graph(conv)
    exact = conv(x, positions, edge_index)
    again = copy.deepcopy(conv).float().double()
    again.load_state_dict(conv.state_dict())
    torch.testing.assert_close(again(x, positions, edge_index), exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES[:5], ids=str)
def test_a_batch_is_its_parts(case: dict) -> None:
    conv = build(case)
    x, positions, edge_index, attributes = graph(conv)
    alone = conv(x, positions, edge_index, attributes)
    twice = conv(
        torch.cat([torch.randn_like(x), x]),
        torch.cat([torch.randn_like(positions), positions]),
        torch.cat([edge_index, edge_index + len(x)], 1),
        None if attributes is None else torch.cat([torch.randn_like(attributes), attributes]),
    )
    torch.testing.assert_close(twice[len(x) :], alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[4]], ids=str)
def test_no_edges_no_points_coincident_points(case: dict, reduce: str) -> None:
    conv = build(case, reduce=reduce)
    x, positions, edge_index, attributes = graph(conv)
    none = edge_index[:, :0]
    constant = conv.fixed().expand(len(x), -1)
    nothing = None if attributes is None else attributes[:0]
    assert torch.equal(conv(x, positions, none, nothing), constant)
    assert conv(x[:0], positions[:0], none, nothing).shape == (0, OUT.dim)
    y = conv(x, positions, edge_index, attributes)
    assert y.isfinite().all() and torch.equal(y[-1], constant[-1])
    same = torch.zeros_like(positions).requires_grad_()
    force = torch.autograd.grad(
        conv(x, same, edge_index, attributes).square().sum(), same, create_graph=True
    )[0]
    again = torch.autograd.grad(force.square().sum(), same)[0]
    assert force.isfinite().all() and again.isfinite().all() and force.abs().max() > 0


@pytest.mark.parametrize("case", [{"attributes": "1x0e"}, {"attributes": "1x1o"}, {"group": "C2"}], ids=str)
def test_gradcheck(case: dict) -> None:
    conv = ImplicitConv("1x0e + 1x1o", "1x0e + 1x1o", hidden=2, num_radial=2, layers=1, chunk=3, **case)
    conv = randomise(conv).double()
    edge_index = torch.tensor([[0, 1, 2, 2, 1], [0, 0, 1, 1, 2]])
    positions = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    attributes = None
    if conv.attributes is not None:
        attributes = torch.randn(5, conv.attributes.dim, dtype=torch.float64, requires_grad=True)
    given = [t for t in (x, positions, attributes) if t is not None]

    def call(x: Tensor, positions: Tensor, *rest: Tensor) -> Tensor:
        return conv(x, positions, edge_index, *rest)

    assert torch.autograd.gradcheck(call, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True)


def test_geometry_in_place_of_positions() -> None:
    conv = build({"attributes": TURNING})
    x, positions, edge_index, attributes = graph(conv)
    y = conv(x, positions, edge_index, attributes)
    order = torch.argsort(edge_index[1], stable=True)
    geometry = EdgeGeometry.of(positions, edge_index)
    assert torch.equal(conv(x, geometry, attributes[order]), y)
    assert torch.equal(conv(x, geometry, attributes=attributes[order]), y)
    listed = EdgeList.of(edge_index, len(x))
    assert torch.equal(conv(x, positions, listed, attributes[order]), y)
    fewer = EdgeGeometry.of((positions, positions[:8]), edge_index)
    torch.testing.assert_close(conv(x, fewer, attributes[order]), y[:8], rtol=0, atol=1e-13)


def test_segment_operators() -> None:
    generator = torch.Generator().manual_seed(0)
    for degrees in ([3, 3, 3], [0, 5, 1, 0, 9, 2], [0, 0], []):
        indptr = torch.tensor([0, *degrees]).cumsum(0)
        target = torch.repeat_interleave(torch.arange(len(degrees)), torch.tensor(degrees, dtype=torch.int64))
        count = len(target)
        a = torch.randn(count, 4, dtype=torch.float64, generator=generator, requires_grad=True)
        b = torch.randn(count, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        g = torch.randn(len(degrees), 4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        dense = torch.zeros(len(degrees), 4, 3, dtype=torch.float64).index_add(
            0, target, a[:, :, None] * b[:, None]
        )
        torch.testing.assert_close(segment_outer(a, b, indptr), dense)
        torch.testing.assert_close(segment_apply(g, b, indptr), torch.einsum("eab,eb->ea", g[target], b))
        if count:
            assert torch.autograd.gradcheck(segment_outer, (a, b, indptr), fast_mode=True)
            assert torch.autograd.gradgradcheck(segment_outer, (a, b, indptr), fast_mode=True)
            assert torch.autograd.gradgradcheck(segment_apply, (g, b, indptr), fast_mode=True)
    form = ([a.detach(), b.detach()], [0, 1], [2], [indptr], [len(a)], "segment", "auto")
    torch.library.opcheck(torch.ops.spheregeo.multilinear.default, form)


def test_builds_fast_and_runs_under_autocast() -> None:
    start = time.process_time()
    conv = ImplicitConv("16x0e + 16x1o + 16x2e", "16x0e + 16x1o + 16x2e")
    assert time.process_time() - start < 0.5
    assert sum(p.numel() for p in conv.parameters()) < 30_000
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(torch.randn(5, 144), torch.randn(5, 3), torch.randint(0, 5, (2, 12)))
    assert y.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"layers": 0}, "layers is 0"),
        ({"chunk": 0}, "chunk is 0"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"sigma": float("nan")}, "sigma is nan"),
        ({"lmax": -1}, "lmax is -1"),
        ({"reduce": "max"}, "reduce is 'max'"),
        ({"nonlinearity": "relu"}, "nonlinearity is 'relu'"),
        ({"nonlinearity": "gate", "attributes": "1x1o"}, "expected 'product'"),
        ({"nonlinearity": "product", "group": "C3"}, "expected 'regular'"),
        ({"attributes": "0x0e"}, "attributes is"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_choices_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImplicitConv("2x0e", "2x0e", **options)


def test_inputs_that_do_not_fit() -> None:
    conv, edges = ImplicitConv("2x0e", "1x1o", attributes="1x0e"), torch.randint(0, 4, (2, 6))
    x, positions, attributes = torch.randn(4, 2), torch.randn(4, 3), torch.randn(6, 1)
    with pytest.raises(ValueError, match=r"attributes is None; expected \(6, 1\)"):
        conv(x, positions, edges)
    with pytest.raises(ValueError, match="one row for each edge"):
        conv(x, positions, edges, attributes[:5])
    with pytest.raises(ValueError, match=r"x has \(3,\) points; expected \(4,\)"):
        conv(x[:3], positions, edges, attributes)
    with pytest.raises(ValueError, match="edge_index"):
        conv(x, positions, edges + 4, attributes)
    with pytest.raises(TypeError, match="expected conv"):
        conv(x, positions)
    with pytest.raises(ValueError, match=r"vectors has shape \(3,\)"):
        conv.kernel(torch.randn(3), attributes)
    with pytest.raises(ValueError, match="built without"):
        ImplicitConv("2x0e", "1x1o")(x, positions, edges, attributes)


@pytest.mark.parametrize("case", [CASES[0], CASES[4]], ids=str)
def test_compiles_in_one_piece(case: dict) -> None:
    conv = build(case)
    x, positions, edge_index, attributes = graph(conv)
    if attributes is not None:
        attributes = attributes[torch.argsort(edge_index[1], stable=True)]
    edges = EdgeList.of(edge_index, len(x))

    def call(x: Tensor, positions: Tensor) -> Tensor:
        return conv(x, EdgeGeometry.of(positions, edges), attributes)

    found = []
    for function in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
        leaf = positions.clone().requires_grad_()
        y = function(x, leaf)
        found += [y.detach(), *torch.autograd.grad(y.square().sum(), leaf)]
    torch.testing.assert_close(found[2:], found[:2], rtol=0, atol=1e-12)
