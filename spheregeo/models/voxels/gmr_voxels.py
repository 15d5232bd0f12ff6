"""Network of volumes with isotropic kernels: Gaussian-mixture shells, rectifiers, low-passed strides, an invariant read-out."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.registry import register
from spheregeo.models.voxels.checks import check_volumes, pooled
from spheregeo.nn import BatchNorm, GMRConv3d, SampleDropout


@register("gmr-voxels", output="label", domain="voxels")
class GMRVoxels(nn.Module):
    """Network of isotropic 3D convolutions that gives each volume one vector of numbers.

    Stages of two convolutions with batch norm and a rectifier; every stage but the first halves the volume behind a low-pass.
    The mean and the maximum over the voxels go through a perceptron.

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
    Equivariance: invariant under the 48 rotations and reflections of the cube on cubic volumes of any size: exact, 1e-13 in
        float64. Other rotations: approximate.
    Raises: ValueError for volumes of another shape, numbers that are too small, an even kernel.
    Reference: Du et al. 2025, arXiv:2504.02819.

    Example:
        >>> import torch
        >>> GMRVoxels(1, 4, width=4, depth=2)(torch.randn(2, 1, 8, 8, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 16, depth: int = 3,
        kernel_size: int = 3, dropout: float = 0.1, pool: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1),
            width=(width, 1),
            depth=(depth, 1),
            pool=(pool, 1),
            kernel_size=(kernel_size, 1),
        )
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is {kernel_size}; expected an odd number, whose kernel has a centre"
            )
        self.in_channels, self.out_channels, self.pool = in_channels, out_channels, pool
        widths = [in_channels, *(width * min(4, 2**level) for level in range(depth))]
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise(widths)):
            for channels, stride in ((before, 2 if level else 1), (after, 1)):
                conv = GMRConv3d(channels, after, kernel_size, stride, kernel_size // 2, bias=False)
                layers += [conv, BatchNorm(after), nn.ReLU()]
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * widths[-1], widths[-1]), nn.ReLU(), SampleDropout(dropout), nn.Linear(widths[-1], out_channels)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        check_volumes(x, self.in_channels)
        y = self.stages(pooled(x, self.pool)).flatten(2)
        result: Tensor = self.head(torch.cat([y.mean(2), y.amax(2)], 1))
        return result
