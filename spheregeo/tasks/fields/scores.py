"""Scores of predicted fields by lead time, weighted by area: error, anomaly correlation, power of each degree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.data.fields.layout import FieldInfo
from spheregeo.tasks.fields.spectra import FieldSpectra

MOST = 512  # steps that are scored


class FieldScores(Metric):
    """Sums of errors, anomalies and powers over samples, by step and field.

    With the climatology c, truth t and prediction p, and means <> by area over the points with values: RMSE = √<|p - t|²> over
    all samples, of a vector with the length of the difference; ACC = <(p - c)(t - c)> / √(<|p - c|²> <|t - c|²>), a mean over
    samples. Means of the anomalies over the sphere are not subtracted (an uncentred correlation).

    Args:
        fields: fields of the output.
        degrees: number of degrees whose power is kept; 0 for none.

    Shape: ``update`` takes prediction and truth (B, steps, channels, *shape), normalised, truth NaN where missing; first
        (B, channels, *shape), what persistence predicts, or None; climatology (channels, *shape); areas (*shape); spectra, which
        gives the powers, or None.
    Units: ``compute`` gives errors in the fields' units.
    Reference: Rasp et al. 2024, arXiv:2308.15560 (WeatherBench 2), whose correlation is uncentred; that of the World
        Meteorological Organization (WMO-No. 485) is centred.
    """

    full_state_update = False
    higher_is_better = None
    errors: Tensor
    persistence: Tensor
    area: Tensor
    correlation: Tensor
    samples: Tensor
    power: Tensor
    powers: Tensor

    def __init__(self, fields: tuple[FieldInfo, ...], degrees: int = 0) -> None:
        super().__init__()
        self.fields = fields
        shape = (MOST, len(fields))
        for name in ("errors", "persistence", "area", "correlation", "samples"):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("power", torch.zeros((2, *shape, degrees), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("powers", torch.zeros(MOST, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        prediction: Tensor,
        truth: Tensor,
        first: Tensor | None,
        climatology: Tensor,
        areas: Tensor,
        spectra: FieldSpectra | None = None,
    ) -> None:
        steps = truth.shape[1]
        if steps > MOST:
            raise ValueError(f"there are {steps} steps; expected at most {MOST}")
        axes, start = tuple(range(3, truth.ndim)), 0
        weights = areas.double()
        for k, one in enumerate(self.fields):
            part = slice(start, start + one.width)
            start += one.width
            t, p = truth[:, :, part].double(), prediction[:, :, part].double()
            known = torch.isfinite(t).all(2)
            w = weights * known  # (B, steps, *shape)
            mean = climatology[part].double().nan_to_num()
            t = torch.where(known[:, :, None], t, mean)

            def total(x: Tensor, w: Tensor = w) -> Tensor:
                """Integral of the sum over components, (B, steps)."""
                return (x.sum(2) * w).sum([a - 1 for a in axes])

            self.errors[:steps, k] += total((p - t) ** 2).sum(0)
            self.area[:steps, k] += w.sum([a - 1 for a in axes]).sum(0)
            if first is not None:
                stays = first[:, None, part].double().nan_to_num()
                self.persistence[:steps, k] += total((stays - t) ** 2).sum(0)
            a, b = p - mean, t - mean
            norm = (total(a * a) * total(b * b)).sqrt()
            self.correlation[:steps, k] += torch.where(
                norm > 0, total(a * b) / norm.clamp_min(1e-30), 0.0
            ).sum(0)
            self.samples[:steps, k] += (norm > 0).sum(0)
        if spectra is not None:
            whole = torch.isfinite(truth).flatten(1).all(1)
            if bool(whole.any()):
                for side, values in enumerate((truth, prediction)):
                    self.power[side, :steps] += spectra(values[whole].float()).double().sum(0)
                self.powers[:steps] += whole.sum()

    def compute(self) -> dict[str, Any]:
        """Return, by name of field, rmse, persistence and acc of each step, and the power of truth and prediction at the last."""
        steps = int((self.area.sum(1) > 0).sum())
        if steps == 0:
            raise ValueError("no point with a value was seen; look at the outputs' files")
        found: dict[str, Any] = {}
        for k, one in enumerate(self.fields):
            area = self.area[:steps, k].clamp_min(1e-30)
            row: dict[str, Any] = {
                "rmse": (one.scale * (self.errors[:steps, k] / area).sqrt()).tolist(),
                "acc": (self.correlation[:steps, k] / self.samples[:steps, k].clamp_min(1)).tolist(),
                "units": one.units,
            }
            if bool(self.persistence.any()):
                row["persistence_rmse"] = (one.scale * (self.persistence[:steps, k] / area).sqrt()).tolist()
            if float(self.powers[steps - 1]) > 0:
                power = one.scale**2 * self.power[:, steps - 1, k] / self.powers[steps - 1]
                row["power"] = {"truth": power[0].tolist(), "prediction": power[1].tolist()}
            found[one.name] = row
        return found
