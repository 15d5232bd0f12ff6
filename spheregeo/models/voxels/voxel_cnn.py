"""An ordinary network of 3D convolutions, beside which the steerable one is judged."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.registry import register
from spheregeo.models.voxels.checks import check_volumes, pooled
from spheregeo.nn import BatchNorm, SampleDropout


@register("voxel-cnn", output="label", domain="voxels")
class VoxelCNN(nn.Module):
    """Ordinary 3D convolutions on the plan of ``steerable-voxels``: a baseline that learns rotations from data alone.

    Args:
        in_channels: channels of the volumes.
        out_channels: numbers per volume.
        grid: None.
        width: channels of the first stage; twice as many on each further stage, up to four times.
        depth: stages.
        kernel_size: voxels along each side of a kernel, odd.
        dropout: before the last layer.
        pool: voxels along each side of the blocks over which volumes are averaged first.

    Shape: (B, in_channels, D, H, W) -> (B, out_channels).
    Equivariance: none but to translations by whole strides.
    Raises: ValueError for volumes of another shape.

    Example:
        >>> import torch
        >>> VoxelCNN(1, 4, width=4, depth=2)(torch.randn(2, 1, 8, 8, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        kernel_size: int = 3, dropout: float = 0.1, pool: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1), pool=(pool, 1))
        self.in_channels, self.out_channels, self.pool = in_channels, out_channels, pool
        widths = [in_channels, *(width * min(4, 2**level) for level in range(depth))]
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise(widths)):
            stride = 1 if level == 0 else 2
            conv = nn.Conv3d(before, after, kernel_size, stride, kernel_size // 2, bias=False)
            layers += [conv, BatchNorm(after), nn.SiLU()]
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(SampleDropout(dropout), nn.Linear(widths[-1], out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_volumes(x, self.in_channels)
        result: Tensor = self.head(self.stages(pooled(x, self.pool)).mean((2, 3, 4)))
        return result
