"""PDE-G-CNN: a lift to SE(2), layers of partial differential equations with learned metrics, a projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_least
from spheregeo.models.plane.checks import check_images
from spheregeo.models.registry import register
from spheregeo.nn import CakeLift, FieldMix, SampleDropout, SE2PDELayer


def halve(x: Tensor) -> Tensor:
    """Means over 2 x 2 pixels, or over 3 x 3 around every second one where a side is odd, so that rotations are kept.

    Args:
        x: features.

    Shape: (B, C, H, W) -> (B, C, ⌈H/2⌉, ⌈W/2⌉).
    """
    odd = [size % 2 for size in x.shape[2:]]
    return F.avg_pool2d(x, [2 + o for o in odd], 2, odd, count_include_pad=False)


@register("pde-cnn", output="label", domain="images")
class PDECNN(nn.Module):
    """PDE-G-CNN (Smets et al. 2022), which gives each image one vector of numbers.

    Cake wavelets lift the image to SE(2), and fields are averaged to half the size, again before the third layer. Each layer
    solves a convection, a dilation and an erosion with coefficients and metrics learned for each field, mixes the fields and
    normalises them; there is no other nonlinearity. Of orientations the largest is taken, and mean and maximum over the image go
    through a linear layer.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        width: fields of each layer.
        depth: layers.
        orientations: n of C_n, a multiple of 4.
        kernel_size: pixels along each side of a window, odd.
        turns: orientations in a window, odd.
        alpha: of dilation and erosion, above ½ (max-pooling) and at most 1 (quadratic kernels).
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: invariant under quarter turns of square images: exact, 1e-13 in float64. Other rotations: approximate.
    Raises: ValueError for images of another shape, orientations that quarter turns do not permute, numbers that are too small.
    Reference: Smets, Portegies, Bekkers & Duits 2022, arXiv:2001.09046.

    Example:
        >>> PDECNN(1, 10, width=4, depth=1)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        orientations: int = 8, kernel_size: int = 5, turns: int = 3, alpha: float = 0.65, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1), orientations=(orientations, 4)
        )
        if orientations % 4:
            raise ValueError(
                f"orientations is {orientations}; expected a multiple of 4, which quarter turns permute"
            )
        self.in_channels, self.out_channels, self.orientations = in_channels, out_channels, orientations
        self.lift = nn.Sequential(
            CakeLift(in_channels, orientations), FieldMix(2 * in_channels, width, orientations)
        )
        self.layers = nn.ModuleList(
            SE2PDELayer(width, width, orientations, kernel_size, turns, alpha=alpha) for _ in range(depth)
        )
        self.head = nn.Sequential(SampleDropout(dropout), nn.Linear(2 * width, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        x = halve(self.lift(x))
        for level, layer in enumerate(self.layers):
            x = layer(halve(x) if level == 2 and min(x.shape[2:]) >= 8 else x)
        best = x.unflatten(1, (-1, self.orientations)).amax(2)
        result: Tensor = self.head(torch.cat([best.mean((2, 3)), best.amax((2, 3))], 1))
        return result
