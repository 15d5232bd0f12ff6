"""Mean and deviation of the channels of images."""

from __future__ import annotations

from typing import Any

import numpy as np

MEASURED = 512  # images of a set that are measured


def channel_statistics(data: Any, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel over images of a set, spread evenly over it.

    Args:
        data: sequence of images (channels, H, W).
        channels: number of channels.

    Shape: -> (channels,) and (channels,); the deviation of a constant channel is 1.
    """
    numbers = np.unique(np.linspace(0, len(data) - 1, min(len(data), MEASURED)).round().astype(int))
    sums, squares, count = np.zeros(channels), np.zeros(channels), 0
    for k in numbers.tolist():
        image = data[k].astype(float)
        sums, squares = sums + image.sum((1, 2)), squares + np.square(image).sum((1, 2))
        count += image[0].size
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return tuple(mean.tolist()), tuple(np.where(deviation > 1e-6, deviation, 1.0).tolist())
