"""Gaussian low-pass and sampling of images and volumes, symmetric about their middle for every size and stride."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_count, check_tensor
from spheregeo.constants import made

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


def windows(
    shape: Sequence[int], strides: Sequence[int], kernels: Sequence[int]
) -> tuple[list[list[float]], list[int]]:
    """Low-pass taps and padding of each axis, for fields of one size; a kernel follows the low-pass."""
    taps, pads = [], []
    for size, stride, kernel in zip(shape, strides, kernels, strict=True):
        even, twice = placement(size, stride, kernel)
        taps.append(gaussian_taps(stride, even))
        pads.append((len(taps[-1]) + kernel - 2 - twice) // 2)
    return taps, pads


def low_pass(x: Tensor, taps: Sequence[Sequence[float]], stride: Sequence[int] | None = None) -> Tensor:
    """Each channel with one row of taps along each of 2 or 3 axes, no padding. Shape: (B, C, *axes) -> the same, smaller."""
    stride = (1,) * len(taps) if stride is None else tuple(stride)
    if all(len(row) == 1 and step == 1 for row, step in zip(taps, stride)):
        return x
    if len(taps) == 2:  # images: one convolution of all channels, several times as fast as row after row
        key = ("low pass", *map(tuple, taps))
        kernel = made(key, lambda: _outer(*taps), x, x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, kernel, stride=stride, groups=x.shape[1])
    # volumes: products with banded matrices, whose derivatives are products too; backward, a convolution of single channels takes
    # many times as long on a CPU
    y = x
    for axis, row in enumerate(taps, 2):
        if len(row) > 1 or stride[axis - 2] > 1:
            size, step = y.shape[axis], stride[axis - 2]
            matrix = made(("banded", tuple(row), size, step), partial(_banded, row, size, step), x, x.dtype)
            y = (y.transpose(axis, -1) @ matrix).transpose(axis, -1)
    return y


def _outer(rows: Sequence[float], columns: Sequence[float]) -> Tensor:
    return torch.outer(torch.tensor(rows, dtype=torch.float64), torch.tensor(columns, dtype=torch.float64))


def _banded(row: Sequence[float], size: int, stride: int) -> Tensor:
    """Matrix of a correlation with a row of taps. Shape: -> (size, outputs)."""
    outputs = torch.arange((size - len(row)) // stride + 1)
    matrix = torch.zeros(size, len(outputs), dtype=torch.float64)
    for place, tap in enumerate(row):
        matrix[outputs * stride + place, outputs] = tap
    return matrix


def pad_sides(x: Tensor, pads: Sequence[int]) -> Tensor:
    """Zeros on both sides of each spatial axis."""
    return F.pad(x, [p for pad in reversed(pads) for p in (pad, pad)])


class LowPassDownsample(nn.Module):
    """Gaussian low-pass, then every stride-th pixel or voxel; for fields of any type, as all channels are treated alike.

    Windows lie symmetrically about the middle of each axis: at an even place on axes where the stride would leave one place
    over, between two where not. So the map commutes with rotations and reflections of the lattice for every size. Weights of
    windows that reach outside are divided by what is inside: constants stay constant.

    Args:
        stride: at least 1, or one for each axis. σ is ½√(stride² − 1) places.

    Shape: (B, C, H, W) -> (B, C, ⌈H/stride⌉, ⌈W/stride⌉), and likewise (B, C, D, H, W).
    Equivariance: rotations and reflections of square and cube: exact (3e-16 in float64), for one stride.
    Raises: ValueError for a stride below 1, or input of another number of axes.
    Reference: Zhang 2019, arXiv:1904.11486; the width is that of e3nn's voxel models.

    Example:
        >>> LowPassDownsample(2)(torch.randn(1, 4, 8, 8, 8)).shape
        torch.Size([1, 4, 4, 4, 4])
    """

    def __init__(self, stride: int | Sequence[int]) -> None:
        super().__init__()
        given = (stride,) * 3 if isinstance(stride, int) else tuple(stride)
        if len(given) not in (2, 3):
            raise ValueError(
                f"stride is {stride!r}; expected a whole number of at least 1, or one for each axis"
            )
        self.stride = tuple(check_count("stride", step, 1) for step in given)
        self._axes = (2, 3) if isinstance(stride, int) else (len(given),)

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        axes = x.ndim - 2
        if axes not in self._axes:
            kinds = {2: "(batch, channels, H, W)", 3: "(batch, channels, D, H, W)"}
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected {' or '.join(kinds[n] for n in self._axes)}"
            )
        strides = self.stride[:axes]
        taps, pads = windows(x.shape[2:], strides, (1,) * axes)
        y = low_pass(pad_sides(x, pads), taps, strides)
        for axis, (row, pad) in enumerate(zip(taps, pads)):
            size, step = x.shape[axis + 2], strides[axis]
            key = ("taps inside", tuple(row), pad, size, step)
            inside = made(key, partial(_inside, row, pad, size, step), y, y.dtype)
            shape = [1] * x.ndim
            shape[axis + 2] = -1
            y = y / inside.view(shape)
        return y

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


def _inside(row: Sequence[float], pad: int, size: int, stride: int) -> Tensor:
    """Sum of the taps that lie inside, for each place."""
    ones = F.pad(torch.ones(1, 1, size, dtype=torch.float64), (pad, pad))
    return F.conv1d(ones, torch.tensor(row, dtype=torch.float64).view(1, 1, -1), stride=stride)


class LinearUpsample(nn.Module):
    """Linear interpolation from what :class:`LowPassDownsample` leaves back to the lattice that it came from.

    Places lie ``stride`` apart about the middle, as the low-pass puts them; beyond the outermost the last value holds.

    Args:
        stride: of the low-pass.

    Shape: (B, C, h, w) and a size (H, W) with h = ⌈H/stride⌉, w = ⌈W/stride⌉ -> (B, C, H, W).
    Equivariance: rotations and reflections of the square: exact (1e-15 in float64).
    Raises: ValueError for a stride below 1, and for sizes that do not belong together.

    Example:
        >>> LinearUpsample(2)(torch.randn(1, 4, 4, 5), (7, 10)).shape
        torch.Size([1, 4, 7, 10])
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = check_count("stride", stride, 1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        check_tensor(x)
        expected = tuple(-(-n // self.stride) for n in size)
        if x.ndim != 4 or len(expected) != 2 or tuple(x.shape[2:]) != expected:
            raise ValueError(
                f"x has shape {tuple(x.shape)} and size is {tuple(size)}; expected (batch, channels, *{expected})"
            )
        rows, columns = (
            made(("upsampled", self.stride, n), partial(self._weights, n), x, x.dtype) for n in size
        )
        return rows @ x @ columns.T

    def _weights(self, size: int) -> Tensor:
        """Shape: (size, ⌈size/stride⌉) float64."""
        count = -(-size // self.stride)
        place = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / self.stride + (count - 1) / 2
        place = place.clamp(0, count - 1)
        return (1 - (place[:, None] - torch.arange(count)).abs()).clamp(min=0)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"
