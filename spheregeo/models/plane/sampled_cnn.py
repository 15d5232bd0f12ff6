"""A classifier of group convolutions that are evaluated at representative poses alone."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from spheregeo.groups import PlanarGroup
from spheregeo.models.plane.checks import check_images, check_sizes
from spheregeo.models.plane.group_cnn import halved
from spheregeo.models.registry import register
from spheregeo.nn import SampleDropout
from spheregeo.nn.plane.group import GroupBatchNorm2d, GroupPool
from spheregeo.nn.plane.sampled import SampledGroupConv2d


@register("sampled-group-cnn", output="label", domain="images")
class SampledGroupCNN(nn.Module):
    """Group convolutions whose answers are computed once for poses with similar surroundings.

    Stages of two convolutions with batch norm and rectifiers; between stages the image is averaged over small squares. The
    largest answer over the group is averaged over the image and goes through a linear layer.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        width: regular fields of the first stage; twice as many on each further stage, up to four times.
        depth: stages.
        kernel_size: pixels along each side of a kernel, odd.
        group: "C4", "D4", "C8" and the like.
        epsilon: side of the cells in which poses share an answer, relative to the descriptors' root mean square; 0 is an ordinary
            group network.
        probes: random filters that describe a pose.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels), sides of at least 2^(depth - 1) pixels.
    Equivariance: invariant under C_n and D_n with n in 1, 2, 4, up to poses with equal descriptors: exact (1e-13 in float64).
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel.
    Reference: Franzen, Filling & Wand 2026, arXiv:2605.15368 (idea).

    Example:
        >>> import torch
        >>> SampledGroupCNN(1, 10, width=4, depth=2)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 8, depth: int = 3, kernel_size: int = 3,
        group: str = "C4", epsilon: float = 0.05, probes: int = 8, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_sizes(in_channels, width, depth, kernel_size)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.group = PlanarGroup.of(group)
        widths = [width * min(4, 2**level) for level in range(depth)]
        types = [f"{in_channels}x0", *(f"{fields}x{self.group}" for fields in widths)]
        self.stages = nn.ModuleList()
        for before, after in pairwise(types):
            layers: list[nn.Module] = []
            for into in (before, after):
                conv = SampledGroupConv2d(
                    into, after, kernel_size, padding="same", bias=False, epsilon=epsilon, probes=probes
                )
                layers += [conv, GroupBatchNorm2d(after), nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))
        self.pool = GroupPool(types[-1])
        self.head = nn.Sequential(SampleDropout(dropout), nn.Linear(widths[-1], out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        for level, stage in enumerate(self.stages):
            x = stage(halved(x) if level else x)
        result: Tensor = self.head(self.pool(x).mean((2, 3)))
        return result
