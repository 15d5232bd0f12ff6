"""Pictures of clouds: points in parallel projection from where the cloud looks widest, near ones darker and larger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _legend, _write_figure, palette
from spheregeo.tasks.pictures.meshes import view

Array = NDArray[Any]
MOST = 4096  # points of a cloud that are drawn


def draw_cloud(axis: Any, points: Array, colours: Array | None = None) -> None:
    """Scatter a cloud into matplotlib axes, far points first; by depth unless points have colours.

    Shape: points (P, 3), colours (P, 3) in [0, 1].
    """
    step = -(-len(points) // MOST)
    shown = np.asarray(points, np.float64)[::step]
    seen = view(shown) if len(shown) > 2 else shown - shown.mean(0)  # fewer have no widest side
    order = seen[:, 2].argsort()
    seen = seen[order]
    depth = seen[:, 2]
    near = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-12)
    paint = {"c": 0.15 + 0.85 * near, "cmap": "viridis_r", "vmin": 0, "vmax": 1}
    if colours is not None:
        paint = {"c": (0.55 + 0.45 * near)[:, None] * colours[::step][order]}
    axis.scatter(seen[:, 0], seen[:, 1], s=2 + 5 * near, lw=0, **paint)
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


def parts_picture(
    path: str | Path, rows: Sequence[Sequence[Array]], titles: Sequence[str], part_names: Sequence[str]
) -> Path:
    """Clouds with their points in the colours of parts: for each cloud one labelling, or the truth above a prediction.

    Args:
        path: the PNG.
        rows: for each cloud its points, and one or two arrays of parts, 255 where a part is not known.
        titles: one for each cloud.
        part_names: one for each part.

    Shape: points (P, 3), parts (P,).
    """
    lines, colours = len(rows[0]) - 1, palette(len(part_names)) / 255
    figure = _figure(2.4 * len(rows), 2.6 * lines + 0.6)
    axes = figure.subplots(lines, len(rows), squeeze=False)
    heads = ("truth", "prediction") if lines > 1 else ("",)
    for column, ((points, *labellings), title) in enumerate(zip(rows, titles, strict=True)):
        for line, (parts, head) in enumerate(zip(labellings, heads, strict=True)):
            axis = axes[line, column]
            draw_cloud(axis, points, colours[parts.astype(np.uint8)])
            words = [title] if line == 0 else []
            axis.set_title(", ".join([*words, *([head] if head else [])]), fontsize=8)
    present = np.unique(np.concatenate([parts for _, *found in rows for parts in found]))
    _legend(figure, part_names, [int(k) for k in present if k < len(part_names)])
    return _write_figure(path, figure)


def _both(axis: Any, first: Array, second: Array, lines: tuple[Array, Array] | None = None) -> None:
    """Two clouds in one frame, in two colours, and lines between matched points. Shape: (P, 3), (Q, 3), (M, 3) twice."""
    both = np.concatenate([first, second]).astype(np.float64)
    seen = view(np.concatenate([both, *(lines or ())])) if len(both) > 2 else both
    cut = np.cumsum([len(first), len(second)])
    for rows, colour in ((seen[: cut[0]], "tab:blue"), (seen[cut[0] : cut[1]], "tab:orange")):
        axis.scatter(rows[:, 0], rows[:, 1], s=3, lw=0, c=colour, alpha=0.8)
    if lines is not None and len(lines[0]):
        ends = seen[cut[1] :].reshape(2, -1, 3)
        axis.plot(ends[:, :, 0], ends[:, :, 1], c="0.4", lw=0.3, alpha=0.6)
    axis.set_aspect("equal")
    axis.set_axis_off()


def pairs_picture(path: str | Path, pairs: Sequence[Any], titles: Sequence[str]) -> Path:
    """Pairs of clouds: above side by side with lines between matches that agree, below the first one brought to the second.

    Args:
        path: the PNG.
        pairs: of first cloud (P, 3), second cloud (Q, 3), the first brought to the second (P, 3), anything, and the rows of
            matched points in both.
        titles: one a pair.
    """
    figure = _figure(2.6 * len(pairs), 5.0)
    axes = figure.subplots(2, len(pairs), squeeze=False)
    for column, (first, second, moved, _, rows, partners) in enumerate(pairs):
        a, b = (np.asarray(x, np.float64) for x in (first, second))
        apart = b - b.mean(0) + np.array([2.2, 0.0, 0.0])
        own = a - a.mean(0)
        step = max(1, len(rows) // 40)
        lines = (own[np.asarray(rows)][::step], apart[np.asarray(partners)][::step])
        _both(axes[0][column], own, apart, lines)
        _both(axes[1][column], np.asarray(moved, np.float64), b)
        axes[0][column].set_title(titles[column], fontsize=8)
    return _write_figure(path, figure)


def clouds_together(path: str | Path, reference: Array, others: Sequence[tuple[Array, str]]) -> Path:
    """Clouds that were brought to a reference, each drawn over it.

    Args:
        path: the PNG.
        reference: the cloud that stands still, (P, 3).
        others: clouds (Q, 3) and their titles.
    """
    figure = _figure(3.0 * len(others), 3.2)
    axes = figure.subplots(1, len(others), squeeze=False)[0]
    for axis, (points, title) in zip(axes, others, strict=True):
        few, fixed = (np.asarray(x)[:: -(-len(x) // MOST)] for x in (points, reference))
        _both(axis, few, fixed)
        axis.set_title(title, fontsize=8)
    return _write_figure(path, figure)
