"""Areas as weights: what layers that average over a grid's points share."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.checks import check_tensor
from spheregeo.grids import Grid
from spheregeo.nn.exact_buffers import ExactBuffers


class AreaWeighted(ExactBuffers):
    """A module that holds its grid's area shares as a non-persistent buffer ``share`` (N,) with sum 1."""

    share: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._place(grid)

    def _place(self, grid: Grid) -> None:
        self.grid = grid
        self.keep("share")

    def _build(self, name: str, dtype: torch.dtype) -> Tensor:
        return self.grid.areas / self.grid.areas.sum()

    def _check(self, x: Tensor, channels: int | None = None) -> None:
        check_tensor(x)
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
