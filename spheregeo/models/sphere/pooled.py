"""U-Nets and classifiers whose levels are joined by pooling, for any kind of convolution.

A level is a stack of convolution, norm and activation; pooling takes each point's children together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.models.blocks import Checkpointed, Head, Pointwise, check_field, hierarchy, make_norm
from spheregeo.nn import GlobalPool, Pool

if TYPE_CHECKING:
    from spheregeo.grids import Grid

Conv = Callable[[int, int, "Grid"], nn.Module]
Up = Callable[[int, int, "Grid"], nn.Module]  # from the coarse grid to the one it was coarsened from


class _Pooled(nn.Module):
    """Encoder that the networks share: one stack of convolutions per level, pooling between."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        conv: Conv,
        *,
        width: int,
        depth: int,
        blocks: int,
        growth: int,
        max_width: int,
        norm: str,
        reduce: str,
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1 or blocks < 0:
            raise ValueError(f"depth {depth} and width {width} must be >= 1, blocks {blocks} >= 0")
        self.levels = tuple(hierarchy(grid, depth))
        self.widths = [min(width * growth**i, max_width) for i in range(depth)]
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        self._norm, self._blocks = norm, blocks
        before = [in_channels, *self.widths[:-1]]
        self.encoder = nn.ModuleList(
            self._stack(conv, a, b, g) for a, b, g in zip(before, self.widths, self.levels, strict=True)
        )
        self.down = nn.ModuleList(Pool(g, reduce) for g in self.levels[:-1])

    def _stack(self, conv: Conv, before: int, after: int, grid: Grid) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in [before] + [after] * self._blocks:
            layers += [conv(channels, after, grid), make_norm(self._norm, after), nn.GELU()]
        return nn.Sequential(*layers)


class PooledUNet(_Pooled, Checkpointed):
    """The encoder, the way up, and skip connections between."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        conv: Conv,
        up: Up,
        *,
        checkpoint: bool,
        **sizes: int | str,
    ) -> None:
        super().__init__(in_channels, out_channels, grid, conv, **sizes)  # type: ignore[arg-type]
        self.checkpoint = checkpoint
        fine, coarse = self.widths[:-1], self.widths[1:]
        self.up = nn.ModuleList(
            up(b, a, g) for a, b, g in zip(fine, coarse, self.levels[1:], strict=True)
        )  # (B, widths[i + 1], coarse) -> (B, widths[i], fine)
        self.decoder = nn.ModuleList(
            self._stack(conv, 2 * a, a, g) for a, g in zip(fine, self.levels[:-1], strict=True)
        )
        self.head = Pointwise(self.widths[0], out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        x = self.run(self.encoder[0], x)  # (B, widths[0], *grid.shape)
        skips = []
        for down, stack in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = self.run(stack, down(x))  # one level coarser
        for i in reversed(range(len(self.up))):
            x = torch.cat([self.run(self.up[i], x), skips[i]], dim=1)  # (B, 2 widths[i], *levels[i].shape)
            x = self.run(self.decoder[i], x)
        result: Tensor = self.head(x)
        return result


class PooledClassifier(_Pooled):
    """The encoder, the mean over the sphere, and two layers on top."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        conv: Conv,
        *,
        dropout: float,
        **sizes: int | str,
    ) -> None:
        super().__init__(in_channels, out_channels, grid, conv, **sizes)  # type: ignore[arg-type]
        self.pool = GlobalPool(self.levels[-1])
        self.head = Head(self.widths[-1], out_channels, dropout, str(sizes["norm"]))

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        x = self.encoder[0](x)
        for down, stack in zip(self.down, list(self.encoder)[1:], strict=True):
            x = stack(down(x))
        result: Tensor = self.head(self.pool(x))
        return result


__all__ = ["Conv", "PooledClassifier", "PooledUNet", "Up"]
