"""The plain twin of ``MaxPlusMap``: rows are padded to one length, gathered, added to and reduced by a largest value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.sparse import MaxPlusMap


class PlainMaxPlusMap(nn.Module):
    """Largest (smallest) sums of features and coefficients, by ops that every runtime has.

    Args:
        map: the map that is replaced.

    Shape: as that of :class:`~spheregeo.sparse.MaxPlusMap`.
    """

    source: Tensor
    column: Tensor
    outside: Tensor

    def __init__(self, map: MaxPlusMap) -> None:
        super().__init__()
        self.semiring, self.num_source, self.num_values = map.semiring, map.num_source, map.num_values
        indptr = map.get_buffer("indptr").long()
        lengths = indptr.diff()
        slot = torch.arange(max(1, int(lengths.max()) if len(lengths) else 1), device=indptr.device)
        inside = slot < lengths[:, None]
        place = torch.where(inside, indptr[:-1, None] + slot, 0)
        for name in ("source", "column"):
            table = map.get_buffer(name).long()
            given = table[place] if len(table) else torch.zeros_like(place)
            self.register_buffer(name, given, persistent=False)
        self.register_buffer("outside", ~inside, persistent=False)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        sign = -1.0 if self.semiring == "min" else 1.0
        values = values.to(x.dtype).expand(x.shape[1], -1)
        sums = sign * (x[:, :, self.source] + values[:, self.column])
        return sign * sums.masked_fill(self.outside, -torch.inf).amax(-1)
