"""Attention whose answer is what a feature differs by from its attended mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.nn.dtypes import in_dtype
from spheregeo.nn.space.vector_neurons import StatisticsNorm


class OffsetAttention(nn.Module):
    """Offset attention of the members of a set: x + ReLU(BN(W (x - A x))), A the attention normalised over rows and columns.

    With E = q kᵀ, the softmax over keys is divided by its sum over queries; the result for member m is the mean of the values
    with the weights in column m.

    Args:
        channels: channels C of the members.
        reduce: queries and keys have C / ``reduce`` channels, at least one.

    Shape: x (G, n, C), mask (G, n) bool of the members that there are, or None for all -> (G, n, C).
    Equivariance: permutations of the members, exact; absent members neither give nor take.
    Raises: ValueError for other shapes, or fewer than one channel.
    Reference: Guo, Cai, Liu, Mu, Martin & Hu 2021, arXiv:2012.09688, section 3.2.

    Example:
        >>> from spheregeo.nn.space.local_triangles import OffsetAttention
        >>> OffsetAttention(8)(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, channels: int, reduce: int = 4) -> None:
        super().__init__()
        if channels < 1 or reduce < 1:
            raise ValueError(f"channels is {channels} and reduce {reduce}; expected at least 1 each")
        self.channels, self.keys = channels, max(1, channels // reduce)
        self.attend = nn.Linear(channels, 2 * self.keys, bias=False)
        self.value = nn.Linear(channels, channels)
        self.mix = nn.Linear(channels, channels)
        self.norm = StatisticsNorm(channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        check_tensor(x)
        if x.ndim != 3 or x.shape[2] != self.channels:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (G, n, {self.channels})")
        if mask is not None and (mask.shape != x.shape[:2] or mask.dtype != torch.bool):
            raise ValueError(
                f"mask is {tuple(mask.shape)} of {mask.dtype}; expected {tuple(x.shape[:2])} of torch.bool"
            )
        if not x.numel():
            return x
        query, key = in_dtype(self.attend, x).split(self.keys, 2)
        energy = query @ key.mT
        if mask is not None:
            energy = energy.masked_fill(~mask[:, None], torch.finfo(energy.dtype).min)
        weight = energy.softmax(2)
        if mask is not None:
            weight = weight * mask[:, :, None]
        weight = weight / (weight.sum(1, keepdim=True) + 1e-9)
        offset = in_dtype(self.mix, x - weight.mT.to(x.dtype) @ in_dtype(self.value, x))
        if mask is None:
            return x + self.norm(offset.flatten(0, 1)).relu().view_as(x)
        places = mask.flatten().nonzero()[:, 0]
        change = self.norm(offset.flatten(0, 1).index_select(0, places)).relu()
        result: Tensor = x.flatten(0, 1).index_add(0, places, change.to(x.dtype)).view_as(x)
        return result
