"""Coupling features over pairs: the compiled loops on a CPU, dense constants a chunk of pairs at a time anywhere else.

Features are planar: blocks (N, d, channels) one after another in one vector, so that channels are contiguous, the rows of
a matrix product are, too, and no block has to be cut out of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

# weights of pairs: none; (E, H) for all paths; each path's channels; the same as products of (E, K) and (K, channels)
NONE, SHARED, CHANNEL, FACTORED = range(4)
TORCH_CHUNK_BYTES = 1 << 26
_LEAST_CHANNELS = 8
_ROWS = 8  # of one task
_SUMS = 32  # of factors' gradients, each over a range of rows; no more threads than that then work


@dataclass(frozen=True)
class Tables:
    """Structure of a coupling as integer tables.

    Shape: blocks (B, 7): first column, components, channels, first and last function, first and last entry;
        functions (F, 6): first column of the group, columns of the group in all, component, columns of one component, column
        within it, first weight; entries (n, 3): function, component of the source, component of the pair's features; values (n,).
    """

    blocks: Tensor
    functions: Tensor
    entries: Tensor
    values: Tensor


@dataclass(frozen=True)
class Call:
    """One evaluation: structure, pairs (those of target i are indptr[i], ...), sizes."""

    tables: Tables
    indptr: Tensor
    sources: Tensor
    order: Tensor
    num_target: int
    num_source: int
    kind: int
    heads: int
    width: int
    dim: int
    inputs: int
    outputs: int

    @property
    def num_pairs(self) -> int:
        return len(self.sources)


def couple(call: Call, x: Tensor, y: Tensor, w: Tensor | None, v: Tensor | None, engine: str) -> Tensor:
    """z (N_t outputs H,) from x (N_s inputs,), y (E, S), w (E, width), or w (E, K) and v (K, width)."""
    if _compiled(x, engine):
        from spheregeo.sparse.engines import cpu, kernels

        z = x.new_empty(call.num_target * call.outputs * call.heads)
        with cpu.threads():
            kernels.couple(
                *_arrays(cpu, x, y, w, v),
                *_structure(cpu, call, x, v),
                z.numpy(),
            )
        return z
    z = x.new_zeros(call.num_target * call.outputs * call.heads)
    groups = _Groups(call)
    for block, pairs in _chunks(call, x):
        a = _coefficients(call, block, y[pairs])  # (e, F, d)
        p = a @ _source(call, block, x)[call.sources[pairs]]  # (e, F, C)
        p = _weigh(call, block, p, _pair_weights(w, v, pairs))  # (e, H, F, C)
        target = _targets(call, pairs)
        total = p.new_zeros(call.num_target, *p.shape[1:]).index_add(0, target, p)
        groups.add(z, block, total)
    return z


def couple_back(call: Call, y: Tensor, w: Tensor | None, v: Tensor | None, g: Tensor, engine: str) -> Tensor:
    """Gradient of the sources, planar (N_s inputs,)."""
    if _compiled(g, engine):
        from spheregeo.sparse.engines import cpu, kernels

        gx = g.new_zeros(call.num_source * call.inputs)
        with cpu.threads() as count:
            tasks = cpu.array(_tasks(call, count))
            kernels.couple_back(
                *_arrays(cpu, g, y, w, v),
                *_structure(cpu, call, g, v),
                tasks,
                gx.numpy(),
            )
        return gx
    gx = g.new_zeros(call.num_source * call.inputs)
    groups = _Groups(call)
    for block, pairs in _chunks(call, g):
        a = _coefficients(call, block, y[pairs])
        q = groups.read(g, block, _targets(call, pairs))  # (e, H, F, C)
        q = _weigh_back(call, block, q, _pair_weights(w, v, pairs))  # (e, F, C)
        _source(call, block, gx).index_add_(0, call.sources[pairs], a.mT @ q)
    return gx


def couple_pairs(
    call: Call,
    x: Tensor,
    y: Tensor | None,
    w: Tensor | None,
    v: Tensor | None,
    g: Tensor,
    engine: str,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y (E, S), w and v, each if wanted, else empty.

    Of y, w and v those are read that the gradients wanted need: all but its own.
    """
    want_y, want_w, want_v = wanted[0], wanted[1] and call.kind != NONE, wanted[2] and call.kind == FACTORED
    inner = _inner(call, w, v)
    gy = x.new_zeros(call.num_pairs, call.dim) if want_y else x.new_empty(0)
    fresh = x.new_empty if call.kind == CHANNEL else x.new_zeros
    gw = fresh(call.num_pairs, inner if call.kind == FACTORED else call.width) if want_w else x.new_empty(0)
    if _compiled(x, engine):
        from spheregeo.sparse.engines import cpu, kernels

        tasks = max(1, -(-call.num_target // _ROWS))
        gv = x.new_zeros(min(tasks, _SUMS), inner * call.width) if want_v else x.new_empty(tasks, 0)
        features = gy if y is None else y
        with cpu.threads():
            kernels.couple_pairs(
                *_arrays(cpu, x, features, w, v), cpu.array(g), *_structure(cpu, call, x, v, inner),
                (want_y, want_w, want_v), gy.view(-1).numpy(), gw.view(-1).numpy(), gv.numpy(),
            )  # fmt: skip
        return gy, gw, gv.sum(0).view(inner, call.width) if want_v else x.new_empty(0)
    gw.zero_()
    gv = x.new_zeros(inner, call.width) if want_v else x.new_empty(0)
    groups = _Groups(call)
    for block, pairs in _chunks(call, x):
        source = _source(call, block, x)[call.sources[pairs]]  # (e, d, C)
        q = groups.read(g, block, _targets(call, pairs))  # (e, H, F, C)
        if want_w or want_v:
            assert y is not None
            slope = _weight_gradient(call, block, _coefficients(call, block, y[pairs]) @ source, q)
            if call.kind != FACTORED:
                gw[pairs] += slope
            else:
                if want_w:
                    assert v is not None
                    gw[pairs] += slope @ v.T
                if want_v:
                    assert w is not None
                    gv += w[pairs].T @ slope
        if want_y:
            q = _weigh_back(call, block, q, _pair_weights(w, v, pairs))
            gy[pairs] += torch.einsum("efd,fds->es", q @ source.mT, _dense(call, block, x))
    return gy, gw, gv


# ---- compiled


def _compiled(x: Tensor, engine: str) -> bool:
    if (
        engine not in ("auto", "cpu")
        or x.device.type != "cpu"
        or x.dtype not in (torch.float32, torch.float64)
    ):
        return False
    from spheregeo.sparse.engines import cpu

    return not cpu.forked()


def _arrays(cpu: object, x: Tensor, y: Tensor, w: Tensor | None, v: Tensor | None) -> list:  # type: ignore[type-arg]
    given = [x, y, *(x.new_empty(0) if t is None else t for t in (w, v))]
    return [cpu.array(t.reshape(-1)) for t in given]  # type: ignore[attr-defined]


def _inner(call: Call, w: Tensor | None, v: Tensor | None) -> int:
    """K of factored weights; 0 for others."""
    if call.kind != FACTORED:
        return 0
    if v is not None:
        return v.shape[0]
    assert w is not None
    return w.shape[1]


def _structure(
    cpu: object, call: Call, like: Tensor, v: Tensor | None, inner: int | None = None
) -> tuple[tuple[object, ...], ...]:
    """The kernels' rows, tables and sizes."""
    t = call.tables
    inner = _inner(call, None, v) if inner is None else inner
    rows = (call.indptr, call.sources, call.order)
    tables = (t.blocks, t.functions, t.entries, t.values.to(like.dtype))
    sizes = (call.kind, call.heads, inner, call.width, call.dim, call.num_source, call.num_target)
    return tuple(map(cpu.array, rows)), tuple(map(cpu.array, tables)), sizes  # type: ignore[attr-defined]


def _tasks(call: Call, threads: int) -> Tensor:
    """(n, 3) blocks and ranges of their channels: a range for each thread, down to 8 channels; the dearest blocks first."""
    found = []
    for b, (_, d, mul, first, last, *_) in enumerate(call.tables.blocks.tolist()):
        parts = max(1, min(threads, mul // _LEAST_CHANNELS))
        bounds = [mul * k // parts for k in range(parts + 1)]
        found += [(-(last - first) * d, b, low, high) for low, high in pairwise(bounds)]
    return torch.tensor([task[1:] for task in sorted(found)], dtype=torch.int64).reshape(-1, 3)


# ---- anywhere


@dataclass(frozen=True)
class _Block:
    first_column: int
    components: int
    channels: int
    functions: slice
    entries: slice


def _blocks(call: Call) -> list[_Block]:
    return [_Block(c, d, m, slice(f, g), slice(e, h)) for c, d, m, f, g, e, h in call.tables.blocks.tolist()]


def _chunks(call: Call, x: Tensor) -> Iterator[tuple[_Block, slice]]:
    for block in _blocks(call):
        number = block.functions.stop - block.functions.start
        one = (
            number * (block.components + (1 + call.heads) * block.channels)
            + block.components * block.channels
            + (call.width if call.kind == FACTORED else 0)
        )
        step = max(1, TORCH_CHUNK_BYTES // (one * x.element_size()))
        for first in range(0, call.num_pairs, step):
            yield block, slice(first, min(first + step, call.num_pairs))


def _targets(call: Call, pairs: slice) -> Tensor:
    pair = torch.arange(pairs.start, pairs.stop, device=call.indptr.device)
    return torch.searchsorted(call.indptr, pair, right=True) - 1


def _dense(call: Call, block: _Block, like: Tensor) -> Tensor:
    """The block's constants (F, d, S)."""
    number = block.functions.stop - block.functions.start
    f, m1, m2 = call.tables.entries[block.entries].unbind(1)
    dense = like.new_zeros(number, block.components, call.dim)
    dense[f - block.functions.start, m1, m2] = call.tables.values[block.entries].to(like.dtype)
    return dense


def _coefficients(call: Call, block: _Block, y: Tensor) -> Tensor:
    return torch.einsum("fds,es->efd", _dense(call, block, y), y)


def _source(call: Call, block: _Block, x: Tensor) -> Tensor:
    """A view (N_s, d, C) of the block."""
    begin = call.num_source * block.first_column
    size = call.num_source * block.components * block.channels
    return x[begin : begin + size].view(call.num_source, block.components, block.channels)


def _columns(call: Call, block: _Block) -> Tensor:
    """(F, C) columns of the block's weights."""
    first = call.tables.functions[block.functions, 5]
    return first[:, None] + torch.arange(block.channels, device=first.device)


def _pair_weights(w: Tensor | None, v: Tensor | None, pairs: slice) -> Tensor | None:
    """The weights of these pairs (e, width)."""
    if w is None:
        return None
    return w[pairs] if v is None else w[pairs] @ v


def _weigh(call: Call, block: _Block, p: Tensor, w: Tensor | None) -> Tensor:
    if w is None:
        return p[:, None]
    if call.kind == SHARED:
        return w[:, :, None, None] * p[:, None]
    return (w[:, _columns(call, block)] * p)[:, None]


def _weigh_back(call: Call, block: _Block, q: Tensor, w: Tensor | None) -> Tensor:
    if w is None:
        return q[:, 0]
    if call.kind == SHARED:
        return torch.einsum("eh,ehfc->efc", w, q)
    return w[:, _columns(call, block)] * q[:, 0]


def _weight_gradient(call: Call, block: _Block, p: Tensor, q: Tensor) -> Tensor:
    """(e, width)"""
    if call.kind == SHARED:
        return torch.einsum("efc,ehfc->eh", p, q)
    columns = _columns(call, block).flatten().expand(len(p), -1)
    return p.new_zeros(len(p), call.width).scatter_add(1, columns, (p * q[:, 0]).flatten(1))


class _Groups:
    """Reads and writes rows of the planar groups."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def _place(self, block: _Block, rows: Tensor) -> Tensor:
        """(n, H, F, C) places of rows' channels."""
        call = self.call
        first, step, component, columns, column, _ = call.tables.functions[block.functions].unbind(1)
        heads = torch.arange(call.heads, device=rows.device)[:, None]
        inside = component * columns * call.heads + heads * columns + column  # (H, F)
        start = call.num_target * first * call.heads + rows[:, None] * step * call.heads  # (n, F)
        channel = torch.arange(block.channels, device=rows.device)
        return (start[:, None] + inside)[..., None] + channel

    def add(self, z: Tensor, block: _Block, total: Tensor) -> None:
        rows = torch.arange(self.call.num_target, device=z.device)
        z.index_add_(0, self._place(block, rows).flatten(), total.flatten())

    def read(self, g: Tensor, block: _Block, rows: Tensor) -> Tensor:
        return g[self._place(block, rows)]
