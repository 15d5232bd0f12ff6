"""Losses as integrals over the sphere: every point counts by its area, over the valid part of the whole batch.

loss = sum_i a_i v_i l_i / sum_i a_i v_i, with i over all points of all images, a the area, v validity. With several
processes the denominator is that of the global batch, divided by the number of processes: the gradient that DDP
averages is then exactly the one a single process gets from the same global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from spheregeo.nn.parallel import num_processes, sum_over_processes

NOTHING_LABELLED = (
    "no pixel of the training data is labelled: every label is void (ignored); look at the label files, at the values that "
    "count as void, and at the classes"
)


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of a scalar over all processes, without gradient."""
    return sum_over_processes(value.detach()) / num_processes()


def _max_over_processes(value: Tensor) -> Tensor:
    value = value.detach().clone()
    if num_processes() > 1:
        distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
    return value


def area_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the global batch; zero (with a graph) where nothing is valid.

    Shape: values and weights (B, *shape) -> ().
    """
    total = mean_over_processes(weights.sum())
    return (values * weights).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)


def plain_mean(values: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean over the global batch in which all known values count alike; zero (with a graph) where nothing is known.

    Shape: values and known (B, *) -> ().
    """
    weights = torch.ones_like(values) if known is None else known.to(values.dtype)
    return area_mean(values, weights)


def cross_entropy(
    logits: Tensor,
    label: Tensor,
    areas: Tensor | None = None,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
    smoothing: float = 0.0,
    gamma: float = 0.0,
) -> Tensor:
    """Area-weighted cross-entropy, in float32 whatever the precision of the network; all weigh alike without areas.

    With ``gamma`` above 0 it is the focal loss: a point whose class has probability p counts (1 - p)^gamma times.

    Shape: logits (B, C, *shape), label (B, *shape), areas (*shape), class_weights (C,) -> ().
    Reference: Lin et al. 2017 (focal loss), arXiv 1708.02002, eq. 5.
    """
    valid = label != ignore_index
    target = torch.where(valid, label, 0).long()
    weights = valid.float() if areas is None else areas.float() * valid  # (B, *shape)
    if class_weights is not None:
        weights = weights * class_weights.float()[target]
    values = torch.nn.functional.cross_entropy(
        logits.float(), target, reduction="none", label_smoothing=smoothing
    )  # (B, *shape)
    if gamma:
        chosen = logits.float().log_softmax(1).gather(1, target[:, None]).squeeze(1)  # log p, (B, *shape)
        # 1 - p without cancellation; the floor keeps the power's derivative finite where p is 1
        values = values * (-torch.expm1(chosen)).clamp_min(1e-6) ** gamma
    return area_mean(values, weights)


def depth_l1(prediction: Tensor, truth: Tensor, valid: Tensor, areas: Tensor) -> Tensor:
    """Area-weighted mean absolute error over the valid points.

    Shape: prediction, truth, valid (B, *shape), areas (*shape) -> ().
    """
    error = torch.where(valid, prediction.float() - truth.float(), 0.0).abs()
    return area_mean(error, areas.float() * valid)


def depth_berhu(prediction: Tensor, truth: Tensor, valid: Tensor, areas: Tensor) -> Tensor:
    """Area-weighted reverse Huber loss, linear up to c = max|error| / 5 and quadratic beyond.

    Shape: prediction, truth, valid (B, *shape), areas (*shape) -> ().
    Reference: Laina et al. 2016, arXiv 1606.00373, eq. 1.
    """
    error = torch.where(valid, prediction.float() - truth.float(), 0.0).abs()
    c = (0.2 * _max_over_processes(error.max())).clamp_min(1e-6)
    return area_mean(torch.where(error <= c, error, (error**2 + c**2) / (2 * c)), areas.float() * valid)


def balanced_weights(area_per_class: Tensor) -> Tensor:
    """Class weights 1 / ln(1.02 + share of area), scaled so that the mean over the area is 1.

    Shape: (C,) -> (C,). A class without area gets weight 0: it cannot be learnt.
    Raises: ValueError when no class has any area.
    Reference: Paszke et al. 2016 (ENet), arXiv 1606.02147, section 5.2.
    """
    if not bool(area_per_class.sum() > 0):
        raise ValueError(NOTHING_LABELLED)
    share = area_per_class.double() / area_per_class.double().sum()
    weights = torch.where(share > 0, 1 / torch.log(1.02 + share), 0.0)
    return (weights / (weights * share).sum()).float()
