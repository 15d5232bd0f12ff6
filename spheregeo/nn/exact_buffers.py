"""Constants that a layer keeps in its own dtype and takes from float64 again when that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class ExactBuffers(nn.Module):
    """Base of layers with tables computed in float64: ``.double()`` must not round float32 digits up."""

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def keep(self, name: str, value: Tensor) -> None:
        """Register a constant as a non-persistent buffer in the default dtype."""
        self._exact[name] = value.detach().double().cpu()
        self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {name: self._buffers[name] for name in self._exact}
        super()._apply(fn, recurse)
        for name, value in self._exact.items():
            old, new = before[name], self._buffers[name]
            assert old is not None and new is not None
            if not new.is_meta and (new.dtype != old.dtype or old.is_meta):
                self._buffers[name] = value.to(new)
        return self
