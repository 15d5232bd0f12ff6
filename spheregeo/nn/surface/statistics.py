"""Means and mean squares of tangent fields, and the affine map that normalises by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid
from spheregeo.groups import FieldType, check_field
from spheregeo.nn.surface.stacks import even_scalars


def _pool(x: Tensor, w: Tensor, per_sample: bool) -> Tensor:
    means = x @ w if w.ndim == 1 else torch.einsum("bcp,bp->bc", x, w)
    return means if per_sample else means.mean(0, keepdim=True)


class _Moments(torch.autograd.Function):
    """Weighted mean, times ``has_mean``, and mean square about it; keeps x alone.

    Shape: x (B, dim, P), w (P,) or (B, P), has_mean (dim,) -> twice (1, dim), or (B, dim) per sample.
    """

    @staticmethod
    def forward(x: Tensor, w: Tensor, has_mean: Tensor, per_sample: bool) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        mean = _pool(x, w, per_sample) * has_mean
        centred = x - mean[..., None]
        return mean, _pool(centred.mul_(centred), w, per_sample)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, w, has_mean, ctx.per_sample = inputs
        ctx.save_for_backward(x, w, has_mean, output[0])

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_square: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, w, has_mean, mean = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again: the mean must follow x
            mean = _pool(x, w, ctx.per_sample) * has_mean
        share = 1.0 if ctx.per_sample else 1.0 / len(x)
        # the mean square does not change with the mean: it is stationary there, or the mean is fixed at zero
        slope = 2 * share * of_square
        constant = share * of_mean * has_mean - slope * mean
        w = w if w.ndim == 1 else w[:, None]
        return torch.addcmul(constant[..., None], x, slope[..., None]) * w, None, None, None


class FieldNorm(nn.Module):
    """Sets of channels that share a variance, and which channel of each, if any, is a scalar with a mean.

    Statistics are kept for each set: ``running_mean`` is used where the set has a scalar, and is zero elsewhere.
    """

    average: Tensor
    set_of: Tensor
    has_mean: Tensor
    even: Tensor
    share: Tensor | None
    num_batches_tracked: Tensor

    def __init__(
        self,
        field_type: str | FieldType,
        sets: list[list[int]],
        divisors: list[int],
        grid: Grid | None,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        per_sample: bool,
    ) -> None:
        super().__init__()
        self.field_type = FieldType.of(field_type)
        self.grid, self.eps, self.momentum = grid, eps, momentum
        self.affine, self.track_running_stats, self.per_sample = affine, track_running_stats, per_sample
        dim = self.field_type.dim
        even = even_scalars(self.field_type)
        average = torch.zeros(len(sets), dim)
        set_of = torch.zeros(dim, dtype=torch.int64)
        for i, (channels, divisor) in enumerate(zip(sets, divisors, strict=True)):
            average[i, channels] = 1 / divisor
            set_of[channels] = i
        has_mean = torch.zeros(dim)
        has_mean[even] = 1
        self.register_buffer("average", average, persistent=False)
        self.register_buffer("set_of", set_of, persistent=False)
        self.register_buffer("has_mean", has_mean, persistent=False)
        self.register_buffer("even", torch.tensor(even, dtype=torch.int64), persistent=False)
        self.register_buffer("share", self._shares(torch.get_default_dtype()), persistent=False)
        self.weight = nn.Parameter(torch.ones(len(sets))) if affine else None
        self.bias = nn.Parameter(torch.zeros(len(even))) if affine and even else None
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(len(sets)))
            self.register_buffer("running_var", torch.ones(len(sets)))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        else:
            self.running_mean = self.running_var = None

    def forward(self, x: Tensor, areas: Tensor | None = None) -> Tensor:
        """Areas given here stand in for the grid's; their scale is no matter. Shape: (P,) or (*points), with B before or not."""
        check_field(x, self.field_type)
        dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        with torch.autocast(x.device.type, enabled=False):
            flat = x.flatten(2).to(dtype)
            if self.training or self.running_mean is None or self.running_var is None:
                mean, var = self._statistics(flat, self._weights(x, areas, dtype))
                if self.training and self.track_running_stats:
                    self._track(mean[0], var[0])
            else:
                mean, var = self.running_mean.to(dtype)[None], self.running_var.to(dtype)[None]
            scale = torch.rsqrt(var + self.eps)
            if self.weight is not None:
                scale = scale * self.weight.to(dtype)
            scale = scale[:, self.set_of]  # (B or 1, dim)
            shift = -mean[:, self.set_of] * self.has_mean.to(dtype) * scale
            if self.bias is not None:
                shift = shift + shift.new_zeros(shift.shape[1]).index_copy(0, self.even, self.bias.to(dtype))
            y = torch.addcmul(shift[..., None], flat, scale[..., None])
        return y.to(x.dtype).view(x.shape)

    def _statistics(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of every set. Shape: (B, dim, P), (P,) or (B, P) -> (1, sets) twice, or (B, sets) per sample."""
        mean, square = _Moments.apply(x, w, self.has_mean.to(x.dtype), self.per_sample)
        of_set = mean.new_zeros(len(mean), len(self.average)).index_add(1, self.set_of, mean)
        return of_set, square @ self.average.to(x.dtype).T

    def _weights(self, x: Tensor, areas: Tensor | None, dtype: torch.dtype) -> Tensor:
        shape = x.shape[2:]
        if areas is None:
            if self.grid is not None and tuple(shape) != tuple(self.grid.shape):
                raise ValueError(
                    f"x has points {tuple(shape)} but the layer was built for {self.grid!r}, whose are {tuple(self.grid.shape)}; "
                    "give areas, or build the layer for this grid"
                )
            if self.share is not None:
                return self.share.to(dtype)
            return x.new_full((shape.numel(),), 1 / max(shape.numel(), 1), dtype=dtype)
        size, given = shape.numel(), tuple(areas.shape)
        if given in ((size,), tuple(shape)):
            w = areas.reshape(size)
        elif given in ((x.shape[0], size), (x.shape[0], *shape)):
            w = areas.reshape(x.shape[0], size)
        else:
            raise ValueError(
                f"areas have shape {given}; expected {(size,)} or {tuple(shape)}, one for each point of x, or that for each "
                f"of {x.shape[0]} samples"
            )
        w = w.to(x.device, dtype)
        return w / w.sum(-1, keepdim=True)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1.0 / self.num_batches_tracked.to(mean.dtype)
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.add_((new.to(running.dtype) - running) * rate)

    def _shares(self, dtype: torch.dtype) -> Tensor | None:
        if self.grid is None:
            return None
        areas = self.grid.areas.flatten()
        return (areas / areas.sum()).to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.average.dtype
        super()._apply(fn, recurse)
        if self.share is not None and self.share.dtype != before and self.share.dtype == torch.float64:
            share = self._shares(torch.float64)  # widening cannot restore digits
            assert share is not None
            self.share = share.to(self.average.device)
        return self

    def extra_repr(self) -> str:
        grid = "" if self.grid is None else f", grid={self.grid!r}"
        return f"'{self.field_type}', eps={self.eps}, momentum={self.momentum}, affine={self.affine}{grid}"
