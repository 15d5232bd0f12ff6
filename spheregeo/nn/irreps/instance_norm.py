"""Norm of each graph by itself: statistics over the points of one molecule or cloud, so that its batch does not matter."""

from __future__ import annotations

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn.irreps.batch_norm import working_dtype
from spheregeo.nn.irreps.stacks import Copies, as_irreps, check_features, is_scalar


class IrrepsInstanceNorm(nn.Module):
    """Each copy divided by its root mean square over the points of a graph and the components, even scalars centred first.

    In a graph of one point even scalars are zero after centring: they become the bias.

    Shape: x (N, irreps.dim), batch (N,) int64, number of graphs -> (N, irreps.dim).
    Equivariance: O(3), exact (1e-15 in float64).
    Raises: ValueError for features of other irreps, or eps that is not positive.
    Reference: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022; Brandstetter et al. 2022, arXiv:2110.02905, appendix C.
    """

    has_mean: Tensor
    width: Tensor

    def __init__(
        self, irreps: str | Irreps, *, eps: float = 1e-5, affine: bool = True, layout: str = "mul_ir"
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected a small positive number")
        self.irreps, self.eps, self.layout = as_irreps(irreps), eps, layout
        self.copies = Copies(self.irreps, layout)
        scalar = is_scalar(self.irreps)
        width = [ir.dim for mul, ir in self.irreps for _ in range(mul)]
        self.register_buffer("has_mean", scalar, persistent=False)
        self.register_buffer("width", torch.tensor(width), persistent=False)
        self.register_buffer("scalars", scalar.nonzero()[:, 0], persistent=False)
        self.weight = nn.Parameter(torch.ones(self.irreps.num_irreps)) if affine else None
        self.bias = nn.Parameter(torch.zeros(int(scalar.sum()))) if affine and bool(scalar.any()) else None

    def forward(self, x: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        check_features(x, self.irreps)
        given, x = x.dtype, x.to(working_dtype(x))
        points = x.new_zeros(num_graphs).index_add(0, batch, x.new_ones(len(x))).clamp_min(1.0)[:, None]
        mean = x.new_zeros(num_graphs, x.shape[1]).index_add(0, batch, x) / points * self.has_mean.to(x.dtype)
        x = x - mean.index_select(0, batch)
        square = self.copies.collect(x.square()) / self.width
        scale = torch.rsqrt(
            x.new_zeros(num_graphs, square.shape[1]).index_add(0, batch, square) / points + self.eps
        )
        if self.weight is not None:
            scale = scale * self.weight.to(x.dtype)
        y = x * self.copies.spread(scale).index_select(0, batch)
        if self.bias is not None:
            y = y + x.new_zeros(x.shape[1]).index_copy(0, self.get_buffer("scalars"), self.bias.to(x.dtype))
        return y.to(given)

    def extra_repr(self) -> str:
        return f"'{self.irreps}', eps={self.eps}, affine={self.weight is not None}"
