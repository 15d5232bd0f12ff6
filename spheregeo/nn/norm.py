r"""Normalisation with averages over the sphere: each point counts by its area, not by being a pixel.

On a lat-lon grid pixels crowd at the poles, so plain batch statistics change when the sphere is turned. With area
shares w_p (sum 1), over a set S of channels and samples,

    mu = mean_S sum_p w_p x_p,   var = mean_S sum_p w_p (x_p - mu)^2,   y = gamma (x - mu) / sqrt(var + eps) + beta,

are quadratures of integrals over the sphere, which rotations keep. Batch norm takes S = samples, a channel at a time
(Ioffe & Szegedy 2015); group norm S = the group's channels, a sample at a time (Wu & He 2018); instance norm is group norm
with a channel a group. Forward and backward each pass a few times over the field, about as often as torch's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from spheregeo.grids import Grid
from spheregeo.nn.area import AreaWeighted
from spheregeo.nn.statistics import ChannelSets, normalize, working_dtype


def _on_points(x: Tensor, share: Tensor, *learned: Tensor | None, **options: Any) -> Tensor:
    """:func:`~spheregeo.nn.statistics.normalize` for a field of any shape and dtype, computed in float32 at least."""
    dtype = working_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        y = normalize(x.flatten(2).to(dtype), share.to(dtype), *learned, **options)
    return y.to(x.dtype).view(x.shape)


class AreaBatchNorm(AreaWeighted, _NormBase):
    """Batch norm with area-weighted statistics, and running ones for evaluation.

    Running variances are the weighted ones, without Bessel's correction.

    Args:
        num_features: channels.
        grid: the points that the fields live on.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.

    Shape: (B, num_features, *grid.shape) -> the same, in the strides of the input.
    Equivariance: SO(3); exact for rotations that permute the grid, else to the accuracy of its quadrature.
    Raises: ValueError for an input that is not on the grid.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.nn import AreaBatchNorm
        >>> grid = Equiangular(8, 16)
        >>> AreaBatchNorm(3, grid)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 3, 8, 16])
    """

    def __init__(
        self,
        num_features: int,
        grid: Grid,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        _NormBase.__init__(self, num_features, eps, momentum, affine, track_running_stats)
        self._place(grid)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, self.num_features)
        return _on_points(x, self.share, self.weight, self.bias, eps=self.eps, norm=self)

    def extra_repr(self) -> str:
        return f"{_NormBase.extra_repr(self)}, grid={self.grid!r}"


class AreaGroupNorm(AreaWeighted):
    """Group norm with area-weighted statistics of each sample.

    Args:
        num_groups: groups of channels that share statistics.
        num_channels: channels, a multiple of the groups.
        grid: the points that the fields live on.
        eps: added to the variance.
        affine: whether to learn a scale and a shift of each channel.

    Shape: (B, num_channels, *grid.shape) -> the same, in the strides of the input.
    Equivariance: SO(3); exact for rotations that permute the grid, else to the accuracy of its quadrature.
    Raises: ValueError for groups that do not divide the channels, or an input that is not on the grid.
    Reference: Wu & He 2018, arXiv:1803.08494, eq. 7.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.nn import AreaGroupNorm
        >>> grid = Equiangular(8, 16)
        >>> AreaGroupNorm(1, 3, grid)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 3, 8, 16])
    """

    of: Tensor
    part: Tensor

    def __init__(
        self, num_groups: int, num_channels: int, grid: Grid, *, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__(grid)
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"num_groups is {num_groups} and num_channels {num_channels}; groups must divide channels"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        width = num_channels // num_groups
        self.register_buffer("of", torch.arange(num_channels) // width, persistent=False)
        self.keep("part", torch.full((num_channels,), 1 / width, dtype=torch.float64))
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, self.num_channels)
        sets = (
            None
            if self.num_groups == self.num_channels
            else ChannelSets(self.of, self.part, self.part, self.num_groups)
        )
        return _on_points(x, self.share, self.weight, self.bias, sets=sets, per_sample=True, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, grid={self.grid!r}, eps={self.eps}, affine={self.weight is not None}"


class AreaInstanceNorm(AreaGroupNorm):
    """Instance norm with area-weighted statistics: :class:`AreaGroupNorm` with one channel per group.

    Args:
        num_features: channels.
        grid: the points that the fields live on.
        eps: added to the variance.
        affine: whether to learn a scale and a shift of each channel.

    Shape: (B, num_features, *grid.shape) -> the same.
    Equivariance: as for :class:`AreaGroupNorm`.
    Reference: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.

    Example:
        >>> import torch
        >>> from spheregeo.grids import Equiangular
        >>> from spheregeo.nn import AreaInstanceNorm
        >>> grid = Equiangular(8, 16)
        >>> AreaInstanceNorm(3, grid)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 3, 8, 16])
    """

    def __init__(self, num_features: int, grid: Grid, *, eps: float = 1e-5, affine: bool = False) -> None:
        super().__init__(num_features, num_features, grid, eps=eps, affine=affine)
