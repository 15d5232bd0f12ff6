"""Checks of what the searches among points are given, and graph boundaries from a batch index."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import torch
from torch import Tensor

Ties = Literal["index", "all", "exact"]
Metric = Literal["euclidean", "cosine"]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_EMPTY = 2**24  # graphs without points in a batch
COARSE = 8  # steps of the positions' dtype in a length, below which neighbours are a matter of rounding


def check_positions(positions: Tensor, name: str = "positions", dimension: int | None = 3) -> Tensor:
    """Return positions detached and in float64. Raises: ValueError unless finite (P, dimension); None is any."""
    shape = f"(P, {'D' if dimension is None else dimension})"
    if not isinstance(positions, Tensor):
        raise ValueError(f"{name} is a {type(positions).__name__}; expected a tensor of shape {shape}")
    if positions.ndim != 2 or (
        positions.shape[1] < 1 if dimension is None else positions.shape[1] != dimension
    ):
        raise ValueError(f"{name} has shape {tuple(positions.shape)}; expected {shape}")
    if positions.dtype not in DTYPES:
        raise ValueError(f"{name} is of {positions.dtype}; expected float16, bfloat16, float32 or float64")
    points = positions.detach().double()
    if not math.isfinite(_largest(points)):
        first = int((~torch.isfinite(points).all(1)).nonzero()[0, 0])
        raise ValueError(f"{name}[{first}] is {points[first].tolist()}; expected finite coordinates")
    return points


def check_spacing(
    points: Tensor, dtype: torch.dtype, length: float, what: str, name: str = "positions"
) -> None:
    """Compare a length with the step between neighbouring numbers of the positions' dtype, at the largest coordinate.

    Raises: ValueError where the step exceeds the length: neighbours are then a matter of rounding. RuntimeWarning where fewer
    than ``COARSE`` steps fit the length.
    """
    largest = _largest(points)
    step = torch.finfo(dtype).eps * 2.0 ** (math.frexp(largest)[1] - 1)
    if COARSE * step <= length:
        return
    problem = (
        f"{name} are as large as {largest:.3g}, where numbers of {dtype} are {step:.3g} apart; {what} is {length:.3g}; "
        "expected positions around the origin, such as positions - positions.mean(0), or float64 from the beginning"
    )
    if step > length:
        raise ValueError(problem)
    warnings.warn(problem, RuntimeWarning, stacklevel=4)


def _largest(points: Tensor) -> float:
    """The largest absolute coordinate; NaN where there is one."""
    return float(torch.linalg.vector_norm(points, torch.inf)) if points.numel() else 0.0


def check_metric(metric: str, points: Tensor, name: str = "positions") -> Tensor:
    """Return points whose Euclidean distances order neighbours as the metric does: on the unit sphere for ``"cosine"``.

    Raises: ValueError for an unknown metric, and for a zero vector, which has no direction.
    """
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"metric is {metric!r}; expected 'euclidean' or 'cosine'")
    if metric == "euclidean" or not len(points):
        return points
    points = points / points.abs().amax(1, keepdim=True)  # no overflow, no underflow
    if bool(points.isnan().any()):
        first = int(points.isnan().any(1).nonzero()[0, 0])
        raise ValueError(f"{name}[{first}] is zero; expected vectors with a direction for metric='cosine'")
    return points / torch.linalg.vector_norm(points, dim=1, keepdim=True)


def check_batch(batch: Tensor | None, positions: Tensor, name: str = "batch") -> Tensor:
    """Return the graph of each point, (P,) int64. Raises: ValueError unless integers from 0 up, one per point, non-decreasing."""
    if batch is None:
        return torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
    if not isinstance(batch, Tensor) or batch.is_floating_point() or batch.dtype == torch.bool:
        found = batch.dtype if isinstance(batch, Tensor) else type(batch).__name__
        raise ValueError(f"{name} is of {found}; expected a tensor of integers")
    if batch.shape != positions.shape[:1]:
        raise ValueError(
            f"{name} has shape {tuple(batch.shape)}; expected ({len(positions)},), one index a point"
        )
    if batch.device != positions.device:
        raise ValueError(f"{name} is on {batch.device}; expected {positions.device}, where the positions are")
    batch = batch.long()
    if len(batch) and (batch[0] < 0 or bool((batch.diff() < 0).any())):
        raise ValueError(f"{name} is unsorted or negative; expected indices from 0 up, graph after graph")
    if len(batch) and int(batch[-1]) > len(batch) + MOST_EMPTY:
        raise ValueError(
            f"{name} names graph {int(batch[-1])} for {len(batch)} points; expected graphs counted from 0, at most {MOST_EMPTY} "
            "of them without points"
        )
    return batch


def boundaries(batch: Tensor, count: int) -> Tensor:
    """Where each of ``count`` graphs begins and ends among the points, (count + 1,) int64."""
    bounds = torch.zeros(count + 1, dtype=torch.int64, device=batch.device)
    torch.cumsum(torch.bincount(batch, minlength=count), 0, out=bounds[1:])
    return bounds


def check_cutoff(cutoff: Any, name: str = "cutoff", *, finite: bool = False) -> float:
    """Return a length. Raises: ValueError unless a number above 0."""
    number = isinstance(cutoff, (int, float)) and not isinstance(cutoff, bool)
    if not (number and cutoff > 0) or (finite and math.isinf(cutoff)):
        raise ValueError(f"{name} is {cutoff!r}; expected a {'finite ' if finite else ''}length above 0")
    return float(cutoff)


def check_ties(ties: str) -> bool:
    """Whether all ties are kept. Raises: ValueError for an unknown rule."""
    if ties not in ("index", "all", "exact"):
        raise ValueError(f"ties is {ties!r}; expected 'index', 'all' or 'exact'")
    return ties == "all"
