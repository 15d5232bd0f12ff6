"""Checks of what networks of images are given."""

from __future__ import annotations

from torch import Tensor


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
