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

NONE, SHARED, CHANNEL = range(3)  # weights of pairs: none, (E, H) for all paths, or each path's channels
TORCH_CHUNK_BYTES = 1 << 26
_LEAST_CHANNELS = 8


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


def couple(call: Call, x: Tensor, y: Tensor, w: Tensor | None, engine: str) -> Tensor:
    """z (N_t outputs H,) from x (N_s inputs,), y (E, S) and w (E, width)."""
    if _compiled(x, engine):
        from spheregeo.sparse.engines import cpu, kernels

        z = x.new_empty(call.num_target * call.outputs * call.heads)
        with cpu.threads():
            kernels.couple(
                *_arrays(cpu, x, y, w),
                *_structure(cpu, call, x),
                z.numpy(),
            )
        return z
    z = x.new_zeros(call.num_target * call.outputs * call.heads)
    groups = _Groups(call)
    for block, pairs in _chunks(call, x):
        a = _coefficients(call, block, y[pairs])  # (e, F, d)
        p = a @ _source(call, block, x)[call.sources[pairs]]  # (e, F, C)
        p = _weigh(call, block, p, w, pairs)  # (e, H, F, C)
        target = _targets(call, pairs)
        total = p.new_zeros(call.num_target, *p.shape[1:]).index_add(0, target, p)
        groups.add(z, block, total)
    return z


def couple_back(call: Call, y: Tensor, w: Tensor | None, g: Tensor, engine: str) -> Tensor:
    """Gradient of the sources, planar (N_s inputs,)."""
    if _compiled(g, engine):
        from spheregeo.sparse.engines import cpu, kernels

        gx = g.new_zeros(call.num_source * call.inputs)
        with cpu.threads() as count:
            tasks = cpu.array(_tasks(call, count))
            kernels.couple_back(
                *_arrays(cpu, g, y, w),
                *_structure(cpu, call, g),
                tasks,
                gx.numpy(),
            )
        return gx
    gx = g.new_zeros(call.num_source * call.inputs)
    groups = _Groups(call)
    for block, pairs in _chunks(call, g):
        a = _coefficients(call, block, y[pairs])
        q = groups.read(g, block, _targets(call, pairs))  # (e, H, F, C)
        q = _weigh_back(call, block, q, w, pairs)  # (e, F, C)
        _source(call, block, gx).index_add_(0, call.sources[pairs], a.mT @ q)
    return gx


def couple_pairs(
    call: Call,
    x: Tensor,
    y: Tensor | None,
    w: Tensor | None,
    g: Tensor,
    engine: str,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of the pairs' features (E, S) and weights (E, width), each if wanted, else empty.

    y is read for the gradient of the weights alone, and w for that of the features.
    """
    want_y, want_w = wanted[0], wanted[1] and call.kind != NONE
    gy = x.new_zeros(call.num_pairs, call.dim) if want_y else x.new_empty(0)
    fresh = x.new_zeros if call.kind == SHARED else x.new_empty
    gw = fresh(call.num_pairs, call.width) if want_w else x.new_empty(0)
    if _compiled(x, engine):
        from spheregeo.sparse.engines import cpu, kernels

        features = gy if y is None else y
        with cpu.threads():
            kernels.couple_pairs(
                *_arrays(cpu, x, features, w), cpu.array(g), *_structure(cpu, call, x),
                want_y, want_w, gy.view(-1).numpy(), gw.view(-1).numpy(),
            )  # fmt: skip
        return gy, gw
    gw.zero_()
    groups = _Groups(call)
    for block, pairs in _chunks(call, x):
        source = _source(call, block, x)[call.sources[pairs]]  # (e, d, C)
        q = groups.read(g, block, _targets(call, pairs))  # (e, H, F, C)
        if want_w:
            assert y is not None
            _weight_gradient(call, block, _coefficients(call, block, y[pairs]) @ source, q, gw, pairs)
        if want_y:
            q = _weigh_back(call, block, q, w, pairs)
            gy[pairs] += torch.einsum("efd,fds->es", q @ source.mT, _dense(call, block, x))
    return gy, gw


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


def _arrays(cpu: object, x: Tensor, y: Tensor, w: Tensor | None) -> list:  # type: ignore[type-arg]
    weights = x.new_empty(0) if w is None else w
    return [cpu.array(t.reshape(-1)) for t in (x, y, weights)]  # type: ignore[attr-defined]


def _structure(cpu: object, call: Call, like: Tensor) -> tuple[tuple[object, ...], ...]:
    """The kernels' rows, tables and sizes."""
    t = call.tables
    rows = (call.indptr, call.sources, call.order)
    tables = (t.blocks, t.functions, t.entries, t.values.to(like.dtype))
    sizes = (call.kind, call.heads, call.width, call.dim, call.num_source, call.num_target)
    return tuple(map(cpu.array, rows)), tuple(map(cpu.array, tables)), sizes  # type: ignore[attr-defined]


def _tasks(call: Call, threads: int) -> Tensor:
    """(n, 3) blocks and ranges of their channels: a range for each thread, down to 8 channels; the dearest blocks first."""
    found = []
    for b, (_, d, mul, first, last, *_) in enumerate(call.tables.blocks.tolist()):
        parts = max(1, min(threads, mul // _LEAST_CHANNELS))
        bounds = [mul * k // parts for k in range(parts + 1)]
        found += [(-(last - first) * d, b, low, high) for low, high in pairwise(bounds)]
    return torch.tensor([task[1:] for task in sorted(found)], dtype=torch.int64)


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


def _weigh(call: Call, block: _Block, p: Tensor, w: Tensor | None, pairs: slice) -> Tensor:
    if call.kind == NONE:
        return p[:, None]
    assert w is not None
    if call.kind == SHARED:
        return w[pairs, :, None, None] * p[:, None]
    return (w[pairs][:, _columns(call, block)] * p)[:, None]


def _weigh_back(call: Call, block: _Block, q: Tensor, w: Tensor | None, pairs: slice) -> Tensor:
    if call.kind == NONE:
        return q[:, 0]
    assert w is not None
    if call.kind == SHARED:
        return torch.einsum("eh,ehfc->efc", w[pairs], q)
    return w[pairs][:, _columns(call, block)] * q[:, 0]


def _weight_gradient(call: Call, block: _Block, p: Tensor, q: Tensor, gw: Tensor, pairs: slice) -> None:
    if call.kind == SHARED:
        gw[pairs] += torch.einsum("efc,ehfc->eh", p, q)
    else:
        columns = _columns(call, block).flatten().expand(len(p), -1)
        gw[pairs] = gw[pairs].scatter_add(1, columns, (p * q[:, 0]).flatten(1))


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
