"""Harmonic network of images: complex features by order of rotation, filters that are circular harmonics."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.plane.checks import check_images
from spheregeo.models.registry import register
from spheregeo.nn import FieldBatchNorm, HarmonicConv2d, LowPassDownsample, NormNonlinearity, SampleDropout
from spheregeo.nn.plane.steerable import PlanarBasis


class _Stage(nn.Sequential):
    """Convolution, norm of magnitudes, rectified magnitudes."""

    def __init__(self, into: str, out: str, kernel_size: int, tolerance: float, real: bool) -> None:
        basis = PlanarBasis(kernel_size, tolerance)
        conv = HarmonicConv2d(into, out, kernel_size, real_input=real, bias=False, basis=basis)
        act = NormNonlinearity(conv.magnitudes, "relu")
        assert act.bias is not None
        nn.init.constant_(act.bias, -0.5)  # rectifies from the first step on: magnitudes are positive
        super().__init__(conv, FieldBatchNorm(conv.magnitudes), act)


@register("harmonic-cnn", output="label", domain="images")
class HarmonicCNN(nn.Module):
    """Harmonic network (Worrall et al. 2017): magnitudes at the end do not depend on the turn of the image.

    Stages of a convolution between streams of complex features of orders 0 … ``max_order``, a norm and a rectifier of magnitudes;
    halved behind a low-pass after all but the last two. Magnitudes are averaged over the image and go through a linear layer.

    Args:
        in_channels: channels of the images, real.
        out_channels: numbers per image.
        grid: None.
        width: complex features of each order on the first stage; half as many more on each of the next two.
        depth: stages.
        kernel_size: pixels along each side of a filter, odd.
        max_order: highest order of rotation.
        tolerance: error of turning that functions of the filters may have, see :class:`~spheregeo.nn.plane.basis.PlanarBasis`.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: invariant under quarter turns of square images: exact, 1e-12 in float64. Other turns: approximate.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel.
    Reference: Worrall, Garbin, Turmukhambetov & Brostow 2017, arXiv:1612.04642.

    Example:
        >>> import torch
        >>> HarmonicCNN(1, 10, width=2, depth=2)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 12, depth: int = 4,
        kernel_size: int = 5, max_order: int = 2, tolerance: float = 0.015, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1), max_order=(max_order, 0),
            kernel_size=(kernel_size, 1),
        )  # fmt: skip
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {kernel_size}; expected an odd number, whose kernel has a centre"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        widths = [width + (width * min(level, 2) + 1) // 2 for level in range(depth)]
        streams = [f"{in_channels}x0"]
        streams += [" + ".join(f"{w}x{order}" for order in range(max_order + 1)) for w in widths]
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise(streams)):
            layers.append(_Stage(before, after, kernel_size, tolerance, level == 0))
            if level < depth - 2:
                layers.append(LowPassDownsample(2))
        self.stages = nn.Sequential(*layers)
        features = widths[-1] * (max_order + 1)
        self.head = nn.Sequential(SampleDropout(dropout), nn.Linear(features, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        square = self.stages(x).unflatten(1, (-1, 2)).square().sum(2)
        result: Tensor = self.head((square + 1e-6).sqrt().mean((2, 3)))
        return result
