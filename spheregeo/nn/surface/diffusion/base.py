"""What the layers on surface operators share: operators held for one grid, or given with each call."""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.checks import check_count, check_tensor
from spheregeo.grids import Grid
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.surface.operators import OperatorSettings, SurfaceOperators


class OnOperators(ExactBuffers):
    """Base of layers that act by the operators of a surface.

    Args:
        channels: of the input.
        grid: the surface, or None where operators come with each call.
        settings: which operators the layer needs.
    """

    operators: SurfaceOperators | None

    def __init__(self, channels: int, grid: Grid | None, settings: OperatorSettings) -> None:
        super().__init__()
        check_count("channels", channels, 1)
        self.channels, self.grid, self.settings = channels, grid, settings
        self.operators = None
        if grid is not None:
            self.keep("operators")

    def _build(self, name: str, dtype: torch.dtype) -> SurfaceOperators:
        assert self.grid is not None
        return SurfaceOperators.of(self.grid, self.settings, dtype)

    def _enter(
        self, x: Tensor, operators: SurfaceOperators | None, channels: int | None = None
    ) -> tuple[Tensor, SurfaceOperators]:
        """The features as (B, C, P), and the operators that hold. Raises: ValueError, TypeError for what does not fit."""
        check_tensor(x)
        if (operators is None) == (self.operators is None):
            raise ValueError(
                "operators must be given with the call where the layer was built without a grid, and only there"
            )
        chosen = self.operators if operators is None else operators
        if not isinstance(chosen, SurfaceOperators):
            raise TypeError(
                f"operators is {type(chosen).__name__}; expected SurfaceOperators, as SurfaceOperators.of(mesh, ...) makes them"
            )
        channels = self.channels if channels is None else channels
        shape = (chosen.num_points,) if self.grid is None else tuple(self.grid.shape)
        if x.ndim < 3 or tuple(x.shape[1:]) != (channels, *shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {channels}, {', '.join(map(str, shape))}); were the operators "
                "built for other surfaces?"
            )
        return x.flatten(2), chosen

    def _leave(self, y: Tensor) -> Tensor:
        """Points in the grid's shape again."""
        return y if self.grid is None else y.unflatten(2, self.grid.shape)


def working(x: Tensor) -> torch.dtype:
    """The type in which sums over many points are computed: float32 for half precision."""
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
