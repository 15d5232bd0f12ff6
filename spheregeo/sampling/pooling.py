"""Pooling and unpooling along a grid's hierarchy, as sparse maps with exact adjoints.

With parent a(i) of the fine point i: mean y_p = Σ_{a(i)=p} x_i / n_p; area y_p = Σ A_i x_i / Σ A_i, which keeps the
integral where a parent's area is its children's sum; max y_p = max x_i. Unpooling copies x_i = y_{a(i)}: up to the areas the
adjoint of area pooling, and pooling after unpooling is the identity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.groups import FieldType
from spheregeo.sampling.average import compress
from spheregeo.sampling.cache import cached_map, ready_map
from spheregeo.sampling.fields import (
    FieldMap,
    Rows,
    carried,
    check_floating,
    flatten,
    flatten_fields,
    turn_between,
    unflatten,
)
from spheregeo.sampling.interpolation import build_map, ready_field_map
from spheregeo.sampling.missing import check_missing, is_missing, renormalized, renormalized_fields
from spheregeo.sparse import SparseMap

REDUCE = ("mean", "area", "max")


def pooling_map(grid: Grid, reduce: str = "mean") -> SparseMap:
    """Sparse map from a grid to ``grid.coarsen()``: the "mean" of each point's children, or weighted by "area"."""
    if reduce not in ("mean", "area"):
        raise ValueError(f"reduce is {reduce!r}, expected 'mean' or 'area' (max is not linear)")
    return cached_map((grid, "pool", reduce), lambda: _build_pooling(grid, reduce))


def _build_pooling(grid: Grid, reduce: str) -> SparseMap:
    return SparseMap(*_pooling_rows(grid, reduce), grid.num_points)


def _pooling_rows(grid: Grid, reduce: str) -> Rows:
    weights = grid.areas if reduce == "area" else torch.ones(grid.num_points, dtype=torch.float64)
    fine, coarse = torch.arange(grid.num_points), grid.coarsen().num_points
    return compress(grid.parents(), fine, weights, coarse, grid.num_points)


def _ready_fields(grid: Grid, method: str, kind: FieldType, x: Tensor) -> FieldMap:
    """The map of tangent fields from a grid to the next coarser or finer one, carried between parents and children."""
    down = method in REDUCE
    other = grid.coarsen() if down else grid.refine()

    def build() -> FieldMap:
        if down:
            rows = _pooling_rows(grid, method)
            target, source = torch.arange(other.num_points).repeat_interleave(rows[0].diff()), rows[1]
        else:
            parents = other.parents()
            count = len(parents)
            target, source = torch.arange(count), parents
            rows = (torch.arange(count + 1), parents, torch.ones(count, dtype=torch.float64))
        return FieldMap(rows, turn_between(other.frames[target], grid.frames[source]), grid.num_points, kind)

    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    key = ("fields", grid, method, kind, dtype, x.device)
    return geometry.get(key, lambda: build().to(device=x.device, dtype=dtype))


def unpooling_map(grid: Grid) -> SparseMap:
    """Sparse map from a grid to ``grid.refine()``: each point's value is copied to its children."""

    def build() -> SparseMap:
        parents = grid.refine().parents()
        n = len(parents)
        return SparseMap(torch.arange(n + 1), parents, torch.ones(n, dtype=torch.float64), grid.num_points)

    return cached_map((grid, "unpool"), build)


def pool(
    x: Tensor,
    grid: Grid,
    reduce: str = "mean",
    missing: str = "propagate",
    fields: str | FieldType | None = None,
) -> Tensor:
    """Field on the next coarser grid.

    Args:
        x: field on the grid.
        grid: a grid with a hierarchy.
        reduce: "mean", "area" (area-weighted mean) or "max" (labels and masks, too) over the children.
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it; a maximum of what is there is
            NaN only where nothing is.
        fields: type of the channels before the points, such as "1x0 + 1x1", whose tangent fields are carried to the frames of the
            coarser grid; None for scalars. Vectors have no maximum.

    Shape: (..., *grid.shape) -> (..., *grid.coarsen().shape), with ``fields`` (..., dim, *grid.shape).
    Equivariance: exact under the rotations that permute both grids and carry parents to parents.
    Raises: ValueError where x does not fit or the grid cannot be coarsened.
    """
    if reduce not in REDUCE:
        raise ValueError(f"reduce is {reduce!r}, expected one of {', '.join(map(repr, REDUCE))}")
    check_missing(missing)
    if fields is not None:
        kind = FieldType.of(fields)
        if reduce == "max" and kind.max_order:
            raise ValueError(f"reduce is 'max' but fields is '{kind}'; expected 'mean' or 'area' for vectors")
        if reduce != "max":
            return _carry(x, grid, reduce, missing, kind, lambda mask: pool(mask, grid, reduce))
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


def _carry(
    x: Tensor, grid: Grid, method: str, missing: str, kind: FieldType, weigh: Callable[[Tensor], Tensor]
) -> Tensor:
    flat = flatten_fields(x, grid, kind)
    check_floating(x, method)
    if missing == "renormalize":
        run = lambda field: _carry(field, grid, method, "propagate", kind, weigh)  # noqa: E731
        return renormalized_fields(x, run, weigh, kind, flat.ndim - 2)
    other = grid.coarsen() if method in REDUCE else grid.refine()
    if method == "linear":
        return carried(flat, ready_field_map(grid, other, method, kind, x), other)
    return carried(flat, _ready_fields(grid, method, kind, x), other)


def unpool(
    x: Tensor,
    grid: Grid,
    method: str = "nearest",
    missing: str = "propagate",
    fields: str | FieldType | None = None,
) -> Tensor:
    """Field on the next finer grid.

    Args:
        x: field on the grid.
        grid: a grid that can be refined.
        method: "nearest" copies each value to its children; "linear" interpolates, which leaves no steps.
        missing: "propagate" or "renormalize", as :func:`~spheregeo.sampling.resample` has it.
        fields: type of the channels before the points, such as "1x0 + 1x1", whose tangent fields are carried to the frames of the
            finer grid; None for scalars.

    Shape: (..., *grid.shape) -> (..., *grid.refine().shape), with ``fields`` (..., dim, *grid.shape).
    Raises: ValueError where x does not fit or the grid cannot be refined.
    """
    if method not in ("nearest", "linear"):
        raise ValueError(f"method is {method!r}, expected 'nearest' or 'linear'")
    check_missing(missing)
    if fields is not None:
        return _carry(x, grid, method, missing, FieldType.of(fields), lambda mask: unpool(mask, grid, method))
    if missing == "renormalize":
        return renormalized(x, lambda field: unpool(field, grid, method))
    flat = flatten(x, grid)
    fine = grid.refine()
    if method == "linear":
        check_floating(x, method)
        ready = ready_map((grid, fine, method), lambda: build_map(grid, fine, method), x)
        return unflatten(ready(flat), fine)
    return unflatten(flat.index_select(-1, fine.parents().to(x.device)), fine)
