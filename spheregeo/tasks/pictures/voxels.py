"""Pictures of volumes: the largest value along each of the three axes, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure

Array = NDArray[Any]


def volumes_picture(path: str | Path, volumes: Sequence[Array], titles: Sequence[str]) -> Path:
    """Draw volumes, two rows from four on, each as its largest values along x, y and z.

    Args:
        path: the PNG.
        volumes: the volumes.
        titles: one per volume.

    Shape: volumes (C, D, H, W), of which the first channel is shown.
    """
    columns = len(volumes) if len(volumes) < 4 else (len(volumes) + 1) // 2
    lines = -(-len(volumes) // columns)
    figure = _figure(3.6 * columns, 1.7 * lines)
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, volume, title in zip(axes.flat, volumes, titles, strict=False):
        views = [np.asarray(volume[0], np.float32).max(k).T for k in range(3)]
        height = max(view.shape[0] for view in views)
        low, high = min(float(v.min()) for v in views), max(float(v.max()) for v in views)
        padded = [np.pad(v, ((0, height - len(v)), (0, 1)), constant_values=high) for v in views]
        axis.imshow(
            np.concatenate(padded, 1), origin="lower", cmap="gray", vmin=low, vmax=max(high, low + 1e-6)
        )
        axis.set_title(title, fontsize=8)
    return _write_figure(path, figure)
