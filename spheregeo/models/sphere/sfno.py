"""Spherical Fourier neural operator: blocks of a spectral convolution and a pointwise network between two pointwise ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.blocks import Checkpointed, Head, Pointwise, check_field
from spheregeo.models.registry import register
from spheregeo.nn import (
    AreaBatchNorm,
    AreaInstanceNorm,
    ExactBuffers,
    GlobalPool,
    SampleDropout,
    SpectralConv,
)
from spheregeo.spectral import resolved_degree

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def _norm(kind: str, channels: int, grid: Grid) -> nn.Module:
    if kind == "instance":
        return AreaInstanceNorm(channels, grid, affine=True)
    if kind == "batch":
        return AreaBatchNorm(channels, grid)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm is {kind!r}; choose instance, batch or none")


class SFNOBlock(nn.Module):
    """Norm, spectral convolution beside a linear map, GELU; norm and a pointwise network of one hidden layer; added to the input.

    Args:
        channels: of input and output.
        grid: the points that the fields live on.
        lmax: largest degree of the spectral convolution.
        mlp_ratio: hidden channels of the pointwise network over ``channels``.
        operator: of :class:`~spheregeo.nn.SpectralConv`.
        norm: "instance" or "batch", with area weights, or "none".
        dropout: probability with which the pointwise network drops a value.

    Shape: (B, channels, *grid.shape) -> the same.
    Equivariance: SO(3) up to what the GELUs alias, with operator "dhconv".
    Reference: Bonev et al. 2023, arXiv:2306.03838, figure 3.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models.sphere.sfno import SFNOBlock
        >>> SFNOBlock(4, HEALPix(4), 5)(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    def __init__(
        self,
        channels: int,
        grid: Grid,
        lmax: int,
        *,
        mlp_ratio: float = 2.0,
        operator: str = "dhconv",
        norm: str = "instance",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = max(1, round(mlp_ratio * channels))
        self.norm1, self.norm2 = _norm(norm, channels, grid), _norm(norm, channels, grid)
        self.conv = SpectralConv(channels, channels, grid, lmax=lmax, operator=operator)
        self.inner_skip = Pointwise(channels, channels, bias=False)
        self.mlp = nn.Sequential(
            Pointwise(channels, hidden), nn.GELU(), SampleDropout(dropout), Pointwise(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.gelu(self.conv(self.norm1(x)) + self.inner_skip(x))
        result: Tensor = x + self.mlp(self.norm2(y))
        return result


class _SFNO(Checkpointed, ExactBuffers):
    """Encoder and blocks."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int,
        depth: int,
        lmax: int | None,
        mlp_ratio: float,
        operator: str,
        norm: str,
        dropout: float,
        position: bool,
        checkpoint: bool,
    ) -> None:
        super().__init__()
        check_least(width=(width, 1), depth=(depth, 0), mlp_ratio=(mlp_ratio, 0))
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 (none) to below 1")
        self.grid, self.in_channels, self.out_channels = grid, in_channels, out_channels
        self.position, self.checkpoint = position, checkpoint
        self.lmax = 2 * resolved_degree(grid, "layer") // 3 if lmax is None else lmax
        if position:
            self.keep("height", grid.points[:, 2].reshape(grid.shape))  # sine of the latitude
        self.encoder = nn.Sequential(
            Pointwise(in_channels + position, width), nn.GELU(), Pointwise(width, width, bias=False)
        )
        self.blocks = nn.ModuleList(
            SFNOBlock(
                width, grid, self.lmax, mlp_ratio=mlp_ratio, operator=operator, norm=norm, dropout=dropout
            )
            for _ in range(depth)
        )

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_field(x, self.in_channels, self.grid)
        if self.position:
            height = self.height.to(x.dtype).expand(x.shape[0], 1, *self.grid.shape)  # type: ignore[operator]
            x = torch.cat([x, height], dim=1)
        y = self.run(self.encoder, x)
        for block in self.blocks:
            y = self.run(block, y)
        return x, y


@register("sfno", family="sfno")
class SFNO(_SFNO):
    """Spherical Fourier neural operator, on any grid that has a transform.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the blocks.
        depth: number of blocks.
        lmax: largest degree of the spectral convolutions; None for two thirds of what the grid holds, above which products of
            two fields would alias.
        mlp_ratio: hidden channels of the blocks' pointwise networks over ``width``.
        operator: "dhconv", one matrix for each degree, or "diagonal", one for each (l, m), which breaks the symmetry.
        norm: "instance" or "batch", with area weights, or "none".
        dropout: probability with which pointwise networks drop a value.
        position: whether the sine of the latitude is one more input channel.
        big_skip: whether the decoder is given the input as well.
        checkpoint: whether to compute each block again in the backward pass instead of keeping it.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels, *grid.shape).
    Equivariance: SO(3) and reflections up to what the GELUs alias, with operator "dhconv" and ``position=False``:
        relative error 0.8 % on 32x64 and 64x128 and 0.5 % on HEALPix nside 32, width 8, depth 2, weights randomised, signals of
        degree < 8; 9 % on 64x128 with ``lmax=63``, all that the grid holds.
    Raises: ValueError for options or input that do not fit.
    Reference: Bonev, Kurth, Hundt, Pathak, Baust, Kashinath & Anandkumar 2023, arXiv:2306.03838.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import SFNO
        >>> SFNO(3, 2, HEALPix(4), width=4, depth=1)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 2, 192])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 32,
        depth: int = 4,
        lmax: int | None = None,
        mlp_ratio: float = 2.0,
        operator: str = "dhconv",
        norm: str = "instance",
        dropout: float = 0.0,
        position: bool = False,
        big_skip: bool = True,
        checkpoint: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, grid, width=width, depth=depth, lmax=lmax, mlp_ratio=mlp_ratio, operator=operator,
            norm=norm, dropout=dropout, position=position, checkpoint=checkpoint,
        )  # fmt: skip
        self.big_skip = big_skip
        self.decoder = nn.Sequential(
            Pointwise(width + (in_channels + position) * big_skip, width),
            nn.GELU(),
            Pointwise(width, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x, y = self._encode(x)
        result: Tensor = self.decoder(torch.cat([y, x], 1) if self.big_skip else y)
        return result


@register("sfno-classifier", output="label", family="sfno")
class SFNOClassifier(_SFNO):
    """Blocks of a spherical Fourier neural operator, the mean over the sphere, and two layers on top.

    Args:
        in_channels, out_channels: channels of input and output.
        grid: the input's grid.
        width: channels of the blocks.
        depth: number of blocks.
        lmax: largest degree of the spectral convolutions; None for two thirds of what the grid holds.
        mlp_ratio: hidden channels of the blocks' pointwise networks over ``width``.
        operator: "dhconv", one matrix for each degree, or "diagonal", one for each (l, m), which breaks the symmetry.
        norm: "instance" or "batch", with area weights, or "none".
        dropout: probability with which pointwise networks and the head drop a value.
        position: whether the sine of the latitude is one more input channel.
        checkpoint: whether to compute each block again in the backward pass instead of keeping it.

    Shape: (B, in_channels, *grid.shape) -> (B, out_channels).
    Equivariance: invariant to SO(3) and reflections up to what the GELUs alias, as :class:`SFNO`.
    Raises: ValueError for options or input that do not fit.
    Reference: Bonev et al. 2023, arXiv:2306.03838, for the blocks.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.models import SFNOClassifier
        >>> SFNOClassifier(3, 10, HEALPix(4), width=4, depth=1)(torch.randn(2, 3, 192)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        width: int = 32,
        depth: int = 3,
        lmax: int | None = None,
        mlp_ratio: float = 2.0,
        operator: str = "dhconv",
        norm: str = "instance",
        dropout: float = 0.0,
        position: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, grid, width=width, depth=depth, lmax=lmax, mlp_ratio=mlp_ratio, operator=operator,
            norm=norm, dropout=dropout, position=position, checkpoint=checkpoint,
        )  # fmt: skip
        self.pool = GlobalPool(grid)
        self.head = Head(width, out_channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        _, y = self._encode(x)
        result: Tensor = self.head(self.pool(y))
        return result
