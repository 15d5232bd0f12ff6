"""A classifier of images in log-polar coordinates, where turns and changes of scale are shifts."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_least
from spheregeo.models.plane.checks import check_images
from spheregeo.models.registry import register
from spheregeo.nn import LogPolarWarp, PeriodicConv2d, Warp2d


@register("warped-cnn", output="label", domain="images")
class WarpedCNN(nn.Module):
    """Classifier of log-polar images: turns about the centre and changes of scale are shifts of what its convolutions see.

    Stages of two convolutions, circular in angle, each on half as many radii and angles; then the mean over all angles and the
    maximum over all radii.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        width: channels of the first stage, twice as many on each further one, up to four times.
        depth: stages.
        angles: columns of the log-polar image, a multiple of 4·2^(depth - 1), so that quarter turns are exact.
        radii: its rows; steps of scale are as long as steps of angle.
        outer: largest radius, in halves of the image's shorter side.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: invariant; exactly under quarter turns, to the error of interpolation and pooling under other turns; under
        changes of scale as far as nothing enters or leaves between the smallest and the largest radius.
    Raises: ValueError for images of another shape, numbers that are too small, a number of angles that is no such multiple.
    Reference: Henriques & Vedaldi 2017, Warped Convolutions: Efficient Invariance to Spatial Transformations.

    Example:
        >>> import torch
        >>> WarpedCNN(1, 10, width=4)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3, angles: int = 64,
        radii: int = 28, outer: float = 1.1, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1), radii=(radii, 2 ** (depth - 1))
        )
        if angles < 4 or angles % (4 * 2 ** (depth - 1)):
            raise ValueError(
                f"angles is {angles}; expected a multiple of {4 * 2 ** (depth - 1)} for depth {depth}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        inner = outer * math.exp(-2 * math.pi / angles * (radii - 1))
        self.sample = Warp2d(LogPolarWarp((radii, angles), inner, outer))
        widths = [width * min(4, 2**level) for level in range(depth)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *self._conv(before, after, 5 if before == in_channels else 3), *self._conv(after, after, 3)
            )
            for before, after in pairwise([in_channels, *widths])
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], out_channels))

    @staticmethod
    def _conv(into: int, out: int, kernel_size: int) -> list[nn.Module]:
        return [PeriodicConv2d(into, out, kernel_size, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        x = self.sample(x)
        for level, stage in enumerate(self.stages):
            x = stage(F.avg_pool2d(x, 2) if level else x)
        result: Tensor = self.head(torch.amax(x.mean(3), 2))
        return result
