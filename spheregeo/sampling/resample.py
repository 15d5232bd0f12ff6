"""Resampling of fields between any two grids."""

from __future__ import annotations

from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.sampling.cache import ready_map
from spheregeo.sampling.fields import check_floating, flatten, unflatten
from spheregeo.sampling.interpolation import build_map, check_method, interpolation_map


def resample(x: Tensor, source: Grid, target: Grid, method: str = "linear") -> Tensor:
    """Values on one grid from values on another.

    Args:
        x: field on the source grid; integers and booleans (labels) with "nearest" only.
        source: the grid x is on.
        target: the grid wanted.
        method: "linear" (second order; for a similar or finer target), "nearest" (labels), or "average" (mean over
            the target's cell; for a coarser target, without aliasing).

    Shape: (..., *source.shape) -> (..., *target.shape).
    Units: those of x.
    Equivariance: approximate, to the order of the method; exact under rotations that permute both grids.
    Raises: ValueError where x does not fit the source; TypeError where labels would be mixed.
    """
    check_method(method)
    flat = flatten(x, source, "source")  # (..., Q)
    if method == "nearest":
        index = interpolation_map(source, target, method).pattern.tensors[1]  # one entry a row: (P,)
        return unflatten(flat.index_select(-1, index.to(x.device)), target)
    check_floating(x, method)
    ready = ready_map((source, target, method), lambda: build_map(source, target, method), x)
    return unflatten(ready(flat), target)
