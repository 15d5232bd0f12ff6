"""From files of fields to files of predicted fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.fields.own import read_field_series
from spheregeo.data.fields.series import EVEN, FieldSeries
from spheregeo.data.sphere.field import FieldSource
from spheregeo.grids import Equiangular
from spheregeo.tasks.answers import ended
from spheregeo.tasks.checks import check_output
from spheregeo.tasks.fields.netcdf import write_fields
from spheregeo.tasks.pictures.rollout import rollout_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

if TYPE_CHECKING:
    from spheregeo.tasks.fields.regression import FieldRegression

SUFFIXES = (".nc", ".nc4", ".cdf", ".grib", ".grb", ".grib2", ".grb2", ".npz")


@dataclass(frozen=True)
class Beginning:
    """What a prediction begins with.

    Args:
        inputs: input of each step, (steps, in_channels, H, W); for fields of one time, that of each time.
        hours: time of the beginning, or of each time, in hours.
    """

    inputs: Tensor
    hours: np.ndarray[Any, Any]


def _beginning(task: FieldRegression, series: FieldSeries) -> Beginning:
    layout = task.layout
    values = layout.as_input(series.values[:, series.channels([one.name for one in layout.inputs])])
    if not layout.steps:
        return Beginning(values, series.hours)
    # inputs that change with time and are not predicted must be known at each step
    predicted = {one.name for one in layout.outputs}
    static = {one.name for one in series.fields if one.static}
    free = [
        one.name
        for one in layout.inputs
        if one.name not in predicted and not one.static and one.name not in static
    ]
    last, ahead = len(series.hours) - 1, layout.lead * (task.predict_steps - 1)
    if not free:
        return Beginning(values[[last] * task.predict_steps], series.hours[last:])
    if ahead > last:
        raise ValueError(
            f"the file has {last + 1} times and {', '.join(free)} must be known at {ahead + 1} for {task.predict_steps} steps; "
            "expected a longer file, or fewer steps (--model.predict_steps)"
        )
    step = layout.lead * series.step
    if last and layout.hours and abs(step - layout.hours) > EVEN * layout.hours:
        raise ValueError(
            f"the file has {layout.lead} steps in {step:g} hours, in which {', '.join(free)} are taken, but the model's step is "
            f"{layout.hours:g} hours; expected times like those of the training"
        )
    start = last - ahead
    return Beginning(values[start :: layout.lead], series.hours[start : start + 1])


def predict_series(task: FieldRegression, source: Path, output: Path, options: PredictOptions | None) -> None:
    """Predict a file of fields, or each of a folder.

    Args:
        task: the task that predicts.
        source: file or folder.
        output: folder of the answers.
        options: how files are predicted.

    Raises: FileNotFoundError without files; ValueError for bad ones, after the others are done, and for a grid without rows.
    """
    grid, layout = task.grid, task.layout
    if not isinstance(grid, Equiangular):
        raise ValueError(f"grid is {grid!r}; expected an Equiangular grid, onto which files are averaged")
    names = [
        FieldSource(name, level=one.level, missing=one.missing, units=one.degrees or None)
        for one in layout.inputs
        for name in one.variables
    ]
    vectors = [list(one.components) for one in layout.inputs if one.components]

    def read(path: Path) -> list[Beginning]:
        return [_beginning(task, _renamed(read_field_series(names, path, grid, vectors), task))]

    @torch.no_grad()
    def ask(samples: list[Beginning], _: list[str]) -> list[Tensor]:
        task.eval()
        found = []
        for sample in samples:
            x = sample.inputs.to(task.device)
            if layout.steps:
                answer = task.network.roll_out(x[:1], x[None, 1:], len(x))[0]
            else:
                answer = torch.cat([task.network(part) for part in x.split(16)])
            found.append(layout.restore(check_output(answer.float()).cpu(), "outputs"))
        return found

    def write(path: Path, stem: Path, samples: dict[int, Beginning], answers: list[Tensor]) -> Written:
        begin, values = samples[0], answers[0].numpy()
        hours = (
            layout.hours * np.arange(1, len(values) + 1)
            if layout.steps
            else begin.hours - begin.hours[0] + layout.hours
        )
        file = write_fields(
            ended(stem, "_prediction.nc"), layout.outputs, {"": values}, grid, hours,
            f"prediction from {path.name}", float(begin.hours[0]), None if layout.steps else layout.hours,
        )  # fmt: skip
        rows = task.map_rows(None, values, hours.tolist())
        picture = rollout_picture(ended(stem, "_prediction.png"), rows)
        means = [float(np.abs(plane).mean()) for plane in values[-1]]
        return Written(
            f"{len(values)} times: {file.name}, {picture.name} in {output}",
            [[path.name, len(values), *means]],
        )

    columns = [f"mean |{name}|" for one in layout.outputs for name in (one.components[::-1] or (one.name,))]
    job = Job(
        SUFFIXES, "file of fields", "files of fields", read, ask, write, endings=("_prediction.nc", "_prediction.png"),
        columns=["file", "times", *columns],
    )  # fmt: skip
    predict_files(job, source, output, options)


def _renamed(series: FieldSeries, task: FieldRegression) -> FieldSeries:
    """The series with the layout's names: vectors are named by their components in files."""
    by_variables = {one.variables: one.name for one in task.layout.inputs}
    fields = tuple(replace(one, name=by_variables[one.variables]) for one in series.fields)
    return FieldSeries(fields, series.values, series.hours)
