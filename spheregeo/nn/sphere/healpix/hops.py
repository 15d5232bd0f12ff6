"""Several hops: nine-neighbour convolutions one after another, whose outputs are put together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.grids import HEALPix
from spheregeo.nn.sphere.healpix.conv import HEALPixConv

AGGREGATE = ("sum", "max", "concat")


class HEALPixHops(nn.Module):
    """Filter of ``hops`` rings of pixels: successive convolutions, with the outputs of all as skip connections.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: HEALPix grid, either order.
        hops: number of convolutions; the i-th reaches i rings of neighbours.
        aggregate: "sum" or "max" over the convolutions' outputs, or "concat", each giving an equal share of the channels.
        bias: whether to add a learned constant to every output channel.
        missing: rule for pixels that lack a neighbour, see :class:`HEALPixConv`.

    Shape: (B, in_channels, N) -> (B, out_channels, N).
    Equivariance: as for :class:`HEALPixConv`.
    Raises: ValueError for hops or aggregate that do not fit, and as :class:`HEALPixConv`.
    Reference: Mahmoudian Bidgoli et al. 2021, arXiv:2107.09179.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import HEALPixHops
        >>> HEALPixHops(3, 8, HEALPix(4), hops=2)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 8, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: HEALPix,
        *,
        hops: int = 2,
        aggregate: str = "sum",
        bias: bool = True,
        missing: str = "drop",
    ) -> None:
        super().__init__()
        if not isinstance(hops, int) or hops < 1:
            raise ValueError(f"hops is {hops!r}; expected a positive integer")
        if aggregate not in AGGREGATE:
            raise ValueError(f"aggregate is {aggregate!r}; expected one of {', '.join(map(repr, AGGREGATE))}")
        if aggregate == "concat" and out_channels % hops:
            raise ValueError(
                f"out_channels is {out_channels}; expected a multiple of hops, {hops}, to concatenate"
            )
        width = out_channels // hops if aggregate == "concat" else out_channels
        self.in_channels, self.out_channels, self.aggregate = in_channels, out_channels, aggregate
        self.source = self.target = grid
        self.convs = nn.ModuleList(
            HEALPixConv(width if i else in_channels, width, grid, bias=bias, missing=missing)
            for i in range(hops)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for conv in self.convs:
            x = conv(x)
            outputs.append(x)
        if self.aggregate == "concat":
            return torch.cat(outputs, 1)
        stacked = torch.stack(outputs)
        return stacked.sum(0) if self.aggregate == "sum" else stacked.amax(0)
