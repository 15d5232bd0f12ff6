"""Areas as weights: what layers that average over a grid's points share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from spheregeo.grids import Grid


class OnGrid(nn.Module):
    """A module that holds its grid's area shares as a non-persistent buffer ``share`` (N,) with sum 1."""

    share: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._place(grid)

    def _place(self, grid: Grid) -> None:
        self.grid = grid
        self.register_buffer("share", self._shares().to(torch.get_default_dtype()), persistent=False)

    def _shares(self) -> Tensor:
        return self.grid.areas / self.grid.areas.sum()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.share.dtype
        super()._apply(fn, recurse)
        if self.share.dtype != before and self.share.dtype == torch.float64:
            self.share = self._shares().to(self.share.device)  # widening cannot restore digits
        return self

    def _check(self, x: Tensor, channels: int | None = None) -> None:
        shape = tuple(self.grid.shape)
        fits = x.ndim == 2 + len(shape) and tuple(x.shape[2:]) == shape
        if not fits or (channels is not None and x.shape[1] != channels):
            expected = ", ".join(
                ["batch", "channels" if channels is None else str(channels), *map(str, shape)]
            )
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected ({expected}), the fields of {self.grid!r}; "
                "did you build the layer for another grid?"
            )
