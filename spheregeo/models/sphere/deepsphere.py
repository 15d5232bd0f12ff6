"""DeepSphere's U-Net and classifier: Chebyshev convolutions on any grid with nested levels.

The frame is that of :mod:`spheregeo.models.sphere.pooled`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from spheregeo.deprecation import renamed_arguments
from spheregeo.models.blocks import Pointwise
from spheregeo.models.registry import register
from spheregeo.models.sphere.pooled import Conv, PooledClassifier, PooledUNet
from spheregeo.nn import ChebConv, Unpool

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def _chebyshev(order: int, neighbors: int, bias: bool) -> Conv:
    def conv(a: int, b: int, grid: Grid) -> ChebConv:
        few = min(neighbors, grid.num_points - 1)  # the coarsest grids have less
        return ChebConv(a, b, grid, order, neighbors=few, bias=bias)

    return conv


@register("deepsphere-unet")
class DeepSphereUNet(PooledUNet):
    """U-Net of Chebyshev convolutions on the graph of nearest neighbors, any grid with nested levels.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the finest level.
        depth: number of levels.
        blocks: convolutions of each level beyond the first.
        growth: factor by which channels grow from level to level.
        max_width: most channels of a level.
        norm: "batch", "group" or "none".
        order: number of Chebyshev polynomials of each convolution, see :class:`spheregeo.nn.ChebConv`.
        neighbors: nearest points that each point is joined to; all others where the coarsest grids have fewer.
        reduce: "mean", "area" or "max" pooling.
        upsample: "linear" interpolation, or "nearest", the copies of the paper.
        checkpoint: whether to compute each level again in the backward pass instead of keeping it.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: SO(3), approximate: relative error 10 % at nside 32, width 8, signals of degree < 8, weights randomised,
        where copies in place of interpolation have 59 %. Exact under the rotations that permute every level's grid and carry
        parents to parents.
    Raises: ValueError for a grid with fewer nested levels than ``depth``, or x of another shape.
    Reference: Defferrard et al. 2020, arXiv:2012.15000, the network of its segmentation experiments.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import DeepSphereUNet
        >>> DeepSphereUNet(3, 2, HEALPix(4), width=4, depth=2, neighbors=8)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 2, 192])
    """

    @renamed_arguments(neighbours="neighbors")
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
        neighbors: int = 20,
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
            _chebyshev(order, neighbors, norm == "none"),
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
class DeepSphereClassifier(PooledClassifier):
    """Classifier of Chebyshev convolutions; options as for :class:`DeepSphereUNet`.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the finest level.
        depth: number of levels.
        blocks: convolutions of each level beyond the first.
        growth: factor by which channels grow from level to level.
        max_width: most channels of a level.
        norm: "batch", "group" or "none".
        order: number of Chebyshev polynomials of each convolution, see :class:`spheregeo.nn.ChebConv`.
        neighbors: nearest points that each point is joined to; all others where the coarsest grids have fewer.
        reduce: "mean", "area" or "max" pooling.
        dropout: probability with which the head drops a value.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Equivariance: invariant to O(3), approximate; exactly to the rotations that permute every level's grid.
    Raises: as :class:`DeepSphereUNet`; ValueError for a dropout outside [0, 1).
    Reference: Defferrard et al. 2020, arXiv:2012.15000.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import DeepSphereClassifier
        >>> DeepSphereClassifier(3, 10, HEALPix(4), width=4, depth=2, neighbors=8)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 10])
    """

    @renamed_arguments(neighbours="neighbors")
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
        neighbors: int = 20,
        reduce: str = "mean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            grid,
            _chebyshev(order, neighbors, norm == "none"),
            width=width,
            depth=depth,
            blocks=blocks,
            growth=growth,
            max_width=max_width,
            norm=norm,
            reduce=reduce,
            dropout=dropout,
        )


__all__ = ["DeepSphereClassifier", "DeepSphereUNet"]
