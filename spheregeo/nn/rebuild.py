"""Layers whose geometry is kept in float64 elsewhere and taken from there again when their dtype changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class RebuildsGeometry(nn.Module):
    """Base of layers with a submodule of coefficients, ``_geometry_name``, that ``_build_geometry(dtype)`` makes anew.

    ``.to(dtype)`` would round float32 coefficients up to float64; a layer of this kind computes them afresh.
    """

    _geometry_name: str

    def _build_geometry(self, dtype: torch.dtype) -> None:
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move weights as asked and take the coefficients from the float64 geometry again, in the new dtype."""
        module = self._modules.get(self._geometry_name)
        if module is None:
            return super()._apply(fn, recurse)
        self._modules[self._geometry_name] = (
            None  # it keeps its place: the order of buffers is one of a model's facts
        )
        super()._apply(fn, recurse)
        values = next(t for t in module.buffers() if t.is_floating_point())
        probe = fn(values.new_empty(0))
        dtype = torch.float32 if probe.dtype in (torch.bfloat16, torch.float16) else probe.dtype
        if dtype != values.dtype or values.is_meta:
            self._build_geometry(dtype)
            self._modules[self._geometry_name].to(probe.device)  # type: ignore[union-attr]
        else:
            self._modules[self._geometry_name] = module.to(probe.device)
        return self
