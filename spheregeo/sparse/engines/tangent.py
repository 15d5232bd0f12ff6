"""The tangent form from contractions of features: channels are mixed by one matrix product for each output order.

Contractions come chunk by chunk, so that nothing of size pairs x channels^2 or pairs x contractions exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spheregeo.constants import made
from spheregeo.sparse.forms.orders import Orders, layout, lift, unlift, width
from spheregeo.sparse.forms.tangent import Direction, G, TangentStructure, W, X
from spheregeo.sparse.registry import WIDENED


class TangentEngine(ABC):
    """Base of engines for ``"tangent"``, which have one method of their own.

    With ``planar`` off, an engine is given features as they stand publicly, (N, C) of any strides.
    """

    planar = True

    @abstractmethod
    def contract(
        self, structure: TangentStructure, rows: Direction, x: Tensor
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        """Contractions of planar features x (N, C) of the direction's source: yields rows and (rows, contractions).

        The memory of a chunk may be used again by the next one.
        """

    def __call__(
        self, structure: TangentStructure, arguments: Sequence[Tensor | None], wanted: Sequence[int]
    ) -> list[Tensor]:
        """Partial derivatives in the slots ``wanted``."""
        x, w, g = arguments
        source, target = structure.source, structure.target
        found: dict[int, Tensor] = {}
        if G in wanted:
            assert x is not None and w is not None
            y, _ = self._run(structure, structure.forward, (_rows(x), None), _weights(w, structure))
            assert y is not None
            found[G] = y.transpose(1, 2)
        if X not in wanted and W in wanted and source.dim <= target.dim:  # contract the narrower of the two
            assert x is not None and g is not None
            _, gw = self._run(structure, structure.forward, (_rows(x), _rows(g)), None)
            assert gw is not None
            found[W] = target.public(source.public(gw, 1), 0)
        elif X in wanted or W in wanted:
            assert g is not None
            weights = other = None
            if X in wanted:
                assert w is not None
                weights = _weights(w, structure).transpose(0, 1)
            if W in wanted:
                assert x is not None
                other = _rows(x)
            gx, gw = self._run(structure, structure.backward, (_rows(g), other), weights)
            if gx is not None:
                found[X] = gx.transpose(1, 2)
            if gw is not None:
                found[W] = target.public(source.public(gw.transpose(0, 1), 1), 0)
        return [found[slot] for slot in wanted]

    def _run(
        self,
        structure: TangentStructure,
        rows: Direction,
        features: tuple[Tensor, Tensor | None],
        w: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """One contraction of x (B, N, C), mixed by w where given, and correlated with ``other`` (B, M, D) where given.

        Channels are as they are publicly; w and the correlation are planar (channels of the result, channels of x, R).
        """
        x, other = features
        source, target = ends_of(structure, rows)
        rings, batch = structure.rings, x.shape[0]
        _, ends = layout(source, target, rings)
        begins = [0, *ends[:-1]]
        fields = [(width(n), count) for n, _, count in target.blocks]
        spans = [_span(target, i, x) for i in range(len(fields))]
        matrices, y = [], None
        if w is not None:
            y = x.new_empty(batch, rows.num_rows, target.dim)
            for matrix, sizes in zip(lift(w, source, target), fields, strict=True):
                # the two channels of a field side by side in the result, as they are publicly
                matrices.append(matrix.unflatten(1, sizes).transpose(1, 2).flatten(1))
        totals = None
        if other is not None:
            other = other.contiguous()
            wide = WIDENED.get(x.dtype, x.dtype)
            totals = [
                x.new_zeros(e - b, n * count, dtype=wide)
                for b, e, (n, count) in zip(begins, ends, fields, strict=True)
            ]
        for b in range(batch):
            given = source.planar(x[b], 1) if self.planar else x[b]
            for where, z in self.contract(structure, rows, given):
                parts = [z[:, begin:end] for begin, end in zip(begins, ends, strict=True)]
                if y is not None:
                    goal = y[b, where] if isinstance(where, slice) else y.new_empty(len(z), target.dim)
                    for part, matrix, span in zip(parts, matrices, spans, strict=True):
                        if isinstance(span, slice) and part.dtype is goal.dtype is matrix.dtype:
                            torch.mm(part, matrix, out=goal[:, span])
                        else:
                            goal[:, span] = (part @ matrix.to(part.dtype)).to(goal.dtype)
                    if not isinstance(where, slice):
                        y[b].index_copy_(0, where, goal)
                if other is not None and totals is not None:
                    near = other[b, where]
                    for part, total, span in zip(parts, totals, spans, strict=True):
                        if near.dtype is total.dtype:
                            total.addmm_(part.T, near[:, span])
                        else:
                            total += part.T @ near[:, span]
        if totals is None:
            return y, None
        ordered = [
            total.unflatten(1, (count, n)).transpose(1, 2).flatten(1)
            for total, (n, count) in zip(totals, fields, strict=True)
        ]
        return y, unlift(ordered, source, target, rings)


def ends_of(structure: TangentStructure, rows: Direction) -> tuple[Orders, Orders]:
    """The fields a direction reads, and those it makes."""
    pair = structure.source, structure.target
    return pair[::-1] if rows.adjoint else pair


def _rows(x: Tensor) -> Tensor:
    """(B, C, N) to (B, N, C), a view."""
    return x.transpose(1, 2)


def _span(orders: Orders, i: int, like: Tensor) -> slice | Tensor:
    """Public channels of the i-th order present, ascending: a slice where they follow one another."""
    n, first, count = orders.blocks[i]
    channels = sorted(orders.permutation[first : first + count * width(n)].tolist())
    if channels[-1] - channels[0] + 1 == len(channels):
        return slice(channels[0], channels[-1] + 1)
    return made(("channels", orders.terms, i), lambda: torch.tensor(channels), like)


def _weights(w: Tensor, structure: TangentStructure) -> Tensor:
    """(O, I, R), both planar."""
    return structure.source.planar(structure.target.planar(w, 0), 1)
