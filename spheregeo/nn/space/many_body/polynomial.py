"""Polynomials of many variables with coefficients for each channel, evaluated point by point; all derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spheregeo.autograd import Function, is_watched
from spheregeo.constants import table

_TASKS = 4  # of each thread


class PlainTables(NamedTuple):
    """The tree level by level as plain numbers, which compilers read.

    Attributes:
        variables, rows: components of each planar block of the variables, and of the values.
        levels: for each number of factors the last variables of the monomials, and places of their parents in the level before.
        owners: place of each term's monomial among those of all levels.
        terms: the component that each term adds to.
    """

    variables: list[int]
    rows: list[int]
    levels: list[tuple[list[int], list[int]]]
    owners: list[int]
    terms: list[int]


class PolynomialTables(NamedTuple):
    """Which terms polynomials of the components of l = 0 ... lmax have, and where variables and values lie in memory.

    Variables and values are planar: for each degree a block (N, 2 l + 1, C), one block after another in one vector.

    Attributes:
        nodes: (n, 4) the tree of monomials, parents before children: number of factors, last variable, first and last term.
        terms: (K,) the component of the values that each term adds to.
        variables: (V, 3) place of each variable, see :mod:`spheregeo.nn.space.many_body.loops`.
        rows: (R, 3) place of each component of the values.
        plain: the same for plain operations.
    """

    nodes: np.ndarray
    terms: np.ndarray
    variables: np.ndarray
    rows: np.ndarray
    plain: PlainTables

    @property
    def depth(self) -> int:
        return int(self.nodes[:, 0].max(initial=1))

    @classmethod
    def of(
        cls, degrees: Sequence[int], targets: Sequence[int], terms: Sequence[tuple[tuple[int, ...], int]]
    ) -> PolynomialTables:
        """The tables of terms (monomial as ascending variables, component), sorted and each once."""
        prefixes = sorted({name[:k] for name, _ in terms for k in range(1, len(name) + 1)})
        first = {name: len(terms) for name in prefixes}
        last = dict.fromkeys(prefixes, len(terms))
        for k, (name, _) in enumerate(terms):
            first[name] = min(first[name], k)
            last[name] = k + 1
        nodes = [(len(name), name[-1], first[name], last[name]) for name in prefixes]
        components = [row for _, row in terms]
        levels = [[name for name in prefixes if len(name) == k + 1] for k in range(max(map(len, prefixes)))]
        place = {name: k for k, name in enumerate(name for level in levels for name in level)}
        starts = [sum(map(len, levels[:k])) for k in range(len(levels))]
        plain = PlainTables(
            [2 * degree + 1 for degree in degrees],
            [2 * target + 1 for target in targets],
            [
                (
                    [name[-1] for name in level],
                    [place[name[:-1]] - starts[k - 1] for name in level] if k else [],
                )
                for k, level in enumerate(levels)
            ],
            [place[name] for name, _ in terms],
            components,
        )
        tree, rows = np.array(nodes, np.int64), np.array(components, np.int64)
        places = [np.array(_places(every), np.int64) for every in (degrees, targets)]
        return cls(tree, rows, places[0], places[1], plain)


def _places(degrees: Sequence[int]) -> list[tuple[int, int, int]]:
    """(components of the blocks before, of the own block, component) of each component of planar blocks."""
    found, before = [], 0
    for degree in degrees:
        found += [(before, 2 * degree + 1, m) for m in range(2 * degree + 1)]
        before += 2 * degree + 1
    return found


class Plan(NamedTuple):
    """Tables for some points: which table of coefficients each has, and in which order they are best worked on.

    Attributes:
        tables: the polynomials'.
        of: (N,) int64.
        order: (N,) points of one table of coefficients together.
        bounds: where tables of coefficients change in this order, both ends included.
    """

    tables: PolynomialTables
    of: Tensor
    order: np.ndarray
    bounds: np.ndarray

    @classmethod
    def make(cls, tables: PolynomialTables, of: Tensor) -> Plan:
        which = of.detach().cpu().numpy()
        order = np.argsort(which, kind="stable")
        changes = np.flatnonzero(np.diff(which[order])) + 1
        return cls(tables, of, order, np.array([0, *changes, len(order)], np.int64))


def plain_polynomial(tables: PolynomialTables, x: Tensor, c: Tensor, of: Tensor) -> Tensor:
    """The polynomials by plain operations, level by level: what compilers see, and the way on other devices.

    Shape: as :func:`polynomial`.
    """
    count, channels, plain = of.shape[0], c.shape[2], tables.plain
    parts = x.split([count * channels * size for size in plain.variables])
    blocks = torch.cat(
        [part.view(count, size, channels) for part, size in zip(parts, plain.variables, strict=True)], 1
    )
    values: list[Tensor] = []
    for factors, parents in plain.levels:
        level = blocks.index_select(1, _index(factors, x))
        values.append(level * values[-1].index_select(1, _index(parents, x)) if values else level)
    every = torch.cat(values, 1).index_select(1, _index(plain.owners, x)) * c.index_select(0, of)
    y = every.new_zeros(count, sum(plain.rows), channels).index_add(1, _index(plain.terms, x), every)
    return torch.cat([part.reshape(-1) for part in y.split(plain.rows, 1)])


def _index(values: Sequence[int], like: Tensor) -> Tensor:
    return table(values, like, torch.int64)


def is_compiled(x: Tensor) -> bool:
    """Whether compiled loops serve: on the CPU, where neither a compiler nor a transform follows, outside forked processes."""
    if x.device.type != "cpu" or is_watched() or type(x) not in (Tensor, torch.nn.Parameter):
        return False
    from spheregeo.sparse.engines.compiled.runtime import forked

    return not forked()


def polynomial(plan: Plan, x: Tensor, c: Tensor) -> Tensor:
    """Sums over terms k of c[of_i, k] times the monomial k of point i, channel by channel.

    Linear in c; derivatives of every order exist, first and second by compiled loops that keep nothing but their arguments.

    Args:
        plan: the polynomials' tables and the points'.
        x: planar, (N V C,).
        c: coefficients (Z, K, C).

    Shape: -> planar (N R C,).
    """
    result: Tensor = _Value.apply(x, c, plan)
    return result


def _run(name: str, plan: Plan, channels: int, together: bool, arrays: Sequence[Tensor], *rest: Any) -> None:
    """A loop over all points; ``together``: points of one table of coefficients in one task, for they add to one gradient."""
    from spheregeo.nn.space.many_body import loops
    from spheregeo.sparse.engines.compiled.runtime import array, threads

    tables = plan.tables
    sizes = (len(plan.order), channels, len(tables.terms), tables.depth)
    tree = (tables.nodes, tables.terms)
    with threads() as count:
        bounds = plan.bounds
        if not together:
            tasks = 1 if count == 1 else max(1, min(_TASKS * count, len(plan.order)))
            bounds = np.linspace(0, len(plan.order), tasks + 1).astype(np.int64)
        given = [array(t) for t in arrays]
        getattr(loops, name)(
            plan.order, bounds, *given, array(plan.of), tree, tables.variables, tables.rows, sizes, *rest
        )


def _empty(wanted: bool, like: Tensor, zero: bool = False) -> Tensor:
    if not wanted:
        return like.new_empty(0)
    return torch.zeros_like(like) if zero else torch.empty_like(like)


def _value(plan: Plan, x: Tensor, c: Tensor) -> Tensor:
    y = x.new_empty(len(plan.order) * len(plan.tables.rows) * c.shape[2])
    _run("value", plan, c.shape[2], False, (x, c.reshape(-1)), y.numpy())
    return y


def _first(
    plan: Plan, x: Tensor, c: Tensor, g: Tensor, want_x: bool, want_c: bool
) -> tuple[Tensor | None, Tensor | None]:
    x, c = x.detach().contiguous(), c.detach().contiguous()
    gx, gc = _empty(want_x, x), _empty(want_c, c, zero=True)
    results = (gx.numpy(), gc.view(-1).numpy())
    _run("gradients", plan, c.shape[2], want_c, (x, c.reshape(-1), g), (want_x, want_c), *results)
    return gx if want_x else None, gc if want_c else None


class _Value(Function):
    @staticmethod
    def forward(x: Tensor, c: Tensor, plan: Plan) -> Tensor:
        return _value(plan, x, c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, c, ctx.plan = inputs
        ctx.save_for_backward(x, c)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, c = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            gx, gc = _Gradients.apply(x, c, g, ctx.plan, *wanted)
        else:
            gx, gc = _first(ctx.plan, x, c, g, *wanted)
        return gx, gc, None


class _Gradients(Function):
    """Gradients of <g, p(x)> to x and c, where they are to be differentiated themselves."""

    @staticmethod
    def forward(x: Tensor, c: Tensor, g: Tensor, plan: Plan, want_x: bool, want_c: bool) -> Any:
        return _first(plan, x, c, g, want_x, want_c)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, c, g, ctx.plan, *ctx.wanted = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, c, g)

    @staticmethod
    def backward(ctx: Any, vx: Tensor | None, vc: Tensor | None) -> tuple[Any, ...]:
        x, c, g = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = _plain_second(ctx.plan, (x, c, g), (vx, vc), ctx.needs_input_grad[:3])
        else:
            found = _second(ctx.plan, x, c, g, vx, vc, ctx.needs_input_grad[:3])
        return (*found, None, None, None)


def _second(
    plan: Plan, x: Tensor, c: Tensor, g: Tensor, vx: Tensor | None, vc: Tensor | None, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients to x, c and g of <vx, gx> + <vc, gc>."""
    x, c, g = (t.detach().contiguous() for t in (x, c, g))
    found: list[Tensor | None] = [None, None, None]
    if vx is not None:
        results = [_empty(wanted[0], x), _empty(wanted[1], c, zero=True), _empty(wanted[2], g)]
        flat = [t.view(-1).numpy() for t in results]
        _run("second", plan, c.shape[2], wanted[1], (x, c.reshape(-1), g, vx), tuple(wanted), *flat)
        found = [t if want else None for t, want in zip(results, wanted, strict=True)]
    if vc is not None:  # <vc, gc> = <g, p(x) with the coefficients vc>
        more_x, _ = _first(plan, x, vc, g, True, False) if wanted[0] else (None, None)
        more_g = _value(plan, x, vc) if wanted[2] else None
        for k, more in ((0, more_x), (2, more_g)):
            if more is not None:
                old = found[k]
                found[k] = more if old is None else old + more
    return found


def _plain_second(
    plan: Plan, given: Sequence[Tensor], cotangents: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """:func:`_second` by plain operations, which can be differentiated further."""
    x, c, g = given
    with torch.enable_grad():
        x, c, g = (t if t.requires_grad else t.detach().requires_grad_() for t in (x, c, g))
        own = [t.view_as(t) for t in (x, c)]  # derivatives by these alone, not by what they came from
        y = plain_polynomial(plan.tables, own[0], own[1], plan.of)
        firsts = torch.autograd.grad(y, own, g, create_graph=True)
        pairs = [(f, v) for f, v in zip(firsts, cotangents, strict=True) if v is not None]
        seconds = torch.autograd.grad(
            [f for f, _ in pairs], [*own, g], [v for _, v in pairs], create_graph=True, allow_unused=True
        )
    return [s if want else None for s, want in zip(seconds, wanted, strict=True)]
