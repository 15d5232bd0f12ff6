"""Steerable network of volumes: convolutions between irreps of O(3), gates, low-passed strides, an invariant read-out."""

from __future__ import annotations

from itertools import pairwise

from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.registry import register
from spheregeo.models.voxels.checks import check_volumes, pooled
from spheregeo.nn import IrrepsBatchNorm, IrrepsGate, SampleDropout, SteerableVoxelConv


def features(width: int, lmax: int) -> Irreps:
    """Irreps of a layer: ``width`` even scalars, half as many vectors, a quarter as many tensors, ... of natural parity.

    Args:
        width: copies of the scalar.
        lmax: highest degree.
    """
    return Irreps([(max(1, width >> l), (l, (-1) ** l)) for l in range(lmax + 1)])


class _Stage(nn.Module):
    """Convolution, batch norm over all voxels, gate."""

    def __init__(
        self, irreps_in: Irreps, irreps_out: Irreps, kernel_size: int, stride: int, group: str
    ) -> None:
        super().__init__()
        self.gate = IrrepsGate(irreps_out)
        self.conv = SteerableVoxelConv(
            irreps_in, self.gate.irreps_in, kernel_size, stride=stride, group=group, bias=False
        )
        self.norm = IrrepsBatchNorm(self.gate.irreps_in)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.conv(x).movedim(1, -1)  # (B, D, H, W, C): each voxel a row of irreps
        result: Tensor = self.gate(self.norm(rows))
        return result.movedim(-1, 1)


@register("steerable-voxels", output="label", domain="voxels")
class SteerableVoxels(nn.Module):
    """Steerable network of volumes (Weiler et al. 2018) that gives each one vector of numbers.

    Stages of a convolution, batch norm and a gated nonlinearity; every stage but the first halves the volume behind a low-pass.
    Even scalars are averaged over the voxels and go through a perceptron.

    Args:
        in_channels: channels of the volumes, scalars.
        out_channels: numbers per volume.
        grid: None.
        width: scalars of the first stage, half as many vectors, a quarter as many tensors; twice as many on each further stage,
            up to four times.
        depth: stages.
        lmax: highest degree of the features; the last stage has scalars alone, which are read out.
        kernel_size: voxels along each side of a kernel, odd.
        group: "O3", or "SO3", which tells mirror images apart.
        dropout: before the last layer.
        pool: voxels along each side of the blocks over which volumes are averaged first.

    Shape: (B, in_channels, D, H, W) -> (B, out_channels).
    Equivariance: invariant under the 48 rotations and reflections of the cube (24 for SO3) on cubic volumes: exact, 1e-13 in
        float64. Other rotations: approximate.
    Raises: ValueError for volumes of another shape, or numbers that are too small.
    Reference: Weiler, Geiger, Welling, Boomsma & Cohen 2018, arXiv:1807.02547.

    Example:
        >>> import torch
        >>> model = SteerableVoxels(1, 4, width=4, depth=2)
        >>> model(torch.randn(2, 1, 8, 8, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 8, depth: int = 3, lmax: int = 2,
        kernel_size: int = 3, group: str = "O3", dropout: float = 0.1, pool: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(
            in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1), pool=(pool, 1), lmax=(lmax, 0)
        )
        self.in_channels, self.out_channels, self.pool = in_channels, out_channels, pool
        types = [Irreps([(in_channels, (0, 1))])]
        types += [
            features(width * min(4, 2**level), lmax if level < depth - 1 else 0) for level in range(depth)
        ]
        self.stages = nn.ModuleList(
            _Stage(before, after, kernel_size, 1 if level == 0 else 2, group)
            for level, (before, after) in enumerate(pairwise(types))
        )
        self.scalars = types[-1][0].mul
        self.head = nn.Sequential(
            nn.Linear(self.scalars, 2 * self.scalars), nn.SiLU(), SampleDropout(dropout),
            nn.Linear(2 * self.scalars, out_channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        check_volumes(x, self.in_channels)
        x = pooled(x, self.pool)
        for stage in self.stages:
            x = stage(x)
        result: Tensor = self.head(x[:, : self.scalars].mean((2, 3, 4)))
        return result
