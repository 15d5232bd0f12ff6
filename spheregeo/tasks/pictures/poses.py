"""Pictures of distributions of rotations.

A rotation R is a dot where R takes the x axis to, on an equal-area ellipse (Mollweide) of the camera's sphere, with longitude
from the view axis; its hue is the angle that is left, the turn about that axis. Reference: Murphy et al. 2021,
arXiv:2106.05965, figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure, as_rgb

Array = NDArray[Any]
DOTS = 1500  # of a distribution, the likeliest rotations


def axis_and_hue(rotations: Array) -> tuple[Array, Array, Array]:
    """Return longitude and latitude of where rotations take the x axis, and the turn that is left as a hue from 0 to 1.

    Longitude 0 and latitude 0 look along the view axis z towards the viewer; the picture's right is x, its top y.

    Args:
        rotations: the rotations.

    Shape: (N, 3, 3) -> (N,) each. Units: radians.
    """
    first, second = rotations[:, :, 0], rotations[:, :, 1]
    latitude = np.arcsin(np.clip(first[:, 1], -1, 1))
    longitude = np.arctan2(first[:, 0], first[:, 2])
    east = np.stack([np.cos(longitude), np.zeros_like(longitude), -np.sin(longitude)], 1)
    north = np.cross(first, east)
    turn = np.arctan2((second * north).sum(1), (second * east).sum(1))
    return longitude, latitude, turn / (2 * np.pi) % 1


def poses_picture(
    path: str | Path,
    images: Sequence[Array],
    titles: Sequence[str],
    rotations: Array,
    log_probs: Sequence[Array],
    truths: Sequence[Array | None],
) -> Path:
    """Draw images, each beside its distribution of rotations: dots of the likeliest, their size the density; the truth as a ring.

    Args:
        path: the PNG.
        images: the images.
        titles: one per image.
        rotations: rotations of a grid.
        log_probs: logarithm of the density at the grid's rotations, one per image.
        truths: the true rotation of each image; None where it is not known.

    Shape: images (C, H, W), rotations (N, 3, 3), log_probs (N,), truths (3, 3).
    """
    from matplotlib import colormaps

    columns = min(3, max(1, len(images)))
    lines = max(1, -(-len(images) // columns))
    figure = _figure(4.6 * columns, 1.9 * lines)
    figure.subplots_adjust(hspace=0.3, wspace=0.12, left=0.01, right=0.99)
    places = figure.add_gridspec(lines, 3 * columns)
    hues = colormaps["hsv"]
    for k, (image, title, logs, truth) in enumerate(zip(images, titles, log_probs, truths, strict=True)):
        row, column = divmod(k, columns)
        axis = figure.add_subplot(places[row, 3 * column])
        axis.set_axis_off()
        axis.imshow(as_rgb(np.asarray(image, np.float32)), interpolation="nearest")
        axis.set_title(title, fontsize=7)
        globe = figure.add_subplot(places[row, 3 * column + 1 : 3 * column + 3], projection="mollweide")
        globe.set_xticklabels([])
        globe.set_yticklabels([])
        globe.grid(lw=0.3)
        best = np.argsort(logs)[-DOTS:]
        density = np.exp(logs[best] - logs[best].max())
        longitude, latitude, hue = axis_and_hue(rotations[best])
        shown = density > 2e-3
        globe.scatter(
            longitude[shown],
            latitude[shown],
            s=60 * density[shown],
            c=hues(hue[shown]),
            edgecolors="none",
            alpha=0.8,
        )
        if truth is not None:
            a, b, turn = axis_and_hue(truth[None])
            globe.scatter(a, b, s=120, facecolors="none", edgecolors="black", lw=2.2)
            globe.scatter(a, b, s=120, facecolors="none", edgecolors=hues(turn), lw=1.2)
    return _write_figure(path, figure)
