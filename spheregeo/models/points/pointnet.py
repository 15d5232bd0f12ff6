"""PointNet: the network of Qi, Su, Mo & Guibas 2017 on raw coordinates, for comparison with networks that know rotations."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from spheregeo.models.registry import register
from spheregeo.models.space.point_outputs import OUTPUTS, CloudOutputs, Encoded, PointHead
from spheregeo.nn import BatchNorm, SampleDropout


@register("pointnet", output=OUTPUTS, domain="points")
class PointNet(CloudOutputs):
    """PointNet (Qi et al. 2017) without its input transforms: it sees coordinates and cannot tell a turned cloud. A baseline.

    The same layers act on every point, the largest value of each channel over the cloud is taken, and a perceptron decides.

    Args:
        in_channels: features of each point besides its three coordinates.
        out_channels: numbers for each cloud, or each point.
        grid: None.
        width: channels of the first layers; 2 and 16 times as many follow (published: 64).
        dropout: of the head.
        feature_irreps: accepted and not used: to this network all features are plain numbers.
        output: "label" for numbers of each cloud, "field" for numbers of each point.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph None -> (B, out_channels), or (P, out_channels).
    Equivariance: invariant to permutations of the points and to translations; not to rotations.
    Raises: ValueError for positions or features of another shape.
    Reference: Qi, Su, Mo & Guibas 2017, arXiv:1612.00593.

    Example:
        >>> model = PointNet(0, 4, width=8)
        >>> model(torch.randn(20, 3), None, torch.arange(2).repeat_interleave(10)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 32, dropout: float = 0.1,
        feature_irreps: str | None = None, output: str = "label",
    ) -> None:  # fmt: skip
        super().__init__(output)
        widths = [3 + in_channels, width, width, 2 * width, 16 * width]
        layers = [
            part
            for before, after in pairwise(widths)
            for part in (nn.Linear(before, after, bias=False), BatchNorm(after), nn.ReLU())
        ]
        self.in_channels = in_channels
        self.each_point = nn.Sequential(*layers)
        if output == "field":
            self.head: nn.Module = PointHead(
                16 * width, 16 * width, out_channels, hidden=[4 * width], dropout=dropout
            )
        else:
            self.head = nn.Sequential(
                nn.Linear(16 * width, 4 * width), nn.ReLU(), SampleDropout(dropout), nn.Linear(4 * width, out_channels)
            )  # fmt: skip

    def neighbors(self, positions: Tensor, batch: Tensor | None, cell: None = None, pbc: None = None) -> None:
        """Return None: no point of this network has neighbours."""

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: None, count: int
    ) -> Encoded:
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise ValueError(f"positions has shape {tuple(positions.shape)}; expected (P, 3)")
        found = 0 if features is None else features.shape[-1]
        if found != self.in_channels:
            raise ValueError(
                f"features have {found} columns but the network was built for in_channels={self.in_channels}"
            )
        sizes = torch.bincount(batch, minlength=count).clamp_min(1)[:, None]
        centre = positions.new_zeros(count, 3).index_add(0, batch, positions) / sizes
        centred = positions - centre[batch]
        x = self.each_point(centred if features is None else torch.cat([centred, features], 1))
        start = x.new_zeros(count, x.shape[1])  # nothing is below zero after the last rectifier
        return Encoded(x, start.scatter_reduce(0, batch[:, None].expand_as(x), x, "amax"))
