"""Gaussian low-pass and sampling of voxel fields, symmetric about the volume's centre for every size and stride."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_tensor

Triple = tuple[int, int, int]


def triple(name: str, value: int | Sequence[int]) -> Triple:
    """One whole number for each axis. Raises: ValueError for other counts, or numbers below 1."""
    found = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(found) != 3 or not all(isinstance(v, int) and v >= 1 for v in found):
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1, or three")
    return found[0], found[1], found[2]


def gaussian_taps(stride: int, even: bool) -> list[float]:
    """Taps of a Gaussian of σ = ½√(stride² − 1) on whole, or for an even number on half, places; they sum to 1.

    About 1 + 5σ taps, as many more as make the number odd or even; an even number is at least the stride.
    """
    if stride == 1 and not even:
        return [1.0]
    sigma = 0.5 * math.sqrt(max(stride**2 - 1, 1))
    count = max(int(1 + 5 * sigma), stride)
    count += int((count % 2 == 0) != even)
    taps = [math.exp(-0.5 * ((i - (count - 1) / 2) / sigma) ** 2) for i in range(count)]
    return [tap / sum(taps) for tap in taps]


def placement(size: int, stride: int, kernel: int) -> tuple[bool, int]:
    """How windows must lie for ⌈size / stride⌉ outputs symmetric about the middle of an axis.

    ``kernel`` more taps follow the low-pass. Returns whether the low-pass has an even number of taps, and, as a count of
    steps, where the first window's centre lies: twice its distance from the first voxel.
    """
    twice = size - 1 - stride * (-(-size // stride) - 1)
    return (twice + kernel - 1) % 2 == 1, twice


def low_pass(x: Tensor, taps: Sequence[Sequence[float]], stride: Triple = (1, 1, 1)) -> Tensor:
    """Each channel with one row of taps along each axis, no padding. Shape: (B, C, D, H, W) -> (B, C, D', H', W')."""
    y = x.reshape(-1, 1, *x.shape[2:])
    for axis, row in enumerate(taps):
        if len(row) > 1 or stride[axis] > 1:
            shape, step = [1, 1, 1, 1, 1], [1, 1, 1]
            shape[axis + 2], step[axis] = len(row), stride[axis]
            y = F.conv3d(y, torch.tensor(row, dtype=x.dtype, device=x.device).view(shape), stride=step)
    return y.reshape(*x.shape[:2], *y.shape[2:])


class LowPassDownsample(nn.Module):
    """Gaussian low-pass, then every stride-th voxel; for fields of any type, as all channels are treated alike.

    Windows lie symmetrically about the middle of each axis: at an even place on axes where the stride would leave one voxel
    over, between two where not. So the map commutes with rotations and reflections of the volume for every size. Weights of
    windows that reach outside are divided by what is inside: constants stay constant.

    Args:
        stride: at least 1, or one for each axis. σ is ½√(stride² − 1) voxels.

    Shape: (B, C, D, H, W) -> (B, C, ⌈D/stride⌉, ⌈H/stride⌉, ⌈W/stride⌉).
    Equivariance: the 48 rotations and reflections of the cube: exact (3e-16 in float64), for one stride.
    Raises: ValueError for a stride below 1, or input of another number of axes.
    Reference: Zhang 2019, arXiv:1904.11486; the width is that of e3nn's voxel models.

    Example:
        >>> LowPassDownsample(2)(torch.randn(1, 4, 8, 8, 8)).shape
        torch.Size([1, 4, 4, 4, 4])
    """

    def __init__(self, stride: int | Sequence[int]) -> None:
        super().__init__()
        self.stride = triple("stride", stride)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 5:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, channels, D, H, W)")
        taps, pads = [], []
        for size, stride in zip(x.shape[2:], self.stride):
            even, twice = placement(size, stride, 1)
            taps.append(gaussian_taps(stride, even))
            pads.append((len(taps[-1]) - 1 - twice) // 2)
        padding = [p for pad in reversed(pads) for p in (pad, pad)]
        y = low_pass(F.pad(x, padding), taps, self.stride)
        for axis, (row, pad) in enumerate(zip(taps, pads)):
            ones = F.pad(torch.ones(1, 1, x.shape[axis + 2], dtype=torch.float64), (pad, pad))
            inside = F.conv1d(
                ones, torch.tensor(row, dtype=torch.float64).view(1, 1, -1), stride=self.stride[axis]
            )
            shape = [1, 1, 1, 1, 1]
            shape[axis + 2] = -1
            y = y / inside.to(y).view(shape)
        return y

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
