"""Tangent fields carried from frame to frame: a form trilinear in features, weights and the output's cotangent.

    F(x, w, g) = sum_p < g(p), sum_t sum_k  rho_out(theta_t) w_k rho_in(g_t - theta_t) x(q_t)  c_k(t) >

for x (B, I, Q), w (O, I, R), g (B, O, P) and type descriptions as in :mod:`spheregeo.sparse.forms.orders`. Read backwards, pairs
reversed, transports negated and weights transposed, it is the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from spheregeo.lazy import cached_property
from spheregeo.sparse.forms.orders import Orders
from spheregeo.sparse.multilinear import Multilinear, register
from spheregeo.sparse.patterns.base import Memo

X, W, G = range(3)
PARTS = ("indptr", "indices", "start", "members", "order")


@dataclass(frozen=True)
class Direction(Memo):
    """Pairs by row, in one direction of a map.

    The t-th pair of row p reads row ``order[start[p] + t]`` of the coefficient table (an empty ``order`` counts 0, 1, 2, ...);
    ``members`` lists the rows such that those with the same coefficients follow one another, or is empty if none share.
    """

    adjoint: bool
    indptr: Tensor
    indices: Tensor
    start: Tensor
    members: Tensor
    order: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def tensors(self) -> list[Tensor]:
        return [self.indptr, self.indices, self.start, self.members, self.order]


@dataclass(frozen=True)
class TangentStructure(Memo):
    """Both directions of a map and the fields on both sides.

    Shape: table (T, R (2 J + 1) + 2): a pair's coefficients by frequency, then the cosine and sine of its transport.
    """

    table: Tensor
    forward: Direction
    backward: Direction
    source: Orders
    target: Orders
    rings: int
    num_source: int
    num_target: int

    @property
    def tensors(self) -> list[Tensor]:
        return [self.table, *self.forward.tensors, *self.backward.tensors]

    @cached_property
    def measures(self) -> tuple[int, int, int]:
        """Channels of source and target, and the highest frequency needed."""
        source, target = self.source, self.target
        return source.dim, target.dim, source.max_order + target.max_order

    @property
    def sizes(self) -> list[int]:
        source = self.source.flat
        return [self.num_target, self.num_source, self.rings, len(source), *source, *self.target.flat]


class Tangent(Multilinear):
    """See the head of this module."""

    name = "tangent"
    arguments = ("x", "w", "g")
    features = frozenset({X, G})

    def build(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> TangentStructure:
        """The structure from its tensors and sizes."""
        table, *rest = tensors
        num_target, num_source, rings, length = sizes[:4]
        source, target = Orders.of(sizes[4 : 4 + length]), Orders.of(sizes[4 + length :])
        ahead, back = Direction(False, *rest[:5]), Direction(True, *rest[5:])
        return TangentStructure(table, ahead, back, source, target, rings, num_source, num_target)

    def shape(
        self, slot: int, arguments: Sequence[Tensor | None], structure: TangentStructure
    ) -> tuple[int, ...]:
        """Shape of a partial derivative."""
        if slot == W:
            return structure.target.dim, structure.source.dim, structure.rings
        given = next(arguments[s] for s in (X, G) if arguments[s] is not None)
        assert given is not None
        if slot == G:
            return given.shape[0], structure.target.dim, structure.num_target
        return given.shape[0], structure.source.dim, structure.num_source

    def laid(self, slot: int, result: Tensor, structure: TangentStructure) -> Tensor:
        """Features have channels last in memory."""
        if slot == W:
            return result.contiguous()
        return result.transpose(1, 2).contiguous().transpose(1, 2)


TANGENT = register(Tangent())
