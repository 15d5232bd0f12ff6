"""The coupling form with dense constants, anywhere torch runs.

All pairs go at once, a few functions and channels of a block at a time, so that no boundary between pairs has to be known to the
host: sums over the pairs of a target, and of a source, are sums of stretches of sorted rows, the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.sparse.engines.portable.plans import budget, summed
from spheregeo.sparse.forms.coupling import FACTORED, SHARED, CouplingStructure, G, V, W, X, Y


def coupling(
    structure: CouplingStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``."""
    x, y, w, v, g = arguments
    found: dict[int, Tensor] = {}
    if G in wanted:
        assert x is not None and y is not None
        found[G] = _couple(structure, x, y, w, v)
    if X in wanted:
        assert y is not None and g is not None
        found[X] = _couple_back(structure, y, w, v, g)
    rest = [slot for slot in wanted if slot not in (G, X)]
    if rest:
        found.update(_couple_pairs(structure, arguments, rest))
    return [found[slot] for slot in wanted]


@dataclass(frozen=True)
class CouplingPath:
    """Functions ``first`` ... ``last`` of a block, one for each component of a stretch of a group, with weights in common."""

    first: int
    last: int
    base: int  # first column of the group
    columns: int  # of one component
    component: int
    column: int
    weight: int  # first column of the weights


@dataclass(frozen=True)
class CouplingBlock:
    """One source block: the structure constants of its functions (F, d, S), and its paths."""

    number: int
    first_column: int
    components: int
    channels: int
    paths: tuple[CouplingPath, ...]

    @property
    def functions(self) -> int:
        return self.paths[-1].last

    def part(self, first: int, last: int) -> Iterator[CouplingPath]:
        """Paths, cut to some functions, which then count from the first."""
        for p in self.paths:
            begin, end = max(p.first, first), min(p.last, last)
            if begin < end:
                component = p.component + begin - p.first
                yield CouplingPath(
                    begin - first, end - first, p.base, p.columns, component, p.column, p.weight
                )


def _blocks(structure: CouplingStructure) -> tuple[CouplingBlock, ...]:
    tables = structure.tables

    def make() -> tuple[CouplingBlock, ...]:
        functions, found = tables.functions.tolist(), []
        for number, (column, d, channels, first, last, _, _) in enumerate(tables.blocks.tolist()):
            paths: list[CouplingPath] = []
            for f, (base, _, component, columns, place, weight) in enumerate(functions[first:last]):
                p = paths[-1] if paths else None
                if p is not None and (p.base, p.columns, p.column, p.weight) == (
                    base,
                    columns,
                    place,
                    weight,
                ):
                    if p.component + p.last - p.first == component:
                        paths[-1] = CouplingPath(p.first, f + 1, base, columns, p.component, place, weight)
                        continue
                paths.append(CouplingPath(f, f + 1, base, columns, component, place, weight))
            found.append(CouplingBlock(number, column, d, channels, tuple(paths)))
        return tuple(found)

    return made_of(tables.tensors[:3], "blocks of the portable engine", make)


def _dense(structure: CouplingStructure, block: CouplingBlock, like: Tensor) -> Tensor:
    """The block's constants (F, d, S), kept."""
    tables, dim = structure.tables, structure.own.dim

    def make() -> Tensor:
        first, last, begin, end = tables.blocks[block.number, 3:].tolist()
        f, m1, m2 = tables.entries[begin:end].unbind(1)
        dense = like.new_zeros(last - first, block.components, dim)
        dense[f - first, m1, m2] = tables.values[begin:end].to(like.dtype)
        return dense

    return made_of(tables.tensors[:3], ("constants", block.number, dim, like.dtype), make)


@dataclass(frozen=True)
class _Ends:
    """Pairs by target as they come, and by source: ``order`` sorts them, the others are then sorted by source."""

    targets: Tensor
    counts: Tensor
    order: Tensor
    targets_back: Tensor
    counts_back: Tensor


def _ends(structure: CouplingStructure) -> _Ends:
    sources, order = structure.sources, structure.order

    def make() -> _Ends:
        targets = structure.targets()
        by_source = (
            order.long() if order.shape[0] == sources.shape[0] else torch.argsort(sources, stable=True)
        )
        points = torch.arange(structure.num_source + 1, device=sources.device)
        ends = torch.searchsorted(sources[by_source].long(), points)
        return _Ends(targets, structure.indptr.diff(), by_source, targets[by_source], ends.diff())

    return made_of([sources, structure.indptr, order], ("ends", structure.num_source), make)


def _slices(
    structure: CouplingStructure, x: Tensor, like: Tensor
) -> Iterator[tuple[CouplingBlock, slice, slice]]:
    """Each block's functions and channels, a few at a time: what stands for each pair fits the budget."""
    if not structure.num_pairs:
        return
    most = 3 * budget(x, like) // (4 * x.element_size() * max(1, structure.num_pairs))
    for block in _blocks(structure):
        f, c, d, heads = block.functions, block.channels, block.components, structure.own.heads + 3
        while f * d + d * c + heads * f * c > most and f * c > 1:
            if c >= f or f == 1:
                c = -(-c // 2)
            else:
                f = -(-f // 2)
        for first in range(0, block.functions, f):
            for channel in range(0, block.channels, c):
                yield (
                    block,
                    slice(first, min(first + f, block.functions)),
                    slice(channel, min(channel + c, block.channels)),
                )


def _coefficients(structure: CouplingStructure, block: CouplingBlock, functions: slice, y: Tensor) -> Tensor:
    """(E, F, d)."""
    dense = _dense(structure, block, y)[functions]
    return (y @ dense.flatten(0, 1).T).view(y.shape[0], -1, block.components)


def _source(structure: CouplingStructure, block: CouplingBlock, x: Tensor, channels: slice) -> Tensor:
    """A view (N_s, d, C) of the block."""
    begin = structure.num_source * block.first_column
    size = structure.num_source * block.components * block.channels
    return x[begin : begin + size].view(structure.num_source, -1, block.channels)[..., channels]


def _group(structure: CouplingStructure, z: Tensor, path: CouplingPath, channels: slice) -> Tensor:
    """A view (N_t, F, H, C) of the path's place in the result; channels are those of the block."""
    heads, rows = structure.own.heads, structure.num_target
    width = _width(structure, path)
    begin = rows * path.base * heads
    group = z[begin : begin + rows * width * heads].view(rows, -1, heads, path.columns)
    component = slice(path.component, path.component + path.last - path.first)
    return group[:, component, :, path.column + channels.start : path.column + channels.stop]


def _width(structure: CouplingStructure, path: CouplingPath) -> int:
    tables = structure.tables
    make = lambda: {row[0]: row[1] for row in tables.functions.tolist()}  # noqa: E731
    widths: dict[int, int] = made_of(tables.tensors[:3], "widths of groups", make)
    return widths[path.base]


def _read(
    structure: CouplingStructure, g: Tensor, block: CouplingBlock, functions: slice, channels: slice
) -> Tensor:
    """The cotangent of a block's functions (N_t, F, H, C)."""
    parts = [_group(structure, g, p, channels) for p in block.part(functions.start, functions.stop)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _weights(
    structure: CouplingStructure,
    block: CouplingBlock,
    functions: slice,
    channels: slice,
    weights: tuple[Tensor | None, Tensor | None],
) -> Tensor | None:
    """What multiplies the functions of each pair: (E, F, C), or (E, H) where all share it."""
    w, v = weights
    if w is None or structure.own.kind == SHARED:
        return w
    table = w if v is None else v
    parts = []
    for p in block.part(functions.start, functions.stop):
        columns = table[:, p.weight + channels.start : p.weight + channels.stop]
        columns = columns if v is None else w @ columns
        parts.append(columns[:, None].expand(-1, p.last - p.first, -1))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _couple(structure: CouplingStructure, x: Tensor, y: Tensor, w: Tensor | None, v: Tensor | None) -> Tensor:
    z = x.new_zeros(structure.num_target * structure.own.outputs * structure.own.heads)
    ends = _ends(structure)
    for block, functions, channels in _slices(structure, x, z):
        a = _coefficients(structure, block, functions, y)
        p = torch.bmm(a, _source(structure, block, x, channels).index_select(0, structure.sources))
        own = _weights(structure, block, functions, channels, (w, v))
        if own is None:
            p = p[:, :, None]
        elif structure.own.kind == SHARED:
            p = p[:, :, None] * own[:, None, :, None]
        else:
            p = (p * own)[:, :, None]
        total = summed(p, ends.counts, structure.num_target)  # (N_t, F, H, C)
        for path in block.part(functions.start, functions.stop):
            _group(structure, z, path, channels).copy_(total[:, path.first : path.last])
    return z


def _couple_back(
    structure: CouplingStructure, y: Tensor, w: Tensor | None, v: Tensor | None, g: Tensor
) -> Tensor:
    gx = g.new_zeros(structure.num_source * structure.own.inputs)
    ends = _ends(structure)
    y = y.index_select(0, ends.order)
    w = None if w is None else w.index_select(0, ends.order)
    for block, functions, channels in _slices(structure, gx, g):
        a = _coefficients(structure, block, functions, y)
        q = _read(structure, g, block, functions, channels).index_select(0, ends.targets_back)
        q = _weighed(structure, q, _weights(structure, block, functions, channels, (w, v)))
        total = summed(torch.bmm(a.mT, q), ends.counts_back, structure.num_source)
        _source(structure, block, gx, channels).add_(total)
    return gx


def _weighed(structure: CouplingStructure, q: Tensor, own: Tensor | None) -> Tensor:
    """(E, F, H, C) -> (E, F, C)."""
    if own is None:
        return q[:, :, 0]
    if structure.own.kind == SHARED:
        return q[:, :, 0] * own[:, :, None] if q.shape[2] == 1 else (q * own[:, None, :, None]).sum(2)
    return q[:, :, 0] * own


def _couple_pairs(
    structure: CouplingStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> dict[int, Tensor]:
    x, y, w, v, g = arguments
    assert x is not None and g is not None
    found = {}
    if Y in wanted:
        found[Y] = x.new_zeros(structure.num_pairs, structure.own.dim)
    if W in wanted:
        found[W] = x.new_zeros(structure.num_pairs, structure.own.width if v is None else v.shape[0])
    if V in wanted:
        assert w is not None
        found[V] = x.new_zeros(w.shape[1], structure.own.width)
    ends, sources = _ends(structure), structure.sources
    for block, functions, channels in _slices(structure, x, g):
        near = _source(structure, block, x, channels).index_select(0, sources)  # (E, d, C)
        q = _read(structure, g, block, functions, channels).index_select(0, ends.targets)
        if W in wanted or V in wanted:
            assert y is not None
            p = torch.bmm(_coefficients(structure, block, functions, y), near)  # (E, F, C)
            if structure.own.kind == SHARED:
                found[W] += (p[:, :, None] * q).sum((1, 3))
            else:
                product = p * q[:, :, 0]
                for path in block.part(functions.start, functions.stop):
                    columns = slice(path.weight + channels.start, path.weight + channels.stop)
                    slope = product[:, path.first : path.last].sum(1)
                    if structure.own.kind != FACTORED:
                        found[W][:, columns] += slope
                        continue
                    if W in wanted:
                        assert v is not None
                        found[W].addmm_(slope, v[:, columns].T)
                    if V in wanted:
                        assert w is not None
                        found[V][:, columns] += w.T @ slope
        if Y in wanted:
            q = _weighed(structure, q, _weights(structure, block, functions, channels, (w, v)))
            dense = _dense(structure, block, x)[functions]
            found[Y].addmm_(torch.bmm(q, near.mT).flatten(1), dense.flatten(0, 1))
    return found
