"""Series of fields in time, and the windows of them that a network is trained and tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spheregeo.data.common import Item
from spheregeo.data.fields.layout import FieldInfo, FieldLayout

__all__ = ["FieldSeries", "FieldWindows"]

EVEN = 0.15  # relative difference up to which two steps of time are equal: those of months are, a hole is not


@dataclass(frozen=True)
class FieldSeries:
    """Fields on one grid at successive times.

    Args:
        fields: the fields, in the order of the channels.
        values: values, NaN where missing; vectors along south and east.
        hours: time of each frame, ascending.

    Shape: values (T, channels, H, W) float32; hours (T,).
    Units: hours since any moment; values in the fields' units.
    Raises: ValueError where they do not fit, or times do not ascend.

    Example:
        >>> import numpy as np, torch
        >>> from spheregeo.data import FieldInfo, FieldSeries
        >>> FieldSeries((FieldInfo("h"),), torch.zeros(5, 1, 4, 8), np.arange(5.0)).step
        1.0
    """

    fields: tuple[FieldInfo, ...]
    values: Tensor
    hours: np.ndarray

    def __post_init__(self) -> None:
        width = sum(one.width for one in self.fields)
        if self.values.ndim != 4 or self.values.shape[:2] != (len(self.hours), width):
            raise ValueError(
                f"values have shape {tuple(self.values.shape)}; expected ({len(self.hours)}, {width}, H, W)"
            )
        if len(self.hours) > 1 and not bool((np.diff(self.hours) > 0).all()):
            raise ValueError("times do not ascend; expected each frame to be later than the one before")

    @property
    def step(self) -> float:
        """The usual time between two frames in hours, 0 for a single frame."""
        return float(np.median(np.diff(self.hours))) if len(self.hours) > 1 else 0.0

    def channels(self, names: Sequence[str]) -> list[int]:
        """Return the channels of the named fields, in that order.

        Args:
            names: names of fields.
        """
        places, start = {}, 0
        for one in self.fields:
            places[one.name] = range(start, start + one.width)
            start += one.width
        return [c for name in names for c in places[name]]

    def starts(self, ahead: int) -> list[int]:
        """Return the frames that are followed by so many others in even steps.

        Args:
            ahead: number of steps.
        """
        if ahead == 0:
            return list(range(len(self.hours)))
        even = np.abs(np.diff(self.hours) - self.step) <= EVEN * self.step
        run = np.concatenate([[0], np.cumsum(~even)])  # frames of one number follow each other evenly
        return [k for k in range(len(self.hours) - ahead) if run[k] == run[k + ahead]]


class FieldWindows(Dataset[Item]):
    """Windows of series: fields at one time, and what is to be predicted, at one or more later times or at once.

    Args:
        series: the series.
        layout: fields of input and output, with their statistics.
        steps: times at which outputs are wanted, ``layout.lead`` frames apart.
        stride: frames between the beginnings of windows.

    Shape: image (in_channels, H, W), normalised, 0 where missing; target (steps, out_channels, H, W), normalised, NaN where
        missing; later (steps - 1, in_channels, H, W), the inputs of the steps after the first, such as forcings.
    Raises: ValueError when no series is long enough.

    Example:
        >>> import numpy as np, torch
        >>> from spheregeo.data import FieldInfo, FieldLayout, FieldSeries, FieldWindows
        >>> series = FieldSeries((FieldInfo("h"),), torch.zeros(5, 1, 4, 8), np.arange(5.0))
        >>> layout = FieldLayout((FieldInfo("h"),), (FieldInfo("h"),))
        >>> windows = FieldWindows([series], layout, steps=2)
        >>> len(windows), windows[0]["target"].shape
        (3, torch.Size([2, 1, 4, 8]))
    """

    def __init__(
        self, series: Sequence[FieldSeries], layout: FieldLayout, steps: int = 1, stride: int = 1
    ) -> None:
        self.series, self.layout, self.steps = list(series), layout, steps
        self.windows = [
            (number, start)
            for number, one in enumerate(self.series)
            for start in one.starts(layout.lead * steps)[::stride]
        ]
        if not self.windows:
            longest = max((len(one.hours) for one in self.series), default=0)
            raise ValueError(
                f"the longest series has {longest} frames in this split; expected at least {layout.lead * steps + 1} in even "
                f"steps for {steps} predictions {layout.lead} frames apart"
            )

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} items")
        number, start = self.windows[index]
        one, lead = self.series[number], self.layout.lead
        first = one.channels([f.name for f in self.layout.inputs])
        last = one.channels([f.name for f in self.layout.outputs])
        ahead = [start + lead * k for k in range(self.steps + 1)] if lead else [start, start]
        inputs = self.layout.as_input(one.values[ahead[:-1]][:, first])
        item = {
            "image": inputs[0],
            "target": self.layout.normalize(one.values[ahead[1:]][:, last], "outputs"),
            "index": torch.tensor(index),
        }
        if self.steps > 1:
            item["later"] = inputs[1:]
        return item
