"""Fields with missing values: interpolation with the weights of what is missing shared out among the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spheregeo.groups import FieldType

UNSEEN = -1.6375e30  # what healpy writes where a map has no value
UNSEEN_TOLERANCE = 1e-5  # relative: text and other programs round it
MISSING = ("propagate", "renormalize")
HALF = 0.5 - 1e-6  # of the weights; below it a value stands for too little of what it is a mean of


def is_unseen(x: Any) -> Any:
    """Which values of a tensor or an array are healpy's UNSEEN, as files and their rounding leave it."""
    return abs(x - UNSEEN) <= UNSEEN_TOLERANCE * abs(UNSEEN)


def is_missing(x: Tensor) -> Tensor:
    """Which values are missing: NaN, infinity, or healpy's UNSEEN."""
    if not x.is_floating_point():
        return torch.zeros_like(x, dtype=torch.bool)
    unseen: Tensor = is_unseen(x)
    return ~torch.isfinite(x) | unseen


def check_missing(missing: str) -> None:
    """Refuse a treatment of missing values that does not exist, naming those that do."""
    if missing not in MISSING:
        raise ValueError(f"missing is {missing!r}, expected {' or '.join(map(repr, MISSING))}")


def renormalized(x: Tensor, interpolate: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a linear map whose weights sum to 1 to a field with missing values.

    Args:
        x: field; missing values are NaN, infinite or healpy's UNSEEN.
        interpolate: the map, of fields of any leading shape.

    Shape: that of ``interpolate``. Values are NaN where less than half of the weight meets a value.
    """
    gone = is_missing(x)
    if not bool(gone.any()):
        return interpolate(x)
    values = interpolate(x.masked_fill(gone, 0.0))
    weight = interpolate((~gone).to(x.dtype))
    enough = weight >= HALF
    return torch.where(enough, values / torch.where(enough, weight, 1.0), torch.nan)


def renormalized_fields(
    x: Tensor,
    interpolate: Callable[[Tensor], Tensor],
    weigh: Callable[[Tensor], Tensor],
    fields: FieldType,
    axis: int,
) -> Tensor:
    """As :func:`renormalized` for tangent fields, of which both components are missing where one is.

    Args:
        x: fields with missing values.
        interpolate: the map of the fields.
        weigh: the same map of scalars.
        fields: type of the channels.
        axis: that the channels lie on.
    """
    gone = is_missing(x)
    if not bool(gone.any()):
        return interpolate(x)
    parts = []
    for channels, count, order in fields.blocks:
        part = gone.narrow(axis, channels.start, channels.stop - channels.start)
        if order:
            pair = part.unflatten(axis, (count, 2)).any(axis + 1, keepdim=True)
            part = pair.expand(*pair.shape[: axis + 1], 2, *pair.shape[axis + 2 :]).flatten(axis, axis + 1)
        parts.append(part)
    gone = torch.cat(parts, axis)
    values, weight = interpolate(x.masked_fill(gone, 0.0)), weigh((~gone).to(x.dtype))
    enough = weight >= HALF
    return torch.where(enough, values / torch.where(enough, weight, 1.0), torch.nan)
