"""Checks of what networks of images are given."""

from __future__ import annotations

from torch import Tensor

from spheregeo.checks import check_least


def check_images(x: Tensor, in_channels: int, least: int = 1) -> None:
    """Check the input of a network of images.

    Args:
        x: the input.
        in_channels: channels that the network was built for.
        least: fewest rows and columns.

    Raises: ValueError unless x is (B, in_channels, H, W) with as many rows and columns.
    """
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(f"x has shape {tuple(x.shape)}; this model expects (B, {in_channels}, H, W)")
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"x has {x.shape[2]} x {x.shape[3]} pixels; this model of its depth expects at least {least} along each side"
        )


def check_sizes(in_channels: int, width: int, depth: int, kernel_size: int) -> None:
    """Check the sizes of a network of convolutions on images.

    Args:
        in_channels: channels of the images.
        width: width of the network.
        depth: stages or levels.
        kernel_size: pixels along each side of a kernel.

    Raises: ValueError for sizes below 1 and an even kernel.
    """
    check_least(
        in_channels=(in_channels, 1), width=(width, 1), depth=(depth, 1), kernel_size=(kernel_size, 1)
    )
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}; expected an odd number, whose kernel has a centre")
