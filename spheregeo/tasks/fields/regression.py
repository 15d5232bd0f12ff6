"""Global fields to global fields, at once or step by step into the future."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo import audit, models
from spheregeo.data.fields.layout import FieldLayout
from spheregeo.grids import parse_grid
from spheregeo.tasks.answers import GrowingTable
from spheregeo.tasks.checks import Batch, check_field, take
from spheregeo.tasks.fields.netcdf import write_fields
from spheregeo.tasks.fields.scores import FieldScores
from spheregeo.tasks.fields.spectra import FieldSpectra
from spheregeo.tasks.fields.step import Step, usual_change
from spheregeo.tasks.files import write_bytes
from spheregeo.tasks.losses import area_mean
from spheregeo.tasks.pictures.rollout import lead_picture, rollout_picture, spectra_picture
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.sphere.base import Example, SphereTask

LOSSES = ("mse", "spectral")


class FieldRegression(SphereTask):
    """Train and score a network that maps global fields to global fields, and rolls its prediction out in time.

    Vectors are tangent fields to networks that take types (``gauge-unet``), two channels to others. Where outputs are inputs of a
    later time, the network predicts their change.

    Args:
        layout: fields of input and output, the data module's ``layout``.
        grid: grid of the fields, or its repr.
        in_channels: channels of the input; those of the layout if None.
        network: name of a model, see ``spheregeo list models``.
        increment: whether the network predicts the change; by the layout if None.
        loss: "mse", the mean square by area in units of the usual change, or "spectral", which weights degree l by a power of
            1 + l (l + 1).
        spectral_power: power of the spectral loss; 0 is "mse" of band-limited fields, more counts small scales for more.
        predict_steps: steps of a roll-out on files.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.SphereTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Shape: batches hold image (B, in_channels, *grid.shape), target (B, steps, out_channels, *grid.shape), both normalised, target
        NaN where missing, and for several steps later (B, steps - 1, in_channels, *grid.shape).
    Units: scores in the fields' units; points are weighted by their area in loss and scores.
    Equivariance: that of the network, in the fields' types.
    Raises: ValueError for fields that do not fit.

    Example:
        >>> from spheregeo.data import FieldInfo, FieldLayout
        >>> from spheregeo.grids import Equiangular
        >>> fields = (FieldInfo("h", change=0.1), FieldInfo("wind", ("u", "v"), change=0.2))
        >>> task = FieldRegression(FieldLayout(fields, fields), Equiangular(8, 16), network="pixel-mlp", width=8)
        >>> batch = {"image": torch.randn(2, 3, 8, 16), "target": torch.randn(2, 1, 3, 8, 16)}
        >>> task.forward_batch(batch)["prediction"].shape
        torch.Size([2, 1, 3, 8, 16])
    """

    monitor = "val/loss"
    mode = "min"
    artifacts: ClassVar[tuple[str, ...]] = (
        "leads.png", "predictions.csv", "rollout.nc", "rollout.png", "scores.csv", "spectra.png",
    )  # fmt: skip
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ("error", False)
    linked_from_data: ClassVar[tuple[str, ...]] = ("in_channels", "grid", "layout")
    network: Step  # type: ignore[assignment]
    units: Tensor
    spectra: FieldSpectra | None

    def __init__(
        self,
        layout: dict[str, Any],
        grid: Any,
        in_channels: int | None = None,
        network: str = "gauge-unet",
        *,
        increment: bool | None = None,
        loss: str = "mse",
        spectral_power: float = 0.5,
        predict_steps: int = 24,
        options: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        fields = FieldLayout.from_plain(layout)
        grid = parse_grid(grid) if isinstance(grid, str) else grid
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}; choose {' or '.join(map(repr, LOSSES))}")
        if in_channels not in (None, fields.in_channels):
            raise ValueError(f"in_channels is {in_channels} but the layout has {fields.in_channels} channels")
        if predict_steps < 1:
            raise ValueError(f"predict_steps is {predict_steps}; expected at least 1")
        name = models.resolve(network, self.output)
        own = models.options_of(name, options)
        taken = models.registry.options_taken(name) or []
        if "in_type" in taken and "out_type" in taken:
            own = {**own, "in_type": fields.in_type, "out_type": fields.out_type}
        mean, scale = (v.tolist() for v in fields.statistics("inputs"))
        marks = fields.in_channels - len(mean)
        super().__init__(
            fields.out_channels, in_channels=fields.in_channels, grid=grid, network=name, options=own,
            mean=[*mean, *[0.0] * marks], std=[*scale, *[1.0] * marks], layout=fields.to_plain(),
            increment=increment, loss=loss, spectral_power=spectral_power, predict_steps=predict_steps, **common,
        )  # fmt: skip
        for statistic in ("mean", "std"):  # in the layout already
            self.hparams.pop(statistic)
        self.layout, self.predict_steps = fields, predict_steps
        changes = fields.steps if increment is None else increment
        self.network = Step(self.network, fields, changes)
        self.register_buffer("units", usual_change(fields, changes), persistent=False)
        spectra = FieldSpectra(fields.outputs, grid) if len(grid.shape) == 2 else None
        self.spectra = spectra
        self._power = spectral_power if loss == "spectral" else None
        if loss == "spectral" and spectra is None:
            raise ValueError(
                f"loss is 'spectral' and grid {grid!r}; expected a lat-lon grid for the spectral loss"
            )
        self.scores = FieldScores(fields.outputs, 0 if spectra is None else spectra.lmax + 1)
        self._climatology: Tensor | None = None

    def forward_batch(self, batch: Batch) -> Batch:
        image = check_field(take(self, batch, "image"), self.grid, self.in_channels)
        target = take(self, batch, "target")
        wanted = (len(self.units), *self.grid.shape)
        if target.ndim != len(wanted) + 2 or tuple(target.shape[2:]) != wanted:
            raise ValueError(
                f"target has shape {tuple(target.shape)}; expected (B, steps, {', '.join(map(str, wanted))}) on {self.grid!r}"
            )
        prediction = self.network.roll_out(image, batch.get("later"), target.shape[1])
        return {
            "image": image, "truth": target, "prediction": prediction, "loss": self._loss(prediction.float(), target),
        }  # fmt: skip

    def _loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in self.grid.shape))
        known = torch.isfinite(target)
        error = (prediction - target.nan_to_num()) / self.units.to(prediction).reshape(shape)
        error = torch.where(known, error, 0.0)
        if self._power is not None and self.spectra is not None:
            degree = torch.arange(self.spectra.lmax + 1, device=error.device, dtype=error.dtype)
            weights = (1 + degree * (degree + 1)) ** self._power
            weights = weights / weights.mean()
            total = (self.spectra(error) * weights).sum((-2, -1)).mean() / error.shape[2]
            return total / known.float().mean().clamp_min(1e-12)
        areas = self.areas.to(error)
        return area_mean(error.square(), areas * known)

    # ---- scores

    def _take_climatology(self) -> None:
        found = getattr(getattr(self._trainer, "datamodule", None), "climatology", None)
        self._climatology = None if found is None else found.to(self.device)

    def on_validation_start(self) -> None:
        """Take the climatology from the data, where they have one."""
        if self._climatology is None:
            self._take_climatology()

    def on_test_start(self) -> None:
        """Take the climatology from the data, where they have one."""
        self._take_climatology()

    def update_metrics(self, outputs: Batch) -> Batch:
        truth, prediction = outputs["truth"], outputs["prediction"].detach()
        mean = self._climatology if self._climatology is not None else torch.zeros_like(truth[0, 0])
        first = outputs["image"][:, self.layout.carried()] if self.layout.steps else None
        self.scores.update(prediction, truth, first, mean, self.areas, self.spectra)
        return {"image": outputs["image"], "truth": truth, "prediction": prediction}

    def compute_metrics(self) -> dict[str, float]:
        self._results = self.scores.compute()
        self.scores.reset()
        scaled = {one.name: one.scale for one in self.layout.outputs}
        last = {name: found["rmse"][-1] for name, found in self._results.items()}
        return {
            "error": float(np.mean([value / scaled[name] for name, value in last.items()])),
            "acc": float(np.mean([found["acc"][-1] for found in self._results.values()])),
            **{f"rmse_{name}": value for name, value in last.items()},
        }

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, by field and lead time, as plain types for a JSON file."""
        return {"hours": self._hours(), "fields": self._results}

    def _hours(self) -> list[float]:
        steps = len(next(iter(self._results.values()))["rmse"])
        return [self.layout.hours * (k + 1) for k in range(steps)]

    def unit_of(self, score: str) -> str:
        """Return the unit of a field's root mean square error."""
        return next((one.units for one in self.layout.outputs if score == f"rmse_{one.name}"), "")

    def summary(self) -> str:
        """Return errors and correlations of each field at some lead times, as text."""
        hours = self._hours()
        chosen = _some(len(hours))
        lines = ["field          score        " + "".join(f"{hours[k]:>9.6g} h" for k in chosen)]
        for name, found in self._results.items():
            for score in ("rmse", "persistence_rmse", "acc"):
                if score in found:
                    values = "".join(f"{found[score][k]:>11.4g}" for k in chosen)
                    label = {"rmse": "RMSE", "persistence_rmse": "persistence", "acc": "ACC"}[score]
                    lines.append(
                        f"{name:<14} {label:<13}{values}  {found['units'] if score != 'acc' else ''}".rstrip()
                    )
        return "\n".join(lines)

    # ---- pictures and files

    def examples(self, outputs: Batch) -> Iterable[Example]:
        return zip(outputs["image"], outputs["truth"], outputs["prediction"], strict=True)

    def example_error(self, example: Example) -> float:
        """Return the root mean square error at the last step, normalised, over all fields."""
        _, truth, prediction = (part.detach() for part in example)
        known = torch.isfinite(truth[-1])
        weights = self.areas.to(truth.device) * known
        error = torch.where(known, prediction[-1] - truth[-1], 0.0)
        return float(((weights * error**2).sum() / weights.sum().clamp_min(1e-12)).sqrt())

    def plot(self, folder: Path, examples: Sequence[Example]) -> None:
        if self._by_sample:
            GrowingTable(folder / "predictions.csv", ["sample", "error"], self._by_sample).close()
        hours = self._hours()
        _write_scores(folder / "scores.csv", hours, self._results)
        lead_picture(folder / "leads.png", hours, self._results)
        spectra_picture(folder / "spectra.png", f"{hours[-1]:g} h", self._results)
        if not examples:
            return
        values = [
            torch.stack([self.layout.restore(part.detach().cpu(), "outputs") for part in parts]).numpy()
            for parts in zip(*((truth, prediction) for _, truth, prediction in examples), strict=True)
        ]  # (samples, steps, channels, H, W) each
        if len(self.grid.shape) == 2:
            middle = len(examples) // 2
            rollout_picture(
                folder / "rollout.png", self.map_rows(values[0][middle], values[1][middle], hours)
            )
            write_fields(
                folder / "rollout.nc", self.layout.outputs, {"": values[1], "_truth": values[0]}, self.grid,
                np.asarray(hours), "roll-outs of a test",
            )  # fmt: skip

    def map_rows(
        self, truth: Any, prediction: Any, hours: Sequence[float]
    ) -> list[tuple[str, Any, Any, str]]:
        """Return the rows of a picture of maps: each output field at the first, a middle and the last time.

        Args:
            truth: true fields in their units, (T, channels, H, W), or None.
            prediction: predicted fields.
            hours: lead times.
        """
        rows = []
        for one, part in zip(self.layout.outputs, self.layout.slices("outputs").values(), strict=True):
            for k in _some(len(hours), 3):
                pair = [
                    None if v is None else v[k, part] if one.components else v[k, part.start]
                    for v in (truth, prediction)
                ]
                rows.append((f"{one.name}, {hours[k]:g} h", pair[0], pair[1], one.units))
        return rows

    def audit(self) -> dict[str, Any]:
        """Measure the equivariance error of the step in the fields' types, cost and memory."""
        found = audit.report(
            self.network.eval(), self.grid, field_in=self.layout.in_type, field_out=self.layout.out_type
        )
        audit.print_table(found)
        return found

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Roll the fields of a file, or of each file of a folder, out from its last time: NAME_prediction.nc and a picture.

        Networks of fields of one time answer all times of a file.
        """
        from spheregeo.tasks.fields.predict import predict_series

        predict_series(self, source, output, options)


def _some(count: int, most: int = 4) -> list[int]:
    """Numbers of a few of so many steps, the first and the last among them."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(most, count))})


def _write_scores(path: Path, hours: Sequence[float], scores: dict[str, Any]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["field", "units", "step", "hours", "rmse", "persistence_rmse", "acc"])
    for name, found in scores.items():
        stays = found.get("persistence_rmse", [""] * len(hours))
        for k, hour in enumerate(hours):
            writer.writerow([name, found["units"], k + 1, hour, found["rmse"][k], stays[k], found["acc"][k]])
    write_bytes(path, text.getvalue().encode())
