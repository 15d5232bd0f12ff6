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
from spheregeo.nn.area import OnGrid


def _pool(t: Tensor, groups: int) -> Tensor:
    """Mean of (B, C) over the samples (groups = 0) or over each group of channels, expanded to (B, C) again."""
    if groups == 0:
        return t.mean(0, keepdim=True).expand_as(t)
    return t.unflatten(1, (groups, -1)).mean(2, keepdim=True).expand(-1, -1, t.shape[1] // groups).flatten(1)


class _Normalise(torch.autograd.Function):
    """(x (B, C, N), gamma (C,), beta (C,), w (N,)) -> y, mean (B, C), variance (B, C); keeps x alone for the backward pass."""

    @staticmethod
    def forward(  # type: ignore[override]
        x: Tensor, gamma: Tensor, beta: Tensor, w: Tensor, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _pool(x @ w, groups)
        centred = x - mean[..., None]
        var = _pool(centred.mul_(centred) @ w, groups)
        del centred
        scale = gamma * torch.rsqrt(var + eps)
        return torch.addcmul((beta - mean * scale)[..., None], x, scale[..., None]), mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, gamma, _, w, groups, eps = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.save_for_backward(x, gamma, w, mean, var)
        ctx.groups, ctx.eps = groups, eps

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gamma, w, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again: mean and variance must follow x
            mean = _pool(x @ w, ctx.groups)
            var = _pool((x - mean[..., None]).square() @ w, ctx.groups)
        r = torch.rsqrt(var + ctx.eps)
        centred = x - mean[..., None]
        total = g.sum(-1)  # (B, C)
        product = g * centred
        along = product.sum(-1) * r
        scale = gamma * r
        # With G = gamma g and y = (x - mean) r: dx = r (G - w pool(sum G) - w y pool(sum G y)).
        a = (r * _pool(gamma * total, ctx.groups))[..., None]
        b = (r.square() * _pool(gamma * along, ctx.groups))[..., None]
        if torch.is_grad_enabled():
            dx = g * scale[..., None] - torch.addcmul(a, centred, b) * w
        else:  # the same in the two buffers at hand
            spread = centred.mul_(b).add_(a)
            dx = product.copy_(g).mul_(scale[..., None]).addcmul_(spread, w, value=-1)
        return dx, along.sum(0), total.sum(0), None, None, None


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype


def _normalise(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, w: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised field of any shape in its own dtype and strides, and its statistics, computed in float32 at least."""
    dtype = _compute_dtype(x)
    ones = w.new_ones(x.shape[1], dtype=dtype)
    gamma = ones if gamma is None else gamma.to(dtype)
    beta = torch.zeros_like(ones) if beta is None else beta.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        y, mean, var = _Normalise.apply(x.flatten(2).to(dtype), gamma, beta, w.to(dtype), groups, eps)
    return y.to(x.dtype).view(x.shape), mean, var


class AreaBatchNorm(OnGrid, _NormBase):
    """Batch norm with area-weighted statistics, and running ones for evaluation.

    Arguments as for ``torch.nn.BatchNorm2d``; running variances are the weighted ones, without Bessel's correction.

    Shape: (B, num_features, *grid.shape) -> the same, in the strides of the input.
    Equivariance: SO(3); exact for rotations that permute the grid, else to the accuracy of its quadrature.
    Raises: ValueError for an input that is not on the grid.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
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
        if not self.training and self.running_mean is not None and self.running_var is not None:
            scale = torch.rsqrt(self.running_var + self.eps)
            scale = scale if self.weight is None else scale * self.weight
            shift = -self.running_mean * scale
            shift = shift if self.bias is None else shift + self.bias
            axes = (-1, *[1] * (x.ndim - 2))
            dtype = _compute_dtype(x)
            return torch.addcmul(shift.to(dtype).view(axes), x.to(dtype), scale.to(dtype).view(axes)).to(
                x.dtype
            )
        y, mean, var = _normalise(x, self.weight, self.bias, self.share, 0, self.eps)
        if self.training and self.track_running_stats:
            self._track(mean[0], var[0])
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1.0 / self.num_batches_tracked.to(mean.dtype)
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.add_((new.to(running.dtype) - running) * rate)

    def extra_repr(self) -> str:
        return f"{_NormBase.extra_repr(self)}, grid={self.grid!r}"


class AreaGroupNorm(OnGrid):
    """Group norm with area-weighted statistics of each sample.

    Shape: (B, num_channels, *grid.shape) -> the same, in the strides of the input.
    Equivariance: SO(3); exact for rotations that permute the grid, else to the accuracy of its quadrature.
    Raises: ValueError for groups that do not divide the channels, or an input that is not on the grid.
    Reference: Wu & He 2018, arXiv:1803.08494, eq. 7.
    """

    def __init__(
        self, num_groups: int, num_channels: int, grid: Grid, *, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__(grid)
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"num_groups is {num_groups} and num_channels {num_channels}; groups must divide channels"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, self.num_channels)
        return _normalise(x, self.weight, self.bias, self.share, self.num_groups, self.eps)[0]

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, grid={self.grid!r}, eps={self.eps}, affine={self.weight is not None}"


class AreaInstanceNorm(AreaGroupNorm):
    """Instance norm with area-weighted statistics: :class:`AreaGroupNorm` with one channel a group.

    Shape: (B, num_features, *grid.shape) -> the same.
    Equivariance: as for :class:`AreaGroupNorm`.
    Reference: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022.
    """

    def __init__(self, num_features: int, grid: Grid, *, eps: float = 1e-5, affine: bool = False) -> None:
        super().__init__(num_features, num_features, grid, eps=eps, affine=affine)
