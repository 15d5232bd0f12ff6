"""Outer products summed over the pairs of each target, and the adjoint.

    outer(a, b)_i = sum over pairs e of i of a_e b_e^T            apply(g, b)_e = g_{i(e)} b_e

Both are derivatives of sum_e a_e^T g_{i(e)} b_e, so each one's derivatives are the two again: gradients
of any order keep only the arguments, and outer products exist a block of pairs at a time.
"""

from __future__ import annotations

from torch import Tensor

from spheregeo.sparse.forms.segment import SEGMENT, A, G, SegmentStructure
from spheregeo.sparse.multilinear import is_traced
from spheregeo.sparse.registry import check_engine


def segment_outer(a: Tensor, b: Tensor, indptr: Tensor, *, engine: str | None = None) -> Tensor:
    """Sum of a_e b_eᵀ over the pairs e = indptr[i] … indptr[i + 1] − 1 of each target i.

    Shape: a (E, A), b (E, B), indptr (N + 1,) -> (N, A, B); zero where there are no pairs.
    """
    return _segment(indptr, a.shape[0], (a, b, None), (G, engine))


def segment_apply(g: Tensor, b: Tensor, indptr: Tensor, *, engine: str | None = None) -> Tensor:
    """The matrix of each pair's target times the pair's vector.

    Shape: g (N, A, B), b (E, B), indptr (N + 1,) -> (E, A).
    """
    return _segment(indptr, b.shape[0], (None, b, g), (A, engine))


def _segment(
    indptr: Tensor, pairs: int, arguments: tuple[Tensor | None, ...], how: tuple[int, str | None]
) -> Tensor:
    slot, name = how
    engine = check_engine(name)
    if is_traced(indptr) or any(t is not None and is_traced(t) for t in arguments):
        return SEGMENT.traced(engine, ([indptr], [pairs]), arguments, (slot,))[0]
    return SEGMENT.direct(engine, SegmentStructure(indptr, pairs), arguments, slot)
