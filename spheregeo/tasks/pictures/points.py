"""Pictures of clouds: points in parallel projection from where the cloud looks widest, near ones darker and larger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure
from spheregeo.tasks.pictures.meshes import view

Array = NDArray[Any]
MOST = 4096  # points of a cloud that are drawn


def draw_cloud(axis: Any, points: Array) -> None:
    """Scatter a cloud into matplotlib axes, far points first. Shape: (P, 3)."""
    step = -(-len(points) // MOST)
    shown = np.asarray(points, np.float64)[::step]
    seen = view(shown) if len(shown) > 2 else shown - shown.mean(0)  # fewer have no widest side
    seen = seen[seen[:, 2].argsort()]
    depth = seen[:, 2]
    near = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-12)
    axis.scatter(
        seen[:, 0], seen[:, 1], c=0.15 + 0.85 * near, s=2 + 5 * near, cmap="viridis_r", vmin=0, vmax=1, lw=0
    )
    reach = 1.05 * max(float(np.abs(seen[:, :2]).max()), 1e-6)
    axis.set_xlim(-reach, reach)
    axis.set_ylim(-reach, reach)
    axis.set_aspect("equal")
    axis.set_axis_off()


def clouds_picture(path: str | Path, clouds: Sequence[Array], titles: Sequence[str]) -> Path:
    """Clouds side by side, in two rows from four on.

    Args: ``path`` of the PNG; ``clouds``, each (P, 3); ``titles``, one a cloud.
    """
    columns = len(clouds) if len(clouds) < 4 else (len(clouds) + 1) // 2
    lines = -(-len(clouds) // columns)
    figure = _figure(2.4 * columns, 2.7 * lines)
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, points, title in zip(axes.flat, clouds, titles, strict=False):
        draw_cloud(axis, points)
        axis.set_title(title, fontsize=8)
    return _write_figure(path, figure)
