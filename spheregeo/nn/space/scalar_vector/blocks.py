"""Blocks at one point that mix scalars with the lengths and inner products of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.space.scalar_vector.packed import check_packed, lengths


class ScalarVectorUpdate(nn.Module):
    """PaiNN's update: with u = U v and w = W v, scalars s + a_s + a_p <u, w>, vectors v + a_v u, where a = perceptron(s, |w|).

    Args:
        channels: scalars of a point, and as many vectors.

    Shape: (N, 4, C), scalars in x[:, 0] and the components of vectors in x[:, 1:] -> the same.
    Equivariance: O(3), exact (relative error 1e-15 measured in float64).
    Raises: ValueError for no channel, or features of another shape.
    Reference: Schütt, Unke & Gastegger 2021, arXiv:2102.03150, equations 9 and 10.

    Example:
        >>> update = ScalarVectorUpdate(4)
        >>> update(torch.randn(2, 4, 4)).shape
        torch.Size([2, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_least(channels=(channels, 1))
        self.channels = channels
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.perceptron = nn.Sequential(
            nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        check_packed(x, self.channels)
        left, right = in_dtype(self.mix, x[:, 1:]).split(self.channels, 2)
        scalars, gates = in_dtype(self.perceptron, torch.cat([x[:, 0], lengths(right)], 1)).split(
            [2 * self.channels, self.channels], 1
        )
        own, paired = scalars.split(self.channels, 1)
        new = torch.addcmul(own, paired, (left * right).sum(1))
        return x + torch.cat([new[:, None], left * gates[:, None]], 1)

    def extra_repr(self) -> str:
        return f"channels={self.channels}"


class GatedEquivariantBlock(nn.Module):
    """PaiNN's gated equivariant block: with u = U v and w = W v, (s', g) = perceptron(s, |w|) and v' = g u.

    Two of them make the tensor head, from which dipoles and other vectors are read.

    Args:
        channels: scalars of a point, and as many vectors.
        out_channels: scalars that come out, and as many vectors.
        hidden: hidden width of the perceptron; ``channels`` if None.
        activate: whether SiLU is put on the scalars that come out.

    Shape: (N, 4, channels), scalars in x[:, 0] and the components of vectors in x[:, 1:] -> (N, 4, out_channels).
    Equivariance: O(3), exact (relative error 1e-15 measured in float64).
    Raises: ValueError for no channel, or features of another shape.
    Reference: Schütt, Unke & Gastegger 2021, arXiv:2102.03150, figure 3.

    Example:
        >>> block = GatedEquivariantBlock(4, 1)
        >>> block(torch.randn(2, 4, 4)).shape
        torch.Size([2, 4, 1])
    """

    def __init__(
        self, channels: int, out_channels: int, hidden: int | None = None, *, activate: bool = False
    ) -> None:
        super().__init__()
        check_least(channels=(channels, 1), out_channels=(out_channels, 1))
        hidden = channels if hidden is None else hidden
        check_least(hidden=(hidden, 1))
        self.channels, self.out_channels, self.activate = channels, out_channels, activate
        self.mix = nn.Linear(channels, out_channels + channels, bias=False)
        self.perceptron = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.SiLU(), nn.Linear(hidden, 2 * out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        check_packed(x, self.channels)
        left, right = in_dtype(self.mix, x[:, 1:]).split([self.out_channels, self.channels], 2)
        new, gates = in_dtype(self.perceptron, torch.cat([x[:, 0], lengths(right)], 1)).chunk(2, 1)
        if self.activate:
            new = nn.functional.silu(new)
        return torch.cat([new[:, None], left * gates[:, None]], 1)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.out_channels}, activate={self.activate}"
