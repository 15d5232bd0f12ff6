"""Ordinary networks of 2D convolutions, beside which the equivariant ones are judged: a classifier and a U-Net."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from spheregeo.models.plane.checks import check_images, check_sizes
from spheregeo.models.registry import register
from spheregeo.nn import BatchNorm, SampleDropout


def _stage(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Two convolutions, each with a batch norm and a rectifier."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        conv = nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        layers += [conv, BatchNorm(out_channels), nn.ReLU()]
    return nn.Sequential(*layers)


@register("image-cnn", output="label", domain="images")
class ImageCNN(nn.Module):
    """Ordinary 2D convolutions: a baseline that learns rotations from data alone.

    Stages of two convolutions with batch norm; between stages the image is averaged over squares of 2 x 2 pixels. The mean over
    the image goes through a linear layer.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        width: channels of the first stage; twice as many on each further stage, up to four times.
        depth: stages.
        kernel_size: pixels along each side of a kernel, odd.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels), sides of at least 2^(depth - 1) pixels.
    Equivariance: none but to translations by whole strides.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel.

    Example:
        >>> import torch
        >>> ImageCNN(1, 10, width=4, depth=2)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        kernel_size: int = 3, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(in_channels, width, depth, kernel_size)
        self.in_channels, self.out_channels, self.least = in_channels, out_channels, 2 ** (depth - 1)
        widths = [in_channels, *(width * min(4, 2**level) for level in range(depth))]
        self.stages = nn.ModuleList(_stage(before, after, kernel_size) for before, after in pairwise(widths))
        self.head = nn.Sequential(SampleDropout(dropout), nn.Linear(widths[-1], out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, self.least)
        for level, stage in enumerate(self.stages):
            x = stage(nn.functional.avg_pool2d(x, 2) if level else x)
        result: Tensor = self.head(x.mean((2, 3)))
        return result


@register("image-unet", domain="images")
class ImageUNet(nn.Module):
    """U-Net of ordinary 2D convolutions: a baseline that learns rotations from data alone.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per pixel.
        grid: None.
        width: channels of the finest level; twice as many on each further level.
        depth: levels.
        kernel_size: pixels along each side of a kernel, odd.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W), sides of at least 2^(depth - 1) pixels.
    Equivariance: translations by 2^(depth - 1) pixels, but at the border.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel.
    Reference: Ronneberger, Fischer & Brox 2015, arXiv:1505.04597.

    Example:
        >>> import torch
        >>> ImageUNet(3, 5, width=4, depth=2)(torch.randn(2, 3, 17, 12)).shape
        torch.Size([2, 5, 17, 12])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        kernel_size: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(in_channels, width, depth, kernel_size)
        self.in_channels, self.out_channels, self.least = in_channels, out_channels, 2 ** (depth - 1)
        widths = [width * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList(
            _stage(before, after, kernel_size) for before, after in zip([in_channels, *widths], widths)
        )
        self.decoder = nn.ModuleList(
            _stage(coarse + fine, fine, kernel_size) for fine, coarse in pairwise(widths)
        )
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, self.least)
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            if level:
                skips.append(x)
                x = nn.functional.avg_pool2d(x, 2)
            x = stage(x)
        for stage in reversed(self.decoder):
            fine = skips.pop()
            x = nn.functional.interpolate(x, size=fine.shape[-2:], mode="nearest")
            x = stage(torch.cat([x, fine], 1))
        result: Tensor = self.head(x)
        return result
