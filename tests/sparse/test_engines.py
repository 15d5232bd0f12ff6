"""An engine of one's own, in plain torch, serves every layer; engines that are named are obeyed or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spheregeo as sg
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, HEALPix, Icosahedral
from spheregeo.sparse import default_engine, engines, register_engine
from spheregeo.sparse.engines import OPERATORS, TangentEngine, get_engine, pick
from spheregeo.sparse.forms.orders import layout

# ---- the toy: dense arrays, no chunks, everything the documentation of engines asks for

record: list[tuple[str, tuple[int, ...]]] = []


def recorded(name: str, run: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    def implementation(
        structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]
    ) -> list[Tensor]:
        record.append((name, tuple(wanted)))
        return run(structure, arguments, wanted)

    return implementation


def one(formula: str, given: Sequence[Tensor | None], slot: int) -> Tensor:
    """A sum of products without one of its factors."""
    terms = formula.split(",")
    rest = [(term, t) for i, (term, t) in enumerate(zip(terms, given, strict=True)) if i != slot]
    return torch.einsum(",".join(term for term, _ in rest) + "->" + terms[slot], *[t for _, t in rest])


def linear(structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    x, w, v, g = arguments
    pattern, groups = structure.pattern, structure.groups
    target, source, column = pattern.coo()
    places = (target * pattern.num_source + source, pattern.num_target * pattern.num_source)
    dense, like = None, next(t for t in arguments if t is not None)
    if v is not None:
        dense = v.new_zeros(len(v), places[1]).index_add(1, places[0], v[:, column])
        dense = dense.view(len(v), pattern.num_target, pattern.num_source)
    if w is None and 1 not in wanted:
        channels = x.shape[1] if x is not None else g.shape[1] // len(v)
        apart = None if g is None else g.unflatten(1, (channels, -1))
        formula, given = "bcq,z,kpq,bckp", (x, like.new_ones(1), dense, apart)
    else:
        apart = (groups, -1)
        split = [None if t is None else t.unflatten(i, apart) for i, t in ((1, x), (0, w), (1, g))]
        formula, given = "bzcq,zock,kpq,bzop", (*split[:2], dense, split[2])
    found = []
    for slot in wanted:
        result = one(formula, given, slot)
        if slot == 2:  # from the dense matrix back to the table
            entries = result.flatten(1)[:, places[0]]
            result = result.new_zeros(len(result), pattern.num_values).index_add(1, column, entries)
        elif result.ndim > 3:
            result = result.flatten(0, 1) if slot == 1 else result.flatten(1, 2)
        found.append(result)
    return found


class Tangent(TangentEngine):
    """Complex sums over all pairs at once."""

    def contract(self, structure: Any, rows: Any, x: Tensor) -> Any:
        rings, ends = structure.rings, (structure.source, structure.target)
        source, target = ends[::-1] if rows.adjoint else ends
        counts = rows.indptr.diff()
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        column = rows.start[row] + torch.arange(len(row)) - rows.indptr[row]
        entry = structure.table[rows.order[column].long() if len(rows.order) else column].to(x.dtype)
        turn = torch.complex(entry[:, -2], entry[:, -1])
        turn = turn.conj() if rows.adjoint else turn
        out = x.new_zeros(len(counts), layout(source, target, rings)[1][-1])
        at = 0
        for n, _, _ in target.blocks:
            for m, first, count in source.blocks:
                near = x[rows.indices.long(), first : first + count * (2 if m else 1)]
                z = torch.complex(near[:, :count], near[:, count:]) * turn[:, None] ** m if m else near + 0j
                for frequency in (-m,) if n == 0 else (n,) if m == 0 else (n - m, -n - m):
                    j = abs(frequency)
                    begin = rings * (2 * j - 1) if j else 0
                    c = entry[:, begin : begin + rings] + 0j
                    if j:
                        c = c + (1j if frequency > 0 else -1j) * entry[:, begin + rings : begin + 2 * rings]
                    c = c * turn[:, None] ** frequency if rows.adjoint else c
                    sums = torch.zeros(len(counts), rings, count, dtype=z.dtype)
                    sums.index_add_(0, row, c[:, :, None] * z[:, None])
                    for part in (sums.real, sums.imag) if n or m else (sums.real,):
                        out[:, at : at + rings * count] = part.flatten(1)
                        at += rings * count
        yield slice(0, len(counts)), out


def coupling(structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    _, _, w, v, _ = arguments
    own, tables, like = structure.own, structure.tables, next(t for t in arguments if t is not None)
    inner = 0 if own.kind < 3 else len(v) if v is not None else w.shape[1]
    width = inner if own.kind == 3 else own.width
    sizes = (structure.num_source * own.inputs, structure.num_pairs * own.dim, structure.num_pairs * width,
             inner * own.width, structure.num_target * own.outputs * own.heads)  # fmt: skip
    total = {slot: like.new_zeros(sizes[slot]) for slot in wanted}
    pair, target = torch.arange(structure.num_pairs), structure.targets()
    for column, d, mul, first, last, begin, end in tables.blocks.tolist():
        rows = tables.functions[first:last]
        channel, head = torch.arange(mul), torch.arange(own.heads)[:, None, None]
        spot = (rows[:, 2] * rows[:, 3] * own.heads + rows[:, 4])[:, None] + channel + head * rows[:, 3, None]
        start = own.heads * (structure.num_target * rows[:, 0] + target[:, None] * rows[:, 1])
        columns = rows[:, 5, None] + channel
        at = [
            (structure.num_source * column + structure.sources[:, None, None] * d * mul) + torch.arange(d * mul).view(d, mul),
            pair[:, None] * own.dim + torch.arange(own.dim),
            pair[:, None, None] * width + columns if own.kind == 2 else pair[:, None] * width + torch.arange(width),
            torch.arange(inner)[:, None, None] * own.width + columns,
            start[:, None, :, None] + spot,
        ]  # fmt: skip
        constants = like.new_zeros(last - first, d, own.dim)
        f, *others = tables.entries[begin:end].unbind(1)
        constants[f - first, others[0], others[1]] = tables.values[begin:end].to(like.dtype)
        letters = ["edc", "es", ("h", "eh", "efc", "ei")[own.kind], "ifc" if own.kind == 3 else "z", "ehfc"]
        ready = [None if t is None else t.reshape(-1)[i] for t, i in zip(arguments, at, strict=True)]
        ready[2] = like.new_ones(1) if own.kind == 0 else ready[2]
        ready[3] = ready[3] if own.kind == 3 else like.new_ones(1)
        formula = [*letters, "fds", *(["h"] if own.kind > 1 else [])]
        given = [*ready, constants, *([like.new_ones(1)] if own.kind > 1 else [])]
        for slot in wanted:
            total[slot].index_add_(0, at[slot].flatten(), one(",".join(formula), given, slot).flatten())
    tables_of = {1: (structure.num_pairs, own.dim), 2: (structure.num_pairs, width), 3: (inner, own.width)}
    return [total[slot].view(tables_of.get(slot, (-1,))) for slot in wanted]


def rows(structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    tables, number = structure.tables, structure.num_rows
    like = next(t for t in arguments if t is not None)
    sizes = (structure.points * tables.inputs, number * tables.width, number * tables.outputs)
    total = {slot: like.new_zeros(sizes[slot]) for slot in wanted}
    row = torch.arange(number)[:, None, None]
    for column, d, mul, first, last, begin in tables.blocks.tolist():
        f = tables.functions[first:last, :, None]
        at = [
            structure.points * column + structure.index[:, None, None] * d * mul + torch.arange(d * mul).view(d, mul),
            row * tables.width + begin + torch.arange((last - first) * d).view(-1, d),
            number * f[:, 0] + row * f[:, 1] + f[:, 2] * f[:, 3] + f[:, 4] + torch.arange(mul),
        ]  # fmt: skip
        ready = [None if t is None else t.reshape(-1)[i] for t, i in zip(arguments, at, strict=True)]
        for slot in wanted:
            total[slot].index_add_(0, at[slot].flatten(), one("rdc,rfd,rfc", ready, slot).flatten())
    return [total[slot].view(number, tables.width) if slot == 1 else total[slot] for slot in wanted]


def gather(structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    table, like = structure.ahead, next(t for t in arguments if t is not None)
    dense = like.new_zeros(table.num_rows, structure.back.num_rows)
    dense[torch.arange(table.num_rows), table.index.long()] = 1
    dense[table.empty.long()] = 0
    dense.index_put_((table.target.long(), table.source.long()), table.weight.to(like.dtype), accumulate=True)
    return [one("bqc,bmc,mq", (*arguments, dense), slot) for slot in wanted]


def segment(structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
    counts = structure.indptr.diff()
    like = next(t for t in arguments if t is not None)
    member = torch.repeat_interleave(torch.eye(len(counts), dtype=like.dtype), counts, 0)
    return [one("ex,ey,nxy,en", (*arguments, member), slot) for slot in wanted]


TOY = {
    "linear": linear,
    "tangent": Tangent(),
    "coupling": coupling,
    "rows": rows,
    "gather": gather,
    "segment": segment,
}
register_engine("toy", lambda: {name: recorded(name, run) for name, run in TOY.items()})


# ---- it serves every layer


GRIDS = [
    Equiangular(8, 16),
    GaussLegendre(6, 12),
    HEALPix(2),
    HEALPix(2, order="nested"),
    Icosahedral(1),
    Fibonacci(60),
]


def cloud(irreps: str, channels: int) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    edges = torch.randint(0, 9, (2, 40), generator=draw)
    return torch.randn(9, channels, generator=draw), torch.randn(9, 3, generator=draw), edges


LAYERS: dict[str, tuple[Callable[[str | None], nn.Module], Callable[[], tuple[Tensor, ...]], set[str]]] = {}
"""By name: the layer for an engine, its inputs, the operators that must run."""


def field(grid: Any, channels: int) -> tuple[Tensor]:
    return (torch.randn(2, channels, *grid.shape),)


for grid in GRIDS:
    LAYERS[f"disco {grid}"] = (
        lambda engine, grid=grid: sg.nn.DiscoConv(4, 4, grid, groups=2, engine=engine),
        lambda grid=grid: field(grid, 4), {"linear"},
    )  # fmt: skip
    LAYERS[f"transposed {grid}"] = (
        lambda engine, grid=grid: sg.nn.DiscoConvTranspose(3, 2, grid, engine=engine),
        lambda grid=grid: field(grid, 3), {"linear"},
    )  # fmt: skip
    LAYERS[f"gauge {grid}"] = (
        lambda engine, grid=grid: sg.nn.GaugeConv("1x0 + 1x1", "2x0 + 1x2", grid, radius=0.8, engine=engine),
        lambda grid=grid: field(grid, 3), {"tangent"},
    )  # fmt: skip

IRREPS = "2x0e + 2x1o"
for name, options, operators in (
    ("product", {"method": "product"}, {"coupling"}),
    ("so2", {"method": "so2"}, {"rows"}),
    ("with edges", {"edge_dim": 2}, {"coupling"}),
    ("depthwise", {"edge_dim": 2, "depthwise": True}, {"coupling"}),
):
    LAYERS[f"steerable {name}"] = (
        lambda engine, o=options: sg.nn.SteerableConv(IRREPS, IRREPS, lmax=2, engine=engine, **o),
        lambda o=options: (*cloud(IRREPS, 8), *([torch.randn(40, 2)] if "edge_dim" in o else [])), operators,
    )  # fmt: skip
for kind, options, operators in (
    ("gate", {}, {"coupling"}),
    ("product", {"nonlinearity": "product"}, {"segment"}),
    ("regular", {"group": "octahedral"}, {"segment"}),
):
    LAYERS[f"implicit {kind}"] = (
        lambda engine, o=options: sg.nn.ImplicitConv(IRREPS, IRREPS, hidden=2, engine=engine, **o),
        lambda: cloud(IRREPS, 8), operators,
    )  # fmt: skip


def outcome(layer: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Output, and gradients of the first input and of all parameters."""
    layer, (x, *rest) = layer.double(), [t.double() if t.is_floating_point() else t for t in inputs]
    x = x.detach().requires_grad_()
    y = layer(x, *rest)
    leaves = [x, *(p for p in layer.parameters() if p.requires_grad)]
    g = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    found = torch.autograd.grad(y, leaves, g, allow_unused=True)
    return [y, *(t for t in found if t is not None)]


@pytest.mark.parametrize("name", LAYERS)
def test_a_toy_engine_serves_layers_by_name(name: str) -> None:
    build, inputs, operators = LAYERS[name]
    given = inputs()
    torch.manual_seed(0)
    layer = build("toy")
    torch.manual_seed(0)
    twin = build(None)
    twin.load_state_dict(layer.state_dict())
    record.clear()
    ours = outcome(layer, given)
    assert {operator for operator, _ in record} == operators
    last = len(next(iter(sg.sparse.multilinear.FORMS[o] for o in operators)).arguments) - 1
    assert any(last in wanted for _, wanted in record) and any(last not in wanted for _, wanted in record)
    theirs = outcome(twin, given)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


class Function(nn.Module):
    """A function of a field as a layer."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


TURN = torch.tensor([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]], dtype=torch.float64)
BY_DEFAULT: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "resample": (
        lambda: Function(lambda x: sg.sampling.resample(x, HEALPix(2), Fibonacci(50))),
        (2, 3, 48),
        "linear",
    ),
    "average": (
        lambda: Function(lambda x: sg.sampling.resample(x, Fibonacci(60), HEALPix(1), "average")),
        (2, 60),
        "linear",
    ),
    "rotation": (
        lambda: Function(lambda x: sg.sampling.rotation_map(Icosahedral(1), TURN)(x)),
        (2, 3, 42),
        "linear",
    ),
    "pool": (lambda: Function(lambda x: sg.sampling.pool(x, HEALPix(2), "area")), (2, 3, 48), "linear"),
    "Pool": (lambda: sg.nn.Pool(Equiangular(8, 16), "area"), (2, 3, 8, 16), "linear"),
    "Unpool": (lambda: sg.nn.Unpool(Icosahedral(1), "linear"), (2, 3, 42), "linear"),
    "Resample": (lambda: sg.nn.Resample(HEALPix(2), Equiangular(4, 8)), (2, 3, 48), "linear"),
    "ChebConv": (lambda: sg.nn.ChebConv(3, 2, HEALPix(2)), (2, 3, 48), "linear"),
    "HEALPixConv": (lambda: sg.nn.HEALPixConv(3, 2, HEALPix(4)), (2, 3, 192), "gather"),
    "ToFaces": (lambda: sg.nn.ToFaces(HEALPix(4)), (2, 3, 192), "gather"),
    "FieldPool": (lambda: sg.nn.FieldPool("1x0 + 1x1", Icosahedral(2)), (2, 3, 162), "linear"),
    "DiscoConv": (lambda: sg.nn.DiscoConv(3, 2, Equiangular(8, 16)), (2, 3, 8, 16), "linear"),
}


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_a_toy_engine_serves_all_others_by_default(name: str) -> None:
    build, shape, operator = BY_DEFAULT[name]
    torch.manual_seed(0)
    layer, x = build(), torch.randn(shape)
    record.clear()
    with default_engine("toy"):
        ours = outcome(layer, (x,))
    assert {(operator, slots) for slots in ((0,), (0, 1), (1,), (3,))} & set(record)
    record.clear()
    theirs = outcome(layer, (x,))
    assert not record, "the toy is no longer asked"
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


# ---- obedience


def test_what_an_engine_lacks_is_named() -> None:
    register_engine("half", lambda: {"linear": linear})
    layer = sg.nn.GaugeConv("1x0", "1x0", HEALPix(2), engine="half")
    with pytest.raises(
        ValueError,
        match=r"engine 'half' has no operator 'tangent', only linear; it is implemented by .*torch",
    ):
        layer(torch.randn(1, 1, 48))
    assert sg.nn.DiscoConv(1, 1, HEALPix(2), engine="half")(torch.randn(1, 1, 48)).shape == (1, 1, 48)
    with default_engine("half"):  # one that is not named is passed over
        assert sg.nn.GaugeConv("1x0", "1x0", HEALPix(2))(torch.randn(1, 1, 48)).shape == (1, 1, 48)
    with pytest.raises(ValueError, match="engine 'pyg' has no operator 'coupling'"):
        sg.nn.SteerableConv("1x0e", "1x0e", lmax=0, engine="pyg")(*cloud("1x0e", 1))


def test_engines_keep_to_their_devices() -> None:
    register_engine("elsewhere", lambda: TOY, devices=("cuda",), auto=True)
    layer = sg.nn.GaugeConv("1x0", "1x0", HEALPix(2), engine="elsewhere")
    with pytest.raises(
        ValueError, match="engine is 'elsewhere' but the input is on cpu, not cuda; use engine='auto'"
    ):
        layer(torch.randn(1, 1, 48))
    assert sg.nn.GaugeConv("1x0", "1x0", HEALPix(2))(torch.randn(1, 1, 48)).shape == (1, 1, 48)
    for operator in OPERATORS:
        assert get_engine("auto", torch.device("cuda"), operator) is TOY.get(
            operator, get_engine("torch", torch.device("cuda"), operator)
        )
        with pytest.raises(ValueError, match="engine is 'cpu' but the input is on cuda"):
            get_engine("cpu", torch.device("cuda"), operator)


def test_every_engine_of_ours_has_every_operator() -> None:
    for name in ("cpu", "torch"):
        assert all(get_engine(name, torch.device("cpu"), operator) for operator in OPERATORS)
    for operator in set(OPERATORS) - {"bands"}:
        assert get_engine("reference", torch.device("cpu"), operator)


def test_names_are_checked() -> None:
    with pytest.raises(
        ValueError, match="name 'toy' is taken; engines are auto, reference, torch, cpu, pyg, triton, toy"
    ):
        register_engine("toy", dict)
    with pytest.raises(ValueError, match="engine is 'fast'; expected one of auto"), default_engine("fast"):
        pass
    builders = [lambda: sg.nn.ImplicitConv("1x0e", "1x0e", engine="fast"), lambda: sg.sparse.Gather([0], 1, engine="fast"),
                lambda: sg.nn.SteerableConv("1x0e", "1x0e", lmax=0, engine="fast")]  # fmt: skip
    for build in builders:
        with pytest.raises(ValueError, match="engine is 'fast'; expected one of auto"):
            build()
    assert "toy" in engines()


def test_an_engine_of_the_former_kind_still_runs() -> None:
    from spheregeo.sparse.engines.gradients import Gradients
    from spheregeo.sparse.engines.portable.linear import PortableLinear

    class Former(Gradients):
        def __init__(self) -> None:
            self.inner = PortableLinear()

        def apply(self, pattern, v, w, x, groups):  # type: ignore[no-untyped-def]
            record.append(("former", ()))
            return self.inner.apply(pattern, v, w, x, groups)

        def weight_gradient(self, pattern, v, x, g, groups):  # type: ignore[no-untyped-def]
            return self.inner.weight_gradient(pattern, v, x, g, groups)

        def value_gradient(self, pattern, w, x, g, groups):  # type: ignore[no-untyped-def]
            return self.inner.value_gradient(pattern, w, x, g, groups)

    register_engine("former", Former)
    record.clear()
    layer = sg.nn.DiscoConv(2, 2, Equiangular(8, 16), engine="former")
    twin = sg.nn.DiscoConv(2, 2, Equiangular(8, 16))
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(1, 2, 8, 16)
    for a, b in zip(outcome(layer, (x,)), outcome(twin, (x,)), strict=True):
        torch.testing.assert_close(a, b)
    assert record


def test_methods_are_no_engines() -> None:
    with pytest.warns(DeprecationWarning, match="engine='so2' is called method='so2' now"):
        layer = sg.nn.SteerableConv("1x0e", "1x0e", lmax=1, engine="so2")
    assert layer.method == "so2" and layer.engine == "auto"
    with pytest.raises(ValueError, match="engine is 'toy', but method 'tensor' is plain torch"):
        sg.nn.SteerableConv("1x0e", "1x0e", lmax=1, method="tensor", engine="toy")


@pytest.mark.parametrize("engine", [None, "torch", "reference"])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_mixed_precision_on_every_grid(grid: Any, groups: int, engine: str | None) -> None:
    layer = sg.nn.DiscoConv(8, 8, grid, kernel=sg.kernels.Morlet(3, 3), groups=groups, engine=engine)
    x = torch.randn(2, 8, *grid.shape, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        y.float().square().sum().backward()
    assert (
        y.dtype == torch.float32
        and torch.equal(y, layer(x))
        and x.grad is not None
        and layer.weight.grad is not None
    )
    for dtype, bound in ((torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
        with torch.autocast("cpu", dtype):
            low = layer(x.to(dtype))
        assert low.dtype == dtype
        assert float((low.float() - y).detach().norm() / y.detach().norm()) < bound


@pytest.mark.parametrize("engine", [None, "torch"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_mixed_precision_of_fields_and_attention_on_every_grid(grid: Any, engine: str | None) -> None:
    cases = [
        (sg.nn.GaugeConv("2x0 + 1x1", "2x0 + 1x1", grid, engine=engine), 4),
        (sg.nn.SphereAttention(4, grid, heads=2, engine=engine), 4),
    ]
    for layer, channels in cases:
        x = torch.randn(1, channels, *grid.shape)
        exact = layer(x).detach()
        for dtype, bound in ((torch.bfloat16, 2e-2), (torch.float16, 4e-3)):
            with torch.autocast("cpu", dtype):
                low = layer(x.to(dtype).requires_grad_())
            low.float().sum().backward()
            assert float((low.float() - exact).detach().norm() / exact.norm()) < bound, type(layer).__name__


def test_types_choose_engines_too() -> None:
    """One that computes low precision is given features as they are and the rest in float32; others are given float32."""
    seen: list[list[torch.dtype]] = []

    def low(structure: Any, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> list[Tensor]:
        seen.append([t.dtype for t in arguments if t is not None])
        like = arguments[3] if arguments[0] is None else arguments[0]
        assert like is not None
        wide = [None if t is None else t.float() for t in arguments]
        found = get_engine("torch", like.device, "linear")(structure, wide, wanted)
        return [t.to(like.dtype) if slot in (0, 3) else t for slot, t in zip(wanted, found, strict=True)]

    with pytest.raises(ValueError, match="engine is 'low'"):
        default_engine("low").__enter__()
    register_engine("low", lambda: {"linear": low}, dtypes=(torch.float32, torch.bfloat16))
    for grid in (HEALPix(4), Equiangular(24, 48)):
        layer = sg.nn.DiscoConv(2, 3, grid)
        x = torch.randn(2, 2, *grid.shape, dtype=torch.bfloat16)
        results = []
        for engine in ("cpu", "low"):
            given = x.clone().requires_grad_()
            layer.zero_grad()
            with default_engine(engine):
                y = layer(given)
                y.sum().backward()
            assert y.dtype == torch.bfloat16 and given.grad is not None and given.grad.dtype == x.dtype
            results.append((y, given.grad, layer.weight.grad))
        for one_of, other in zip(*results, strict=True):
            scale = float(one_of.detach().abs().max())
            torch.testing.assert_close(other / scale, one_of / scale, rtol=0, atol=2e-2)
    types = (torch.bfloat16, torch.float32)
    assert seen and all(set(t) == set(types) for t in seen)
    assert pick("auto", x, "linear")[1] == torch.float32 and pick("low", x, "linear")[1] == torch.bfloat16
    with pytest.raises(ValueError, match=r"engine is 'low' but the input is torch\.float64"):
        sg.nn.DiscoConv(1, 1, HEALPix(2), engine="low").double()(torch.zeros(1, 1, 48).double())
