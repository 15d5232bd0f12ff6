"""Coupling over pairs against its slow twin: dense constants, one einsum a path, every derivative by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.sparse import Coupling, Pairs, Path
from spheregeo.sparse.multilinear import multilinear

BLOCKS, GROUPS, PAIR_DIM = [(1, 5), (3, 17), (2, 3)], [3, 1], 4
PATHS = [(0, 0), (1, 0), (1, 1), (2, 0), (1, 0), (2, 1)]  # block, group
SOURCES, TARGETS, PAIRS, HEADS, INNER = (
    11,
    9,
    70,
    3,
    6,
)  # rows of more than the compiled loop's sixteen pairs, and empty ones


class Problem:
    """Random constants, some of them zero, and random pairs."""

    def __init__(self, weights: str | None, dtype: torch.dtype = torch.float64, pairs: int = PAIRS) -> None:
        draw = torch.Generator().manual_seed(3)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64)

        self.constants = [
            normal(GROUPS[g], BLOCKS[b][0], PAIR_DIM)
            * (torch.rand(GROUPS[g], BLOCKS[b][0], PAIR_DIM, generator=draw) < 0.6)
            for b, g in PATHS
        ]
        self.weights, self.heads = weights, HEADS if weights == "shared" else 1
        self.source = torch.randint(0, SOURCES, (pairs,), generator=draw)
        self.target = torch.randint(0, 3, (pairs,), generator=draw).mul(3).sort().values  # rows 0, 3, 6
        self.pairs = Pairs.of(self.source, self.target, SOURCES, TARGETS)
        self.x = normal(SOURCES * sum(d * m for d, m in BLOCKS)).to(dtype).requires_grad_()
        self.y = normal(pairs, PAIR_DIM).to(dtype).requires_grad_()
        channels = sum(BLOCKS[b][1] for b, _ in PATHS)
        width = {None: 0, "shared": HEADS, "channel": channels, "factored": INNER}[weights]
        self.w = normal(pairs, width).to(dtype).requires_grad_() if weights else None
        self.v = normal(INNER, channels).to(dtype).requires_grad_() if weights == "factored" else None

    @property
    def leaves(self) -> list[Tensor]:
        return [t for t in (self.x, self.y, self.w, self.v) if t is not None]

    def layer(self, engine: str | None) -> Coupling:
        paths = [Path(b, g, c) for (b, g), c in zip(PATHS, self.constants, strict=True)]
        return Coupling(
            BLOCKS, GROUPS, paths, PAIR_DIM, weights=self.weights, heads=self.heads, engine=engine
        )

    def fast(self, engine: str | None) -> Tensor:
        return self.layer(engine)(self.x, self.y, self.pairs, self.w, self.v)

    def slow(self) -> Tensor:
        blocks, at = [], 0
        for d, m in BLOCKS:
            blocks.append(self.x[at : at + SOURCES * d * m].view(SOURCES, d, m))
            at += SOURCES * d * m
        found: list[list[list[Tensor]]] = [[[] for _ in range(self.heads)] for _ in GROUPS]
        channel = 0
        for (b, g), c in zip(PATHS, self.constants, strict=True):
            message = torch.einsum("gds,es,edm->egm", c.to(self.x.dtype), self.y, blocks[b][self.source])
            for h in range(self.heads):
                weighted = message
                if self.weights == "shared":
                    assert self.w is not None
                    weighted = message * self.w[:, h, None, None]
                elif self.weights is not None:
                    assert self.w is not None
                    each = self.w if self.v is None else self.w @ self.v
                    weighted = message * each[:, None, channel : channel + BLOCKS[b][1]]
                summed = message.new_zeros(TARGETS, *message.shape[1:]).index_add(0, self.target, weighted)
                found[g][h].append(summed)
            channel += BLOCKS[b][1]
        groups = [torch.cat([torch.cat(head, 2) for head in heads], 2) for heads in found]
        return torch.cat([group.reshape(-1) for group in groups])


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    assert float((a - b).detach().abs().max()) <= tolerance * float(b.detach().abs().max())


@pytest.mark.parametrize("engine", ["cpu", "torch", "reference"])
@pytest.mark.parametrize("weights", [None, "shared", "channel", "factored"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_equals_einsum_to_second_derivatives(
    engine: str, weights: str | None, dtype: torch.dtype, tolerance: float
) -> None:
    problem = Problem(weights, dtype)
    found = []
    for z in (problem.fast(engine), problem.slow()):
        draw = torch.Generator().manual_seed(5)
        cotangent = torch.randn(z.shape, generator=draw, dtype=torch.float64).to(dtype)
        first = torch.autograd.grad(z, problem.leaves, cotangent, create_graph=True)
        mixed = sum(
            (g * torch.randn(g.shape, generator=draw, dtype=torch.float64).to(dtype)).sum() for g in first
        )
        found.append([z, *first, *torch.autograd.grad(mixed, problem.leaves)])
    for a, b in zip(*found, strict=True):
        close(a, b, tolerance)


@pytest.mark.parametrize("weights", [None, "shared", "channel", "factored"])
def test_gradients_of_gradients(weights: str | None) -> None:
    problem = Problem(weights, pairs=20)
    layer = problem.layer(None)

    def run(x: Tensor, y: Tensor, w: Tensor | None = None, v: Tensor | None = None) -> Tensor:
        result: Tensor = layer(x, y, problem.pairs, w, v)
        return result

    assert torch.autograd.gradcheck(run, problem.leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, problem.leaves, fast_mode=True)


@pytest.mark.parametrize("engine", ["cpu", "torch", "reference"])
def test_no_pairs(engine: str) -> None:
    problem = Problem("factored", pairs=0)
    z = problem.fast(engine)
    assert not z.any()
    gradients = torch.autograd.grad(z, problem.leaves, torch.ones_like(z))
    assert [g.shape for g in gradients] == [t.shape for t in problem.leaves] and not any(
        g.any() for g in gradients
    )
    problem = Problem("channel", pairs=0)
    z = problem.fast(engine)
    assert z.shape == (TARGETS * (3 * 42 + 20),) and not z.any()  # channels of the groups' paths
    gx, gy, gw = torch.autograd.grad(z, problem.leaves, torch.ones_like(z))
    assert not gx.any() and gy.shape == (0, PAIR_DIM) and gw.shape == (0, 62)


@pytest.mark.parametrize("weights", ["channel", "factored"])
def test_several_threads_give_the_same_bits(weights: str) -> None:
    problem = Problem(weights)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            z = problem.fast("cpu")
            found.append([z, *torch.autograd.grad(z, problem.leaves, torch.ones_like(z))])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("weights", ["shared", "channel", "factored"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compilers_are_told_the_truth(weights: str, dtype: torch.dtype) -> None:
    """Shapes, types and strides as announced, for features in low precision and tensors that are not contiguous."""
    problem = Problem(weights, torch.float32)
    layer = problem.layer("cpu")
    features = problem.x.detach().to(dtype).requires_grad_()
    others = [t.detach().T.contiguous().T.requires_grad_() for t in problem.leaves[1:]]
    w, v = others[1], others[2] if weights == "factored" else None
    tensors = [layer.blocks, layer.functions, layer.entries, layer.bits.view(torch.float64), problem.pairs.indptr,
               problem.pairs.sources, problem.source.new_empty(0)]  # fmt: skip
    sizes = [layer.kind, layer.heads, layer.width, PAIR_DIM, layer.inputs, layer.outputs, TARGETS, SOURCES]
    cotangent = torch.randn(TARGETS * layer.outputs * layer.heads, dtype=dtype)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    every = {0: features, 1: others[0], 2: w, 3: v, 4: cotangent}
    for wanted in ([1, 2, 3] if weights == "factored" else [1, 2], [0], [4]):
        left = {s: t for s, t in every.items() if t is not None and (len(wanted) > 1 or s not in wanted)}
        arguments = (list(left.values()), list(left), wanted, tensors, sizes, "coupling", "cpu")
        torch.library.opcheck(multilinear, arguments, test_utils=checks)


def test_constants_survive_changes_of_dtype() -> None:
    layer = Problem(None).layer(None)
    exact = layer.bits.view(torch.float64).clone()
    assert torch.equal(layer.to(torch.bfloat16).double().bits.view(torch.float64), exact)


def test_bad_sizes_are_named() -> None:
    problem = Problem("channel")
    layer = problem.layer(None)
    with pytest.raises(ValueError, match="x has shape"):
        layer(problem.x[:-1], problem.y, problem.pairs, problem.w)
    with pytest.raises(ValueError, match="y has shape"):
        layer(problem.x, problem.y[:, :-1], problem.pairs, problem.w)
    with pytest.raises(ValueError, match="no weights"):
        layer(problem.x, problem.y, problem.pairs)
    with pytest.raises(ValueError, match=r"v: shape \(6, 62\); expected none"):
        layer(problem.x, problem.y, problem.pairs, problem.w, Problem("factored").v)
    problem = Problem("factored")
    layer = problem.layer(None)
    with pytest.raises(ValueError, match=r"v: none; expected \(K, 62\)"):
        layer(problem.x, problem.y, problem.pairs, problem.w)
    with pytest.raises(ValueError, match=r"v: shape \(6, 61\); expected \(K, 62\)"):
        layer(problem.x, problem.y, problem.pairs, problem.w, problem.v[:, 1:])
    with pytest.raises(ValueError, match=r"w: weights of shape \(70, 6\); expected \(70, 5\)"):
        layer(problem.x, problem.y, problem.pairs, problem.w, problem.v[1:])
    with pytest.raises(ValueError, match="weights is 'all'"):
        Coupling(BLOCKS, GROUPS, [], PAIR_DIM, weights="all")
    with pytest.raises(ValueError, match="heads is 2"):
        Coupling(BLOCKS, GROUPS, [], PAIR_DIM, heads=2)
    with pytest.raises(ValueError, match=r"constants of a path have shape \(3, 1, 5\)"):
        Coupling(BLOCKS, GROUPS, [Path(0, 0, torch.zeros(3, 1, 5))], PAIR_DIM)
