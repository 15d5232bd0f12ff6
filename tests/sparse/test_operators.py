"""Every operator of the sparse backend keeps one contract: slow twin, derivatives, compilers, types, copies, forks."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spheregeo.sparse import (
    Block,
    BlockPattern,
    Coupling,
    CSRPattern,
    Gather,
    MaxPlusMap,
    Pairs,
    Path,
    RingPattern,
    RowMaps,
    Rows,
    SparseMap,
    TangentMap,
    max_plus_planes,
    segment_apply,
    segment_outer,
)

F64 = torch.float64
IN, OUT = [(2, 0), (1, 1), (1, 2)], [(1, 1), (2, 0), (1, 3)]


def csr() -> CSRPattern:
    indptr = torch.tensor([0, 3, 3, 5, 8, 9])
    start = torch.tensor([0, 3, 3, 0, 5])  # rows 0 and 3 read the same coefficients
    return CSRPattern.of(indptr, torch.tensor([0, 2, 5, 1, 4, 6, 3, 0, 5]), 7, start, 6)


def rings() -> RingPattern:
    return RingPattern(
        indptr=torch.tensor([0, 3, 5]),
        ring=torch.tensor([0, 1, 1, 0, 1], dtype=torch.int32),
        shift=torch.tensor([0, 4, 1, 2, 0], dtype=torch.int32),
        source_base=torch.tensor([0, 5]),
        source_stride=torch.tensor([1, 1]),
        target_base=torch.tensor([0, 5]),
        target_stride=torch.tensor([1, 1]),
        columns=5,
        num_source=10,
        num_target=10,
    )


def blocks() -> BlockPattern:
    first, second = csr(), rings()
    stop = first.num_values + second.num_values
    parts = (
        Block(first, slice(0, 5), slice(2, 9), slice(0, first.num_values)),
        Block(second, slice(5, 15), slice(1, 11), slice(first.num_values, stop)),
    )
    return BlockPattern(parts, 11, 15)


class Mixed(nn.Module):
    """A sparse map with channels mixed."""

    def __init__(self, pattern: CSRPattern | RingPattern | BlockPattern, engine: str | None) -> None:
        super().__init__()
        values = torch.randn(2, pattern.num_values, dtype=F64)
        self.map = SparseMap.from_pattern(pattern, values, engine=engine)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.map.mix(x, w)


def mixed(pattern: Callable[[], CSRPattern | RingPattern | BlockPattern]) -> Callable[..., tuple]:
    def build(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
        module = Mixed(pattern(), engine)
        return module, [torch.randn(2, 3, module.map.num_source), torch.randn(4, 3, 2)]

    return build


class Plain(nn.Module):
    """A sparse map without mixing, with the coefficients as an argument."""

    def __init__(self, engine: str | None) -> None:
        super().__init__()
        self.map = SparseMap.from_pattern(csr(), torch.randn(2, 6, dtype=F64), engine=engine)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        return self.map(x, values)


def plain(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
    return Plain(engine), [torch.randn(2, 3, 7), torch.randn(2, 6)]


class Fields(nn.Module):
    """A tangent map between two types."""

    def __init__(self, engine: str | None) -> None:
        super().__init__()
        values, transport = torch.randn(2 * 11, 6, dtype=F64), torch.randn(6, dtype=F64)
        self.map = TangentMap(csr(), values, transport, rings=2, engine=engine)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.map(x, w, IN, OUT)


def tangent(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
    return Fields(engine), [torch.randn(2, 6, 7), torch.randn(6, 6, 2)]


class Coupled(nn.Module):
    """A coupling over fixed pairs."""

    BLOCKS, GROUPS, DIM = [(1, 3), (3, 2)], [3, 1], 4

    def __init__(self, engine: str | None, weights: str | None) -> None:
        super().__init__()
        paths = [
            Path(b, g, torch.randn(self.GROUPS[g], self.BLOCKS[b][0], self.DIM, dtype=F64))
            for b, g in ((0, 0), (1, 0), (1, 1))
        ]
        heads = 2 if weights == "shared" else 1
        self.map = Coupling(
            self.BLOCKS, self.GROUPS, paths, self.DIM, weights=weights, heads=heads, engine=engine
        )
        self.register_buffer("indptr", torch.tensor([0, 3, 3, 7]))
        self.register_buffer("sources", torch.tensor([1, 0, 3, 3, 2, 1, 1]))

    def forward(self, x: Tensor, y: Tensor, *weights: Tensor) -> Tensor:
        pairs = Pairs(self.get_buffer("indptr"), self.get_buffer("sources"), 4)
        return self.map(x, y, pairs, *weights)


def coupling(weights: str | None) -> Callable[..., tuple]:
    def build(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
        module = Coupled(engine, weights)
        given = [torch.randn(4 * 9), torch.randn(7, 4)]
        if weights == "factored":
            given += [torch.randn(7, 3), torch.randn(3, module.map.width)]
        elif weights:
            given.append(torch.randn(7, module.map.width))
        return module, given

    return build


class Turned(nn.Module):
    """Matrices of rows, and their adjoint."""

    def __init__(self, engine: str | None, adjoint: bool) -> None:
        super().__init__()
        paths = [
            Path(b, g, torch.randn(d, e, 2, dtype=F64))
            for b, g, d, e in ((0, 0, 2, 1), (1, 0, 2, 3), (1, 1, 3, 3))
        ]
        self.map, self.adjoint = RowMaps([(1, 3), (3, 2)], [2, 3], paths, 2, engine=engine), adjoint
        self.register_buffer("index", torch.tensor([3, 0, 0, 4, 3, 1]))

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        rows = Rows.of(self.get_buffer("index"), 5)
        return self.map.adjoint(x, k, rows) if self.adjoint else self.map(x, k, rows)


def rows(adjoint: bool) -> Callable[..., tuple]:
    def build(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
        module = Turned(engine, adjoint)
        size = 6 * module.map.outputs if adjoint else 5 * module.map.inputs
        return module, [torch.randn(size), torch.randn(6, module.map.width)]

    return build


def gather(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
    extras = ([1, 1, 5, 2], [0, 4, 1, 2], [0.5, 0.25, -1.0, 2.0])
    return Gather([3, -1, 0, 0, 4, 2, -1, 3], 6, extras, engine=engine), [torch.randn(2, 3, 6)]


class Segments(nn.Module):
    """Outer products over pairs, or the matrices of targets applied to pairs."""

    def __init__(self, engine: str | None, outer: bool) -> None:
        super().__init__()
        self.engine, self.run = engine, segment_outer if outer else segment_apply
        self.register_buffer("indptr", torch.tensor([0, 3, 3, 5, 6]))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.run(a, b, self.get_buffer("indptr"), engine=self.engine)


def segments(outer: bool) -> Callable[..., tuple]:
    def build(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
        first = torch.randn(6, 3) if outer else torch.randn(4, 3, 2)
        return Segments(engine, outer), [first, torch.randn(6, 2)]

    return build


class Planes(nn.Module):
    """Largest sums over shifts, two groups of channels."""

    def __init__(self, engine: str | None) -> None:
        super().__init__()
        self.engine, self.shifts = engine, [(0, 0, 0), (1, -1, 0), (-1, 2, 1), (0, 0, -2), (2, 1, 0)]

    def forward(self, x: Tensor, kernel: Tensor) -> Tensor:
        return max_plus_planes(x, kernel, self.shifts, engine=self.engine)


def planes(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
    return Planes(engine), [torch.randn(2, 4, 3, 5, 4), torch.randn(6, 2, 3, 5)]


class Smallest(nn.Module):
    """Smallest sums over the nonzeros of rows, none of which is empty."""

    def __init__(self, engine: str | None) -> None:
        super().__init__()
        self.map = MaxPlusMap(rings(), semiring="min", engine=engine)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        return self.map(x, values)


def smallest(engine: str | None) -> tuple[nn.Module, list[Tensor]]:
    return Smallest(engine), [torch.randn(2, 3, 10), torch.randn(3, 5)]


CASES: dict[str, Callable[..., tuple[nn.Module, list[Tensor]]]] = {
    "linear-csr": mixed(csr),
    "linear-rings": mixed(rings),
    "linear-blocks": mixed(blocks),
    "linear-values": plain,
    "tangent": tangent,
    "coupling": coupling(None),
    "coupling-shared": coupling("shared"),
    "coupling-channel": coupling("channel"),
    "coupling-factored": coupling("factored"),
    "rows": rows(False),
    "rows-adjoint": rows(True),
    "gather": gather,
    "segment-outer": segments(True),
    "segment-apply": segments(False),
    "max-planes": planes,
    "min-rows": smallest,
}
"""Modules and float32 arguments by name; a build takes the name of an engine, or None."""


def made(name: str, engine: str | None = None, dtype: torch.dtype = F64) -> tuple[nn.Module, list[Tensor]]:
    """A case in one type, its arguments ready for gradients; the same numbers at each call."""
    torch.manual_seed(0)
    module, given = CASES[name](engine)
    return module.to(dtype), [t.to(dtype).requires_grad_() for t in given]


def outcome(name: str, engine: str | None, dtype: torch.dtype = F64) -> list[Tensor]:
    """Output, all gradients, and the gradients of a sum of squares of these."""
    module, given = made(name, engine, dtype)
    y = module(*given)
    g = torch.linspace(-1, 1, y.numel(), dtype=dtype).sin().view(y.shape)
    first = torch.autograd.grad(y, given, g, create_graph=True)
    total = sum(t.square().sum() for t in first)
    second = torch.autograd.grad(total, given, allow_unused=True) if total.requires_grad else []
    return [y, *first, *(t for t in second if t is not None)]


@pytest.mark.parametrize("engine", [None, "torch"])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_slow_twin_to_second_derivatives(name: str, engine: str | None) -> None:
    ours, theirs = outcome(name, engine), outcome(name, "reference")
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_every_order(name: str) -> None:
    module, given = made(name)
    assert torch.autograd.gradcheck(module, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(module, given, fast_mode=True)


@pytest.mark.parametrize("name", CASES)
def test_one_gradient_alone(name: str) -> None:
    module, given = made(name)
    y = module(*given)
    g = torch.randn_like(y)
    together = torch.autograd.grad(y, given, g)
    for i, expected in enumerate(together):
        alone = [t if j == i else t.detach() for j, t in enumerate(given)]
        (found,) = torch.autograd.grad(module(*alone), given[i], g)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
    """Calls of our operators, as they reach the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.namespace == "spheregeo":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def _ready(argument: object) -> object:
    """A tensor of numbers ready for gradients, anything else as it is."""
    if isinstance(argument, Tensor) and argument.is_floating_point():
        return argument.detach().requires_grad_()
    return argument


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_compilers_are_told_the_truth(name: str, dtype: torch.dtype) -> None:
    """Every call that first and second derivatives make: schema, shapes, types, strides, and its own derivative."""
    module, given = made(name, None, torch.float32)
    given = [t.detach().to(dtype).requires_grad_() for t in given]
    with Recorder() as recorder:
        y = module(*given)
        first = torch.autograd.grad(y.float().square().sum(), given, create_graph=True)
        total = sum(t.float().square().sum() for t in first)
        torch.autograd.grad(total, given, allow_unused=True)
    assert len(recorder.calls) >= 2
    checks = ["test_schema", "test_faketensor", "test_autograd_registration"]
    if dtype == torch.float32:
        checks.append("test_aot_dispatch_dynamic")
    for operator, arguments in recorder.calls:
        call = [_ready(argument) for argument in arguments]
        if operator is torch.ops.spheregeo.multilinear.default:
            call[0] = [_ready(t) for t in arguments[0]]
        torch.library.opcheck(operator, tuple(call), test_utils=checks)


@pytest.mark.parametrize("name", CASES)
def test_compile_and_export(name: str) -> None:
    module, given = made(name, None, torch.float32)
    plain = module(*given)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(*given)
    torch.testing.assert_close(compiled, plain)
    g = torch.randn_like(plain)
    ours, theirs = (torch.autograd.grad(y, given, g) for y in (compiled, plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    inputs = tuple(t.detach() for t in given)
    program = torch.export.export(module, inputs)
    torch.testing.assert_close(program.module()(*inputs), plain.detach())
    assert set(program.constants) <= {key for key, _ in module.named_buffers(remove_duplicate=False)}


@pytest.mark.parametrize("name", CASES)
def test_functional_gradients(name: str) -> None:
    module, given = made(name)
    inputs = [t.detach() for t in given]
    functional = torch.func.grad(lambda *t: module(*t).square().sum())(*inputs)
    (expected,) = torch.autograd.grad(module(*given).square().sum(), given[0])
    torch.testing.assert_close(functional, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_copies_types_and_checkpoints(name: str) -> None:
    module, given = made(name)
    expected = module(*given)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(*given), expected)
    assert not any(key.startswith("map.") for key in module.state_dict())
    narrow = copy.deepcopy(module).float()
    low = narrow(*(t.float() for t in given))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.double(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(module(*given), expected), "the copy was converted, not the module"


@pytest.mark.parametrize("engine", [None, "torch"])
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CASES)
def test_low_precision_and_autocast(name: str, low: torch.dtype, engine: str | None) -> None:
    """Autocast changes nothing; low precision is computed in float32 and rounded once."""
    module, given = made(name, engine, torch.float32)
    y = module(*given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(*given)
        gradients = torch.autograd.grad(mixed.sum(), given)
    assert torch.equal(mixed, y)
    assert all(g.dtype == torch.float32 for g in gradients)
    rounded = [t.detach().to(low) for t in given]
    found = module(*rounded)
    assert found.dtype == low
    exact = module(*(t.float() for t in rounded))
    if name == "gather":
        torch.testing.assert_close(found.float(), exact, rtol=2e-2, atol=2e-2)
    else:
        assert torch.equal(found, exact.to(low))


def _in_child(connection, name: str, engine: str | None) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    try:
        module, given = made(name, engine)
        y = module(*given)
        found = [y, *torch.autograd.grad(y.sum(), given)]
        connection.send([t.detach().numpy() for t in found])
    except ValueError as error:
        connection.send(str(error))


def forked(name: str, engine: str | None) -> list | str:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_in_child, args=(theirs, name, engine))
    process.start()
    assert ours.poll(60), "the child hangs"
    found = ours.recv()
    process.join()
    return found


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.parametrize("name", CASES)
def test_forked_processes_fall_back(name: str) -> None:
    module, given = made(name)
    y = module(*given)  # the compiled loops' pool of threads is now in use
    expected = [y, *torch.autograd.grad(y.sum(), given)]
    for a, b in zip(forked(name, None), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(a), b.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_a_named_engine_is_not_replaced_in_forked_processes() -> None:
    module, given = made("linear-rings")
    module(*given)
    message = forked("linear-rings", "cpu")
    assert isinstance(message, str) and "a forked process must not enter" in message
