"""U-Nets and classifiers whose levels are joined by pooling: nine-neighbour convolutions on HEALPix, and DeepSphere's.

A level is a stack of convolution, norm and activation; pooling takes each pixel's children together, and the way up is
a convolution to four times the channels and a pixel shuffle, or copies. DeepSphere has Chebyshev convolutions in the
same frame, on any grid that has nested levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.models.blocks import Pointwise, check_field, hierarchy, make_norm, recompute
from spheregeo.models.classifier import Head
from spheregeo.models.on_grid import to_healpix
from spheregeo.models.registry import register
from spheregeo.nn import ChebConv, GlobalPool, HEALPixConv, PixelShuffle, Pool, Unpool
from spheregeo.nn.sphere.healpix.faces import check_grid

if TYPE_CHECKING:
    from spheregeo.grids import Grid

Conv = Callable[[int, int, "Grid"], nn.Module]
Up = Callable[[int, int, "Grid"], nn.Module]  # from the coarse grid to the one it was coarsened from


class _Pooled(nn.Module):
    """Encoder that the networks share: one stack of convolutions a level, pooling between."""

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
        self._conv, self._norm, self._blocks = conv, norm, blocks
        before = [in_channels, *self.widths[:-1]]
        self.encoder = nn.ModuleList(
            self._stack(a, b, g) for a, b, g in zip(before, self.widths, self.levels, strict=True)
        )
        self.down = nn.ModuleList(Pool(g, reduce) for g in self.levels[:-1])

    def _stack(self, before: int, after: int, grid: Grid) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in [before] + [after] * self._blocks:
            layers += [self._conv(channels, after, grid), make_norm(self._norm, after), nn.GELU()]
        return nn.Sequential(*layers)


class _PooledUNet(_Pooled):
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
            self._stack(2 * a, a, g) for a, g in zip(fine, self.levels[:-1], strict=True)
        )
        self.head = Pointwise(self.widths[0], out_channels)

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        if self.checkpoint and self.training and torch.is_grad_enabled():
            return recompute(module, x)
        result: Tensor = module(x)
        return result

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        x = self._run(self.encoder[0], x)  # (B, widths[0], *grid.shape)
        skips = []
        for down, stack in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = self._run(stack, down(x))  # one level coarser
        for i in reversed(range(len(self.up))):
            x = torch.cat([self._run(self.up[i], x), skips[i]], dim=1)  # (B, 2 widths[i], *levels[i].shape)
            x = self._run(self.decoder[i], x)
        result: Tensor = self.head(x)
        return result


class _PooledClassifier(_Pooled):
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
        self.head = Head(self.widths[-1], out_channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        check_field(x, self.in_channels, self.grid)
        x = self.encoder[0](x)
        for down, stack in zip(self.down, list(self.encoder)[1:], strict=True):
            x = stack(down(x))
        result: Tensor = self.head(self.pool(x))
        return result


def _nine_taps(missing: str, bias: bool) -> Conv:
    return lambda a, b, g: HEALPixConv(a, b, check_grid(g), bias=bias, missing=missing)


def _shuffled(conv: Conv) -> Up:
    return lambda a, b, g: nn.Sequential(conv(a, 4 * b, g), PixelShuffle(check_grid(g)))


def _copied(conv: Conv) -> Up:
    return lambda a, b, g: nn.Sequential(Unpool(g), conv(a, b, g.refine()))


def _chebyshev(order: int, neighbours: int, bias: bool) -> Conv:
    def conv(a: int, b: int, grid: Grid) -> ChebConv:
        few = min(neighbours, grid.num_points - 1)  # the coarsest grids have less
        return ChebConv(a, b, grid, order, neighbours=few, bias=bias)

    return conv


@register("healpix-unet", native=to_healpix)
class HEALPixUNet(_PooledUNet):
    """U-Net of nine-neighbour convolutions on HEALPix.

    Args:
        in_channels, out_channels, grid: fields (B, in_channels, N) on a HEALPix grid of either order become
            (B, out_channels, N).
        width, growth, max_width: channels of level i are width · growth^i, at most max_width.
        depth: number of levels.
        blocks: convolutions of a level beyond the first.
        norm: "batch", "group" or "none".
        missing: rule for the 24 pixels that lack a neighbour, see :class:`spheregeo.nn.HEALPixConv`.
        reduce: "mean" or "max" pooling.
        upsample: "shuffle", a convolution to four times the channels and a pixel shuffle, or "nearest", copies and a
            convolution.
        checkpoint: compute each level again in the backward pass in place of keeping it.

    Shape: (B, in_channels, N) -> (B, out_channels, N).
    Equivariance: exact for quarter turns about z, which keep each child's place. Not SO(3), see
        :class:`spheregeo.nn.HEALPixConv`: relative error 63 % at nside 32, width 8, signals of degree < 8, weights
        randomised.
    Raises: ValueError for another grid than HEALPix, one with fewer levels than ``depth``, or x of another shape.
    Reference: Ronneberger et al. 2015, arXiv 1505.04597; Mahmoudian Bidgoli et al. 2021, arXiv:2107.09179.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 16,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 256,
        norm: str = "batch",
        missing: str = "mean",
        reduce: str = "mean",
        upsample: str = "shuffle",
        checkpoint: bool = False,
    ) -> None:
        ups = {"shuffle": _shuffled, "nearest": _copied}
        if upsample not in ups:
            raise ValueError(f"upsample is {upsample!r}; expected 'shuffle' or 'nearest'")
        super().__init__(
            in_channels,
            out_channels,
            check_grid(grid),
            _nine_taps(missing, norm == "none"),
            ups[upsample](_nine_taps(missing, True)),
            width=width,
            depth=depth,
            blocks=blocks,
            growth=growth,
            max_width=max_width,
            norm=norm,
            reduce=reduce,
            checkpoint=checkpoint,
        )


@register("healpix-classifier", output="label", native=to_healpix)
class HEALPixClassifier(_PooledClassifier):
    """Classifier of nine-neighbour convolutions on HEALPix; options as for :class:`HEALPixUNet`.

    Shape: (B, in_channels, N) -> (B, out_channels).
    Equivariance: invariant to quarter turns about z, exactly; to other rotations not.
    Raises: as :class:`HEALPixUNet`; ValueError for a dropout outside [0, 1).
    Reference: Mahmoudian Bidgoli et al. 2021, arXiv:2107.09179.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 16,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 256,
        norm: str = "batch",
        missing: str = "mean",
        reduce: str = "mean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            check_grid(grid),
            _nine_taps(missing, norm == "none"),
            width=width,
            depth=depth,
            blocks=blocks,
            growth=growth,
            max_width=max_width,
            norm=norm,
            reduce=reduce,
            dropout=dropout,
        )


@register("deepsphere-unet")
class DeepSphereUNet(_PooledUNet):
    """U-Net of Chebyshev convolutions on the graph of nearest neighbours, any grid with nested levels.

    Args:
        in_channels, out_channels, grid: fields (B, in_channels, *grid.shape) become (B, out_channels, *grid.shape).
        width, growth, max_width, depth, blocks, norm, reduce, checkpoint: as for :class:`HEALPixUNet`.
        order, neighbours: of the convolutions, see :class:`spheregeo.nn.ChebConv`; the coarsest grids may have fewer
            neighbours to offer.
        upsample: "linear" interpolation, or "nearest", the copies of the paper.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: SO(3), approximate: relative error 10 % at nside 32, width 8, signals of degree < 8, weights randomised,
        where copies in place of interpolation have 59 %. Exact under the rotations that permute every level's grid and carry
        parents to parents.
    Raises: ValueError for a grid with fewer nested levels than ``depth``, or x of another shape.
    Reference: Defferrard et al. 2020, arXiv:2012.15000, the network of its segmentation experiments.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 16,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 256,
        norm: str = "batch",
        order: int = 3,
        neighbours: int = 20,
        reduce: str = "mean",
        upsample: str = "linear",
        checkpoint: bool = False,
    ) -> None:
        if upsample not in ("linear", "nearest"):
            raise ValueError(f"upsample is {upsample!r}; expected 'linear' or 'nearest'")
        super().__init__(
            in_channels,
            out_channels,
            grid,
            _chebyshev(order, neighbours, norm == "none"),
            lambda a, b, g: nn.Sequential(Pointwise(a, b), Unpool(g, upsample)),
            width=width,
            depth=depth,
            blocks=blocks,
            growth=growth,
            max_width=max_width,
            norm=norm,
            reduce=reduce,
            checkpoint=checkpoint,
        )


@register("deepsphere-classifier", output="label")
class DeepSphereClassifier(_PooledClassifier):
    """Classifier of Chebyshev convolutions; options as for :class:`DeepSphereUNet`.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Equivariance: invariant to O(3), approximate; exactly to the rotations that permute every level's grid.
    Raises: as :class:`DeepSphereUNet`; ValueError for a dropout outside [0, 1).
    Reference: Defferrard et al. 2020, arXiv:2012.15000.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 16,
        depth: int = 4,
        blocks: int = 1,
        growth: int = 2,
        max_width: int = 256,
        norm: str = "batch",
        order: int = 3,
        neighbours: int = 20,
        reduce: str = "mean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            grid,
            _chebyshev(order, neighbours, norm == "none"),
            width=width,
            depth=depth,
            blocks=blocks,
            growth=growth,
            max_width=max_width,
            norm=norm,
            reduce=reduce,
            dropout=dropout,
        )


__all__ = ["DeepSphereClassifier", "DeepSphereUNet", "HEALPixClassifier", "HEALPixUNet"]
