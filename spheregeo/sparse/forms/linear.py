r"""Linear maps with K coefficients for each nonzero, channels mixed in the same pass: the form behind ``SparseMap``.

    F(x, w, v, g) = sum_{b,o,p} g[b,o,p] sum_{c,k} w[o,c,k] sum_{t in row p} v[k,t] x[b,c,q_t]

is linear in features x (B, C, Q), weights w (O, C/groups, K), coefficients v (K, T) and output cotangent g (B, O, P).
Without w the K functions are returned unmixed: g is (B, C*K, P), c slowest.
A pattern that is a sum of blocks is cut here, so that engines see one pattern at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.sparse.forms import bands
from spheregeo.sparse.multilinear import Multilinear, register
from spheregeo.sparse.patterns import BandsPattern, Block, BlockPattern, Pattern, pack, unpack
from spheregeo.sparse.patterns.base import Memo
from spheregeo.sparse.registry import WIDENED, pick

X, W, V, G = range(4)


@dataclass(frozen=True)
class LinearStructure(Memo):
    """A pattern, its adjoint, and for each column of the adjoint's table the column of the table it copies."""

    pattern: Pattern
    adjoint: Pattern
    order: Tensor
    groups: int = 1

    @property
    def tensors(self) -> list[Tensor]:
        return [self.order, *self.pattern.tensors, *self.adjoint.tensors]

    @property
    def sizes(self) -> list[int]:
        return [self.groups, *pack(self.pattern)[1], *pack(self.adjoint)[1]]

    @property
    def blocks(self) -> list[LinearStructure]:
        """Of a sum the structures of its blocks, made once; bands need none."""
        if "blocks" not in self.memo:
            pattern, adjoint = self.pattern, self.adjoint
            assert isinstance(pattern, BlockPattern) and isinstance(adjoint, BlockPattern)
            back = iter(adjoint.blocks)
            self.memo["blocks"] = [
                self if isinstance(b.pattern, BandsPattern) else self._block(b, next(back))
                for b in pattern.blocks
            ]
        blocks: list[LinearStructure] = self.memo["blocks"]
        return blocks

    def _block(self, ahead: Block, back: Block) -> LinearStructure:
        order = self.order[back.values] - ahead.values.start
        return LinearStructure(ahead.pattern, back.pattern, order, self.groups)


class Linear(Multilinear):
    """See the head of this module."""

    name = "linear"
    arguments = ("x", "w", "v", "g")
    features = frozenset({X, G})

    def build(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> LinearStructure:
        """The structure from its tensors and sizes."""
        pattern, count, length = unpack(tensors[1:], sizes[1:])
        adjoint, _, _ = unpack(tensors[1 + count :], sizes[1 + length :])
        return LinearStructure(pattern, adjoint, tensors[0], sizes[0])

    def shape(
        self, slot: int, arguments: Sequence[Tensor | None], structure: LinearStructure
    ) -> tuple[int, ...]:
        """Shape of a partial derivative."""
        x, w, v, g = arguments
        groups, pattern = structure.groups, structure.pattern
        if slot == G:
            assert x is not None and v is not None
            return x.shape[0], x.shape[1] * v.shape[0] if w is None else w.shape[0], pattern.num_target
        assert g is not None
        if slot == X:
            assert v is not None
            channels = g.shape[1] // v.shape[0] if w is None else w.shape[1] * groups
            return g.shape[0], channels, pattern.num_source
        assert x is not None
        if slot == W:
            assert v is not None
            return g.shape[1], x.shape[1] // groups, v.shape[0]
        return g.shape[1] // x.shape[1] if w is None else w.shape[2], pattern.num_values

    def laid(self, slot: int, result: Tensor, structure: LinearStructure) -> Tensor:
        """Features leave scattered maps with channels last in memory and ring maps with longitude last, as they enter."""
        if slot in self.features and structure.pattern.kind == "csr":
            return result.transpose(1, 2).contiguous().transpose(1, 2)
        return result.contiguous()

    def evaluate(
        self,
        engine: str,
        structure: LinearStructure,
        arguments: Sequence[Tensor | None],
        wanted: Sequence[int],
    ) -> list[Tensor]:
        """Partial derivatives by an engine, those of a sum block by block."""
        if isinstance(structure.pattern, BlockPattern):
            return _Sum(self, engine, structure, arguments, wanted).found()
        return super().evaluate(engine, structure, arguments, wanted)


class _Sum:
    """Partial derivatives of a sum of patterns."""

    def __init__(
        self,
        form: Linear,
        engine: str,
        structure: LinearStructure,
        arguments: Sequence[Tensor | None],
        wanted: Sequence[int],
    ) -> None:
        self.engine, self.structure, self.arguments, self.wanted = engine, structure, arguments, wanted
        self.shapes = {slot: form.shape(slot, arguments, structure) for slot in wanted}
        self.total: dict[int, Tensor] = {}

    def found(self) -> list[Tensor]:
        """The partial derivatives, in order."""
        pattern = self.structure.pattern
        assert isinstance(pattern, BlockPattern)
        columns: list[Tensor] = []  # of coefficients, which belong to one block each
        x, w, v, g = self.arguments
        given = next(t for t in (x, g) if t is not None)
        run, _ = pick(self.engine, given, "linear")
        tables = None if v is None else self._tables(v)
        for b, own in zip(pattern.blocks, self.structure.blocks, strict=True):
            part_x = None if x is None else x[..., b.source]
            part_v = None if tables is None else tables[b.values.start, b.values.stop]
            part_g = None if g is None else g[..., b.target]
            if isinstance(b.pattern, BandsPattern):
                self._bands(b.pattern, given)
                continue
            parts = run(own, (part_x, w, part_v, part_g), self.wanted)
            for slot, part in zip(self.wanted, parts, strict=True):
                if slot == V:
                    columns.append(part)
                else:
                    stretch = {G: b.target, X: b.source, W: slice(None)}[slot]
                    self._add(slot, part, stretch)
        if V in self.wanted:
            self.total[V] = torch.cat(columns, 1)
        return [self.total[slot] for slot in self.wanted]

    def _tables(self, v: Tensor) -> dict[tuple[int, int], Tensor]:
        """Each block's columns of the table, the same objects as long as the table is."""
        known = self.structure.memo.get("tables")
        if known is not None and known[0] is v:
            tables: dict[tuple[int, int], Tensor] = known[1]
            return tables
        assert isinstance(self.structure.pattern, BlockPattern)
        ends = [(b.values.start, b.values.stop) for b in self.structure.pattern.blocks]
        tables = {(a, b): v if b - a == v.shape[1] else v[:, a:b] for a, b in ends}
        self.structure.memo["tables"] = (v, tables)
        return tables

    def _add(self, slot: int, part: Tensor, stretch: slice) -> None:
        """Add what one block gives, in its stretch of the points."""
        shape = self.shapes[slot]
        if slot in self.total:
            self.total[slot][..., stretch] += part
        elif tuple(part.shape) == tuple(shape):
            self.total[slot] = part.to(_sums(part)).contiguous()
        else:
            self.total[slot] = part.new_zeros(shape, dtype=_sums(part))
            self.total[slot][..., stretch] = part

    def _bands(self, pattern: BandsPattern, like: Tensor) -> None:
        for slot in self.wanted:
            if slot not in self.total:
                self.total[slot] = like.new_zeros(self.shapes[slot], dtype=_sums(like))
        x, w, _, _ = self.arguments
        if G in self.wanted:
            assert x is not None and w is not None
            bands.output(self.engine, pattern, x, w, self.total[G])
        if X in self.wanted or W in self.wanted:
            given = (x, w, self.arguments[G])
            bands.gradients(self.engine, pattern, given, self.total.get(X), self.total.get(W))


def _sums(t: Tensor) -> torch.dtype:
    """Type in which blocks are added up."""
    return WIDENED.get(t.dtype, t.dtype)


LINEAR = register(Linear())
