"""The base of the data modules of fields in time: windows of series, with statistics measured on the training series."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_least, nearest
from spheregeo.data.fields.layout import FieldInfo, FieldLayout
from spheregeo.data.fields.series import FieldSeries, FieldWindows
from spheregeo.data.module import DataModule
from spheregeo.data.sphere.dataset import check_size
from spheregeo.grids import Equiangular
from spheregeo.lazy import cached_property

__all__ = ["SeriesData"]


class SeriesData(DataModule[FieldWindows]):
    """Base class of the data modules of fields in time. A subclass implements ``series``.

    Args:
        size: rows and columns of the working grid, 2:1; column 0 is at longitude 0.
        inputs: names of the fields that a network sees; all if empty.
        outputs: names of the fields that a network predicts; the inputs that change with time if empty.
        lead: frames from input to output; 0 predicts fields of the same time.
        train_steps: steps of a training window, each predicted from the prediction before.
        test_steps: steps of a test window.
        stride: frames between the beginnings of test windows; those of one window if 0.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`.

    Shape: batches of image (B, in_channels, H, W), target (B, steps, out_channels, H, W) and, for several steps, later
        (B, steps - 1, in_channels, H, W); as :class:`FieldWindows` has them.
    Raises: ValueError for unknown names and for numbers out of range.
    """

    must_agree = ("field_names",)
    constants = ("layout",)

    def __init__(
        self,
        *,
        size: tuple[int, int] = (32, 64),
        inputs: list[str] = [],  # noqa: B006
        outputs: list[str] = [],  # noqa: B006
        lead: int = 1,
        train_steps: int = 1,
        test_steps: int = 24,
        stride: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least(
            lead=(lead, 0), train_steps=(train_steps, 1), test_steps=(test_steps, 1), stride=(stride, 0)
        )
        if lead == 0 and train_steps > 1:
            raise ValueError(f"train_steps is {train_steps} and lead 0; expected 1 for fields of one time")
        self.size = check_size(tuple(size))  # type: ignore[arg-type]
        self.grid = Equiangular(*self.size)
        self.inputs, self.outputs, self.lead = list(inputs), list(outputs), lead
        self.train_steps, self.test_steps, self.stride = train_steps, test_steps, stride

    @abstractmethod
    def series(self, split: str) -> Sequence[FieldSeries]:
        """Return the series of a split, with the same fields in all."""

    def make(self, split: str) -> FieldWindows:
        steps = {"train": self.train_steps, "val": 1, "test": self.test_steps}[split]
        if not self.fields.steps:
            steps = 1
        stride = (self.stride or max(1, steps * self.lead)) if split == "test" else 1
        return FieldWindows(self.series(split), self.fields, steps, stride)

    @cached_property
    def fields(self) -> FieldLayout:
        """Fields of input and output with the statistics of the training series."""
        series = self.series("train")
        known = {one.name: one for one in series[0].fields}
        for argument, given in (("inputs", self.inputs), ("outputs", self.outputs)):
            for name in given:
                if name not in known:
                    raise ValueError(
                        f"{argument} has {name!r}, which is no field{nearest(name, known)}; the fields are {', '.join(known)}"
                    )
            if len(set(given)) < len(given):
                raise ValueError(f"{argument} is {given}; expected each field once")
        inputs = self.inputs or list(known)
        outputs = self.outputs or [name for name in inputs if not known[name].static]
        measured = {name: self._measure(known[name], series) for name in {*inputs, *outputs}}
        step = next((one.step for one in series if one.step), 0.0)
        return FieldLayout(
            tuple(measured[name] for name in inputs), tuple(measured[name] for name in outputs),
            self.lead, self.lead * step,
        )  # fmt: skip

    @property
    def layout(self) -> dict[str, Any]:
        """The fields of input and output as plain types, as tasks and checkpoints take them."""
        return self.fields.to_plain()

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields of input and output."""
        sides = (self.fields.inputs, self.fields.outputs)
        return tuple(f"{'in' if side == 0 else 'out'}:{one.name}" for side in (0, 1) for one in sides[side])

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.fields.in_channels

    @property
    def climatology(self) -> Tensor:
        """Mean of the outputs at each point over the training series, (out_channels, H, W), normalised; NaN where never known."""
        names = [one.name for one in self.fields.outputs]
        values = torch.cat([one.values[:, one.channels(names)] for one in self.series("train")])
        return self.fields.normalize(values.double().nanmean(0), "outputs").float()

    def _measure(self, info: FieldInfo, series: Sequence[FieldSeries]) -> FieldInfo:
        """The field with its mean, scale and scale of change over the training series, by area."""
        areas = self.grid.areas.reshape(self.size)
        sums = np.zeros(3)  # of areas, values, squares
        change = np.zeros(2)
        gaps = False
        for one in series:
            values = one.values[:, one.channels([info.name])].double()
            there = torch.isfinite(values)
            gaps = gaps or not bool(there.all())
            filled, weight = values.nan_to_num(), areas * there
            sums += [float((weight * v).sum()) for v in (torch.ones_like(filled), filled, filled**2)]
            starts = one.starts(self.lead) if self.lead else []
            if starts and not info.static:
                begin = torch.tensor(starts)
                difference = values[begin + self.lead] - values[begin]
                known = torch.isfinite(difference)
                change += [
                    float((areas * known).sum()),
                    float((areas * difference.nan_to_num() ** 2).sum()),
                ]
        if sums[0] == 0:
            raise ValueError(
                f"field {info.name} has no value at all in the training series; look at its file"
            )
        mean = 0.0 if info.components else sums[1] / sums[0]
        scale = float(np.sqrt(max(sums[2] / sums[0] - mean**2, 0.0)))
        mean = mean if abs(mean) > 1e-9 * scale else 0.0  # rounding alone
        # a constant field keeps its size: there is nothing to learn from it, and nothing to divide by
        scale = scale if scale > 1e-6 * max(abs(mean), 1e-30) else max(abs(mean), 1.0)
        moved = float(np.sqrt(change[1] / change[0])) if change[0] else 0.0
        return replace(info, mean=float(mean), scale=scale, change=moved, gaps=gaps)
