"""The plain twin of attention maps: a padded table of the nonzeros of each row, and a softmax along it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.sparse import AttentionMap
from spheregeo.sparse.forms.attention import AttentionStructure


class PlainAttentionMap(nn.Module):
    """What :class:`spheregeo.sparse.AttentionMap` computes, with all scores kept.

    Args:
        map: the map; its offsets and functions are copied.

    Shape: as for the map.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import SphereAttention
        >>> map, x = SphereAttention(4, HEALPix(2), radius=1.0).map, torch.randn(1, 48, 4)
        >>> torch.allclose(PlainAttentionMap(map)(x, x, x, 2), map(x, x, x, 2), atol=1e-6)
        True
    """

    def __init__(self, map: AttentionMap) -> None:
        super().__init__()
        structure = AttentionStructure.build([map.get_buffer(name) for name in map._names], [1, *map._sizes])
        target, source, column = structure.pattern.coo()
        order = torch.argsort(target, stable=True)
        target, source, column = target[order], source[order], column[order].long()
        counts = torch.bincount(target, minlength=map.num_target)
        place = torch.arange(len(target)) - (counts.cumsum(0) - counts)[target]
        longest = max(1, int(counts.max()) if len(counts) else 1)
        at = torch.zeros(map.num_target, longest, dtype=torch.long)
        offset = torch.full(at.shape, -torch.inf, dtype=structure.offset.dtype)
        basis = torch.zeros(*at.shape, map.num_functions, dtype=structure.offset.dtype)
        at[target, place] = source
        offset[target, place] = structure.offset[column]
        spread = torch.zeros(len(column), map.num_functions, dtype=structure.offset.dtype)
        spread.scatter_add_(1, structure.index[column].long(), structure.share[column])
        basis[target, place] = spread
        offset[counts == 0] = 0.0  # a row without nonzeros: its mean is multiplied by zero
        for name, tensor in (("at", at), ("offset", offset), ("basis", basis), ("some", counts > 0)):
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
        at = self.get_buffer("at")
        near_k, near_v = (t[:, at.flatten()].unflatten(1, at.shape).unflatten(3, (heads, -1)) for t in (k, v))
        scores = torch.einsum("bphc,bpthc->bpth", q.unflatten(2, (heads, -1)), near_k)
        scores = scores + self.get_buffer("offset").to(q.dtype)[..., None]
        if bias is not None:
            scores = scores + self.get_buffer("basis").to(q.dtype) @ bias.to(q.dtype).T
        mean = torch.einsum("bpth,bpthd->bphd", scores.softmax(2), near_v).flatten(2)
        return mean * self.get_buffer("some").to(q.dtype)[:, None]
