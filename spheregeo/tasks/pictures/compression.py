"""A picture of compression: the original, what was decoded, the error, and where the bits went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spheregeo.tasks.pictures.fields import _figure, _write_figure
from spheregeo.tasks.pictures.projections import to_panorama

if TYPE_CHECKING:
    from spheregeo.grids import Grid


def compression_picture(
    path: str | Path, examples: Sequence[tuple[Any, Any, Any, float]], grid: Grid, latent_grid: Grid,
    errors: Sequence[float],
) -> Path:  # fmt: skip
    """A row for each image: original, decoded, absolute error, bits per steradian of the latents.

    Args:
        path: the PNG.
        examples: original and decoded image in [0, 1], (C, *grid.shape), bits by latent (*latent_grid.shape), and all bits.
        grid: of the images.
        latent_grid: of the latents.
        errors: of each image, in dB.
    """
    figure = _figure(17, 2.25 * len(examples) + 0.2)
    axes = figure.subplots(len(examples), 4, squeeze=False)
    area = latent_grid.areas.reshape(latent_grid.shape)
    for line, (image, found, latent_bits, bits), error in zip(axes, examples, errors, strict=True):
        pictures = [np.stack([to_panorama(c, grid) for c in part[:3]], -1) for part in (image, found)]
        for axis, picture in zip(line[:2], pictures, strict=True):
            axis.imshow(
                picture.squeeze(-1) if picture.shape[-1] == 1 else picture, vmin=0, vmax=1, cmap="gray"
            )
        off = 255 * np.abs(pictures[1] - pictures[0]).mean(-1)
        shown = line[2].imshow(off, cmap="magma", vmin=0, vmax=max(float(np.quantile(off, 0.995)), 1e-6))
        figure.colorbar(shown, ax=line[2], fraction=0.024, pad=0.01).ax.tick_params(labelsize=7)
        density = torch.as_tensor(latent_bits).detach().cpu().double() / area
        shown = line[3].imshow(to_panorama(density, latent_grid), cmap="viridis", aspect="auto")
        line[3].set_box_aspect(0.5)
        figure.colorbar(shown, ax=line[3], fraction=0.024, pad=0.01).ax.tick_params(labelsize=7)
        line[0].text(
            -0.02, 0.5, f"{bits / 8:.0f} bytes, {error:.2f} dB", transform=line[0].transAxes,
            rotation=90, ha="right", va="center", fontsize=8,
        )  # fmt: skip
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(
        axes[0], ("original", "decoded", "error, of 255", "bits per steradian"), strict=True
    ):
        axis.set_title(title, fontsize=10)
    return _write_figure(path, figure)
