"""A running average of the weights beside those that train, for validation and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def exponential(decay: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """mean + (1 - decay) (value - mean); whole numbers, such as a sparse map's indices, are taken as they are.

    torch's own rule, decay · mean + (1 - decay) · value, turns an index 7 into 6.99…, which is stored as 6. This one also
    leaves a geometry that does not change as it is, to the last digit.
    """

    def update(mean: Tensor, value: Tensor, count: Any) -> Tensor:
        return mean + (1 - decay) * (value - mean) if mean.is_floating_point() else value

    return update


class Average(WeightAveraging):
    """Exponential mean of weights and running statistics over the steps.

    Raises: ValueError for a decay outside [0, 1).
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema is {decay}; expected the decay of the mean, 0 <= ema < 1, such as 0.99")
        super().__init__(use_buffers=True, avg_fn=exponential(decay))
