"""Gauge-equivariant icosahedral convolution beside a plain conv2d of as many pixels and channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cases.configuration import Configuration
from cases.layers import work
from measure import Work
from spheregeo.grids import Icosahedral
from spheregeo.nn.sphere.icosahedral.charts import MEMORY


@dataclass(frozen=True)
class Hexagon:
    """Stands where other cases have a kernel: seven taps, regular fields of C6."""

    taps: int = 7


@dataclass(frozen=True)
class OnCharts(Configuration):
    """A configuration that counts a point and its neighbours."""

    def count(self) -> int:
        return 7 * self.pixels - 12


def ours(level: int, fields: int) -> Callable[[], Work]:
    """Return a builder of the layer, regular to regular, in the layout that networks keep."""

    def build() -> Work:
        from spheregeo.nn import IcosahedralConv

        layer = IcosahedralConv(fields, fields, level)
        made = work(layer, list(layer.parameters()), (1, 6 * fields, 5, 2**level, 2 ** (level + 1)))
        x = made.leaves[0].detach().contiguous(memory_format=MEMORY).requires_grad_()
        with torch.no_grad():
            gradient = torch.randn_like(layer(x))
            gradient[..., -1, :: 2**level] = 0  # as it comes from layers that do not read corners
        return Work(lambda: layer(x), (x, *layer.parameters()), gradient)

    return build


def plain(level: int, channels: int, memory: torch.memory_format) -> Callable[[], Work]:
    """Return a builder of torch's 3 x 3 convolution of five images, which hold as many pixels."""

    def build() -> Work:
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=memory)
        x = torch.randn(5, channels, 2**level, 2 ** (level + 1)).to(memory_format=memory).requires_grad_()
        return Work(lambda: conv(x), (x, *conv.parameters()))

    return build


def configuration(level: int, fields: int = 16) -> Configuration:
    small = None if level == 3 else configuration(3, fields)
    builders = {
        "spheregeo": ours(level, fields),
        "conv2d": plain(level, 6 * fields, torch.contiguous_format),
        "conv2d channel-last": plain(level, 6 * fields, torch.channels_last),
    }
    grid = Icosahedral(level)
    return OnCharts("icosahedral", grid, Hexagon(), grid.spacing, 6 * fields, builders, small)  # type: ignore[arg-type]


def cases() -> list[Configuration]:
    return [configuration(level) for level in (5, 6, 7)]
