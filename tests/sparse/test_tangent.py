"""The tangent form against its slow twin: one matrix per edge, rho_out(theta) W rho_in(g - theta), summed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.groups import FieldType
from spheregeo.sparse import CSRPattern, RingPattern, TangentMap
from spheregeo.sparse.forms.orders import Orders, lift, unlift

IN, OUT = FieldType("3x0 + 2x1 + 1x0o + 2x2"), FieldType("2x1 + 3x0 + 1x3 + 1x2")
POINTS, SOURCES, PAIRS, RINGS = 30, 41, 260, 2


def terms(kind: FieldType) -> list[tuple[int, int]]:
    return [(t.multiplicity, t.order) for t in kind.terms]


class Graph:
    """Random pairs with random profiles, angles and transports: no geometry is assumed."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.row = torch.randint(1, POINTS, (PAIRS,), generator=draw).sort().values  # row 0 is empty
        self.column = torch.randint(0, SOURCES, (PAIRS,), generator=draw)
        self.theta = 6.3 * torch.rand(PAIRS, generator=draw, dtype=torch.float64)
        self.g = 6.3 * torch.rand(PAIRS, generator=draw, dtype=torch.float64)
        self.profile = torch.randn(RINGS, PAIRS, generator=draw, dtype=torch.float64)
        self.dtype = dtype
        self.x = (
            torch.randn(2, IN.dim, SOURCES, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
        )
        self.w = (
            torch.randn(OUT.dim, IN.dim, RINGS, generator=draw, dtype=torch.float64)
            .to(dtype)
            .requires_grad_()
        )
        self.cotangent = torch.randn(2, OUT.dim, POINTS, generator=draw, dtype=torch.float64).to(dtype)

    def map(self, engine: str = "auto", frequency: int = 5) -> TangentMap:
        counts = torch.bincount(self.row, minlength=POINTS)
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        values = [self.profile]
        for j in range(1, frequency + 1):
            values += [self.profile * torch.cos(j * self.theta), self.profile * torch.sin(j * self.theta)]
        pattern = CSRPattern.of(indptr, self.column, SOURCES)
        return TangentMap(pattern, torch.cat(values), self.g, rings=RINGS, dtype=self.dtype, engine=engine)

    def slow(self) -> Tensor:
        out = OUT.representation(self.theta).to(self.dtype)
        into = IN.representation(self.g - self.theta).to(self.dtype)
        kernel = torch.einsum("ke,eop,pik,eij->eoj", self.profile.to(self.dtype), out, self.w, into)
        y = torch.einsum("eoj,bje->boe", kernel, self.x[..., self.column])
        return y.new_zeros(2, OUT.dim, POINTS).index_add(2, self.row, y)


@pytest.mark.parametrize("engine", ["torch", "cpu", "reference"])
def test_equals_matrices_on_edges(engine: str) -> None:
    graph = Graph()
    fast, slow = graph.map(engine)(graph.x, graph.w, terms(IN), terms(OUT)), graph.slow()
    assert (fast - slow).abs().max() < 1e-12 * slow.abs().max()
    ours = torch.autograd.grad(fast, (graph.x, graph.w), graph.cotangent)
    theirs = torch.autograd.grad(slow, (graph.x, graph.w), graph.cotangent)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < 1e-12 * b.abs().max()


@pytest.mark.parametrize("which", ["x", "w"])
@pytest.mark.parametrize("engine", ["torch", "cpu", "reference"])
def test_one_gradient_alone(engine: str, which: str) -> None:
    graph, other = Graph(), "w" if which == "x" else "x"
    getattr(graph, other).requires_grad_(False)
    asked = getattr(graph, which)
    map_ = graph.map(engine)
    (ours,) = torch.autograd.grad(map_(graph.x, graph.w, terms(IN), terms(OUT)), asked, graph.cotangent)
    (theirs,) = torch.autograd.grad(graph.slow(), asked, graph.cotangent)
    assert (ours - theirs).abs().max() < 1e-12 * theirs.abs().max()


def test_float32() -> None:
    graph = Graph(torch.float32)
    fast, slow = graph.map()(graph.x, graph.w, terms(IN), terms(OUT)), graph.slow()
    assert fast.dtype == torch.float32
    assert (fast - slow).norm() < 3e-6 * slow.norm()


def test_half_precision_computes_in_float32() -> None:
    graph = Graph(torch.float32)
    half = graph.map()(graph.x.detach().bfloat16(), graph.w.detach(), terms(IN), terms(OUT))
    exact = graph.map()(
        graph.x.detach().bfloat16().float(), graph.w.detach().bfloat16().float(), terms(IN), terms(OUT)
    )
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, exact.bfloat16())


def test_derivatives_of_every_order() -> None:
    graph = Graph()
    map_ = graph.map()
    few_in, few_out = [(1, 0), (1, 1)], [(1, 1), (1, 0)]
    x, w = graph.x.detach()[:1, :3, :].requires_grad_(), graph.w.detach()[:3, :3].requires_grad_()

    def run(x: Tensor, w: Tensor) -> Tensor:
        return map_(x, w, few_in, few_out)[..., :6]

    assert torch.autograd.gradcheck(run, (x, w), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, w), fast_mode=True)


def test_operator_passes_opcheck_and_compiles() -> None:
    from spheregeo.sparse.multilinear import multilinear

    graph = Graph()
    map_ = graph.map()
    structure = map_._structure(terms(IN), terms(OUT))
    rest = (structure.tensors, structure.sizes, "tangent", "auto")
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(multilinear, ([graph.x, graph.w], [0, 1], [2], *rest), test_utils=tests)
    every = [graph.x, graph.w, graph.cotangent]
    torch.library.opcheck(multilinear, (every, [0, 1, 2], [0, 1], *rest), test_utils=tests)
    compiled = torch.compile(map_, fullgraph=True, backend="aot_eager")
    ours = compiled(graph.x, graph.w, terms(IN), terms(OUT))
    plain = map_(graph.x, graph.w, terms(IN), terms(OUT))
    assert torch.equal(ours, plain)
    a = torch.autograd.grad(ours, (graph.x, graph.w), graph.cotangent)
    b = torch.autograd.grad(plain, (graph.x, graph.w), graph.cotangent)
    assert all((p - q).abs().max() < 1e-12 * q.abs().max() for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("lines", ["alike", "interleaved"])
def test_rows_that_share_coefficients(lines: str) -> None:
    """Rings: every column of a lat-lon grid reads one column's coefficients; the same map with each row's own.

    Interleaved rings are those of a grid with twice the columns, whose neighbours do not follow one another as they stand.
    """
    columns, draw = 37, torch.Generator().manual_seed(1)
    apart = lines == "interleaved"
    ring = RingPattern(
        indptr=torch.tensor([0, 3, 5]),
        ring=torch.tensor([0, 1, 1, 0, 1], dtype=torch.int32),
        shift=torch.tensor([0, 36, 1, 2, 0], dtype=torch.int32),
        source_base=torch.tensor([0, 1 if apart else columns]),
        source_stride=torch.tensor([2, 2] if apart else [1, 1]),
        target_base=torch.tensor([0, columns]),
        target_stride=torch.tensor([1, 1]),
        columns=columns,
        num_source=2 * columns,
        num_target=2 * columns,
    )
    values = torch.randn(RINGS * 11, 5, generator=draw, dtype=torch.float64)
    g = torch.randn(5, generator=draw, dtype=torch.float64)
    target, source, column = ring.coo()
    order = torch.argsort(target, stable=True)
    counts = torch.bincount(target, minlength=ring.num_target)
    own = CSRPattern.of(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), source[order], ring.num_source)
    kinds = [(2, 0), (1, 2), (3, 1)], [(1, 1), (2, 0), (2, 1), (1, 2)]
    x = torch.randn(2, 10, ring.num_source, generator=draw, dtype=torch.float64, requires_grad=True)
    w = torch.randn(10, 10, RINGS, generator=draw, dtype=torch.float64, requires_grad=True)
    results = []
    for map_ in (
        TangentMap(ring, values, g, rings=RINGS),
        TangentMap(own, values[:, column[order]], g[column[order]], rings=RINGS),
        TangentMap(ring, values, g, rings=RINGS, engine="reference"),
    ):
        y = map_(x, w, *kinds)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, w))))
    for a, b, c in zip(*results, strict=True):
        assert (a - c).abs().max() < 1e-12 * c.abs().max()
        assert (b - c).abs().max() < 1e-12 * c.abs().max()


def test_concatenate_is_block_diagonal() -> None:
    one, two = Graph(seed=1), Graph(seed=2)
    both = TangentMap.concatenate([one.map(), two.map()])
    x = torch.cat([one.x, two.x], 2)
    joint = both(x, one.w, terms(IN), terms(OUT))
    apart = [g.map()(g.x, one.w, terms(IN), terms(OUT)) for g in (one, two)]
    assert (joint - torch.cat(apart, 2)).abs().max() < 1e-12
    a = torch.autograd.grad(joint.square().sum(), (one.x, two.x, one.w))
    b = torch.autograd.grad(sum(y.square().sum() for y in apart), (one.x, two.x, one.w))
    assert all((p - q).abs().max() < 1e-11 * q.abs().max() for p, q in zip(a, b, strict=True))


def test_lift_and_its_adjoint() -> None:
    source, target = Orders(tuple(terms(IN))), Orders(tuple(terms(OUT)))
    draw = torch.Generator().manual_seed(3)
    w = torch.randn(OUT.dim, IN.dim, RINGS, generator=draw, dtype=torch.float64, requires_grad=True)
    matrices = lift(w, source, target)
    cotangents = [torch.randn(m.shape, generator=draw, dtype=torch.float64) for m in matrices]
    (gradient,) = torch.autograd.grad(matrices, w, cotangents)
    assert (unlift(cotangents, source, target, RINGS) - gradient).abs().max() < 1e-14


def test_planar_and_public_channels() -> None:
    orders = Orders(tuple(terms(IN)))
    x = torch.arange(IN.dim)[None]
    assert orders.planar(x, 1)[0].tolist() == [0, 1, 2, 7, 3, 5, 4, 6, 8, 10, 9, 11]
    assert torch.equal(orders.public(orders.planar(x, 1), 1), x)


def test_memory_holds_no_matrix_per_edge() -> None:
    """The largest tensor made by a pass of many channels stays below pairs x channels (let alone channels squared)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(t, Tensor):
                    self.size = max(self.size, t.untyped_storage().nbytes())
            return out

    points, degree, channels = 4000, 7, 64
    draw = torch.Generator().manual_seed(4)
    column = torch.randint(0, points, (points * degree,), generator=draw)
    pattern = CSRPattern.of(torch.arange(points + 1) * degree, column, points)
    values = torch.randn(2 * 5, points * degree, generator=draw)
    map_ = TangentMap(pattern, values, torch.randn(points * degree, generator=draw), rings=2)
    kind = [(channels // 2, 0), (channels // 4, 1)]
    x = torch.randn(1, channels, points, generator=draw, requires_grad=True)
    w = torch.randn(channels, channels, 2, generator=draw, requires_grad=True)
    with Largest() as largest:
        map_(x, w, kind, kind).sum().backward()
    assert 0 < largest.size < 4 * points * degree * channels


def test_errors_name_the_argument() -> None:
    graph = Graph()
    with pytest.raises(ValueError, match="x has shape"):
        graph.map()(graph.x[..., 1:], graph.w, terms(IN), terms(OUT))
    with pytest.raises(ValueError, match="weight has shape"):
        graph.map()(graph.x, graph.w[:-1], terms(IN), terms(OUT))
    with pytest.raises(ValueError, match="frequency=5"):
        graph.map(frequency=4)(graph.x, graph.w, terms(IN), terms(OUT))
    with pytest.raises(ValueError, match="maps is empty"):
        TangentMap.concatenate([])
    with pytest.raises(ValueError, match="differ"):
        TangentMap.concatenate([graph.map(), graph.map(frequency=6)])
    pattern = CSRPattern.of(torch.tensor([0, 1]), torch.tensor([0]), 1)
    with pytest.raises(ValueError, match="coefficients has shape"):
        TangentMap(pattern, torch.ones(4, 1), torch.zeros(1), rings=2)
    with pytest.raises(ValueError, match="transport shape"):
        TangentMap(pattern, torch.ones(2, 1), torch.zeros(2), rings=2)
