r"""Means and variances of channels, the map that normalises by them, and running statistics: what all our norms share.

With weights w_p of the points (sum 1), over sets S of channels and, for batch norms, samples,

    mu_S = sum_{c in S} a_c sum_p w_p x_cp,   var_S = sum_{c in S} b_c sum_p w_p (x_cp - mu_S)^2,
    y = gamma (x - mu) / sqrt(var + eps) + beta.

a_c and b_c are shares of a channel in its set's mean and variance; a channel with a_c = 0 is not shifted: of tangent fields and
irreps only even scalars have a mean that no frame changes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spheregeo.autograd import Function


class ChannelSets(NamedTuple):
    """Which channels share statistics.

    Attributes:
        of: (C,) number of each channel's set, int64.
        mean: (C,) share of the channel in the mean of its set; the shares that are not zero are alike within a set.
        variance: (C,) share of the channel in the variance of its set, alike within a set.
        num_sets: how many sets there are.
        has_mean: (C,) 1 for channels with a share in a mean and 0 for others; None where all have one.
    """

    of: Tensor
    mean: Tensor
    variance: Tensor
    num_sets: int
    has_mean: Tensor | None = None

    def sums(self, values: Tensor, shares: Tensor) -> Tensor:
        """Statistics of the sets from those of channels. Shape: (B, C) and shares (C,) -> (B, num_sets)."""
        return values.new_zeros(len(values), self.num_sets).index_add(1, self.of, values * shares)

    def at_channels(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, zero where a channel has none, and variance of each channel. Shape: (B, num_sets) twice -> (B, C) twice."""
        mean = mean.index_select(1, self.of)
        return mean if self.has_mean is None else mean * self.has_mean, var.index_select(1, self.of)


def _over_points(x: Tensor, w: Tensor, per_sample: bool) -> Tensor:
    """Weighted sums over points, averaged over samples. Shape: (B, C, N), (N,) or (B, N) -> (1, C), or (B, C) per sample."""
    sums = x @ w if w.ndim == 1 else torch.einsum("bcp,bp->bc", x, w)
    return sums if per_sample or len(sums) == 1 else sums.mean(0, keepdim=True)


def moments(x: Tensor, w: Tensor, sets: ChannelSets | None, per_sample: bool) -> tuple[Tensor, Tensor]:
    """Means and variances of channels, or of sets. Shape: (B, C, N), (N,) or (B, N) -> (1 or B, C or sets.num_sets) twice."""
    mean = centre = _over_points(x, w, per_sample)
    if sets is not None:
        mean = sets.sums(mean, sets.mean)
        centre, _ = sets.at_channels(mean, mean)
    centred = x - centre[..., None]
    square = centred.square() if torch.is_grad_enabled() else centred.mul_(centred)
    var = _over_points(square, w, per_sample)
    return mean, var if sets is None else sets.sums(var, sets.variance)


def affine(x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """gamma (x - mean) / sqrt(var + eps) + beta. Shape: (B, C, N), (1 or B, C) twice, (C,) twice -> (B, C, N)."""
    scale = gamma * torch.rsqrt(var + eps)
    return torch.addcmul((beta - mean * scale)[..., None], x, scale[..., None])


class _Normalize(Function):
    """x (B, C, N), gamma (C,), beta (C,), w (N,) or (B, N) -> y, mean, variance; keeps x alone for the backward pass."""

    @staticmethod
    def forward(  # type: ignore[override]
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        w: Tensor,
        sets: ChannelSets | None,
        per_sample: bool,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = moments(x, w, sets, per_sample)
        at = (mean, var) if sets is None else sets.at_channels(mean, var)
        return affine(x, *at, gamma, beta, eps), mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, gamma, _, w, ctx.sets, ctx.per_sample, ctx.eps = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.save_for_backward(x, gamma, w, mean, var)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gamma, w, mean, var = ctx.saved_tensors
        sets, per_sample = ctx.sets, ctx.per_sample
        again = torch.is_grad_enabled()  # differentiated again: mean and variance must follow x
        if again:
            mean, var = moments(x, w, sets, per_sample)
        if sets is not None:
            mean, var = sets.at_channels(mean, var)
        r = torch.rsqrt(var + ctx.eps)
        centred = x - mean[..., None]
        total = g.sum(-1)  # (B, C)
        along = (g * centred).sum(-1) * r
        scale = gamma * r
        # With G = gamma g and y = (x - mean) r: dx = r (G - w pool(sum G) - w y pool(sum G y)).
        a, b = scale * total, scale * r * along
        if len(a) > len(r):
            a, b = a.mean(0, keepdim=True), b.mean(0, keepdim=True)
        if sets is not None:
            a, b = sets.at_channels(sets.sums(a, sets.mean), sets.sums(b, sets.variance))
        a, b, weights = a[..., None], b[..., None], w if w.ndim == 1 else w[:, None]
        if again:
            dx = g * scale[..., None] - torch.addcmul(a, centred, b) * weights
        else:  # the same in the buffer at hand
            dx = centred.mul_(b).add_(a).mul_(-weights).addcmul_(g, scale[..., None])
        return dx, along.sum(0), total.sum(0), None, None, None, None


def working_dtype(x: Tensor) -> torch.dtype:
    """Dtype for sums over many values: float32 for half precisions, else that of x."""
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype


def normalize(
    x: Tensor,
    w: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    sets: ChannelSets | None = None,
    per_sample: bool = False,
    eps: float = 1e-5,
    norm: nn.Module | None = None,
) -> Tensor:
    """Channels normalised by the statistics of this batch, or by the running ones of ``norm`` in evaluation.

    Args:
        x: features of float32 or float64.
        w: weights of the points, with sum 1.
        gamma, beta: learned scale and shift of each channel; None for 1 and 0.
        sets: channels that share statistics; None for none.
        per_sample: statistics of each sample, not of the batch.
        eps: added to the variance.
        norm: layer with the buffers of a batch norm and a ``momentum``. It is read in evaluation and updated in training.

    Shape: x (B, C, N), w (N,) or (B, N) -> (B, C, N), in the strides of x.
    """
    gamma = x.new_ones(x.shape[1]) if gamma is None else gamma.to(x.dtype)
    beta = x.new_zeros(x.shape[1]) if beta is None else beta.to(x.dtype)
    if sets is not None:
        has_mean = None if sets.has_mean is None else sets.has_mean.to(x.dtype)
        sets = ChannelSets(sets.of, sets.mean.to(x.dtype), sets.variance.to(x.dtype), sets.num_sets, has_mean)
    state: Any = norm
    if state is not None and not state.training and state.running_mean is not None:
        mean, var = state.running_mean.to(x.dtype)[None], state.running_var.to(x.dtype)[None]
        mean, var = (mean, var) if sets is None else sets.at_channels(mean, var)
        return affine(x, mean, var, gamma, beta, eps)
    if torch.compiler.is_compiling():
        mean, var = moments(x, w, sets, per_sample)
        at = (mean, var) if sets is None else sets.at_channels(mean, var)
        y = affine(x, *at, gamma, beta, eps)
    else:
        y, mean, var = _Normalize.apply(x, gamma, beta, w, sets, per_sample, eps)
    if state is not None and state.training and state.running_mean is not None:
        update_running(state, mean[0], var[0])
    return y


@torch.no_grad()
def update_running(norm: Any, mean: Tensor, var: Tensor) -> None:
    """Move running statistics towards a batch's by the share ``norm.momentum``; None makes them means over all batches."""
    norm.num_batches_tracked.add_(1)
    rate = norm.momentum if norm.momentum is not None else 1.0 / norm.num_batches_tracked.to(mean.dtype)
    for running, new in ((norm.running_mean, mean), (norm.running_var, var)):
        running.add_((new.to(running.dtype) - running) * rate)
