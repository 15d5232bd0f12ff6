"""What networks of volumes do first: checks, and a mean over blocks of voxels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def check_volumes(x: Tensor, in_channels: int) -> None:
    """Check the input of a network of volumes.

    Args:
        x: the input.
        in_channels: channels that the network was built for.

    Raises: ValueError unless x is (B, in_channels, D, H, W).
    """
    if x.ndim != 5 or x.shape[1] != in_channels:
        raise ValueError(f"x has shape {tuple(x.shape)}; this model expects (B, {in_channels}, D, H, W)")


def pooled(x: Tensor, pool: int) -> Tensor:
    """Average volumes over blocks of voxels.

    Args:
        x: the volumes.
        pool: voxels along each side of a block.

    Shape: (B, C, D, H, W) -> (B, C, D / pool, H / pool, W / pool).
    Raises: ValueError for sides that are no multiples of ``pool``: voxels would be left over on one side.
    """
    if pool == 1:
        return x
    if any(size % pool for size in x.shape[2:]):
        raise ValueError(f"x has {tuple(x.shape[2:])} voxels; expected multiples of pool, which is {pool}")
    return F.avg_pool3d(x, pool)
