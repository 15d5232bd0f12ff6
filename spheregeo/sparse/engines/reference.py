"""The slow twin: every nonzero and every pair written out, one Einstein sum a form. Defines what other engines must return.

A form is a sum of products of its arguments, each read at the points of a nonzero or a pair; a partial derivative is
that sum without one factor, added up at the points where the factor is read. No loop, no sharing, no derivative by hand:
any device, any type; memory nonzeros times channels times functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spheregeo.sparse.forms import (
    attention,
    bands,
    coupling,
    gather,
    linear,
    max_plus,
    rows,
    segment,
    tangent,
)
from spheregeo.sparse.forms.orders import width
from spheregeo.sparse.patterns import BandsPattern


class Factor(NamedTuple):
    """An argument as it stands in the sum.

    Its slot (None for a constant), the letters of its axes, its values where the sum reads them (None if not given), and how
    sums at those places become a partial derivative.
    """

    slot: int | None
    letters: str
    values: Tensor | None
    back: Callable[[Tensor], Tensor] = lambda t: t


def partial(factors: Sequence[Factor], slot: int) -> Tensor:
    """The partial derivative in a slot."""
    place = next(i for i, f in enumerate(factors) if f.slot == slot)
    others = [f for f in factors if f.slot != slot]
    if 2 * place < len(factors):
        others.reverse()  # from the far end, so that what is summed along the way stays small
    values = []
    for f in others:
        assert f.values is not None, f"the argument in slot {f.slot} is needed for the one in slot {slot}"
        values.append(f.values)
    formula = ",".join(f.letters for f in others) + "->" + factors[place].letters
    return factors[place].back(torch.einsum(formula, *values))


def _at(t: Tensor | None, dim: int, index: Tensor) -> Tensor | None:
    return None if t is None else t.index_select(dim, index)


def _added(dim: int, index: Tensor, size: int) -> Callable[[Tensor], Tensor]:
    """Sums over the places ``index`` of an axis of ``size``."""

    def back(t: Tensor) -> Tensor:
        shape = list(t.shape)
        shape[dim] = size
        return t.new_zeros(shape).index_add(dim, index, t)

    return back


def linear_form(
    structure: linear.LinearStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every nonzero: sum g[b,o,p] w[o,c,k] v[k,t] x[b,c,q]."""
    x, w, v, g = arguments
    pattern, groups = structure.pattern, structure.groups
    target, source, column = pattern.coo()
    at_x, at_v, at_g = _at(x, 2, source), _at(v, 1, column), _at(g, 2, target)
    to_x, to_v, to_g = (
        _added(dim, index, size)
        for dim, index, size in (
            (2, source, pattern.num_source), (1, column, pattern.num_values), (2, target, pattern.num_target)
        )
    )  # fmt: skip
    coefficients = Factor(linear.V, "kt", at_v, to_v)
    if w is None and linear.W not in wanted:
        if at_g is not None:
            assert g is not None
            channels = g.shape[1] // v.shape[0] if x is None and v is not None else x.shape[1]  # type: ignore[union-attr]
            at_g = at_g.unflatten(1, (channels, -1))
        factors = [
            Factor(linear.X, "bct", at_x, to_x),
            coefficients,
            Factor(linear.G, "bckt", at_g, lambda t: to_g(t.flatten(1, 2))),
        ]
    else:
        apart = (groups, -1)
        factors = [
            Factor(
                linear.X,
                "bzct",
                None if at_x is None else at_x.unflatten(1, apart),
                lambda t: to_x(t.flatten(1, 2)),
            ),
            coefficients,
            Factor(linear.W, "zock", None if w is None else w.unflatten(0, apart), lambda t: t.flatten(0, 1)),
            Factor(
                linear.G,
                "bzot",
                None if at_g is None else at_g.unflatten(1, apart),
                lambda t: to_g(t.flatten(1, 2)),
            ),
        ]
    return [partial(factors, slot) for slot in wanted]


def bands_form(
    pattern: BandsPattern, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Re sum conj(G) w Psi X, a complex sum."""
    x, w, g = arguments
    like = next(t for t in (x, g) if t is not None)
    full = like.new_zeros(pattern.functions, *pattern.parts.movedim(2, 0).shape[1:])
    for part, (function, imaginary) in zip(pattern.parts.unbind(2), pattern.which.tolist(), strict=True):
        full[function] += part.to(like.real.dtype) * (1j if imaginary else 1)
    factors = [
        Factor(bands.X, "bncqf", None if x is None else x, torch.conj_physical),
        Factor(None, "knpqf", full),
        Factor(bands.W, "ock", None if w is None else w.to(like.dtype), lambda t: t.real),
        Factor(bands.G, "bnopf", None if g is None else g.conj()),
    ]
    return [partial(factors, slot) for slot in wanted]


def tangent_form(
    structure: tangent.TangentStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every pair, one pair of orders after another: sum g[b,o,a] w[o,p,i,q,r] T[t,r,a,p,c,q] x[b,i,c]."""
    x, w, g = arguments
    pairs, source, target = structure.forward, structure.source, structure.target
    counts = pairs.indptr.diff()
    row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    slot = torch.arange(len(row), device=row.device) - pairs.indptr[row]
    column = pairs.start[row] + slot
    table = structure.table[pairs.order[column].long() if len(pairs.order) else column].to(
        _given(arguments).dtype
    )
    near = pairs.indices.long()
    batch = next(t.shape[0] for t in (x, g) if t is not None)
    shapes = (
        (batch, source.dim, structure.num_source), (target.dim, source.dim, structure.rings),
        (batch, target.dim, structure.num_target),
    )  # fmt: skip
    found = {s: table.new_zeros(shapes[s]) for s in wanted}
    out_fields, in_fields = _fields(target), _fields(source)
    for n, outs in out_fields.items():
        for m, ins in in_fields.items():
            turned = _turned(table, structure.rings, n, m)
            at_x = None if x is None else x[:, ins][..., near]  # (B, I, c, E)
            at_g = None if g is None else g[:, outs][..., row]
            at_w = None if w is None else w[outs[:, :, None, None], ins]  # (O, p, I, q, R)
            factors = [
                Factor(tangent.X, "bict", at_x, _added(3, near, structure.num_source)),
                Factor(None, "trapcq", turned),
                Factor(tangent.W, "opiqr", at_w),
                Factor(tangent.G, "boat", at_g, _added(3, row, structure.num_target)),
            ]
            for s in wanted:
                part = partial(factors, s)
                if s == tangent.X:
                    found[s][:, ins] += part
                elif s == tangent.G:
                    found[s][:, outs] += part
                else:
                    found[s][outs[:, :, None, None], ins] += part
    return [found[s] for s in wanted]


def _given(arguments: Sequence[Tensor | None]) -> Tensor:
    return next(t for t in arguments if t is not None)


def _fields(orders: tangent.Orders) -> dict[int, Tensor]:
    """Public channels of each order's fields, (fields, 1 or 2)."""
    found: dict[int, list[list[int]]] = {}
    channel = 0
    for count, order in orders.terms:
        for _ in range(count):
            found.setdefault(order, []).append(list(range(channel, channel + width(order))))
            channel += width(order)
    return {order: torch.tensor(channels) for order, channels in found.items()}


def _turned(table: Tensor, rings: int, n: int, m: int) -> Tensor:
    """What a unit weight does to a field of order m on its way to one of order n: (pairs, rings, a, p, c, q).

    a and c are components in the frames of target and source, p and q those of the weight, which stand in the pair's frame:
    y = A c_{n-m} e^{img} x + B c_{n+m} conj(e^{img} x) with A and B halves of sums and differences of the weights.
    """
    turn = torch.complex(table[:, -2], table[:, -1])

    def coefficient(j: int) -> Tensor:
        first = rings * (2 * abs(j) - 1)
        if j == 0:
            return torch.complex(table[:, :rings], torch.zeros_like(table[:, :rings]))
        c = torch.complex(table[:, first : first + rings], table[:, first + rings : first + 2 * rings])
        return c if j > 0 else c.conj()

    out = table.new_zeros(len(table), rings, width(n), width(n), width(m), width(m))
    for c in range(width(m)):
        unit = 1j if c else 1
        z = (turn**m * unit)[:, None]
        for p in range(width(n)):
            for q in range(width(m)):
                if n == 0:
                    inside = coefficient(-m) * z  # the field in the pair's frame
                    y = inside.imag if q else inside.real
                    out[:, :, 0, p, c, q] = y
                    continue
                if m == 0:
                    both = (1j if p else 1) * coefficient(n) * z
                else:
                    a = (1 if p == q else 0) + (1j * (p - q))
                    b = (1 if p == q == 0 else -1 if p == q else 0) + (1j if p != q else 0)
                    both = (a * coefficient(n - m) * z + b * coefficient(n + m) * z.conj()) / 2
                out[:, :, 0, p, c, q], out[:, :, 1, p, c, q] = both.real, both.imag
    return out


def coupling_form(
    structure: coupling.CouplingStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every pair, one block of the source after another: sum g[e,h,f,c] W C[f,d,s] y[e,s] x[e,d,c]."""
    x, y, w, v, g = arguments
    own, tables, like = structure.own, structure.tables, _given(arguments)
    pairs, inner = structure.num_pairs, 0 if w is None else w.shape[1] if v is None else v.shape[0]
    shapes = (
        (structure.num_source * own.inputs,), (pairs, own.dim), (pairs, inner if own.kind == coupling.FACTORED else own.width),
        (inner, own.width), (structure.num_target * own.outputs * own.heads,),
    )  # fmt: skip
    found = {s: like.new_zeros(shapes[s]) for s in wanted}
    target = structure.targets()
    for column, d, mul, first, last, begin, end in tables.blocks.tolist():
        places = structure.num_source * column + torch.arange(d * mul, device=target.device).view(d, mul)
        at_source = structure.sources[:, None, None] * d * mul + places  # (E, d, C)
        at_target, columns = _places(structure, target, slice(first, last), mul)
        f, m1, m2 = tables.entries[begin:end].unbind(1)
        constants = like.new_zeros(last - first, d, own.dim)
        constants[f - first, m1, m2] = tables.values[begin:end].to(like.dtype)
        factors = [
            Factor(coupling.X, "edc", None if x is None else x[at_source], _put(at_source, shapes[0])),
            Factor(coupling.Y, "es", y),
            Factor(None, "fds", constants),
        ]
        if own.kind == coupling.SHARED:
            factors.append(Factor(coupling.W, "eh", w))
        else:
            factors.append(Factor(None, "h", like.new_ones(1)))
        if own.kind == coupling.CHANNEL:
            spread = None if w is None else w[:, columns]
            factors.append(Factor(coupling.W, "efc", spread, _columns(columns, own.width)))
        elif own.kind == coupling.FACTORED:
            spread = None if v is None else v[:, columns]
            factors += [
                Factor(coupling.W, "ei", w),
                Factor(coupling.V, "ifc", spread, _columns(columns, own.width)),
            ]
        at_g = None if g is None else g[at_target]
        factors.append(Factor(coupling.G, "ehfc", at_g, _put(at_target, shapes[4])))
        for s in wanted:
            found[s] += partial(factors, s)
    return [found[s] for s in wanted]


def _places(
    structure: coupling.CouplingStructure, target: Tensor, functions: slice, channels: int
) -> tuple[Tensor, Tensor]:
    """Where the channels of functions lie: (E, H, F, C) among the result's numbers, (F, C) among the weights' columns."""
    first, step, component, wide, column, weight = structure.tables.functions[functions].unbind(1)
    heads = structure.own.heads
    channel, head = torch.arange(channels, device=target.device), torch.arange(heads, device=target.device)
    inside = (component * wide * heads + column) + head[:, None] * wide  # (H, F)
    start = heads * (structure.num_target * first + target[:, None] * step)  # (E, F)
    return (start[:, None] + inside)[..., None] + channel, weight[:, None] + channel


def _put(places: Tensor, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    return lambda t: t.new_zeros(shape).index_add(0, places.flatten(), t.flatten())


def _columns(columns: Tensor, width: int) -> Callable[[Tensor], Tensor]:
    return lambda t: t.new_zeros(len(t), width).index_add(1, columns.flatten(), t.flatten(1))


def rows_form(
    structure: rows.RowStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every row, one block after another: sum g[r,f,c] k[r,f,d] x[r,d,c]."""
    x, k, g = arguments
    tables, number, like = structure.tables, structure.num_rows, _given(arguments)
    shapes = ((structure.points * tables.inputs,), (number, tables.width), (number * tables.outputs,))
    found = {s: like.new_zeros(shapes[s]) for s in wanted}
    row = torch.arange(number, device=structure.index.device)
    for column, d, mul, first, last, begin in tables.blocks.tolist():
        channel = torch.arange(mul, device=row.device)
        places = structure.points * column + torch.arange(d * mul, device=row.device).view(d, mul)
        at_x = structure.index[:, None, None] * d * mul + places
        base, wide, component, columns, place = tables.functions[first:last].unbind(1)
        at_g = (number * base + row[:, None] * wide + component * columns + place)[..., None] + channel
        span = slice(begin, begin + (last - first) * d)
        matrices = None if k is None else k[:, span].unflatten(1, (last - first, d))
        factors = [
            Factor(rows.X, "rdc", None if x is None else x[at_x], _put(at_x, shapes[0])),
            Factor(rows.K, "rfd", matrices),
            Factor(rows.G, "rfc", None if g is None else g[at_g], _put(at_g, shapes[2])),
        ]
        for s in wanted:
            part = partial(factors, s)
            if s == rows.K:
                found[s][:, span] += part.flatten(1)
            else:
                found[s] += part
    return [found[s] for s in wanted]


def gather_form(
    structure: gather.GatherStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every copy and every extra: sum g[b,j,c] w[e] x[b,i,c]."""
    x, g = arguments
    table, like = structure.ahead, _given(arguments)
    copied = torch.ones(table.num_rows, dtype=torch.bool, device=table.index.device)
    copied[table.empty.long()] = False
    target = torch.cat([copied.nonzero()[:, 0], table.target.long()])
    source = torch.cat([table.index[copied].long(), table.source.long()])
    weight = torch.cat([like.new_ones(len(target) - len(table.target)), table.weight.to(like.dtype)])
    factors = [
        Factor(gather.X, "bec", _at(x, 1, source), _added(1, source, structure.back.num_rows)),
        Factor(None, "e", weight),
        Factor(gather.G, "bec", _at(g, 1, target), _added(1, target, table.num_rows)),
    ]
    return [partial(factors, slot) for slot in wanted]


def segment_form(
    structure: segment.SegmentStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every pair: sum a[e,x] g[e,x,y] b[e,y]."""
    a, b, g = arguments
    counts = structure.indptr.diff()
    target = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    factors = [
        Factor(segment.A, "ex", a),
        Factor(segment.B, "ey", b),
        Factor(segment.G, "exy", _at(g, 0, target), _added(0, target, len(counts))),
    ]
    return [partial(factors, slot) for slot in wanted]


def attention_form(
    structure: attention.AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every nonzero's score, a softmax for each row and head."""
    q, k, v, bias = arguments
    assert q is not None and k is not None and v is not None
    return list(attention.plain(structure, q, k, v, bias))


def attention_gradients(
    structure: attention.AttentionStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every nonzero again: p = exp(score - L), and dS = p (< g, v > - the row's mean of it)."""
    q, k, v, bias, total, _, g = arguments
    assert q is not None and k is not None and v is not None and g is not None and total is not None
    target, source, column = structure.pattern.coo()
    heads = (structure.heads, -1)
    at_q, at_g = (t[:, target].unflatten(2, heads) for t in (q, g))
    at_k, at_v = (t[:, source].unflatten(2, heads) for t in (k, v))
    fixed = attention.bias_of(structure, bias, column).to(q.dtype)
    p = (torch.einsum("bnhc,bnhc->bnh", at_q, at_k) + fixed - total[:, target]).exp()
    dp = torch.einsum("bnhc,bnhc->bnh", at_g, at_v)
    mean = torch.zeros_like(total).index_add(1, target, p * dp)
    ds = p * (dp - mean[:, target])
    parts = ((q, target, ds, at_k), (k, source, ds, at_q), (v, source, p, at_g))
    found = [
        torch.zeros_like(t).index_add(1, index, torch.einsum("bnh,bnhc->bnhc", w, other).flatten(2))
        for t, index, w, other in parts
    ]
    if bias is not None:
        spread = torch.zeros(len(column), bias.shape[1], dtype=ds.dtype, device=ds.device)
        spread.scatter_add_(1, structure.index[column].long(), structure.share[column].to(ds.dtype))
        found.append(torch.einsum("bnh,nk->hk", ds, spread))
    return found


def max_plus_form(
    structure: max_plus.Stencil | max_plus.MaxRows, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every tap's sums side by side, the largest of them and the first tap that has it."""
    x, k = arguments
    assert x is not None and k is not None
    shape = structure.result(x, k)
    sums = [(torch.as_tensor(tap, device=x.device), v) for tap, v in structure.candidates(x, k)]
    if not sums:
        return list(max_plus.running(structure, x, k))
    every = torch.stack([v for _, v in sums])
    y, number = every.amax(0), (every == every.amax(0)).int().argmax(0)
    taps = torch.stack([tap.expand(shape) for tap, _ in sums]).gather(0, number[None])[0]
    return [y, torch.where(y.isneginf(), -1, taps).to(max_plus.tap_type(structure))]


def max_plus_gradients(
    structure: max_plus.Stencil | max_plus.MaxRows, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Every place that has a tap, put where the tap reads."""
    g, taps = arguments
    assert g is not None and taps is not None
    dx, dk = (g.new_zeros(shape) for shape in structure.given(g))
    sources, coefficients = (t.expand_as(taps)[taps >= 0] for t in structure.places(taps))
    sample = torch.arange(len(g), device=g.device).view(-1, *[1] * (g.ndim - 1)).expand_as(g)[taps >= 0]
    dx.flatten(1).index_put_((sample, sources), g[taps >= 0], accumulate=True)
    dk.view(-1).index_put_((coefficients,), g[taps >= 0], accumulate=True)
    return [dx, dk]


OPERATORS = {
    "linear": linear_form,
    "tangent": tangent_form,
    "coupling": coupling_form,
    "rows": rows_form,
    "gather": gather_form,
    "segment": segment_form,
    "attention": attention_form,
    "attention_gradients": attention_gradients,
    "max_plus": max_plus_form,
    "max_plus_gradients": max_plus_gradients,
}
