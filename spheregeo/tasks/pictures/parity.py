"""What a regression shows: predicted against true values, and a table of both."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from spheregeo.tasks.files import write_bytes
from spheregeo.tasks.pictures.fields import _figure, _write_figure

SHOWN = 5000  # points of a plot; more would only cover one another


def parity_picture(
    path: str | Path, truth: Tensor, prediction: Tensor, names: Sequence[str], units: Sequence[str]
) -> Path:
    """Predicted against true values (n, T), a panel for each target, with the errors' histogram below."""
    count = len(names)
    figure = _figure(3.6 * count, 5.2)
    figure.subplots_adjust(left=0.12, bottom=0.1, top=0.93, wspace=0.35, hspace=0.35)
    panels = figure.subplots(2, count, squeeze=False, height_ratios=[2, 1])
    for t, (name, unit) in enumerate(zip(names, units)):
        x, y = truth[:, t].double().cpu().numpy(), prediction[:, t].double().cpu().numpy()
        known = np.isfinite(x)
        x, y = x[known], y[known]
        chosen = np.unique(np.linspace(0, max(len(x) - 1, 0), min(len(x), SHOWN)).astype(int))
        axis, below = panels[0, t], panels[1, t]
        if len(x):
            low, high = min(x.min(), y.min()), max(x.max(), y.max())
            axis.plot([low, high], [low, high], color="0.6", linewidth=1)
            axis.plot(x[chosen], y[chosen], ".", markersize=3, alpha=0.6)
            below.hist(y - x, bins=40, color="0.5")
            mae = np.abs(y - x).mean()
            axis.set_title(f"{name}: MAE {mae:.4g} {unit}, n = {len(x)}", fontsize=8)
        axis.set_xlabel(f"true [{unit}]", fontsize=8)
        axis.set_ylabel(f"predicted [{unit}]", fontsize=8)
        below.set_xlabel(f"error [{unit}]", fontsize=8)
        for one in (axis, below):
            one.tick_params(labelsize=7)
    return _write_figure(path, figure)


def write_values(
    path: str | Path,
    names: Sequence[str],
    targets: Sequence[str],
    units: Sequence[str],
    prediction: Tensor,
    truth: Tensor | None = None,
) -> Path:
    """Write a line for each sample: its name, each target's prediction and, where known, its truth; atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{t} [{u}]" for t, u in zip(targets, units)]
    truths = [f"true {c}" for c in columns] if truth is not None else []
    writer.writerow(["sample", *columns, *truths])
    for k, name in enumerate(names):
        row = [f"{v:.10g}" for v in prediction[k].tolist()]
        if truth is not None:
            row += [f"{v:.10g}" if v == v else "" for v in truth[k].tolist()]
        writer.writerow([name, *row])
    return write_bytes(path, text.getvalue().encode())
