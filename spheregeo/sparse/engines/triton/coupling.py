"""The coupling form: a pair's small matrices by one product with the constants, then loops over pairs.

Matrices, and weights that are products of factors, are made for as many pairs as fit a budget; a sum that reaches over several
such stretches is taken up again where it was left, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.engines.triton import pairs
from spheregeo.sparse.engines.triton.pairs import PairBlock, Weights
from spheregeo.sparse.forms.coupling import CHANNEL, FACTORED, NONE, SHARED, CouplingStructure, G, V, W, X, Y

KINDS = {NONE: pairs.NONE, SHARED: pairs.SHARED, CHANNEL: pairs.CHANNEL, FACTORED: pairs.CHANNEL}


def coupling(
    structure: CouplingStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
) -> list[Tensor]:
    """Partial derivatives in the slots ``wanted``."""
    x, y, w, v, g = arguments
    made = _Work(structure)
    found: dict[int, Tensor] = {}
    if G in wanted:
        assert x is not None and y is not None
        found[G] = made.output(x, y, w, v)
    if X in wanted:
        assert y is not None and g is not None
        found[X] = made.back(y, w, v, g)
    rest = [slot for slot in wanted if slot not in (G, X)]
    if rest:
        assert x is not None and g is not None
        found.update(made.slopes((x, y, w, v, g), rest))
    return [found[slot] for slot in wanted]


class _Work:
    """A coupling's blocks and pairs, ready for launches."""

    def __init__(self, structure: CouplingStructure) -> None:
        self.structure, self.own = structure, structure.own
        with torch.inference_mode(False):
            memo = structure.memo
            if "triton" not in memo:
                memo["triton"] = self._blocks(), structure.indptr.int(), structure.sources.int()
            self.blocks, self.indptr, self.sources = memo["triton"]
            self.listed = self._lists(structure)
        self.numbers = sum(b.functions * b.components for b in self.blocks)

    @staticmethod
    def _lists(structure: CouplingStructure) -> tuple[list[list[int]], list[list[int]]]:
        """Blocks and functions as integers, read from the device once."""
        memo = structure.tables.memo
        if "lists" not in memo:
            memo["lists"] = structure.tables.blocks.tolist(), structure.tables.functions.tolist()
        found: tuple[list[list[int]], list[list[int]]] = memo["lists"]
        return found

    def _blocks(self) -> list[PairBlock]:
        structure, heads = self.structure, self.own.heads
        blocks, functions = self._lists(structure)
        made = []
        for column, d, mul, first, last, *_ in blocks:
            rows, paths = [], list[list[int]]()
            for n, (group, step, component, wide, place, weight) in enumerate(functions[first:last]):
                begin = heads * (structure.num_target * group + component * wide) + place
                rows.append([begin, heads * step, wide, weight])
                if paths and rows[paths[-1][0]][3] == weight:
                    paths[-1][1] = n + 1
                else:
                    paths.append([n, n + 1])
            device = structure.indptr.device
            table, vector = pairs.places(rows, device)
            shared = torch.tensor(paths, device=device, dtype=torch.int64).view(-1, 2)
            begin = structure.num_source * column
            made.append(PairBlock(begin, d * mul, mul, d, mul, table, shared, vector))
        return made

    def _constants(self, like: Tensor) -> list[Tensor]:
        """Of each block (F d, S)."""
        tables = self.structure.tables
        memo = tables.memo
        if "triton" not in memo:
            with torch.inference_mode(False):
                made = []
                for _, d, _, first, last, begin, end in self._lists(self.structure)[0]:
                    f, m1, m2 = tables.entries[begin:end].unbind(1)
                    dense = torch.zeros(last - first, d, self.own.dim, device=like.device)
                    dense[f - first, m1, m2] = tables.values[begin:end].float()
                    made.append(dense.flatten(0, 1))
                memo["triton"] = made
        constants: list[Tensor] = memo["triton"]
        return constants

    def _stretches(self) -> list[tuple[int, int]]:
        factors = self.own.width if self.own.kind == FACTORED else 0
        return list(pairs.stretches(self.structure.num_pairs, self.numbers + factors))

    def _weights(self, w: Tensor | None, v: Tensor | None, which: slice | Tensor) -> Weights:
        """Weights of some pairs: of channels those pairs' own, shared ones those of all."""
        kind = self.own.kind
        if w is None or kind == SHARED:
            return Weights(KINDS[kind], w, 0, self.own.heads)
        return Weights(pairs.CHANNEL, w[which] @ v if v is not None else w[which], self.own.width)

    def output(self, x: Tensor, y: Tensor, w: Tensor | None, v: Tensor | None) -> Tensor:
        structure, own, all_of = self.structure, self.own, self._stretches()
        z = x.new_empty(
            structure.num_target * own.outputs * own.heads,
            dtype=x.dtype if len(all_of) == 1 else torch.float32,
        )
        for first, last in all_of:
            some = slice(first, last)
            weights = self._weights(w, v, some)
            for block, constants in zip(self.blocks, self._constants(x), strict=True):
                a = y[some] @ constants.T
                rows, targets = (self.indptr, self.sources, None), (0, structure.num_target)
                pairs.add(block, x, a, weights, z, rows, targets, (first, last), first > 0)
        return z

    def back(self, y: Tensor, w: Tensor | None, v: Tensor | None, g: Tensor) -> Tensor:
        structure, all_of = self.structure, self._stretches()
        memo = structure.memo
        if "triton back" not in memo:
            with torch.inference_mode(False):
                found = pairs.by_source(structure.sources, structure.num_source)
                memo["triton back"] = (*found, structure.targets().int())
        indptr, order, target = memo["triton back"]
        gx = g.new_empty(
            structure.num_source * self.own.inputs, dtype=g.dtype if len(all_of) == 1 else torch.float32
        )
        for first, last in all_of:
            which = order[first:last].long()
            weights = self._weights(w, v, which)
            for block, constants in zip(self.blocks, self._constants(g), strict=True):
                a = y[which] @ constants.T
                sides = (indptr, order, target)
                pairs.add_back(
                    block, g, a, weights, gx, sides, structure.num_source, (first, last), True, first > 0
                )
        return gx

    def slopes(self, arguments: Sequence[Tensor | None], wanted: Sequence[int]) -> dict[int, Tensor]:
        """Gradients of y, w and v, a stretch of pairs at a time."""
        x, y, w, v, g = arguments
        assert x is not None and g is not None
        own, structure = self.own, self.structure
        number, ends = structure.num_pairs, (self.sources, structure.targets().int())
        inner = 0 if own.kind != FACTORED else v.shape[0] if v is not None else w.shape[1]  # type: ignore[union-attr]
        found: dict[int, Tensor] = {}
        if Y in wanted:
            found[Y] = x.new_zeros(number, own.dim, dtype=torch.float32)
        if W in wanted:
            shape = (number, inner if own.kind == FACTORED else own.width)
            found[W] = x.new_zeros(*shape, dtype=torch.float32)
        if V in wanted:
            found[V] = x.new_zeros(inner, own.width, dtype=torch.float32)
        for first, last in self._stretches():
            some = slice(first, last)
            weights = self._weights(w, v, some) if Y in wanted else Weights(KINDS[own.kind], heads=own.heads)
            of_channels = own.kind in (CHANNEL, FACTORED)
            gw = x.new_zeros(last - first, own.width, dtype=torch.float32) if of_channels else None
            for block, constants in zip(self.blocks, self._constants(x), strict=True):
                if Y in wanted:
                    ga = x.new_empty(last - first, len(constants), dtype=torch.float32)
                    pairs.slope(block, x, g, weights, ga, ends, (first, last))
                    found[Y][some] += ga @ constants
                if W in wanted or V in wanted:
                    assert y is not None
                    a, kind = y[some] @ constants.T, KINDS[own.kind]
                    if gw is not None:
                        pairs.weights_slope(
                            block, x, g, a, Weights(kind, row=own.width), gw, ends, (first, last)
                        )
                    else:
                        part = x.new_zeros(number, own.heads, dtype=torch.float32)
                        shared = Weights(kind, heads=own.heads)
                        pairs.weights_slope(block, x, g, a, shared, part, ends, (first, last))
                        found[W] += part
            if gw is None or not (W in wanted or V in wanted):
                continue
            if own.kind == CHANNEL:
                found[W][some] = gw
                continue
            if W in wanted:
                assert v is not None
                found[W][some] = gw @ v.T
            if V in wanted:
                assert w is not None
                found[V].addmm_(w[some].T, gw)
        return found
