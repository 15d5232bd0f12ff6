"""Checks of what networks of images are given."""

from __future__ import annotations

from torch import Tensor


def check_images(x: Tensor, in_channels: int) -> None:
    """Check the input of a network of images.

    Args:
        x: the input.
        in_channels: channels that the network was built for.

    Raises: ValueError unless x is (B, in_channels, H, W).
    """
    if x.ndim != 4 or x.shape[1] != in_channels:
        raise ValueError(f"x has shape {tuple(x.shape)}; this model expects (B, {in_channels}, H, W)")
