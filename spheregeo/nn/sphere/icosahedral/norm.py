r"""Batch norm on the charts: one mean and one variance a field, over samples, points and all six orientations.

With area shares w_p (sum 1, zero at the twelve corners),

    mu = mean_{b, rho} sum_p w_p x_rho(p),   var = mean_{b, rho} sum_p w_p (x_rho(p) - mu)^2,
    y = gamma (x - mu) / sqrt(var + eps) + beta.

Statistics of single orientations would know the charts' frames; these do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from spheregeo.grids import Icosahedral
from spheregeo.nn.sphere.icosahedral.charts import OnCharts, check_count, check_level, corners, orientations


def _pool(t: Tensor, size: int) -> Tensor:
    """Mean over each field's orientations, at each of them again. Shape: (C,) -> (C,)."""
    return t.unflatten(0, (-1, size)).mean(1).repeat_interleave(size) if size > 1 else t


class _Normalise(torch.autograd.Function):
    """(x (M, C), gamma (C,), beta (C,), w (M,) with sum 1) -> y, mean (C,), variance (C,); keeps x alone for the way back."""

    @staticmethod
    def forward(  # type: ignore[override]
        x: Tensor, gamma: Tensor, beta: Tensor, w: Tensor, size: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _pool(w @ x, size)
        centred = x - mean
        var = _pool(w @ centred.mul_(centred), size)
        del centred
        scale = gamma * torch.rsqrt(var + eps)
        return torch.addcmul(beta - mean * scale, x, scale), mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, gamma, _, w, ctx.size, ctx.eps = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.save_for_backward(x, gamma, w, mean, var)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gamma, w, mean, var = ctx.saved_tensors
        again = torch.is_grad_enabled()  # differentiated again: mean and variance must follow x
        if again:
            mean = _pool(w @ x, ctx.size)
            var = _pool(w @ (x - mean).square(), ctx.size)
        r = torch.rsqrt(var + ctx.eps)
        centred = x - mean
        total = g.sum(0)  # (C,)
        along = (g * centred).sum(0) * r
        # With G = gamma g and y = (x - mean) r: dx = r (G - w (pool(sum G) + y pool(sum G y)))
        scale = gamma * r
        a = r * _pool(gamma * total, ctx.size)
        b = r.square() * _pool(gamma * along, ctx.size)
        if again:
            dx = g * scale - torch.addcmul(a, centred, b) * w[:, None]
        else:  # the same in the buffer at hand
            dx = centred.mul_(b).add_(a).mul_(-w[:, None]).addcmul_(g, scale)
        return dx, along, total, None, None, None


class IcosahedralNorm(OnCharts, _NormBase):
    """Batch norm of scalar or regular fields, with area-weighted statistics and running ones for evaluation.

    Arguments after ``in_type`` as for ``torch.nn.BatchNorm2d``; ``num_features`` counts fields. Running variances are the
    weighted ones, without Bessel's correction.

    Shape: (B, num_features [· 6], N) -> the same, or likewise in chart layout.
    Equivariance: exact under the 60 rotations of the icosahedron, in training and in evaluation.
    Raises: ValueError for a level below 1, another type, or an input that does not fit.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167; Cohen et al. 2019, arXiv:1902.04615, section 5.
    """

    share: Tensor

    def __init__(
        self,
        num_features: int,
        level: int,
        *,
        in_type: str = "regular",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self._size = orientations("in_type", in_type)
        check_level(level)
        _NormBase.__init__(
            self, check_count("num_features", num_features), eps, momentum, affine, track_running_stats
        )
        self._between(level, level, num_features * self._size, in_type)
        self.in_type = in_type
        self.register_buffer("share", self._shares().to(torch.get_default_dtype()), persistent=False)

    def _shares(self) -> Tensor:
        areas = Icosahedral(self.level).areas[:-2].clone()
        areas[corners(self.level).owned] = 0
        return areas / areas.sum()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.share.dtype
        super()._apply(fn, recurse)
        if self.share.dtype != before and self.share.dtype == torch.float64:
            self.share = self._shares().to(self.share.device)  # widening cannot restore digits
        return self

    def on_charts(self, x: Tensor) -> Tensor:
        low = x.dtype in (torch.bfloat16, torch.float16)
        dtype = torch.float32 if low else x.dtype
        points = x.permute(0, 2, 3, 4, 1)  # (B, 5, n, 2n, C)
        one, zero = self.share.new_ones(self._in, dtype=dtype), self.share.new_zeros(self._in, dtype=dtype)
        gamma = one if self.weight is None else self._fields(self.weight).to(dtype)
        beta = zero if self.bias is None else self._fields(self.bias).to(dtype)
        if not self.training and self.running_mean is not None and self.running_var is not None:
            scale = gamma * torch.rsqrt(self._fields(self.running_var).to(dtype) + self.eps)
            shift = beta - self._fields(self.running_mean).to(dtype) * scale
            y = torch.addcmul(shift, points.to(dtype), scale)
        else:
            b = len(x)
            w = self.share.to(dtype).repeat(b) / b
            with torch.autocast(x.device.type, enabled=False):
                flat, mean, var = _Normalise.apply(
                    points.flatten(0, 3).to(dtype), gamma, beta, w, self._size, self.eps
                )
            if self.training and self.track_running_stats:
                self._track(mean[:: self._size], var[:: self._size])
            y = flat.view(points.shape)
        return y.to(x.dtype).permute(0, 4, 1, 2, 3)

    def _fields(self, t: Tensor) -> Tensor:
        return t.repeat_interleave(self._size) if self._size > 1 else t

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1.0 / self.num_batches_tracked.to(mean.dtype)
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.add_((new.to(running.dtype) - running) * rate)

    def extra_repr(self) -> str:
        return f"{_NormBase.extra_repr(self)}, level={self.level}, in_type={self.in_type!r}"
