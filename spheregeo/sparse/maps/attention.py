"""``AttentionMap``: means over the nonzeros of each row, weighted by a softmax of the products of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.sparse.forms.attention import AttentionStructure, attend
from spheregeo.sparse.forms.linear import LinearStructure
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.patterns import Pattern


class AttentionMap(FixedMap):
    r"""y_p = sum_t softmax_t(< q_p, k_t > + offset_t + sum_k basis_kt bias_k) v_t over the nonzeros t of row p, head by head.

    Nothing of a size nonzeros x heads is kept: a row's scores are computed, used, and computed again for the gradients.

    Args:
        pattern: which source points each target point sees; rows of a sum of blocks must not meet.
        offset: (T,) what is added to the scores of each column of the pattern's table.
        basis: (K, T) functions whose mixture by ``bias`` is added too; None for none. Few of them may be nonzero at once.
        engine: name of an engine, see :func:`spheregeo.sparse.engines`; None picks the fastest.

    Shape: ``map(q, k, v, heads, bias)``: q (B, P, C), k (B, Q, C), v (B, Q, D), bias (heads, K) or None -> (B, P, D); a row
        without nonzeros gives zero.
    Raises: ValueError for sizes that disagree.

    Example:
        >>> import torch
        >>> from spheregeo.sparse import AttentionMap, CSRPattern
        >>> pattern = CSRPattern.of(torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), 2)
        >>> rows = AttentionMap(pattern, torch.zeros(3))
        >>> rows(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]]), 1)
        tensor([[[1.],
                 [2.]]])
    """

    offset: Tensor

    def __init__(
        self, pattern: Pattern, offset: Tensor, basis: Tensor | None = None, *, engine: str | None = None
    ) -> None:
        super().__init__(engine)
        self.num_source, self.num_target = pattern.num_source, pattern.num_target
        self.num_nonzeros, self.kind = pattern.num_nonzeros, pattern.kind
        basis = offset.new_zeros(0, pattern.num_values) if basis is None else basis
        if offset.shape != (pattern.num_values,) or basis.shape[1:] != (pattern.num_values,):
            raise ValueError(
                f"offset has shape {tuple(offset.shape)} and basis {tuple(basis.shape)}; expected "
                f"({pattern.num_values},) and (K, {pattern.num_values}), one column per stored nonzero"
            )
        self.num_functions = len(basis)
        most = int((basis != 0).sum(0).max()) if basis.numel() else 0
        index = basis.abs().topk(most, dim=0).indices  # (most, T)
        share = basis.gather(0, index)
        structure = AttentionStructure(
            LinearStructure(pattern, *pattern.adjoint()),
            offset.detach(),
            index.T.to(torch.int32).contiguous(),
            share.T.contiguous(),
        )
        self._names = ("offset", "index", "share", *(f"rows{i}" for i in range(len(structure.tensors) - 3)))
        for name, tensor in zip(self._names, structure.tensors, strict=True):
            self._keep(name, tensor)
        self._sizes = structure.sizes[1:]  # without the heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
        """Queries, keys and values to means of the values."""
        fits = q.ndim == k.ndim == v.ndim == 3 and q.shape[0] == k.shape[0] == v.shape[0]
        points = (self.num_target, self.num_source, self.num_source)
        if not fits or q.shape[2] != k.shape[2] or tuple(t.shape[1] for t in (q, k, v)) != points:
            raise ValueError(
                f"q, k and v have shapes {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}; expected "
                f"(B, {points[0]}, C), (B, {points[1]}, C) and (B, {points[1]}, D)"
            )
        if heads < 1 or q.shape[2] % heads or v.shape[2] % heads:
            raise ValueError(
                f"heads is {heads}; expected a divisor of {q.shape[2]} and {v.shape[2]} channels"
            )
        if bias is not None and bias.shape != (heads, self.num_functions):
            raise ValueError(f"bias has shape {tuple(bias.shape)}; expected ({heads}, {self.num_functions})")
        if not (q.numel() and k.numel() and v.numel()):
            return q.sum() * k.sum() * v.sum() * q.new_zeros(*q.shape[:2], v.shape[2])
        structure = self._given(self._names), [heads, *self._sizes]
        return attend(self.engine, structure, (q, k, v, bias))

    def extra_repr(self) -> str:
        return (
            f"{self.num_source} -> {self.num_target}, nonzeros={self.num_nonzeros}, functions={self.num_functions}, "
            f"kind={self.kind!r}, engine={self.engine!r}"
        )
