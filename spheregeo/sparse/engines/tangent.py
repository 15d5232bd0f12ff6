"""The tangent form from contractions of planar features: channels are mixed by one matrix product for each output order.

Contractions come chunk by chunk, so that nothing of size pairs x channels^2 or pairs x contractions exists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor

from spheregeo.sparse.forms.orders import Orders, layout, lift, unlift
from spheregeo.sparse.forms.tangent import Direction, G, TangentStructure, W, X
from spheregeo.sparse.registry import WIDENED


class TangentEngine(ABC):
    """Base of engines for ``"tangent"``, which have one method of their own."""

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
            y, _ = self._run(
                structure, structure.forward, (_features(x, source), None), _weights(w, structure)
            )
            assert y is not None
            found[G] = target.public(y, 2).transpose(1, 2)
        if X not in wanted and W in wanted and source.dim <= target.dim:  # contract the narrower of the two
            assert x is not None and g is not None
            pair = (_features(x, source), _features(g, target))
            _, gw = self._run(structure, structure.forward, pair, None)
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
                other = _features(x, source)
            gx, gw = self._run(structure, structure.backward, (_features(g, target), other), weights)
            if gx is not None:
                found[X] = source.public(gx, 2).transpose(1, 2)
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

        All are planar; w and the correlation are (channels of the result, channels of x, R).
        """
        x, other = features
        source, target = ends_of(structure, rows)
        rings, batch = structure.rings, x.shape[0]
        _, ends = layout(source, target, rings)
        begins = [0, *ends[:-1]]
        matrices = [] if w is None else lift(w, source, target)
        y = None if w is None else x.new_empty(batch, rows.num_rows, target.dim)
        spans = [slice(first, first + count * (2 if order else 1)) for order, first, count in target.blocks]
        totals = (
            []
            if other is None
            else [
                x.new_zeros(e - b, s.stop - s.start, dtype=WIDENED.get(x.dtype, x.dtype))
                for b, e, s in zip(begins, ends, spans, strict=True)
            ]
        )
        for b in range(batch):
            for where, z in self.contract(structure, rows, x[b]):
                for i, span in enumerate(spans):
                    part = z[:, begins[i] : ends[i]]
                    if y is not None:
                        y[b, where, span] = part @ matrices[i].to(part.dtype)
                    if other is not None:
                        near = other[b, where, span]
                        if near.dtype is totals[i].dtype:
                            totals[i].addmm_(part.T, near)
                        else:
                            totals[i] += part.T @ near
        return y, None if other is None else unlift(totals, source, target, rings)


def ends_of(structure: TangentStructure, rows: Direction) -> tuple[Orders, Orders]:
    """The fields a direction reads, and those it makes."""
    pair = structure.source, structure.target
    return pair[::-1] if rows.adjoint else pair


def _features(x: Tensor, orders: Orders) -> Tensor:
    """(B, C, N) to planar (B, N, C)."""
    return orders.planar(x.transpose(1, 2), 2)


def _weights(w: Tensor, structure: TangentStructure) -> Tensor:
    """(O, I, R), both planar."""
    return structure.source.planar(structure.target.planar(w, 0), 1)
