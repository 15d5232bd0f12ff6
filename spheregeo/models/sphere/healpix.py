"""U-Net and classifier of nine-neighbour convolutions on HEALPix, in the frame of :mod:`spheregeo.models.sphere.pooled`.

The way up is a convolution to four times the channels and a pixel shuffle, or copies and a convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from spheregeo.models.on_grid import to_healpix
from spheregeo.models.registry import register
from spheregeo.models.sphere.pooled import Conv, PooledClassifier, PooledUNet, Up
from spheregeo.nn import HEALPixConv, PixelShuffle, Unpool

if TYPE_CHECKING:
    from spheregeo.grids import Grid, HEALPix


def _nine_taps(missing: str, bias: bool) -> Conv:
    return lambda a, b, g: HEALPixConv(a, b, cast("HEALPix", g), bias=bias, missing=missing)


def _shuffled(conv: Conv) -> Up:
    return lambda a, b, g: nn.Sequential(conv(a, 4 * b, g), PixelShuffle(cast("HEALPix", g)))


def _copied(conv: Conv) -> Up:
    return lambda a, b, g: nn.Sequential(Unpool(g), conv(a, b, g.refine()))


@register("healpix-unet", native=to_healpix, alias="healpix")
class HEALPixUNet(PooledUNet):
    """U-Net of nine-neighbour convolutions on HEALPix.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's HEALPix grid, either order.
        width: channels of the finest level.
        depth: number of levels.
        blocks: convolutions of each level beyond the first.
        growth: factor by which channels grow from level to level.
        max_width: most channels of a level.
        norm: "batch", "group" or "none".
        missing: rule for the 24 pixels that lack a neighbour, see :class:`spheregeo.nn.HEALPixConv`.
        reduce: "mean", "area" or "max" pooling.
        upsample: "shuffle", a convolution to four times the channels and a pixel shuffle, or "nearest", copies and a
            convolution.
        checkpoint: whether to compute each level again in the backward pass instead of keeping it.

    Shape: (B, in_channels, N) -> (B, out_channels, N).
    Equivariance: exact for quarter turns about z, which keep each child's place. Not SO(3), see
        :class:`spheregeo.nn.HEALPixConv`: relative error 63 % at nside 32, width 8, signals of degree < 8, weights
        randomised.
    Raises: ValueError for another grid than HEALPix, one with fewer levels than ``depth``, or x of another shape.
    Reference: Ronneberger et al. 2015, arXiv 1505.04597; Mahmoudian Bidgoli et al. 2021, arXiv:2107.09179.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import HEALPixUNet
        >>> HEALPixUNet(3, 2, HEALPix(4), width=4, depth=2)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 2, 192])
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
            grid,
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


@register("healpix-classifier", output="label", native=to_healpix, alias="healpix")
class HEALPixClassifier(PooledClassifier):
    """Classifier of nine-neighbour convolutions on HEALPix.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's HEALPix grid, either order.
        width: channels of the finest level.
        depth: number of levels.
        blocks: convolutions of each level beyond the first.
        growth: factor by which channels grow from level to level.
        max_width: most channels of a level.
        norm: "batch", "group" or "none".
        missing: rule for the 24 pixels that lack a neighbour, see :class:`spheregeo.nn.HEALPixConv`.
        reduce: "mean", "area" or "max" pooling.
        dropout: probability with which the head drops a value.

    Shape: (B, in_channels, N) -> (B, out_channels).
    Equivariance: invariant to quarter turns about z, exactly; to other rotations not.
    Raises: as :class:`HEALPixUNet`; ValueError for a dropout outside [0, 1).
    Reference: Mahmoudian Bidgoli et al. 2021, arXiv:2107.09179.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import HEALPixClassifier
        >>> HEALPixClassifier(3, 10, HEALPix(4), width=4, depth=2)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 10])
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
            grid,
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


__all__ = ["HEALPixClassifier", "HEALPixUNet"]
