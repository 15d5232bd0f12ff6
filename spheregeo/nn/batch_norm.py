"""Batch norm of channels in which all points count alike, and dropout of samples: torch's own, over all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from spheregeo.autograd import Function, is_watched
from spheregeo.checks import check_tensor
from spheregeo.nn.parallel import gather_rows, is_synchronized, num_processes, sum_over_processes
from spheregeo.nn.statistics import affine, batch_normalize, update_running, working_dtype
from spheregeo.sparse.registry import is_compiled

FUSED_FROM = 1 << 16  # numbers from which norm and GELU go by loops of their own


class BatchNorm(_NormBase):
    """Batch norm over samples and points, equal weights, as ``torch.nn.BatchNorm1d`` has it, for fields of any shape.

    In a training with several processes, which torch's own layers do not notice on a CPU, statistics are those of all
    processes; see :func:`~spheregeo.nn.parallel.synchronize_norms`. A batch without points leaves the running statistics alone.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: share of a batch in the running statistics; None for the mean of all batches.
        affine: whether to learn a scale and a shift.
        track_running_stats: whether to keep running statistics for evaluation.
        lone: whether a single row, which has no variance, is normalised by the running statistics in training too.
        device, dtype: of the parameters.

    Shape: (B, num_features, *) -> the same.
    Equivariance: exact for any permutation of samples and points.
    Raises: ValueError for other channels, and, unless ``lone``, in training for a single row.
    Reference: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.

    Example:
        >>> import torch
        >>> from spheregeo.nn import BatchNorm
        >>> BatchNorm(3)(torch.randn(2, 3, 8, 16)).shape
        torch.Size([2, 3, 8, 16])
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
        *,
        lone: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.lone = lone

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.num_features}, ...)")
        batch = self.training or self.running_mean is None
        rows = (
            x.numel() // self.num_features if batch else 0
        )  # in evaluation exporters keep the batch's size open
        total = float(rows)
        together = batch and is_synchronized(self)
        if together:
            total = float(sum_over_processes(torch.tensor(total, device=x.device)))
        if batch and self.running_mean is not None and total < (2 if self.lone else 1):
            batch = False
        if together and batch:
            return self._over_processes(x, rows, total)
        if is_watched():
            return self._plainly(x, batch, rows)
        kinds = {t.dtype for t in (self.weight, self.running_mean) if t is not None} - {x.dtype}
        if (
            kinds and working_dtype(x) not in kinds
        ):  # torch takes input of another type than the weights' in half alone
            return self._in_input_dtype(x, batch, rows)
        tracked = self.training and batch and self.running_mean is not None
        rate = 0.0 if self.momentum is None else self.momentum
        if tracked and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                rate = 1.0 / float(self.num_batches_tracked)
        kept = (self.running_mean, self.running_var) if tracked or not batch else (None, None)
        return functional.batch_norm(x, *kept, self.weight, self.bias, batch, rate, self.eps)

    def _plainly(self, x: Tensor, batch: bool, rows: int) -> Tensor:
        """For compilers: torch's kernel does not return gradients in the strides that it announces for permuted input."""
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            flat = x.to(dtype).flatten(2) if x.ndim > 2 else x.to(dtype)[..., None]  # (B, C, N)
            gamma = flat.new_ones(self.num_features) if self.weight is None else self.weight.to(dtype)
            beta = flat.new_zeros(self.num_features) if self.bias is None else self.bias.to(dtype)
            if not batch:
                assert self.running_mean is not None and self.running_var is not None
                kept = self.running_mean.to(dtype)[None], self.running_var.to(dtype)[None]
                y = affine(flat, *kept, gamma, beta, self.eps)
            else:
                w = flat.new_full((flat.shape[2],), 1 / max(flat.shape[2], 1))
                y, mean, var = batch_normalize(flat, w, gamma, beta, None, False, self.eps)
                if self.training and self.running_mean is not None:
                    update_running(self, mean[0], var[0] * (rows / max(rows - 1, 1)))
        return y.to(x.dtype).reshape(x.shape)

    def _in_input_dtype(self, x: Tensor, batch: bool, rows: int) -> Tensor:
        kept = [None if t is None else t.to(x.dtype) for t in (self.running_mean, self.running_var)]
        learned = [None if t is None else t.to(x.dtype) for t in (self.weight, self.bias)]
        if batch and self.training and self.running_mean is not None:
            var, mean = torch.var_mean(x.detach().transpose(0, 1).flatten(1), 1, correction=int(rows > 1))
            update_running(self, mean, var)
        mean_of, var_of = (None, None) if batch else kept
        return functional.batch_norm(x, mean_of, var_of, learned[0], learned[1], batch, 0.0, self.eps)

    def _over_processes(self, x: Tensor, rows: int, total: float) -> Tensor:
        if total < 2:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and is all that the processes hold; expected more than one value per channel"
            )
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            flat = x.to(dtype).transpose(0, 1).flatten(1)[None]  # (1, C, rows)
            w = flat.new_full((rows,), 1 / max(rows, 1))
            gamma = flat.new_ones(self.num_features) if self.weight is None else self.weight.to(dtype)
            beta = flat.new_zeros(self.num_features) if self.bias is None else self.bias.to(dtype)
            mass = flat.new_tensor(float(rows))
            y, mean, var = batch_normalize(flat, w, gamma, beta, None, False, self.eps, mass)
        if self.running_mean is not None:
            update_running(self, mean[0], var[0] * (total / (total - 1)))
        return y[0].unflatten(1, (len(x), *x.shape[2:])).transpose(0, 1).to(x.dtype)

    def gelu(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """``gelu(self(x) + add)``, GELU's argument computed again in the backward pass and not kept.

        Large contiguous float32 fields on a CPU, in training, take a few passes over memory in place of ten.

        Shape: x and add (B, num_features, *) -> the same.
        """
        if not self._fuses(x, add):
            y = self(x)
            return functional.gelu(y if add is None else add + y)
        y, mean, var = _NormGelu.apply(x, add, self.weight, self.bias, self.eps)
        if self.running_mean is not None:
            rows = x.numel() // self.num_features
            update_running(self, mean, var * (rows / (rows - 1)))
        result: Tensor = y
        return result

    def _fuses(self, x: Tensor, add: Tensor | None) -> bool:
        given = [x, self.weight, self.bias] if add is None else [x, self.weight, self.bias, add]
        return (
            self.training
            and not is_watched()
            and x.device.type == "cpu"
            and x.ndim > 2
            and x.shape[1] == self.num_features
            and x.numel() >= FUSED_FROM
            and all(type(t) in (Tensor, nn.Parameter) and t.dtype == torch.float32 for t in given)
            and x.is_contiguous()
            and (add is None or (add.shape == x.shape and add.is_contiguous()))
            and not is_synchronized(self)
            and not _hooked(self)
            and is_compiled("auto", x)
        )


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


class _NormGelu(Function):
    """x, add (B, C, *) or None, gamma, beta (C,) -> gelu(batch norm of x + add), mean, variance; keeps x and add alone."""

    @staticmethod
    def forward(  # type: ignore[override]
        x: Tensor, add: Tensor | None, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        from spheregeo.sparse.engines.kernels import channel_moments, norm_gelu

        found, y = torch.empty(x.shape[1], 2, dtype=torch.float64), torch.empty_like(x)
        with _threads():
            channel_moments(_field(x), found.numpy())
            mean, var = found[:, 0].to(x.dtype), found[:, 1].to(x.dtype)
            scale = gamma * torch.rsqrt(var + eps)
            numbers = _array(scale), _array(beta - mean * scale)
            norm_gelu(_field(x), _field(x[:0] if add is None else add), *numbers, _field(y))
        return y, mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, add, gamma, beta, ctx.eps = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.save_for_backward(x, add, gamma, beta, mean, var)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, add, gamma, beta, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again
            y = functional.batch_norm(x, None, None, gamma, beta, True, 0.0, ctx.eps)
            y = functional.gelu(y if add is None else add + y)
            wanted = [x, gamma, beta] if add is None else [x, gamma, beta, add]
            gx, ggamma, gbeta, *rest = torch.autograd.grad(y, wanted, g, create_graph=True, allow_unused=True)
            return gx, rest[0] if rest else None, ggamma, gbeta, None
        from spheregeo.sparse.engines.kernels import norm_gelu_back

        inverse = torch.rsqrt(var + ctx.eps)
        scale = gamma * inverse
        numbers = tuple(_array(t) for t in (scale, beta - mean * scale, mean, var + ctx.eps))
        gx, sums = torch.empty_like(x), torch.empty(x.shape[1], 2, dtype=torch.float64)
        gadd = None if add is None else torch.empty_like(x)
        with _threads():
            given = _field(g), _field(x), _field(x[:0] if add is None else add), numbers
            norm_gelu_back(*given, _field(x[:0] if gadd is None else gadd), _field(gx), sums.numpy())
        sums = sums.to(x.dtype)
        return gx, gadd, sums[:, 1] * inverse, sums[:, 0], None


def _threads() -> Any:
    from spheregeo.sparse.engines.compiled.runtime import threads

    return threads()


def _array(x: Tensor) -> Any:
    from spheregeo.sparse.engines.compiled.runtime import array

    return array(x)


def _field(x: Tensor) -> Any:
    """A field as an array (B, C, N)."""
    return _array(x).reshape(x.shape[0], x.shape[1], -1) if x.numel() else _array(x).reshape(0, x.shape[1], 0)


class SampleDropout(nn.Dropout):
    """Dropout whose mask, in a training with several processes, is that which one process would draw for the batch of them all.

    Processes take the samples of a batch in turns, as :class:`~spheregeo.data.EpochSampler` deals them out, and have to stand at
    one state of torch's generator.

    Args:
        p: probability that a number is set to zero, in training; what stays is divided by 1 - p.

    Shape: (B, *) -> the same; the first axis counts samples.
    Equivariance: none is touched: each number is kept or dropped by itself.
    Reference: Srivastava et al. 2014, Journal of Machine Learning Research 15.

    Example:
        >>> import torch
        >>> from spheregeo.nn import SampleDropout
        >>> SampleDropout(0.1)(torch.randn(4, 8)).shape
        torch.Size([4, 8])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if not self.training or self.p == 0 or num_processes() == 1:
            return functional.dropout(x, self.p, self.training)
        counts = gather_rows(torch.tensor([len(x)], device=x.device, dtype=torch.float32))[:, 0].long()
        place = torch.cat(
            [torch.arange(int(n), device=x.device) * len(counts) + k for k, n in enumerate(counts)]
        )
        own = slice(int(counts[: distributed.get_rank()].sum()), None)
        mask = functional.dropout(x.new_ones(len(place), *x.shape[1:]), self.p, True)
        return x * mask[place.argsort().argsort()[own][: len(x)]]
