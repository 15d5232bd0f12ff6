"""Checks of what networks of volumes are given."""

from __future__ import annotations

from torch import Tensor


def check_volumes(x: Tensor, in_channels: int) -> None:
    """Check the input of a network of volumes.

    Args:
        x: the input.
        in_channels: channels that the network was built for.

    Raises: ValueError unless x is (B, in_channels, D, H, W).
    """
    if x.ndim != 5 or x.shape[1] != in_channels:
        raise ValueError(f"x has shape {tuple(x.shape)}; this model expects (B, {in_channels}, D, H, W)")
