"""Pictures of images of the plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure, as_rgb

Array = NDArray[Any]


def images_picture(path: str | Path, images: Sequence[Array], titles: Sequence[str]) -> Path:
    """Draw images with titles, up to six in a row.

    Args:
        path: the PNG.
        images: the images.
        titles: one per image.

    Shape: images (C, H, W); three channels or more are shown in colours, others as grey.
    """
    columns = min(6, len(images))
    lines = -(-len(images) // columns)
    figure = _figure(2.1 * columns, 2.4 * lines)
    figure.subplots_adjust(hspace=0.2, wspace=0.08)
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(as_rgb(np.asarray(image, np.float32)), interpolation="nearest")
        axis.set_title(title, fontsize=8)
    return _write_figure(path, figure)
