"""Resampling of fields between any two grids."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import Grid, LatLon
from spheregeo.groups import FieldType
from spheregeo.sampling.average import axis_rows
from spheregeo.sampling.cache import ready_map
from spheregeo.sampling.directions import check_sphere
from spheregeo.sampling.fields import carried, check_floating, flatten, flatten_fields, unflatten
from spheregeo.sampling.interpolation import (
    METHODS,
    apply_stencils,
    build_map,
    check_method,
    interpolation_map,
    ready_field_map,
)
from spheregeo.sampling.missing import check_missing, renormalized, renormalized_fields
from spheregeo.sparse import SparseMap
from spheregeo.spectral import harmonic_resample

LARGE = (
    1 << 22
)  # target points from which on no map is kept: it would hold 200 MB, and be built in many times the time


def resample(
    x: Tensor,
    source: Grid,
    target: Grid,
    method: str = "linear",
    missing: str = "propagate",
    fields: str | FieldType | None = None,
) -> Tensor:
    """Values on one grid from values on another.

    Args:
        x: field on the source grid; integers and booleans (labels) with "nearest" only.
        source: the grid x is on.
        target: the grid wanted.
        method: "linear" (second order; for a similar or finer target), "nearest" (labels), "average" (mean over the target's
            cell; for a coarser target, without aliasing), or "harmonic" (through spherical harmonics of the degrees that both
            grids resolve: without error for fields of low degrees, which masks and edges are not).
        missing: "propagate" treats every value as a number, NaN included; "renormalize" leaves out NaN, infinity and healpy's
            UNSEEN, shares their weight out among the rest, and gives NaN where less than half of the weight is left; "propagate"
            alone with "harmonic", where every value enters everywhere.
        fields: type of the channels before the points, such as "1x0 + 1x1" for a scalar and a vector field: tangent fields in
            frames (south, east) are carried from frame to frame on the way. None takes all channels for scalars, which
            components of vectors are not.

    Shape: (..., *source.shape) -> (..., *target.shape); with ``fields`` (..., dim, *source.shape) -> (..., dim, *target.shape).
    Units: those of x.
    Equivariance: approximate, to the order of the method; exact under rotations that permute both grids, and with "harmonic" for
        fields of the degrees that both grids resolve.
    Raises: ValueError where x does not fit the source; TypeError where labels would be mixed.
    """
    check_method(method, (*METHODS, "harmonic"))
    check_missing(missing)
    if method == "harmonic":
        return _by_harmonics(x, source, target, missing, fields)
    if fields is not None:
        kind = FieldType.of(fields)
        flat = flatten_fields(x, source, kind, "source")
        check_floating(x, method)
        if missing == "renormalize":
            return renormalized_fields(
                x,
                lambda field: resample(field, source, target, method, fields=kind),
                lambda mask: resample(mask, source, target, method),
                kind,
                flat.ndim - 2,
            )
        return carried(flat, ready_field_map(source, target, method, kind, x), target)
    if missing == "renormalize":
        return renormalized(x, lambda field: resample(field, source, target, method))
    flat = flatten(x, source, "source")  # (..., Q)
    if method != "nearest":
        check_floating(x, method)
    if method == "average" and isinstance(source, LatLon) and isinstance(target, LatLon):
        return _average_axes(flat.unflatten(-1, source.shape), source, target)
    if method != "average" and target.num_points > LARGE and source != target:
        check_sphere(source, "source")
        check_sphere(target, "target")
        return unflatten(apply_stencils(flat, source, target, method), target)
    if method == "nearest":
        index = interpolation_map(source, target, method).pattern.tensors[1]  # one entry per row: (P,)
        return unflatten(flat.index_select(-1, index.to(x.device)), target)
    ready = ready_map((source, target, method), lambda: build_map(source, target, method), x)
    return unflatten(ready(flat), target)


def _average_axes(x: Tensor, source: LatLon, target: LatLon) -> Tensor:
    """Columns, then rows: (..., H, W) -> (..., H', W')."""

    def along(axis: int) -> SparseMap:
        rows = axis_rows(source, target)[axis]
        return ready_map((source, target, "average", axis), lambda: SparseMap(*rows, source.shape[axis]), x)

    return along(0)(along(1)(x).mT).mT.contiguous()


def _by_harmonics(
    x: Tensor, source: Grid, target: Grid, missing: str, fields: str | FieldType | None
) -> Tensor:
    """Each order of the fields by harmonics of its spin."""
    if missing != "propagate":
        raise ValueError(
            "missing is 'renormalize' with method 'harmonic', where every value enters everywhere; fill them"
        )
    check_sphere(source, "source")
    check_sphere(target, "target")
    if fields is None:
        flat = flatten(x, source, "source")
        check_floating(x, "harmonic")
        return harmonic_resample(unflatten(flat, source), source, target)
    kind = FieldType.of(fields)
    flat = flatten_fields(x, source, kind, "source")
    check_floating(x, "harmonic")
    parts = []
    for channels, count, order in kind.blocks:
        part = unflatten(flat[..., channels, :], source)
        axis = part.ndim - len(source.shape) - 1
        if order:
            part = part.unflatten(axis, (count, 2))
        made = harmonic_resample(part, source, target, spin=order)
        parts.append(made.flatten(axis, axis + 1) if order else made)
    return torch.cat(parts, axis)
