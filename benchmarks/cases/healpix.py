"""Nine-neighbour convolution on HEALPix beside a plain conv2d of as many pixels and channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cases.configuration import Configuration
from cases.layers import work
from measure import Work
from spheregeo.grids import HEALPix


@dataclass(frozen=True)
class NineTaps:
    """Stands where other cases have a kernel."""

    taps: int = 9


@dataclass(frozen=True)
class OnFaces(Configuration):
    """A configuration that counts a pixel and its neighbours, of which 24 pixels lack one."""

    def count(self) -> int:
        return 9 * self.pixels - 24


def ours(grid: HEALPix, channels: int, last: bool) -> Callable[[], Work]:
    """Return a builder of the layer; its input has channels last in memory, as the layer leaves it, or points."""

    def build() -> Work:
        from spheregeo.nn import HEALPixConv

        layer = HEALPixConv(channels, channels, grid)
        made = work(layer, list(layer.parameters()), (1, channels, grid.num_points))
        x = made.leaves[0].detach()
        x = x.transpose(1, 2).contiguous().transpose(1, 2) if last else x
        x.requires_grad_()
        return Work(lambda: layer(x), (x, *layer.parameters()))

    return build


def plain(grid: HEALPix, channels: int, memory: torch.memory_format) -> Callable[[], Work]:
    """Return a builder of torch's 3 x 3 convolution of one image, 3 nside x 4 nside, of as many pixels."""

    def build() -> Work:
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=memory)
        x = torch.randn(1, channels, 3 * grid.nside, 4 * grid.nside).to(memory_format=memory)
        x.requires_grad_()
        return Work(lambda: conv(x), (x, *conv.parameters()))

    return build


def configuration(grid: HEALPix, channels: int = 16) -> Configuration:
    small = None if grid.nside == 8 else configuration(HEALPix(8, grid.order), channels)
    builders = {
        "spheregeo": ours(grid, channels, False),
        "conv2d": plain(grid, channels, torch.contiguous_format),
        "spheregeo channel-last": ours(grid, channels, True),
        "conv2d channel-last": plain(grid, channels, torch.channels_last),
    }
    return OnFaces("healpix", grid, NineTaps(), grid.spacing, channels, builders, small)  # type: ignore[arg-type]


def cases() -> list[Configuration]:
    return [configuration(HEALPix(nside, order)) for nside in (32, 64, 128) for order in ("nested", "ring")]
