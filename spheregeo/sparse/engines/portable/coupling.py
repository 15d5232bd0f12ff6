"""The coupling form with dense constants, a chunk of pairs at a time, anywhere torch runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.sparse.forms.coupling import FACTORED, SHARED, CouplingStructure, G, V, W, X, Y

CHUNK_BYTES = 1 << 26


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


def _couple(structure: CouplingStructure, x: Tensor, y: Tensor, w: Tensor | None, v: Tensor | None) -> Tensor:
    z = x.new_zeros(structure.num_target * structure.own.outputs * structure.own.heads)
    groups, targets = _Groups(structure), structure.targets()
    for block, pairs in _chunks(structure, x):
        a = _coefficients(structure, block, y[pairs])  # (e, F, d)
        p = a @ _source(structure, block, x)[structure.sources[pairs]]  # (e, F, C)
        p = _weigh(structure, block, p, _pair_weights(w, v, pairs))  # (e, H, F, C)
        first, last, target = _range(targets[pairs])
        total = p.new_zeros(last - first, *p.shape[1:]).index_add(0, target, p)
        groups.add(z, block, first, total)
    return z


def _range(targets: Tensor) -> tuple[int, int, Tensor]:
    """The stretch of sorted targets, and each counted from its first: a chunk adds to its own rows of the result alone."""
    first, last = int(targets[0]), int(targets[-1]) + 1
    return first, last, targets - first


def _couple_back(
    structure: CouplingStructure, y: Tensor, w: Tensor | None, v: Tensor | None, g: Tensor
) -> Tensor:
    gx = g.new_zeros(structure.num_source * structure.own.inputs)
    groups, targets = _Groups(structure), structure.targets()
    for block, pairs in _chunks(structure, g):
        a = _coefficients(structure, block, y[pairs])
        q = groups.read(g, block, targets[pairs])  # (e, H, F, C)
        q = _weigh_back(structure, block, q, _pair_weights(w, v, pairs))  # (e, F, C)
        _source(structure, block, gx).index_add_(0, structure.sources[pairs], a.mT @ q)
    return gx


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
    groups, targets = _Groups(structure), structure.targets()
    for block, pairs in _chunks(structure, x):
        source = _source(structure, block, x)[structure.sources[pairs]]  # (e, d, C)
        q = groups.read(g, block, targets[pairs])  # (e, H, F, C)
        if W in wanted or V in wanted:
            assert y is not None
            p = _coefficients(structure, block, y[pairs]) @ source
            slope = _weight_gradient(structure, block, p, q)
            if structure.own.kind != FACTORED:
                found[W][pairs] += slope
            else:
                if W in wanted:
                    assert v is not None
                    found[W][pairs] += slope @ v.T
                if V in wanted:
                    assert w is not None
                    found[V] += w[pairs].T @ slope
        if Y in wanted:
            q = _weigh_back(structure, block, q, _pair_weights(w, v, pairs))
            dense = _dense(structure, block, x)
            found[Y][pairs] += torch.einsum("efd,fds->es", q @ source.mT, dense)
    return found


@dataclass(frozen=True)
class _Block:
    first_column: int
    components: int
    channels: int
    functions: slice
    entries: slice


def _blocks(structure: CouplingStructure) -> list[_Block]:
    return [
        _Block(c, d, m, slice(f, g), slice(e, h)) for c, d, m, f, g, e, h in structure.tables.blocks.tolist()
    ]


def _chunks(structure: CouplingStructure, x: Tensor) -> Iterator[tuple[_Block, slice]]:
    for block in _blocks(structure):
        number = block.functions.stop - block.functions.start
        one = (
            number * (block.components + (1 + structure.own.heads) * block.channels)
            + block.components * block.channels
            + (structure.own.width if structure.own.kind == FACTORED else 0)
        )
        step = max(1, CHUNK_BYTES // (one * x.element_size()))
        for first in range(0, structure.num_pairs, step):
            yield block, slice(first, min(first + step, structure.num_pairs))


def _dense(structure: CouplingStructure, block: _Block, like: Tensor) -> Tensor:
    """The block's constants (F, d, S)."""
    number = block.functions.stop - block.functions.start
    f, m1, m2 = structure.tables.entries[block.entries].unbind(1)
    dense = like.new_zeros(number, block.components, structure.own.dim)
    dense[f - block.functions.start, m1, m2] = structure.tables.values[block.entries].to(like.dtype)
    return dense


def _coefficients(structure: CouplingStructure, block: _Block, y: Tensor) -> Tensor:
    return torch.einsum("fds,es->efd", _dense(structure, block, y), y)


def _source(structure: CouplingStructure, block: _Block, x: Tensor) -> Tensor:
    """A view (N_s, d, C) of the block."""
    begin = structure.num_source * block.first_column
    size = structure.num_source * block.components * block.channels
    return x[begin : begin + size].view(structure.num_source, block.components, block.channels)


def _columns(structure: CouplingStructure, block: _Block) -> Tensor:
    """(F, C) columns of the block's weights."""
    first = structure.tables.functions[block.functions, 5]
    return first[:, None] + torch.arange(block.channels, device=first.device)


def _pair_weights(w: Tensor | None, v: Tensor | None, pairs: slice) -> Tensor | None:
    """The weights of these pairs (e, width)."""
    if w is None:
        return None
    return w[pairs] if v is None else w[pairs] @ v


def _weigh(structure: CouplingStructure, block: _Block, p: Tensor, w: Tensor | None) -> Tensor:
    if w is None:
        return p[:, None]
    if structure.own.kind == SHARED:
        return w[:, :, None, None] * p[:, None]
    return (w[:, _columns(structure, block)] * p)[:, None]


def _weigh_back(structure: CouplingStructure, block: _Block, q: Tensor, w: Tensor | None) -> Tensor:
    if w is None:
        return q[:, 0]
    if structure.own.kind == SHARED:
        return torch.einsum("eh,ehfc->efc", w, q)
    return w[:, _columns(structure, block)] * q[:, 0]


def _weight_gradient(structure: CouplingStructure, block: _Block, p: Tensor, q: Tensor) -> Tensor:
    """(e, width)"""
    if structure.own.kind == SHARED:
        return torch.einsum("efc,ehfc->eh", p, q)
    columns = _columns(structure, block).flatten().expand(len(p), -1)
    return p.new_zeros(len(p), structure.own.width).scatter_add(1, columns, (p * q[:, 0]).flatten(1))


class _Groups:
    """Reads and writes rows of the planar groups."""

    def __init__(self, structure: CouplingStructure) -> None:
        self.structure = structure

    def _place(self, block: _Block, rows: Tensor) -> Tensor:
        """(n, H, F, C) places of rows' channels."""
        structure, number = self.structure, self.structure.own.heads
        first, step, component, columns, column, _ = structure.tables.functions[block.functions].unbind(1)
        heads = torch.arange(number, device=rows.device)[:, None]
        inside = component * columns * number + heads * columns + column  # (H, F)
        start = (structure.num_target * first + rows[:, None] * step) * number  # (n, F)
        channel = torch.arange(block.channels, device=rows.device)
        return (start[:, None] + inside)[..., None] + channel

    def add(self, z: Tensor, block: _Block, first: int, total: Tensor) -> None:
        rows = torch.arange(first, first + len(total), device=z.device)
        z.index_add_(0, self._place(block, rows).flatten(), total.flatten())

    def read(self, g: Tensor, block: _Block, rows: Tensor) -> Tensor:
        return g[self._place(block, rows)]
