r"""Norms of irreps features, which rotations and inversion leave alone.

Only even scalars have a mean that may be taken away. What is divided by are root mean squares over all components of a copy,
so the result turns as the input does. Batch norm averages over points, one number a copy; the norm in ``layer_norm`` over the
copies of one point, so that a point's result does not depend on its batch.
"""

from __future__ import annotations

from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.nn.irreps.stacks import as_irreps, check_features, check_layout, copy_of, is_scalar


class _Moments(torch.autograd.Function):
    """Column means, times ``has_mean``, and mean squares about them; keeps x alone.

    Shape: x (rows, dim), has_mean (dim,) -> twice (dim,).
    """

    @staticmethod
    def forward(x: Tensor, has_mean: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(0) * has_mean
        return mean, (x - mean).square_().mean(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[0])

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_square: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        x, has_mean, mean = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again: the mean must follow x
            mean = x.mean(0) * has_mean
        # the mean square does not change with the mean: it is stationary there, or the mean is fixed at zero
        slope = 2 / len(x) * of_square
        return torch.addcmul(of_mean * has_mean / len(x) - slope * mean, x, slope), None


def _moments(x: Tensor, has_mean: Tensor) -> tuple[Tensor, Tensor]:
    if torch.compiler.is_compiling():
        mean = x.mean(0) * has_mean
        return mean, (x - mean).square().mean(0)
    mean, square = _Moments.apply(x, has_mean)
    return mean, square


def working_dtype(x: Tensor) -> torch.dtype:
    """float32 for the low precisions, else the features' own."""
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype


class IrrepsBatchNorm(nn.Module):
    """Batch norm: each copy divided by its root mean square over points and components, even scalars centred first.

    Arguments and running statistics as ``e3nn.nn.BatchNorm`` has them; ``running_mean`` has one entry a copy, zero but for 0e.
    A batch without points is passed through and leaves the statistics alone.

    Shape: (..., irreps.dim) -> the same; all leading axes are points.
    Equivariance: O(3), exact in training and evaluation (relative error 6e-16 measured in
        float64, 9e-8 in float32).
    Raises: ValueError for features of other irreps, or eps that is not positive.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167; Weiler et al. 2018, arXiv:1807.02547, section 4.3.
    """

    column: Tensor
    width: Tensor
    has_mean: Tensor
    scalars: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        irreps: str | Irreps,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        layout: str = "mul_ir",
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected a small positive number")
        self.irreps, self.layout, self.eps, self.momentum = (
            as_irreps(irreps),
            check_layout(layout),
            eps,
            momentum,
        )
        self.affine, self.track_running_stats, self.dim = affine, track_running_stats, self.irreps.dim
        copies, column = self.irreps.num_irreps, copy_of(self.irreps, layout)
        has_mean = is_scalar(self.irreps)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("width", torch.bincount(column), persistent=False)
        self.register_buffer("has_mean", has_mean, persistent=False)
        self.register_buffer("scalars", has_mean.nonzero()[:, 0], persistent=False)
        self.weight = nn.Parameter(torch.ones(copies)) if affine else None
        count = int(has_mean.sum())
        self.bias = nn.Parameter(torch.zeros(count)) if affine and count else None
        self.running_mean: Tensor | None
        self.running_var: Tensor | None
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(copies))
            self.register_buffer("running_var", torch.ones(copies))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        else:
            self.running_mean = self.running_var = None

    def forward(self, x: Tensor) -> Tensor:
        check_features(x, self.irreps)
        if x.numel() == 0:
            return x
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, self.dim).to(dtype)
            if self.training or self.running_mean is None or self.running_var is None:
                mean, square = _moments(rows, self.has_mean.to(dtype))
                var = self._of_copies(square)
                if self.training and self.track_running_stats:
                    self._track(mean, var)
            else:
                mean = self.running_mean.to(dtype)[self.column] * self.has_mean.to(dtype)
                var = self.running_var.to(dtype)
            scale = torch.rsqrt(var + self.eps)
            if self.weight is not None:
                scale = scale * self.weight.to(dtype)
            scale = scale.index_select(0, self.column)
            shift = -mean * scale
            if self.bias is not None:
                shift = shift + torch.zeros_like(shift).index_copy(0, self.scalars, self.bias.to(dtype))
            y = torch.addcmul(shift, rows, scale)
        return y.to(x.dtype).reshape(x.shape)

    def _of_copies(self, columns: Tensor) -> Tensor:
        """Means over the components of each copy. Shape: (irreps.dim,) -> (irreps.num_irreps,)."""
        return columns.new_zeros(len(self.width)).index_add(0, self.column, columns) / self.width

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1.0 / self.num_batches_tracked.to(mean.dtype)
        mean = self._of_copies(mean)
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.add_((new.to(running.dtype) - running) * rate)

    def extra_repr(self) -> str:
        return f"'{self.irreps}', eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
