"""Norm of each graph by itself: statistics over the points of one molecule or cloud, so that its batch does not matter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn.irreps.copies import PerCopy
from spheregeo.nn.irreps.layout import (
    EVEN,
    as_irreps,
    check_features,
    check_layout,
    join_rows,
    places_of,
    split_rows,
)
from spheregeo.nn.irreps.stacks import Features, Stacks, check_stacks, terms_of
from spheregeo.nn.statistics import working_dtype


class IrrepsInstanceNorm(nn.Module):
    """Norm of each graph by itself: copies divided by their root mean square over a graph's points, even scalars centred first.

    In a graph of one point even scalars are zero after centring: they become the bias.

    Args:
        irreps: of the features.
        eps: added to mean squares.
        affine: whether each copy has a learned scale and each even scalar a learned shift.
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: x (N, irreps.dim) or stacks, batch (N,) int64 (the graph of each point), number of graphs -> as x.
    Equivariance: O(3), exact (1e-15 in float64).
    Raises: ValueError for features of other irreps, or eps that is not positive.
    Reference: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022; Brandstetter et al. 2022, arXiv:2110.02905, appendix C.

    Example:
        >>> norm = IrrepsInstanceNorm("8x0e + 4x1o")
        >>> norm(torch.randn(5, 20), torch.tensor([0, 0, 1, 1, 1]), 2).shape
        torch.Size([5, 20])
    """

    def __init__(
        self, irreps: str | Irreps, *, eps: float = 1e-5, affine: bool = True, layout: str = "mul_ir"
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected a small positive number")
        self.irreps, self.eps, self.layout = as_irreps(irreps), eps, check_layout(layout)
        self.per_copy = PerCopy(self.irreps)
        self._terms, self._places = terms_of(self.irreps), places_of(self.irreps)
        scalars = self.irreps.count(EVEN)
        self.weight = nn.Parameter(torch.ones(self.irreps.num_irreps)) if affine else None
        self.bias = nn.Parameter(torch.zeros(scalars)) if affine and scalars else None

    def forward(self, x: Features, batch: Tensor, num_graphs: int) -> Features:
        if isinstance(x, Stacks):
            check_stacks(x, self._terms)
            return Stacks.of(self._normalized(x.parts, batch, num_graphs), x.terms)
        check_features(x, self.irreps)
        parts = split_rows(x, self._places, self.layout)
        return join_rows(self._normalized(parts, batch, num_graphs), self._places, self.layout)

    def _normalized(self, parts: Sequence[Tensor], batch: Tensor, num_graphs: int) -> list[Tensor]:
        dtype = working_dtype(parts[0])
        one = torch.ones(len(batch), dtype=dtype, device=batch.device)
        points = one.new_zeros(num_graphs).index_add(0, batch, one).clamp_min(1.0)[:, None, None]

        def mean(rows: Tensor) -> Tensor:
            return rows.new_zeros(num_graphs, *rows.shape[1:]).index_add(0, batch, rows) / points

        weights = None if self.weight is None else self.per_copy.split(self.weight.to(dtype))
        out = []
        for i, ((l, p, _), given) in enumerate(zip(self._terms, parts, strict=True)):
            part = given.to(dtype)
            if (l, p) == (0, 1):
                part = part - mean(part).index_select(0, batch)
            scale = torch.rsqrt(mean(part.square().mean(1, keepdim=True)) + self.eps)
            part = part * (scale if weights is None else scale * weights[i]).index_select(0, batch)
            if self.bias is not None and (l, p) == (0, 1):
                part = part + self.bias.to(dtype)
            out.append(part.to(given.dtype))
        return out

    def extra_repr(self) -> str:
        return f"'{self.irreps}', eps={self.eps}, affine={self.weight is not None}"
