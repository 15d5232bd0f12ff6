"""Pooling and unpooling along a grid's hierarchy, as sparse maps with exact adjoints.

With parent a(i) of the fine point i: mean y_p = Σ_{a(i)=p} x_i / n_p; area y_p = Σ A_i x_i / Σ A_i, which keeps the
integral where a parent's area is its children's sum; max y_p = max x_i. Unpooling copies x_i = y_{a(i)}: up to the areas the
adjoint of area pooling, and pooling after unpooling is the identity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.sampling.average import compress
from spheregeo.sampling.cache import cached_map, ready_map
from spheregeo.sampling.fields import check_floating, flatten, unflatten
from spheregeo.sampling.interpolation import build_map
from spheregeo.sampling.missing import check_missing, is_missing, renormalized
from spheregeo.sparse import SparseMap

REDUCE = ("mean", "area", "max")


def pooling_map(grid: Grid, reduce: str = "mean") -> SparseMap:
    """Sparse map from a grid to ``grid.coarsen()``: the "mean" of each point's children, or weighted by "area"."""
    if reduce not in ("mean", "area"):
        raise ValueError(f"reduce is {reduce!r}, expected 'mean' or 'area' (max is not linear)")
    return cached_map((grid, "pool", reduce), lambda: _build_pooling(grid, reduce))


def _build_pooling(grid: Grid, reduce: str) -> SparseMap:
    weights = grid.areas if reduce == "area" else torch.ones(grid.num_points, dtype=torch.float64)
    fine, coarse = torch.arange(grid.num_points), grid.coarsen().num_points
    return SparseMap(*compress(grid.parents(), fine, weights, coarse, grid.num_points), grid.num_points)


def unpooling_map(grid: Grid) -> SparseMap:
    """Sparse map from a grid to ``grid.refine()``: each point's value is copied to its children."""

    def build() -> SparseMap:
        parents = grid.refine().parents()
        n = len(parents)
        return SparseMap(torch.arange(n + 1), parents, torch.ones(n, dtype=torch.float64), grid.num_points)

    return cached_map((grid, "unpool"), build)


def pool(x: Tensor, grid: Grid, reduce: str = "mean", missing: str = "propagate") -> Tensor:
    """Field on the next coarser grid.

    Args:
        x: field on the grid.
        grid: a grid with a hierarchy.
        reduce: "mean", "area" (area-weighted mean) or "max" (labels and masks, too) over the children.
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it; a maximum of what is there is
            NaN only where nothing is.

    Shape: (..., *grid.shape) -> (..., *grid.coarsen().shape).
    Equivariance: exact under the rotations that permute both grids and carry parents to parents.
    Raises: ValueError where x does not fit or the grid cannot be coarsened.
    """
    if reduce not in REDUCE:
        raise ValueError(f"reduce is {reduce!r}, expected one of {', '.join(map(repr, REDUCE))}")
    check_missing(missing)
    if missing == "renormalize":
        gone = is_missing(x)
        if reduce != "max" or not bool(gone.any()):
            return renormalized(x, lambda field: pool(field, grid, reduce))
        largest = pool(x.masked_fill(gone, -torch.inf), grid, reduce)
        return largest.masked_fill(largest == -torch.inf, torch.nan)
    flat = flatten(x, grid)
    coarse = grid.coarsen()
    if reduce == "max":
        children = coarse.children().to(x.device)  # (P, n), padded with -1
        children = torch.where(children < 0, children[:, :1], children)  # a repeated child changes no maximum
        taken = flat.index_select(-1, children.reshape(-1))
        return unflatten(taken.unflatten(-1, children.shape).amax(-1), coarse)
    check_floating(x, reduce)
    ready = ready_map((grid, "pool", reduce), lambda: _build_pooling(grid, reduce), x)
    return unflatten(ready(flat), coarse)


def unpool(x: Tensor, grid: Grid, method: str = "nearest", missing: str = "propagate") -> Tensor:
    """Field on the next finer grid.

    Args:
        x: field on the grid.
        grid: a grid that can be refined.
        method: "nearest" copies each value to its children; "linear" interpolates, which leaves no steps.
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it.

    Shape: (..., *grid.shape) -> (..., *grid.refine().shape).
    Raises: ValueError where x does not fit or the grid cannot be refined.
    """
    if method not in ("nearest", "linear"):
        raise ValueError(f"method is {method!r}, expected 'nearest' or 'linear'")
    check_missing(missing)
    if missing == "renormalize":
        return renormalized(x, lambda field: unpool(field, grid, method))
    flat = flatten(x, grid)
    fine = grid.refine()
    if method == "linear":
        check_floating(x, method)
        ready = ready_map((grid, fine, method), lambda: build_map(grid, fine, method), x)
        return unflatten(ready(flat), fine)
    return unflatten(flat.index_select(-1, fine.parents().to(x.device)), fine)
