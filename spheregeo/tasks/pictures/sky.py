"""Pictures of the sky: maps in Mollweide's projection, longitude growing to the left, and power spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure
from spheregeo.tasks.pictures.projections import mollweide

if TYPE_CHECKING:
    from spheregeo.grids import Grid

Array = NDArray[Any]
MISSING = (0.6, 0.6, 0.6)


def sky_panorama(field: Array, grid: Grid, height: int = 256) -> Array:
    """A map (*grid.shape) as a panorama (height, 2 height) seen from inside: longitude 0 in the middle, growing to the left."""
    import healpy
    import torch

    from spheregeo.grids import Equiangular, HEALPix
    from spheregeo.sampling import resample

    if isinstance(grid, HEALPix):
        colatitude = (np.arange(height) + 0.5) * np.pi / height
        longitude = np.pi - (np.arange(2 * height) + 0.5) * np.pi / height
        pixels = healpy.ang2pix(
            grid.nside, colatitude[:, None], longitude[None] % (2 * np.pi), nest=grid.nested
        )
        return np.asarray(field)[pixels]
    spread = resample(
        torch.from_numpy(np.asarray(field, np.float64)),
        grid,
        Equiangular(height, 2 * height),
        method="nearest",
    )
    return np.roll(np.asarray(spread), height, axis=1)[:, ::-1]


def maps_picture(
    path: str | Path, rows: Sequence[Sequence[Array]], columns: Sequence[str], grid: Grid, unit: str = "",
    titles: Sequence[str] = (),
) -> Path:  # fmt: skip
    """A row of Mollweide maps for each sample, all of a row in one scale of colours.

    Args:
        path: the PNG.
        rows: maps of each sample, NaN where missing.
        columns: what stands over each column.
        grid: the maps' grid.
        unit: unit of the colours.
        titles: what stands at the left of each row; nothing if empty.
    """
    from matplotlib import colormaps

    figure = _figure(3.6 * len(columns) + 0.6, 2.0 * len(rows) + 0.3)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    colours = colormaps["RdBu_r"].with_extremes(bad=MISSING)
    for k, (line, row) in enumerate(zip(axes, rows, strict=True)):
        known = np.concatenate([np.abs(field[np.isfinite(field)]) for field in row[1:] or row])
        limit = float(np.quantile(known, 0.995)) if known.size else 1.0
        for axis, field in zip(line, row, strict=True):
            panorama = sky_panorama(field, grid).astype(np.float64)
            shade = colours(np.ma.masked_invalid(np.clip(panorama / max(limit, 1e-30), -1, 1) / 2 + 0.5))[
                ..., :3
            ]
            axis.imshow(mollweide((shade * 255).astype(np.uint8), 512))
            axis.set_axis_off()
        line[-1].text(
            1.01,
            0.5,
            f"±{limit:.3g} {unit}",
            transform=line[-1].transAxes,
            rotation=90,
            va="center",
            fontsize=7,
        )
        if k < len(titles):
            line[0].text(
                -0.02,
                0.5,
                titles[k],
                transform=line[0].transAxes,
                rotation=90,
                ha="right",
                va="center",
                fontsize=8,
            )
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    return _write_figure(path, figure)


def spectra_picture(
    path: str | Path, spectra: Mapping[str, Array], correlations: Mapping[str, Array], unit: str = ""
) -> Path:
    """Spectra l(l + 1)C_l/2π, and correlation coefficients with the truth, over the degree from 2 on.

    Args:
        path: the PNG.
        spectra: power spectra by name.
        correlations: correlation coefficients by name; no second panel if empty.
        unit: unit of the spectra.
    """
    figure = _figure(10 if correlations else 5.5, 3.6)
    figure.subplots_adjust(left=0.08, wspace=0.18, bottom=0.12)
    panels = figure.subplots(1, 2 if correlations else 1, squeeze=False)[0]
    for name, spectrum in spectra.items():
        l = np.arange(len(spectrum))[2:]
        panels[0].plot(l, l * (l + 1) * np.asarray(spectrum)[2:] / (2 * np.pi), label=name, linewidth=1.2)
    panels[0].set_yscale("log")
    panels[0].set_ylabel(f"l(l + 1)C_l/2π [{unit}]" if unit else "l(l + 1)C_l/2π")
    for name, values in correlations.items():
        panels[1].plot(np.arange(len(values))[2:], np.asarray(values)[2:], label=name, linewidth=1.2)
    if correlations:
        panels[1].set_ylabel("correlation with the truth")
    for panel in panels:
        panel.set_xlabel("degree l")
        panel.set_xscale("log")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    return _write_figure(path, figure)
