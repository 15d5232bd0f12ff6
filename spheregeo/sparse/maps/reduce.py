"""Reductions over the segments of compressed rows, and the semirings built on them.

(max, +) and (min, +) give dilation and erosion, softmax gives attention; all with torch's own gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

REDUCTIONS = ("sum", "mean", "max", "min", "softmax")


def segment_reduce(values: Tensor, indptr: Tensor, reduce: str = "sum") -> Tensor:
    """Reduce the first axis over segments ``indptr[p]:indptr[p + 1]``.

    Shape:
        values (nnz, ...), indptr (P + 1,) -> (P, ...); ``"softmax"`` normalises within segments and keeps (nnz, ...).
        Empty segments give 0 for sum and mean, -inf for max and +inf for min.

    Raises:
        ValueError: unknown ``reduce``.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce is {reduce!r}; expected one of {', '.join(REDUCTIONS)}")
    count = len(indptr) - 1
    rows = torch.repeat_interleave(
        torch.arange(count, device=indptr.device), indptr.diff(), output_size=len(values)
    )
    if reduce in ("sum", "mean"):
        total = values.new_zeros(count, *values.shape[1:]).index_add(0, rows, values)
        if reduce == "sum":
            return total
        size = indptr.diff().clamp_min(1).to(values.dtype)
        return total / size.view(-1, *[1] * (values.ndim - 1))
    index = rows.view(-1, *[1] * (values.ndim - 1)).expand_as(values)
    if reduce == "softmax":
        top = segment_reduce(values.detach(), indptr, "max")
        weight = (values - top[rows]).exp()
        return weight / segment_reduce(weight, indptr, "sum")[rows]
    fill = float("-inf") if reduce == "max" else float("inf")
    start = values.new_full((count, *values.shape[1:]), fill)
    return start.scatter_reduce(0, index, values, "amax" if reduce == "max" else "amin", include_self=True)


def semiring_apply(
    x: Tensor, indptr: Tensor, indices: Tensor, values: Tensor, semiring: str = "sum"
) -> Tensor:
    """Sparse map in another semiring.

    ``"sum"``: y_p = sum_t v_t x_{q_t}; ``"max"`` and ``"min"``: y_p = max/min_t (v_t + x_{q_t});
    ``"softmax"``: y_p = sum_t softmax_t(v_t) x_{q_t}.

    Shape:
        x (Q, ...), values (nnz,) or (nnz, ...) broadcasting against x[indices] -> (P, ...).

    Raises:
        ValueError: unknown ``semiring``.
    """
    if semiring not in ("sum", "max", "min", "softmax"):
        raise ValueError(f"semiring is {semiring!r}; expected sum, max, min or softmax")
    gathered = x[indices.long()]
    values = values.view(*values.shape, *[1] * (gathered.ndim - values.ndim))
    if semiring in ("max", "min"):
        return segment_reduce(gathered + values, indptr, semiring)
    if semiring == "softmax":
        values = segment_reduce(values, indptr, "softmax")
    return segment_reduce(gathered * values, indptr, "sum")
