"""Pictures of predictions in time: maps of truth, prediction and error by lead time, scores by lead time, power spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure

Array = NDArray[Any]
COLUMNS = ("truth", "prediction", "error")


def rollout_picture(path: str | Path, rows: Sequence[tuple[str, Array | None, Array, str]]) -> Path:
    """A row per field and lead time: truth, prediction, prediction - truth; predictions alone where there is no truth.

    Args:
        path: the PNG.
        rows: title, truth or None, and prediction, scalars (H, W) or vectors (2, H, W) along south and east, and units.
    """
    alone = all(truth is None for _, truth, _, _ in rows)
    columns = ("prediction",) if alone else COLUMNS
    figure = _figure(4.2 * len(columns), 2.0 * len(rows))
    figure.subplots_adjust(left=0.18 if alone else 0.06, right=0.95)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (title, truth, prediction, units) in zip(axes, rows, strict=True):
        limits = _limits(prediction if truth is None else truth)
        fields = [prediction] if truth is None else [truth, prediction, prediction - truth]
        for axis, name, field in zip(line, columns, fields, strict=True):
            vector = field.ndim == 3
            low, high = _limits(field, 0.0) if name == "error" else limits
            plane = np.sqrt((field**2).sum(0)) if vector else field
            image = axis.imshow(plane, cmap="magma" if vector else "RdBu_r", vmin=low, vmax=high)
            if vector and name != "error":
                _arrows(axis, field)
            axis.set_xticks([])
            axis.set_yticks([])
            figure.colorbar(image, ax=axis, fraction=0.024, pad=0.01).ax.tick_params(labelsize=6)
        line[0].set_ylabel(f"{title}\n[{units or '1'}]", fontsize=8)
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    return _write_figure(path, figure)


def _limits(field: Array, middle: float | None = None) -> tuple[float, float]:
    """Limits of the colours: about the median of a scalar, from 0 on for the length of a vector."""
    vector = field.ndim == 3
    known = np.sqrt((field**2).sum(0)) if vector else field
    known = known[np.isfinite(known)]
    if known.size == 0:
        return 0.0, 1.0
    if vector:
        return 0.0, max(float(np.quantile(known, 0.995)), 1e-12)
    centre = float(np.median(known)) if middle is None else middle
    top = max(float(np.quantile(np.abs(known - centre), 0.995)), 1e-12)
    return centre - top, centre + top


def _arrows(axis: Any, vector: Array) -> None:
    step = max(1, vector.shape[1] // 12)
    rows, columns = (np.arange(step // 2, n, step) for n in vector.shape[1:])
    place = np.ix_(rows, columns)
    axis.quiver(columns, rows, vector[1][place], -vector[0][place], color="white", width=0.002)


def lead_picture(path: str | Path, hours: Sequence[float], scores: Mapping[str, Mapping[str, Any]]) -> Path:
    """Root mean square error of each field, beside persistence, and anomaly correlation, by lead time.

    Args:
        path: the PNG.
        hours: lead times.
        scores: scores of each field, as ``FieldScores`` computes them.
    """
    count = len(scores)
    figure = _figure(4.2 * (count + 1), 3.2)
    figure.subplots_adjust(left=0.06, bottom=0.14, wspace=0.25)
    axes = figure.subplots(1, count + 1)
    for axis, (name, found) in zip(axes, scores.items(), strict=False):
        axis.plot(hours, found["rmse"], marker=".", label="prediction")
        if "persistence_rmse" in found:
            axis.plot(hours, found["persistence_rmse"], color="grey", linestyle="--", label="persistence")
        axis.set_title(f"RMSE of {name} [{found['units'] or '1'}]", fontsize=9)
        axis.legend(fontsize=8)
    for name, found in scores.items():
        axes[-1].plot(hours, found["acc"], marker=".", label=name)
    axes[-1].set_title("anomaly correlation", fontsize=9)
    axes[-1].legend(fontsize=8)
    for axis in axes:
        axis.set_xlabel("lead time [h]", fontsize=8)
        axis.grid(alpha=0.3)
    return _write_figure(path, figure)


def spectra_picture(path: str | Path, title: str, scores: Mapping[str, Mapping[str, Any]]) -> Path:
    """Power of each degree of truth and prediction, one panel per field.

    Args:
        path: the PNG.
        title: what the spectra are of.
        scores: scores of each field, as ``FieldScores`` computes them; fields without power are left out.
    """
    shown = {name: found for name, found in scores.items() if "power" in found}
    figure = _figure(4.6 * max(1, len(shown)), 3.4)
    figure.subplots_adjust(left=0.1, bottom=0.14, wspace=0.25)
    axes = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
    for axis, (name, found) in zip(axes, shown.items(), strict=False):
        for side, style in (("truth", "-"), ("prediction", "--")):
            power = np.asarray(found["power"][side])
            degree = np.flatnonzero(power[1:] > 0) + 1
            axis.loglog(degree, power[degree], style, label=side)
        axis.set_title(f"{name}, {title}", fontsize=9)
        axis.set_xlabel("degree", fontsize=8)
        axis.set_ylabel(f"power [({found['units'] or '1'})²]", fontsize=8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return _write_figure(path, figure)
