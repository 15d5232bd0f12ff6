"""Finished maps, kept with the grids' geometry (bounded in bytes, least recently used goes first)."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.sparse import SparseMap


def cached_map(key: Hashable, build: Callable[[], SparseMap]) -> SparseMap:
    """The float64 map of this key, built if it is not held, as a module of the caller's own."""
    return geometry.get(("sampling", key), build).shared()


def ready_map(key: Hashable, build: Callable[[], SparseMap], x: Tensor) -> SparseMap:
    """The map of this key on x's device and in the dtype to contract x in; never to be handed to a user."""
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32

    def convert() -> SparseMap:
        return cached_map(key, build).to(device=x.device, dtype=dtype)

    return geometry.get(("sampling", key, dtype, x.device), convert)
