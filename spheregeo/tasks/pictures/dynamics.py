"""What a simulation did: energies, temperature, and perhaps pressure and volume, over time; phonon bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure

SHOWN = 5000  # points of a line
# columns of a table that have a panel of their own, with what it shows
PANELS = {
    "temperature_K": "temperature [K]", "pressure_GPa": "pressure [GPa]", "volume_A3": "volume [Å³]",
    "deviation_eV_per_A": "largest deviation [eV/Å]",
}  # fmt: skip


def dynamics_picture(path: str | Path, table: Mapping[str, NDArray[np.float64]]) -> Path:
    """Energies in the first panel, counted from their beginning; temperature and what else the table has below.

    Args:
        path: the PNG file.
        table: columns by name: time_fs, potential_eV, total_eV, temperature_K, perhaps more.
    """
    chosen = np.unique(np.linspace(0, len(table["time_fs"]) - 1, SHOWN).astype(int))
    ps = table["time_fs"][chosen] / 1000
    more = [name for name in PANELS if name in table]
    figure = _figure(7.0, 1.9 * (2 + len(more)))
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.07, top=0.97, hspace=0.28)
    panels = figure.subplots(2 + len(more), 1, sharex=True, squeeze=False)[:, 0]
    panels[0].plot(ps, table["potential_eV"][chosen] - table["potential_eV"][0], linewidth=0.8)
    panels[0].set_ylabel("potential energy\nfrom its start [eV]", fontsize=8)
    kept = "conserved_eV" if "conserved_eV" in table else "total_eV"
    panels[1].plot(ps, 1000 * (table[kept][chosen] - table[kept][0]), linewidth=0.8, color="C3")
    panels[1].set_ylabel(f"{kept.removesuffix('_eV')} energy\nfrom its start [meV]", fontsize=8)
    for panel, name in zip(panels[2:], more):
        values = table[name]
        panel.plot(ps, values[chosen], linewidth=0.8, color="C2")
        mean = values[len(values) // 2 :].mean()
        panel.axhline(mean, color="0.4", linewidth=0.8, linestyle="--")
        panel.set_title(f"mean of the second half {mean:.5g}", fontsize=7, loc="right", pad=2)
        panel.set_ylabel(PANELS[name], fontsize=8)
    for panel in panels:
        panel.tick_params(labelsize=7)
    panels[-1].set_xlabel("time [ps]", fontsize=8)
    return _write_figure(path, figure)


def phonon_picture(
    path: str | Path,
    distance: NDArray[np.float64],
    labels: tuple[Sequence[float], Sequence[str]],
    frequencies: NDArray[np.float64],
    grid: NDArray[np.float64],
    density: NDArray[np.float64],
) -> Path:
    """Phonon bands along a path, and beside them their density of states.

    Args:
        path: the PNG file.
        distance: of each point along the path (K,).
        labels: places of the named points, and their names.
        frequencies: THz (K, bands).
        grid: frequencies of the density (G,).
        density: density of states (G,).
    """
    figure = _figure(7.0, 4.0)
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.1, top=0.96, wspace=0.05)
    bands, states = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    bands.plot(distance, frequencies, color="C0", linewidth=1)
    bands.axhline(0, color="0.6", linewidth=0.8)
    for place in labels[0]:
        bands.axvline(place, color="0.8", linewidth=0.8)
    bands.set_xticks(list(labels[0]), [name.replace("G", "Γ") for name in labels[1]], fontsize=8)
    bands.set_xlim(distance[0], distance[-1])
    bands.set_ylabel("frequency [THz], imaginary below 0", fontsize=8)
    states.plot(density, grid, color="C0", linewidth=1)
    states.set_xlim(left=0)
    states.set_xticks([])
    states.set_xlabel("density of states", fontsize=8)
    for axis in (bands, states):
        axis.tick_params(labelsize=7)
    return _write_figure(path, figure)
