"""Checks of what the searches among points are given, and graph boundaries from a batch index."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

Ties = Literal["index", "all"]


def check_positions(positions: Tensor, name: str = "positions") -> Tensor:
    """Return positions detached and in float64. Raises: ValueError unless finite (P, 3) in float32 or float64."""
    if not isinstance(positions, Tensor):
        raise ValueError(f"{name} is a {type(positions).__name__}; expected a tensor of shape (P, 3)")
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"{name} has shape {tuple(positions.shape)}; expected (P, 3)")
    if positions.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} is of {positions.dtype}; expected float32 or float64")
    positions = positions.detach()
    finite = torch.isfinite(positions)
    if not finite.all():
        first = int((~finite.all(1)).nonzero()[0, 0])
        raise ValueError(f"{name}[{first}] is {positions[first].tolist()}; expected finite coordinates")
    return positions.double()


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
    if ties not in ("index", "all"):
        raise ValueError(f"ties is {ties!r}; expected 'index' or 'all'")
    return ties == "all"
