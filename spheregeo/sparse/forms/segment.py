"""Outer products summed over the pairs of each target: the form behind ``segment_outer`` and ``segment_apply``.

    F(a, b, g) = sum over pairs e of  a_e^T g_{i(e)} b_e

for a (E, A), b (E, B), g (N, A, B) and pairs indptr[i], ..., indptr[i + 1] - 1 of target i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from spheregeo.sparse.multilinear import Multilinear, register
from spheregeo.sparse.patterns.base import Memo

A, B, G = range(3)


@dataclass(frozen=True)
class SegmentStructure(Memo):
    """Which pairs each target has; ``num_pairs`` in all."""

    indptr: Tensor
    num_pairs: int

    @property
    def tensors(self) -> list[Tensor]:
        return [self.indptr]

    @property
    def sizes(self) -> list[int]:
        return [self.num_pairs]


class Segment(Multilinear):
    """See the head of this module."""

    name = "segment"
    arguments = ("a", "b", "g")
    features = frozenset({A, B, G})

    def build(self, tensors: Sequence[Tensor], sizes: Sequence[int]) -> SegmentStructure:
        """The structure from its tensors and sizes."""
        return SegmentStructure(tensors[0], sizes[0])

    def shape(
        self, slot: int, arguments: Sequence[Tensor | None], structure: SegmentStructure
    ) -> tuple[int, ...]:
        """Shape of a partial derivative."""
        a, b, g = arguments
        if slot == G:
            assert a is not None and b is not None
            return structure.indptr.shape[0] - 1, a.shape[1], b.shape[1]
        assert g is not None
        return structure.num_pairs, g.shape[1 if slot == A else 2]


SEGMENT = register(Segment())
