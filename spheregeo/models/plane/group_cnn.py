"""Networks of group convolutions on images: a classifier, a residual network and a U-Net, exact at every size of image."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spheregeo.checks import check_least
from spheregeo.groups import PlanarGroup
from spheregeo.models.plane.checks import check_images
from spheregeo.models.registry import register
from spheregeo.nn import GroupBatchNorm2d, GroupConv2d, GroupPool, SampleDropout


def halved(x: Tensor) -> Tensor:
    """Means over windows two pixels apart that lie alike from both borders: of 2 pixels on even sides, of 3 on odd ones.

    Shape: (B, C, H, W) -> (B, C, ⌈H/2⌉, ⌈W/2⌉).
    """
    odd = [side % 2 for side in x.shape[-2:]]
    return F.avg_pool2d(x, (2 + odd[0], 2 + odd[1]), 2, (odd[0], odd[1]), count_include_pad=False)


def doubled(x: Tensor, fine: Tensor) -> Tensor:
    """Linear interpolation to the pixels of a finer map, which :func:`halved` took to this one.

    Shape: (B, C, H, W), (B, C', H', W') -> (B, C, H', W').
    """
    height, width = fine.shape[-2:]
    if height % 2 == width % 2:
        return F.interpolate(x, (height, width), mode="bilinear", align_corners=bool(height % 2))
    x = F.interpolate(x, (height, x.shape[-1]), mode="bilinear", align_corners=bool(height % 2))
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=bool(width % 2))


def _kernel_size(group: str, given: int | None) -> int:
    if given is not None and (given < 1 or given % 2 == 0):
        raise ValueError(f"kernel_size is {given}; expected an odd number, whose kernel has a centre")
    return given or (3 if PlanarGroup.of(group).is_exact else 5)


def _conv(into: str, out: str, kernel_size: int) -> list[nn.Module]:
    conv = GroupConv2d(into, out, kernel_size, padding=kernel_size // 2, bias=False)
    return [conv, GroupBatchNorm2d(out), nn.ReLU()]


@register("group-cnn", output="label", domain="images")
class GroupCNN(nn.Module):
    """Classifier of regular fields: a lifting convolution, then stages of two group convolutions, each on half as many pixels.

    The mean over the image, then the maximum over the group, goes through a linear layer.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        group: "C4", "D4", "C8", "C16", "D8" or another C_n or D_n.
        width: fields of the lifting convolution; twice as many on each further stage, up to four times.
        depth: stages, the lifting convolution included.
        kernel_size: pixels along each side of a kernel, odd; None for 3 where turns are exact on pixels, else 5. The lifting
            kernel has 5 at least.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: invariant; exactly under the turns that map pixels onto pixels, and reflections for D_n, on images of any size.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel, text that is no group.
    Reference: Cohen & Welling 2016, arXiv:1602.07576.

    Example:
        >>> import torch
        >>> GroupCNN(1, 10, width=2)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, group: str = "D4", width: int = 4, depth: int = 3,
        kernel_size: int | None = None, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1))
        self.in_channels, self.out_channels = in_channels, out_channels
        size = _kernel_size(group, kernel_size)
        types = [f"{width * min(4, 2**level)}x{group}" for level in range(depth)]
        self.stages = nn.ModuleList([nn.Sequential(*_conv(f"{in_channels}x0", types[0], max(size, 5)))])
        for before, after in pairwise(types):
            self.stages.append(nn.Sequential(*_conv(before, after, size), *_conv(after, after, size)))
        pool = GroupPool(types[-1])
        self.head = nn.Sequential(
            pool, nn.Flatten(1), SampleDropout(dropout), nn.Linear(pool.num_fields, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        for level, stage in enumerate(self.stages):
            x = stage(halved(x) if level else x)
        result: Tensor = self.head(x.mean((2, 3), keepdim=True))
        return result


class GroupBlock(nn.Module):
    """Residual block of two group convolutions.

    Args:
        into, out: types of fields.
        kernel_size: pixels along each side of a kernel.
        halve: whether the block first takes means of neighbouring pixels, two apart.

    Shape: (B, into.dim, H, W) -> (B, out.dim, H, W), or half as many pixels along each side.
    Equivariance: exact under the turns that map pixels onto pixels, on maps of any size.
    Reference: He, Zhang, Ren & Sun 2016, arXiv:1512.03385.
    """

    def __init__(self, into: str, out: str, kernel_size: int, halve: bool = False) -> None:
        super().__init__()
        self.halve = halve
        self.body = nn.Sequential(*_conv(into, out, kernel_size), *_conv(out, out, kernel_size)[:-1])
        self.skip = nn.Identity() if into == out else nn.Sequential(*_conv(into, out, 1)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        x = halved(x) if self.halve else x
        return torch.relu(self.body(x) + self.skip(x))


@register("group-resnet", output="label", domain="images")
class GroupResNet(nn.Module):
    """Residual network of regular fields in the layout of ResNet-18, p4m by default.

    Where that network strides, means of neighbouring pixels are taken first, which keeps turns exact at every size.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per image.
        grid: None.
        group: "C4", "D4", "C8", "C16", "D8" or another C_n or D_n.
        width: fields of the first stage, twice as many on each further one: 8 of D4 cost as much as ResNet-18's 64 channels.
        depth: stages of two blocks, 4 in ResNet-18.
        stem: what the first convolution divides the size by: 1, 2, or 4 as for large photographs.
        kernel_size: pixels along each side of a kernel, odd; None for 3 where turns are exact on pixels, else 5.
        dropout: before the last layer.

    Shape: (B, in_channels, H, W) -> (B, out_channels).
    Equivariance: invariant; exactly under the turns that map pixels onto pixels, and reflections for D_n, on images of any size.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel, text that is no group.
    Reference: Cohen & Welling 2016, arXiv:1602.07576; He, Zhang, Ren & Sun 2016, arXiv:1512.03385.

    Example:
        >>> import torch
        >>> GroupResNet(3, 10, width=1, depth=2)(torch.randn(2, 3, 17, 17)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, group: str = "D4", width: int = 4, depth: int = 3,
        stem: int = 2, kernel_size: int | None = None, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1))
        if stem not in (1, 2, 4):
            raise ValueError(f"stem is {stem}; expected 1, 2 or 4")
        self.in_channels, self.out_channels, self.stem = in_channels, out_channels, stem
        size = _kernel_size(group, kernel_size)
        types = [f"{width * 2**level}x{group}" for level in range(depth)]
        self.lift = nn.Sequential(*_conv(f"{in_channels}x0", types[0], max(size, {1: 3, 2: 5, 4: 7}[stem])))
        blocks: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise([types[0], *types])):
            blocks += [GroupBlock(before, after, size, halve=level > 0), GroupBlock(after, after, size)]
        self.blocks = nn.Sequential(*blocks)
        pool = GroupPool(types[-1])
        self.head = nn.Sequential(
            pool, nn.Flatten(1), SampleDropout(dropout), nn.Linear(pool.num_fields, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        x = self.lift(x)
        for _ in range(self.stem // 2):
            x = halved(x)
        result: Tensor = self.head(self.blocks(x).mean((2, 3), keepdim=True))
        return result


@register("group-unet", domain="images")
class GroupUNet(nn.Module):
    """U-Net of regular fields: means of neighbouring pixels on the way down, linear interpolation on the way up.

    Args:
        in_channels: channels of the images.
        out_channels: numbers per pixel.
        grid: None.
        group: "C4", "D4", "C8", "C16", "D8" or another C_n or D_n.
        width: fields of the finest level; twice as many on each further level.
        depth: levels.
        kernel_size: pixels along each side of a kernel, odd; None for 3 where turns are exact on pixels, else 5.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W).
    Equivariance: exact under the turns that map pixels onto pixels, and reflections for D_n, on images of any size.
    Raises: ValueError for images of another shape, numbers that are too small, an even kernel, text that is no group.
    Reference: Ronneberger, Fischer & Brox 2015, arXiv:1505.04597; Cohen & Welling 2016, arXiv:1602.07576.

    Example:
        >>> import torch
        >>> GroupUNet(3, 5, width=1, depth=2)(torch.randn(2, 3, 17, 12)).shape
        torch.Size([2, 5, 17, 12])
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: None = None, *, group: str = "D4", width: int = 4, depth: int = 3,
        kernel_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        check_least(in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1))
        self.in_channels, self.out_channels = in_channels, out_channels
        size = _kernel_size(group, kernel_size)
        types = [f"{width * 2**level}x{group}" for level in range(depth)]
        self.encoder = nn.ModuleList(
            nn.Sequential(*_conv(before, after, size), *_conv(after, after, size))
            for before, after in zip([f"{in_channels}x0", *types], types)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(*_conv(f"{coarse} + {fine}", fine, size), *_conv(fine, fine, size))
            for fine, coarse in pairwise(types)
        )
        self.head = GroupConv2d(types[0], f"{out_channels}x0", 1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels)
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            if level:
                skips.append(x)
                x = halved(x)
            x = stage(x)
        for stage in reversed(self.decoder):
            fine = skips.pop()
            x = stage(torch.cat([doubled(x, fine), fine], 1))
        result: Tensor = self.head(x)
        return result
