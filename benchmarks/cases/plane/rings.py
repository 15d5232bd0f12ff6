"""Ring convolutions beside plain ones: a depthwise and a pointwise convolution, with one mask or as many as there are rings."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from cases.configuration import PointConfiguration
from cases.layers import work
from measure import Work

BATCH = 4


def timed(make: Callable[[], nn.Module], channels: int, size: int) -> Callable[[], Work]:
    """Return a builder of a layer on images in torch's usual order of memory."""

    def build() -> Work:
        layer = make()
        return work(layer, list(layer.parameters()), (BATCH, channels, size, size))

    return build


def rings(channels: int, size: int, **options: object) -> nn.Module:
    """Return the layer that is measured."""
    from spheregeo.nn import GMRConv2d

    return GMRConv2d(channels, channels, size, padding=size // 2, **options)  # type: ignore[arg-type]


def pair(channels: int, size: int, masks: int) -> nn.Module:
    """Return a depthwise convolution with some masks for each channel, and a pointwise one."""
    return nn.Sequential(
        nn.Conv2d(channels, masks * channels, size, padding=size // 2, groups=channels, bias=False),
        nn.Conv2d(masks * channels, channels, 1),
    )


def separable(channels: int, size: int) -> nn.Module:
    """Return a depthwise ring convolution and a pointwise one."""
    return nn.Sequential(rings(channels, size, groups=channels, bias=False), nn.Conv2d(channels, channels, 1))


def configuration(channels: int, pixels: int, size: int) -> PointConfiguration:
    small = None if pixels == 8 else configuration(channels, 8, size)
    builders = {
        "spheregeo": timed(lambda: rings(channels, size), channels, pixels),
        "spheregeo depthwise + pointwise": timed(lambda: separable(channels, size), channels, pixels),
        "depthwise + pointwise": timed(lambda: pair(channels, size, 1), channels, pixels),
        "depthwise, a mask a ring, + pointwise": timed(
            lambda: pair(channels, size, (size + 1) // 2), channels, pixels
        ),
        "conv2d": timed(lambda: nn.Conv2d(channels, channels, size, padding=size // 2), channels, pixels),
    }
    return PointConfiguration(
        "plane/rings",
        f"{pixels}x{pixels}",
        f"{size}x{size}",
        pixels**2,
        channels,
        builders,
        small,
        batch=BATCH,
    )


def cases() -> list[PointConfiguration]:
    return [configuration(*which) for which in ((64, 56, 9), (128, 28, 9), (32, 56, 15), (64, 28, 15))]
