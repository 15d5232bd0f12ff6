"""Engines against the dense matrix and the reference: output, input gradient, weight gradient, coefficient gradient."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import torch
from torch import Tensor

from spheregeo.sparse import (
    Block,
    BlockPattern,
    CSRPattern,
    Pattern,
    RingPattern,
    SparseMap,
    engines,
    register_engine,
)

ENGINES = ["torch", "cpu"]
if importlib.util.find_spec("torch_scatter") and importlib.util.find_spec("torch_sparse"):
    ENGINES.append("pyg")


def csr_pattern(shared: bool = False) -> CSRPattern:
    counts = torch.tensor([3, 0, 7, 1, 3, 12, 5, 3])
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    indices = torch.cat([torch.randperm(13)[:n].sort().values for n in counts]).to(torch.int32)
    start = indptr[:-1].clone()
    if shared:
        start[4] = start[7] = start[0]  # three rows of three share the first three coefficients
    return CSRPattern.of(indptr, indices, 13, start, len(indices))


def ring_pattern(source_stride: int = 1, target_stride: int = 1, columns: int = 6) -> RingPattern:
    rings, rows = 3 * source_stride, 2 * target_stride
    counts = torch.randint(1, 2 * columns, (rows,))
    entries = [torch.randperm(rings * columns)[:n] for n in counts]
    flat = torch.cat(entries)
    j, k = torch.arange(rings), torch.arange(rows)
    return RingPattern(
        indptr=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        ring=(flat // columns).to(torch.int32),
        shift=(flat % columns).to(torch.int32),
        source_base=(j // source_stride) * source_stride * columns + j % source_stride,
        source_stride=torch.full((rings,), source_stride),
        target_base=(k // target_stride) * target_stride * columns + k % target_stride,
        target_stride=torch.full((rows,), target_stride),
        columns=columns,
        num_source=rings * columns,
        num_target=rows * columns,
    )


def block_pattern() -> BlockPattern:
    """Two stretches of the target that read overlapping stretches of the source, of different kinds."""
    csr, rings = csr_pattern(shared=True), ring_pattern()
    first, second = slice(0, csr.num_values), slice(csr.num_values, csr.num_values + rings.num_values)
    end = csr.num_target + rings.num_target
    blocks = (
        Block(csr, slice(0, csr.num_target), slice(2, 15), first),
        Block(rings, slice(csr.num_target, end), slice(7, 7 + rings.num_source), second),
    )
    return BlockPattern(blocks, 8 + rings.num_source, end)


PATTERNS = {
    "blocks": block_pattern,
    "csr": csr_pattern,
    "csr-shared": lambda: csr_pattern(shared=True),
    "rings": ring_pattern,
    "rings-strided": lambda: ring_pattern(2, 1),
    "rings-upsampling": lambda: ring_pattern(1, 3, 5),
    "rings-wide": lambda: ring_pattern(3, 2, 40),
}


def dense_mix(map_: SparseMap, x: Tensor, w: Tensor, values: Tensor, groups: int) -> Tensor:
    """The definition, by a dense (K, P, Q) tensor."""
    target, source, value = map_.pattern.coo()
    dense = torch.zeros(len(values), map_.num_target * map_.num_source, dtype=values.dtype)
    dense = dense.index_add(1, target * map_.num_source + source, values[:, value])
    dense = dense.view(len(values), map_.num_target, map_.num_source)
    b, c, _ = x.shape
    x = x.view(b, groups, c // groups, -1)
    w = w.view(groups, -1, c // groups, len(values))
    return torch.einsum("gock,kpq,bgcq->bgop", w, dense, x).flatten(1, 2)


def random_map(pattern: Pattern, k: int, engine: str, dtype: torch.dtype = torch.float64) -> SparseMap:
    return SparseMap.from_pattern(pattern, torch.randn(k, pattern.num_values, dtype=dtype), engine=engine)


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
@pytest.mark.parametrize(
    ("c", "o", "k", "groups"), [(3, 5, 2, 1), (4, 6, 9, 2), (5, 5, 1, 5), (16, 8, 3, 1), (1, 9, 4, 1)]
)
def test_mix_equals_dense_matrix(engine: str, pattern, c: int, o: int, k: int, groups: int) -> None:  # type: ignore[no-untyped-def]
    map_ = random_map(pattern(), k, engine)
    x = torch.randn(2, c, map_.num_source, dtype=torch.float64, requires_grad=True)
    w = torch.randn(o, c // groups, k, dtype=torch.float64, requires_grad=True)
    v = map_.values.clone().requires_grad_()
    g = torch.randn(2, o, map_.num_target, dtype=torch.float64)
    fast, slow = map_.mix(x, w, groups, values=v), dense_mix(map_, x, w, v, groups)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(fast, (x, w, v), g), torch.autograd.grad(slow, (x, w, v), g), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("engine", ["reference", *ENGINES])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
@pytest.mark.parametrize("k", [1, 3])
def test_contraction_and_adjoint(engine: str, pattern, k: int) -> None:  # type: ignore[no-untyped-def]
    map_ = random_map(pattern(), k, engine)
    x = torch.randn(2, 3, map_.num_source, dtype=torch.float64, requires_grad=True)
    y = map_(x)
    expected = torch.einsum("kpq,bcq->bckp", map_.to_dense(), x)
    torch.testing.assert_close(y, expected[:, :, 0] if k == 1 else expected, rtol=1e-12, atol=1e-12)
    g = torch.randn_like(y)
    (gx,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close((y * g).sum(), (gx * x).sum(), rtol=1e-12, atol=1e-12)
    dense = map_.to_dense()
    torch.testing.assert_close(map_.transpose().to_dense(), dense.transpose(1, 2), rtol=0, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["csr-shared", "rings-strided", "blocks"])
def test_gradients_of_every_order(engine: str, name: str) -> None:
    map_ = random_map(PATTERNS[name](), 2, engine)
    x = torch.randn(1, 2, map_.num_source, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True)
    v = map_.values.clone().requires_grad_()

    def run(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
        return map_.mix(x, w, values=v)

    assert torch.autograd.gradcheck(run, (x, w, v), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, w, v), fast_mode=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["csr", "rings-strided"])
def test_low_precision(engine: str, name: str) -> None:
    pattern = PATTERNS[name]()
    exact = random_map(pattern, 3, "reference")
    x, w = torch.randn(2, 8, exact.num_source), torch.randn(8, 8, 3)
    truth = exact.mix(x.double(), w.double())
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.bfloat16, 2e-2)):
        map_ = SparseMap.from_pattern(pattern, exact.values.float(), engine=engine)
        y = map_.mix(x.to(dtype), w)
        assert y.dtype == dtype
        assert (y.double() - truth).norm() <= tolerance * truth.norm()


@pytest.mark.parametrize("engine", ENGINES)
def test_operator_registration(engine: str) -> None:
    map_ = random_map(csr_pattern(), 2, engine)
    x = torch.randn(1, 2, 13, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    structure = map_._structure()
    arguments = (
        [x, w, map_.values],
        [0, 1, 2],
        [3],
        structure.tensors,
        structure.sizes,
        "linear",
        map_.engine,
    )
    torch.library.opcheck(torch.ops.spheregeo.multilinear.default, arguments)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("steps", "columns", "symmetric"), [((1, 1), 64, False), ((2, 1), 63, False), ((1, 1), 64, True)]
)
def test_wide_rows_by_fourier(
    monkeypatch: pytest.MonkeyPatch, engine: str, steps: tuple[int, int], columns: int, symmetric: bool
) -> None:
    """Rows with hundreds of taps go through the FFT; nothing else may change, to every order of differentiation."""
    monkeypatch.setattr(
        "spheregeo.sparse.patterns.bands.OVERHEAD", 0
    )  # a small map: take the path all the same
    pattern = ring_pattern(*steps, columns)
    rings = len(pattern.source_base)
    counts = pattern.indptr.diff()
    counts[0] = rings * columns  # one full row: every ring, every shift
    full = torch.arange(rings * columns)
    pattern = dataclasses.replace(
        pattern,
        indptr=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        ring=torch.cat([full // columns, pattern.ring[pattern.indptr[1] :]]).to(torch.int32),
        shift=torch.cat([full % columns, pattern.shift[pattern.indptr[1] :]]).to(torch.int32),
    )
    values = torch.randn(3, pattern.num_values, dtype=torch.float64)
    if symmetric:  # even, odd and even functions of the shift: real and imaginary spectra
        sign = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
        head = values[:, : rings * columns].view(3, rings, columns)
        head.copy_(head + sign * head.roll(-1, -1).flip(-1))
        values[:, rings * columns :] = 0
    map_ = SparseMap.from_pattern(pattern, values, engine=engine)
    assert map_.bands and map_.bands.parts.shape[2] == (3 if symmetric else 6)
    exact = SparseMap.from_pattern(pattern, values, engine="reference")
    x = torch.randn(2, 4, map_.num_source, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
    fast, slow = map_.mix(x, w), exact.mix(x, w)
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-11)
    g = torch.randn_like(fast)
    firsts = [torch.autograd.grad(y, (x, w), g, create_graph=True) for y in (fast, slow)]
    for a, b in zip(*firsts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    seconds = [torch.autograd.grad(a.square().sum() + b.square().sum(), (x, w)) for a, b in firsts]
    for a, b in zip(*seconds, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-8)


def test_compile_and_export() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = random_map(ring_pattern(), 2, "auto", torch.float32)
            self.weight = torch.nn.Parameter(torch.randn(4, 3, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.map.mix(x.relu(), self.weight).relu()

    net, x = Net(), torch.randn(2, 3, 18, requires_grad=True)
    y = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, net(x))
    (a,), (b,) = torch.autograd.grad(y.sum(), x), torch.autograd.grad(net(x).sum(), x)
    torch.testing.assert_close(a, b)
    program = torch.export.export(net, (x.detach(),))
    torch.testing.assert_close(program.module()(x.detach()), net(x))


def test_geometry_stays_out_of_checkpoints_and_follows_dtype() -> None:
    map_ = random_map(csr_pattern(), 2, "auto")
    assert not map_.state_dict()
    assert map_.float().values.dtype == torch.float32
    assert map_.pattern.indices.dtype == torch.int32


def test_errors_name_argument_and_expectation() -> None:
    indptr, indices, values = torch.tensor([0, 2]), torch.tensor([0, 4]), torch.ones(2)
    with pytest.raises(ValueError, match="expected 0 to 3"):
        SparseMap(indptr, indices, values, 4)
    with pytest.raises(ValueError, match="indptr ends at 2 but indices has 3"):
        SparseMap(indptr, torch.tensor([0, 1, 2]), torch.ones(3), 4)
    with pytest.raises(ValueError, match="values has shape"):
        SparseMap(indptr, indices, torch.ones(3), 5)
    with pytest.raises(ValueError, match="engine is 'nope'; expected one of auto"):
        SparseMap(indptr, indices, values, 5, engine="nope")
    map_ = SparseMap(indptr, indices, values, 5)
    with pytest.raises(ValueError, match=r"x has 6 points .* source has 5"):
        map_(torch.randn(6))
    with pytest.raises(ValueError, match="weight has shape"):
        map_.mix(torch.randn(1, 2, 5), torch.randn(3, 3, 1))
    with pytest.raises(ValueError, match="taken"):
        register_engine("torch", lambda: None)  # type: ignore[arg-type, return-value]
    assert "reference" in engines()


@pytest.mark.parametrize("name", ["csr", "rings"])
def test_arguments_of_the_call_are_checked(name: str) -> None:
    map_ = random_map(PATTERNS[name](), 2, "auto", torch.float32)
    x = torch.randn(1, 3, map_.num_source)
    for wrong in (x.long(), torch.complex(x, x)):
        with pytest.raises(TypeError, match="expected a real floating dtype"):
            map_(wrong)
    with pytest.raises(ValueError, match=r"values has shape \(2, 5\); expected"):
        map_(x, values=torch.randn(2, 5))
    assert map_.mix(x[:0], torch.randn(4, 3, 2)).shape == (0, 4, map_.num_target)
