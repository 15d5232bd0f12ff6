"""Networks of images with isotropic kernels, mixtures of Gaussian rings: a classifier and a U-Net."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from spheregeo.models.plane.checks import check_images, check_sizes
from spheregeo.models.registry import register
from spheregeo.nn import BatchNorm, GMRConv2d, GMRConvTranspose2d, SampleDropout


def _stage(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Two ring convolutions, the first with the stride, each with a batch norm and a rectifier."""
    layers: list[nn.Module] = []
    for channels, step in ((in_channels, stride), (out_channels, 1)):
        conv = GMRConv2d(channels, out_channels, kernel_size, step, kernel_size // 2, bias=False)
        layers += [conv, BatchNorm(out_channels), nn.ReLU()]
    return nn.Sequential(*layers)


@register("gmr-cnn", output="label", domain="images")
class GMRCNN(nn.Module):
    """Classifier of images with isotropic kernels.

    Stages of two ring convolutions with batch norm; every stage but the first halves the image behind a low-pass. The mean and
    the maximum over the image go through a linear layer.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        width: channels of the first stage; twice as many on each further stage, up to four times.
        depth: stages.
        kernel_size: pixels along each side of a kernel, odd.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: invariant under quarter turns and reflections of square images of any size: exact, 1e-13 in float64. Other
        turns: approximate.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel.
    Reference: Du et al. 2025, arXiv:2504.02819.

    Example:
        >>> import torch
        >>> GMRCNN(1, 10, width=4, depth=2)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        kernel_size: int = 5, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(in_channels, width, depth, kernel_size)
        self.in_channels, self.out_channels = in_channels, out_channels
        widths = [in_channels, *(width * min(4, 2**level) for level in range(depth))]
        self.stages = nn.Sequential(
            *(
                _stage(before, after, kernel_size, 2 if level else 1)
                for level, (before, after) in enumerate(pairwise(widths))
            )
        )
        self.head = nn.Sequential(SampleDropout(dropout), nn.Linear(2 * widths[-1], out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        y = self.stages(x).flatten(2)
        result: Tensor = self.head(torch.cat([y.mean(2), y.amax(2)], 1))
        return result


@register("gmr-unet", domain="images")
class GMRUNet(nn.Module):
    """U-Net of images with isotropic kernels: strides behind a low-pass going down, transposed ring convolutions going up.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per pixel.
        grid: None.
        width: channels of the finest level; twice as many on each further level.
        depth: levels.
        kernel_size: pixels along each side of a kernel, odd.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W).
    Equivariance: quarter turns and reflections exact for any size (1e-13 in float64). Other turns: approximate.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel.
    Reference: Du et al. 2025, arXiv:2504.02819 (kernels); Ronneberger, Fischer & Brox 2015, arXiv:1505.04597 (plan).

    Example:
        >>> import torch
        >>> GMRUNet(3, 5, width=4, depth=2)(torch.randn(2, 3, 17, 12)).shape
        torch.Size([2, 5, 17, 12])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        kernel_size: int = 5,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(in_channels, width, depth, kernel_size)
        self.in_channels, self.out_channels = in_channels, out_channels
        widths = [width * 2**level for level in range(depth)]
        self.encoder = nn.ModuleList(
            _stage(before, after, kernel_size, 2 if level else 1)
            for level, (before, after) in enumerate(pairwise([in_channels, *widths]))
        )
        self.raising = nn.ModuleList(
            GMRConvTranspose2d(coarse, fine, 3, 2, 1) for fine, coarse in pairwise(widths)
        )
        self.decoder = nn.ModuleList(_stage(2 * fine, fine, kernel_size) for fine in widths[:-1])
        self.head = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for raise_, stage in zip(reversed(self.raising), reversed(self.decoder)):
            fine = skips.pop()
            x = stage(torch.cat([raise_(x, tuple(fine.shape[2:])), fine], 1))
        result: Tensor = self.head(x)
        return result
