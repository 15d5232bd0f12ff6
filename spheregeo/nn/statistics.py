r"""Means and variances of channels, the map that normalises by them, and running statistics: what all our norms share.

With weights w_p of the points (sum 1), over sets S of channels and, for batch norms, samples,

    mu_S = sum_{c in S} a_c sum_p w_p x_cp,   var_S = sum_{c in S} b_c sum_p w_p (x_cp - mu_S)^2,
    y = gamma (x - mu) / sqrt(var + eps) + beta.

a_c and b_c are shares of a channel in its set's mean and variance; a channel with a_c = 0 is not shifted: of tangent fields and
irreps only even scalars have a mean that no frame changes.

In a training with several processes, batch norms take the sums over the batches of all: with m_k the weight of process k's batch,
mu = sum_k m_k mu_k / sum_k m_k and var = sum_k m_k (var_k + (mu_k - mu)^2) / sum_k m_k: one exchange forward and one backward.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spheregeo.autograd import Function, is_watched
from spheregeo.nn.parallel import gather_rows, is_synchronized, sum_over_processes


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
    return sums if per_sample or len(sums) == 1 else sums.sum(0, keepdim=True) / max(len(sums), 1)


def moments(
    x: Tensor, w: Tensor, sets: ChannelSets | None, per_sample: bool, mass: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Means and variances of channels, or of sets; those of all processes where this one's batch has a weight ``mass``.

    Shape: (B, C, N), (N,) or (B, N) -> (1 or B, C or sets.num_sets) twice.
    """
    mean = centre = _over_points(x, w, per_sample)
    if sets is not None:
        mean = sets.sums(mean, sets.mean)
        centre, _ = sets.at_channels(mean, mean)
    centred = x - centre[..., None]
    square = centred.square() if torch.is_grad_enabled() else centred.mul_(centred)
    var = _over_points(square, w, per_sample)
    var = var if sets is None else sets.sums(var, sets.variance)
    return (mean, var) if mass is None else _of_all_processes(mean, var, mass, sets)


def _of_all_processes(
    mean: Tensor, var: Tensor, mass: Tensor, sets: ChannelSets | None
) -> tuple[Tensor, Tensor]:
    """Moments of the batches of all processes from those of this one's. Shape: (1, S) twice, () -> (1, S) twice."""
    rows = gather_rows(torch.cat([mean[0], var[0], mass.view(1)]))
    means, variances, masses = rows.split([mean.shape[1], var.shape[1], 1], 1)
    share = masses / masses.sum().clamp_min(torch.finfo(masses.dtype).tiny)
    mean = (share * means).sum(0, keepdim=True)
    apart = means - mean
    if sets is None:
        between = apart.square()
    else:  # within a set, channels lie evenly about the mean of their process
        between = sets.sums(sets.at_channels(apart, apart)[0].square(), sets.variance)
    return mean, (share * (variances + between)).sum(0, keepdim=True)


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
        mass: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = moments(x, w, sets, per_sample, mass)
        at = (mean, var) if sets is None else sets.at_channels(mean, var)
        return affine(x, *at, gamma, beta, eps), mean, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, gamma, _, w, ctx.sets, ctx.per_sample, ctx.eps, ctx.mass = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.save_for_backward(x, gamma, w, mean, var)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, gamma, w, mean, var = ctx.saved_tensors
        sets, per_sample = ctx.sets, ctx.per_sample
        again = torch.is_grad_enabled()  # differentiated again: mean and variance must follow x
        if again:
            mean, var = moments(x, w, sets, per_sample, ctx.mass)
        if sets is not None:
            mean, var = sets.at_channels(mean, var)
        r = torch.rsqrt(var + ctx.eps)
        centred = x - mean[..., None]
        total = g.sum(-1)  # (B, C)
        along = (g * centred).sum(-1) * r
        scale = gamma * r
        # With G = gamma g and y = (x - mean) r: dx = r (G - w pool(sum G) - w y pool(sum G y)).
        a, b = scale * total, scale * r * along
        if ctx.mass is not None:
            a, b = _pooled(a, b, ctx.mass)
        elif len(a) != len(r):
            a, b = (t.sum(0, keepdim=True) / max(len(t), 1) for t in (a, b))
        if sets is not None:
            a, b = sets.at_channels(sets.sums(a, sets.mean), sets.sums(b, sets.variance))
        a, b, weights = a[..., None], b[..., None], w if w.ndim == 1 else w[:, None]
        if again:
            dx = g * scale[..., None] - torch.addcmul(a, centred, b) * weights
        else:  # the same in the buffer at hand
            dx = centred.mul_(b).add_(a).mul_(-weights).addcmul_(g, scale[..., None])
        return dx, along.sum(0), total.sum(0), None, None, None, None, None


def _pooled(a: Tensor, b: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """What a batch norm's backward pass takes over the batches of all processes, times the weight of a sample of this one.

    Shape: (B, C) twice, () -> (1, C) twice.
    """
    sums = sum_over_processes(torch.cat([a.sum(0), b.sum(0), mass.view(1)]))
    of_a, of_b, total = sums.split([a.shape[1], b.shape[1], 1])
    share = mass / (max(len(a), 1) * total.clamp_min(torch.finfo(total.dtype).tiny))
    return (of_a * share)[None], (of_b * share)[None]


@torch.compiler.disable
def _eager(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = _Normalize.apply(*arguments)
    return result


def batch_normalize(
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    beta: Tensor,
    sets: ChannelSets | None,
    per_sample: bool,
    eps: float,
    mass: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features normalised by the statistics of their batch, and these statistics, which pass no gradient.

    Args:
        x: features of float32 or float64.
        w: weights of the points, with sum 1.
        gamma, beta: scale and shift of each channel.
        sets: channels that share statistics; None for none.
        per_sample: statistics of each sample, not of the batch.
        eps: added to the variance.
        mass: weight of this process's batch among those of all processes; None for statistics of this process alone.

    Shape: x (B, C, N), w (N,) or (B, N), gamma and beta (C,), mass () -> (B, C, N), (1 or B, C or sets.num_sets) twice.
    """
    if mass is not None:
        return _eager(x, gamma, beta, w, sets, per_sample, eps, mass)  # compilers leave the exchange alone
    if is_watched():
        mean, var = moments(x, w, sets, per_sample)
        at = (mean, var) if sets is None else sets.at_channels(mean, var)
        return affine(x, *at, gamma, beta, eps), mean, var
    result: tuple[Tensor, Tensor, Tensor] = _Normalize.apply(x, gamma, beta, w, sets, per_sample, eps, None)
    return result


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
    mass: int | Tensor | None = None,
) -> Tensor:
    """Channels normalised by the statistics of this batch, or by the running ones of ``norm`` in evaluation.

    Args:
        x: features of float32 or float64.
        w: weights of the points, with sum 1.
        gamma, beta: learned scale and shift of each channel; None for 1 and 0.
        sets: channels that share statistics; None for none.
        per_sample: statistics of each sample, not of the batch.
        eps: added to the variance.
        norm: layer with the buffers of a batch norm and a ``momentum``. It is read in evaluation and updated in training, whose
            statistics are those of all processes.
        mass: weight of the batch among those of other processes; None for the number of samples.

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
    weight: Tensor | None = None
    if not per_sample and is_synchronized(norm):
        weight = torch.as_tensor(len(x) if mass is None else mass, dtype=x.dtype, device=x.device)
    elif (
        not torch.compiler.is_compiling() and x.numel() == 0
    ):  # no statistics to be had; what is learned stays in the graph
        return x * gamma[:, None] + beta[:, None]
    y, mean, var = batch_normalize(x, w, gamma, beta, sets, per_sample, eps, weight)
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
