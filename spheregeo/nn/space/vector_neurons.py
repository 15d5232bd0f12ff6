r"""Vector neurons (Deng et al. 2021, arXiv:2104.12229): every channel is a vector of space, and maps mix channels alone.

Features have shape (..., 3, C): components, then channels, so that a map of the channels is one matrix product. None of the
layers has a bias, which would be a fixed direction. All are equivariant to O(3) exactly; the cross product of
:class:`VectorEdgeConv` alone takes the reflections away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spheregeo.checks import check_tensor
from spheregeo.nn.batch_norm import BatchNorm
from spheregeo.nn.statistics import working_dtype

EPS = 1e-6  # of the original, in squared lengths and in lengths
TINY = 1e-30  # a squared length


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Inner products of vectors given by their components. Shape: three times (...) each -> (...)."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products, channel by channel; a reduction over the middle axis is ten times slower.

    Shape: (..., 3, C), (..., 3, C) -> (..., C).
    """
    return dot(a.unbind(-2), b.unbind(-2))


def vector_leaky_relu(q: Tensor, k: Tensor, slope: float = 0.2) -> Tensor:
    """A leaky ReLU of vectors: of q against its direction k, the part along -k is multiplied by ``slope``.

    q where <q, k> >= 0, else q - (1 - slope) <q, k> k / (|k|² + 1e-6).

    Shape: q (..., 3, C), k (..., 3, C) or (..., 3, 1) -> (..., 3, C).
    Equivariance: O(3), 2e-16 (float64).
    """
    dtype = q.dtype
    q, k = q.to(working_dtype(q)), k.to(working_dtype(k))  # squares and EPS leave the range of half precision
    along = inner(q, k) / (inner(k, k) + EPS)
    return (q - ((1 - slope) * along.clamp(max=0)).unsqueeze(-2) * k).to(dtype)


class StatisticsNorm(BatchNorm):
    """Batch norm over rows that takes the running statistics where a batch has a single row, which has no variance.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.
        device, dtype: of the parameters.

    Shape: (N, C) -> (N, C).

    Example:
        >>> StatisticsNorm(5)(torch.randn(1, 5)).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, lone=True)


class VectorLinear(nn.Linear):
    """Linear map of the channels of vectors, without bias.

    Args:
        in_channels, out_channels: numbers of vectors.

    Shape: (..., 3, C_in) -> (..., 3, C_out).
    Equivariance: O(3), exact.
    Reference: Deng et al. 2021, arXiv:2104.12229.

    Example:
        >>> VectorLinear(4, 8)(torch.randn(10, 3, 4)).shape
        torch.Size([10, 3, 8])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, bias=False)

    def forward(self, v: Tensor) -> Tensor:
        check_tensor(v, "v")
        return functional.linear(v, self.weight.to(v.dtype))


class VectorBatchNorm(nn.Module):
    """Batch norm of the vectors' lengths: V · BN(|V|)/|V|. A length that becomes negative turns the vector round, as published.

    Args:
        channels: number C of vectors.

    Shape: (..., 3, C) -> (..., 3, C).
    Equivariance: O(3), 3e-16 (float64).

    Example:
        >>> VectorBatchNorm(4)(torch.randn(10, 3, 4)).shape
        torch.Size([10, 3, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = StatisticsNorm(channels)

    def forward(self, v: Tensor) -> Tensor:
        check_tensor(v, "v")
        wide = v.to(working_dtype(v))
        length = inner(wide, wide).clamp_min(TINY).sqrt() + EPS  # no gradient at 0, where the length has none
        normed = self.norm(length.reshape(-1, length.shape[-1]).to(v.dtype)).reshape(length.shape)
        return (wide * (normed / length).unsqueeze(-2)).to(v.dtype)


class VectorLinearReLU(nn.Module):
    """Linear map, batch norm, leaky ReLU against directions that are a linear map too.

    Args:
        in_channels, out_channels: vectors.
        slope: of the negative side.
        share: one direction for all channels.

    Shape: (..., 3, C_in) -> (..., 3, C_out).
    Equivariance: O(3), 4e-16 (float64).

    Example:
        >>> VectorLinearReLU(4, 8)(torch.randn(10, 3, 4)).shape
        torch.Size([10, 3, 8])
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, slope: float = 0.2, share: bool = False
    ) -> None:
        super().__init__()
        self.feature = VectorLinear(in_channels, out_channels)
        self.direction = VectorLinear(in_channels, 1 if share else out_channels)
        self.norm, self.slope = VectorBatchNorm(out_channels), slope

    def forward(self, v: Tensor) -> Tensor:
        return vector_leaky_relu(self.norm(self.feature(v)), self.direction(v), self.slope)


class VectorEdgeConv(nn.Module):
    """Edge convolution of vectors: :class:`VectorLinearReLU` of (x_j - x_i, x_i) on every edge j -> i, then the mean or maximum.

    The linear maps are applied to points and their results gathered, W₁(x_j - x_i) + W₂x_i = W₁x_j + (W₂ - W₁)x_i: a graph with
    k neighbours a point saves k-fold work, and the concatenated edge features are never formed.

    Args:
        in_channels, out_channels: vectors.
        slope: of the negative side.
        cross: add x_j × x_i, channel by channel, to the edge features.
        pool: "mean" or "max" over a point's edges.

    Shape: x (P, 3, C_in), edge_index (2, E) -> (P, 3, C_out); a point without edges gets 0.
    Equivariance: O(3), or SO(3) with ``cross``; 4e-16 (float64).
    Raises: ValueError for another pool.

    Example:
        >>> conv, edge_index = VectorEdgeConv(4, 8), torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> conv(torch.randn(3, 3, 4), edge_index).shape
        torch.Size([3, 3, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        slope: float = 0.2,
        cross: bool = False,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        self.pool = vector_pool(pool, out_channels)
        count = 3 if cross else 2
        self.feature = VectorLinear(count * in_channels, out_channels)
        self.direction = VectorLinear(count * in_channels, out_channels)
        self.norm, self.slope, self.cross = VectorBatchNorm(out_channels), slope, cross
        self.in_channels = in_channels

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        check_tensor(x)
        source, target = edge_index
        q = self._on_edges(x, source, target, self.feature.weight)
        k = self._on_edges(x, source, target, self.direction.weight)
        dtype = q[0].dtype
        q, k = ([part.to(working_dtype(part)) for part in parts] for parts in (q, k))
        length = dot(q, q).clamp_min(TINY).sqrt() + EPS
        factor = self.norm.norm(length.to(dtype)) / length
        back = (1 - self.slope) * (dot(q, k) * factor / (dot(k, k) + EPS)).clamp(max=0)
        parts = [(qi * factor - back * ki).to(dtype) for qi, ki in zip(q, k, strict=True)]
        if isinstance(self.pool, VectorMeanPool):
            return torch.stack([self.pool(part, target, x.shape[0]) for part in parts], 1)
        result: Tensor = self.pool(torch.stack(parts, 1), target, x.shape[0])
        return result

    def _on_edges(self, x: Tensor, source: Tensor, target: Tensor, weight: Tensor) -> list[Tensor]:
        """W (x_j - x_i, x_i, x_j × x_i) of every edge, its three components apart: three times (E, C_out).

        Components apart, every operation runs over contiguous rows; as one tensor, the backward pass stacks and slices.
        """
        c, weight = self.in_channels, weight.to(x.dtype)
        ends = functional.linear(x, torch.cat([weight[:, :c], weight[:, c : 2 * c] - weight[:, :c]]))
        of_source, of_target = (part.unbind(1) for part in ends.chunk(2, -1))
        found = [
            a.index_select(0, source) + b.index_select(0, target)
            for a, b in zip(of_source, of_target, strict=True)
        ]
        if not self.cross:
            return found
        (a0, a1, a2), (b0, b1, b2) = x.index_select(0, source).unbind(1), x.index_select(0, target).unbind(1)
        product = (a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0)
        return [
            part + functional.linear(p, weight[:, 2 * c :]) for part, p in zip(found, product, strict=True)
        ]


class VectorMeanPool(nn.Module):
    """Mean of vectors over groups.

    Shape: v (N, 3, C), group (N,), count -> (count, 3, C); empty groups give 0.
    Equivariance: O(3), any action on the axes but the first.

    Example:
        >>> pool = VectorMeanPool()
        >>> pool(torch.randn(5, 3, 4), torch.tensor([0, 0, 1, 1, 1]), 2).shape
        torch.Size([2, 3, 4])
    """

    def forward(self, v: Tensor, group: Tensor, count: int) -> Tensor:
        check_tensor(v, "v")
        wide = v.to(working_dtype(v))  # bfloat16 counts to 256
        total = wide.new_zeros(count, *v.shape[1:]).index_add(0, group, wide)
        size = wide.new_zeros(count).index_add(0, group, wide.new_ones(len(v)))
        return (total / size.clamp_min(1).view(-1, *[1] * (v.ndim - 1))).to(v.dtype)


class VectorMaxPool(nn.Module):
    """For each channel the vector of a group that reaches farthest along its own direction: argmax of <V, WV>.

    The value that is compared passes no gradient; of equal ones the first is taken.

    Args:
        channels: number C of vectors.

    Shape: v (N, 3, C), group (N,), count -> (count, 3, C); empty groups give 0.
    Equivariance: O(3), exact but for ties.

    Example:
        >>> pool = VectorMaxPool(4)
        >>> pool(torch.randn(5, 3, 4), torch.tensor([0, 0, 1, 1, 1]), 2).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.direction = VectorLinear(channels, channels)

    def forward(self, v: Tensor, group: Tensor, count: int) -> Tensor:
        check_tensor(v, "v")
        reach = inner(v, self.direction(v))  # (N, C)
        index = group[:, None].expand_as(reach)
        top = reach.new_full((count, reach.shape[1]), -torch.inf).scatter_reduce(0, index, reach, "amax")
        rows = torch.arange(len(v), device=v.device)[:, None].expand_as(reach)
        rows = torch.where(reach == top.gather(0, index), rows, len(v))
        best = rows.new_full((count, reach.shape[1]), len(v)).scatter_reduce(0, index, rows, "amin")
        padded = torch.cat([v, v.new_zeros(1, *v.shape[1:])])
        return padded.gather(0, best[:, None, :].expand(-1, 3, -1))


def vector_pool(kind: str, channels: int) -> nn.Module:
    """The pooling of that name, "mean" or "max". Raises: ValueError."""
    if kind not in ("mean", "max"):
        raise ValueError(f"pool is {kind!r}; expected 'mean' or 'max'")
    return VectorMeanPool() if kind == "mean" else VectorMaxPool(channels)


class VectorInvariants(nn.Module):
    """Invariants of vectors: their inner products with three vectors that two layers make of them, V^T T.

    They grow with the square of the scale; there is no frame to be orthonormalised, so reflections change nothing.

    Args:
        channels: number C of vectors.
        slope: of the layers' negative side.

    Shape: (..., 3, C) -> (..., 3C).
    Equivariance: invariant to O(3), 5e-16 (float64).

    Example:
        >>> VectorInvariants(4)(torch.randn(10, 3, 4)).shape
        torch.Size([10, 12])
    """

    def __init__(self, channels: int, *, slope: float = 0.2) -> None:
        super().__init__()
        half, quarter = max(1, channels // 2), max(1, channels // 4)
        self.frame = nn.Sequential(
            VectorLinearReLU(channels, half, slope=slope),
            VectorLinearReLU(half, quarter, slope=slope),
            VectorLinear(quarter, 3),
        )

    def forward(self, v: Tensor) -> Tensor:
        check_tensor(v, "v")
        return (v.transpose(-1, -2) @ self.frame(v)).flatten(-2)
