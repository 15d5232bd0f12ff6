"""Steerable networks of images: a classifier and a U-Net, for all turns or for those of a finite group."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.groups import FieldType, PlanarType, PlaneSymmetry
from spheregeo.models.plane.checks import check_images
from spheregeo.models.registry import register
from spheregeo.nn import (
    FieldBatchNorm,
    GatedNonlinearity,
    GroupBatchNorm2d,
    GroupPool,
    LinearUpsample,
    LowPassDownsample,
    NormNonlinearity,
    RegularBatchNorm,
    RegularNonlinearity,
    SampleDropout,
    SteerableConv2d,
)
from spheregeo.nn.plane.steerable import PlanarBasis

Fields = FieldType | PlanarType


def feature_fields(width: int, group: str, max_order: int) -> Fields:
    """Features of a layer.

    Args:
        width: regular fields of a finite group; for SO2 and O2 functions of direction, a field of each order.
        group: "SO2", "O2", or a finite group such as "C16".
        max_order: highest order for SO2 and O2.
    """
    symmetry = PlaneSymmetry.of(group)
    if symmetry.n is None:
        return FieldType.full(width, max_order)
    return PlanarType.of(f"{width}x{symmetry}")


def _joined(a: Fields, b: Fields) -> Fields:
    """The type of channels of a before channels of b."""
    if isinstance(a, FieldType) and isinstance(b, FieldType):
        return FieldType([*a.terms, *b.terms])
    assert isinstance(a, PlanarType) and isinstance(b, PlanarType)
    return PlanarType((*a.terms, *b.terms), a.group or b.group)


def _activation(fields: Fields, nonlinearity: str) -> list[nn.Module]:
    """Batch norm and nonlinearity of a type."""
    if isinstance(fields, PlanarType):
        return [GroupBatchNorm2d(fields), nn.ReLU()]
    if nonlinearity == "fourier":
        # a multiple of four directions, so that quarter turns permute them
        return [
            RegularBatchNorm(fields),
            RegularNonlinearity(fields, "elu", samples=8 * max(fields.max_order, 1)),
        ]
    act = GatedNonlinearity if nonlinearity == "gated" else NormNonlinearity
    return [FieldBatchNorm(fields), act(fields)]


class _Stage(nn.Sequential):
    """Convolution, batch norm, nonlinearity."""

    def __init__(
        self, into: Fields, out: Fields, kernel_size: int, group: str, nonlinearity: str, tolerance: float
    ) -> None:
        basis = PlanarBasis(kernel_size, tolerance)
        conv = SteerableConv2d(into, out, kernel_size, group=group, bias=False, basis=basis)
        super().__init__(conv, *_activation(out, nonlinearity))


def _check(
    width: int, depth: int, kernel_size: int, in_channels: int, max_order: int, nonlinearity: str
) -> None:
    check_least(in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1), max_order=(max_order, 0))
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}; expected an odd number, whose kernel has a centre")
    if nonlinearity not in ("fourier", "gated", "norm"):
        raise ValueError(f"nonlinearity is {nonlinearity!r}; expected 'fourier', 'gated' or 'norm'")


@register("steerable-cnn", output="label", domain="images")
class SteerableCNN(nn.Module):
    """Steerable network of images (Weiler & Cesa 2019) that gives each one vector of numbers.

    Stages of a steerable convolution, batch norm and a nonlinearity, halved behind a low-pass after all but the last two. What no
    turn changes (the largest value of each regular field, or scalars) is averaged over the image and goes through a linear
    layer.

    Args:
        in_channels: channels of the images, scalars.
        out_channels: numbers per image.
        grid: None.
        width: regular fields of the first stage, or functions of direction with all orders; half as many more on each of the
            next two stages.
        depth: stages.
        kernel_size: pixels along each side of a kernel, odd; the first stage has two more.
        group: "SO2" or "O2", for which features have orders; or a finite group such as "C16" or "D8", with regular fields.
        max_order: highest order of features for SO2 and O2.
        nonlinearity: for SO2 and O2: "gated", "norm" or "fourier" (sampled directions, three times as slow).
        tolerance: error of turning that functions of the kernels may have, see :class:`~spheregeo.nn.plane.basis.PlanarBasis`.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: invariant under quarter turns of square images, and reflections for O2 and D_n: exact, 1e-12 in float64. Other
        turns: approximate.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel, other words.
    Reference: Weiler & Cesa 2019, arXiv:1911.08251.

    Example:
        >>> import torch
        >>> SteerableCNN(1, 10, width=2, depth=2, group="C8")(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 4, depth: int = 4,
        kernel_size: int = 5, group: str = "C16", max_order: int = 2, nonlinearity: str = "gated",
        tolerance: float = 0.015, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        _check(width, depth, kernel_size, in_channels, max_order, nonlinearity)
        self.in_channels, self.out_channels = in_channels, out_channels
        widths = [width + (width * min(level, 2) + 1) // 2 for level in range(depth)]
        types: list[Fields] = [
            FieldType(f"{in_channels}x0"), *(feature_fields(w, group, max_order) for w in widths)
        ]  # fmt: skip
        finite = PlaneSymmetry.of(group).n is not None
        if not finite:
            types[-1] = FieldType(f"{widths[-1] * (2 * max_order + 1)}x0")  # scalars, as many channels
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise(types)):
            size = kernel_size if level else kernel_size + 2
            layers.append(_Stage(before, after, size, group, nonlinearity, tolerance))
            if level < depth - 2:
                layers.append(LowPassDownsample(2))
        if isinstance(types[-1], PlanarType):
            layers.append(GroupPool(types[-1]))
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(SampleDropout(dropout), nn.Linear(types[-1].num_fields, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        result: Tensor = self.head(self.stages(x).mean((2, 3)))
        return result


@register("steerable-unet", domain="images")
class SteerableUNet(nn.Module):
    """U-Net of steerable convolutions: numbers for each pixel that turn with the image.

    Args:
        in_channels: channels of the images, scalars.
        out_channels: numbers per pixel.
        grid: None.
        width: regular fields of the finest level, or functions of direction with all orders; twice as many on each further level.
        depth: levels, each half as fine behind a low-pass.
        kernel_size: pixels along each side of a kernel, odd.
        group: "SO2" or "O2", for which features have orders; or a finite group such as "C8" or "D8", with regular fields.
        max_order: highest order of features for SO2 and O2.
        nonlinearity: for SO2 and O2: "gated", "norm" or "fourier" (sampled directions, three times as slow).
        tolerance: error of turning that functions of the kernels may have, see :class:`~spheregeo.nn.plane.basis.PlanarBasis`.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W).
    Equivariance: quarter turns of square images, and reflections for O2 and D_n: exact, 1e-12 in float64, at every size. Other
        turns: approximate.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel, other words.
    Reference: Ronneberger, Fischer & Brox 2015, arXiv:1505.04597; Weiler & Cesa 2019, arXiv:1911.08251.

    Example:
        >>> import torch
        >>> SteerableUNet(3, 5, width=1, depth=2, group="C4")(torch.randn(2, 3, 17, 12)).shape
        torch.Size([2, 5, 17, 12])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, width: int = 4, depth: int = 3,
        kernel_size: int = 5, group: str = "C8", max_order: int = 2, nonlinearity: str = "gated",
        tolerance: float = 0.015,
    ) -> None:  # fmt: skip
        super().__init__()
        _check(width, depth, kernel_size, in_channels, max_order, nonlinearity)
        self.in_channels, self.out_channels = in_channels, out_channels
        types = [feature_fields(width * 2**level, group, max_order) for level in range(depth)]
        options = (kernel_size, group, nonlinearity, tolerance)
        befores: list[Fields] = [FieldType(f"{in_channels}x0"), *types]
        self.encoder = nn.ModuleList(_Stage(a, b, *options) for a, b in zip(befores, types))
        self.decoder = nn.ModuleList(
            _Stage(_joined(coarse, fine), fine, *options) for fine, coarse in pairwise(types)
        )
        self.down, self.up = LowPassDownsample(2), LinearUpsample(2)
        self.head = SteerableConv2d(types[0], f"{out_channels}x0", 1, group=group)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            if level:
                skips.append(x)
                x = self.down(x)
            x = stage(x)
        for stage in reversed(self.decoder):
            fine = skips.pop()
            x = stage(torch.cat([self.up(x, fine.shape[2:]), fine], 1))
        result: Tensor = self.head(x)
        return result
