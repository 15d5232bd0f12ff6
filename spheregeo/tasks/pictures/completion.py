"""Pictures of molecules with the atom that was missing: what is left, where the density says the atom is, and where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.fields import _figure, _write_figure
from spheregeo.tasks.pictures.meshes import view
from spheregeo.tasks.pictures.molecules import draw_molecule

Array = NDArray[Any]
PIXELS, SLICES = 60, 20
MARGIN = 1.6  # Å about the atoms
SPAN = 9.0  # natural logarithms below the top that are still tinted


@dataclass(frozen=True)
class Completed:
    """A molecule without an atom, and the atom that is put there.

    Args:
        numbers: atomic numbers of what is left, (P,).
        positions: their places, (P, 3), Å.
        place: predicted place of the missing atom, (3,).
        number: its predicted atomic number.
        probability: of that element.
        truth: where the missing atom was, (3,); None where that is not known.
        removed: its atomic number; 0 where that is not known.
        error: distance of both places, up to symmetries of what is left; None where that is not known.
        density: logarithm of the density on :func:`grid_of`, in its order; None for none.

    Example:
        >>> left = Completed(np.array([6, 8]), np.array([[0.0, 0, 0], [1.2, 0, 0]]), np.array([-1.0, 0.3, 0]), 1, 0.9)
        >>> grid_of(left).shape
        (72000, 3)
    """

    numbers: Array
    positions: Array
    place: Array
    number: int
    probability: float
    truth: Array | None = None
    removed: int = 0
    error: float | None = None
    density: Array | None = None

    def with_density(self, density: Array) -> Completed:
        """Return the molecule with the logarithm of the density on its grid."""
        return replace(self, density=density)


def _axes_of(one: Completed) -> tuple[Array, Array, float, float]:
    """Origin, axes (columns right, up, towards the eye), and how far the picture reaches across and in depth."""
    places = [one.positions, one.place[None], *([] if one.truth is None else [one.truth[None]])]
    x = np.concatenate(places).astype(np.float64)
    centre = x.mean(0)
    if len(x) > 2:
        axes = np.linalg.lstsq(x - centre, view(x), rcond=None)[0]
        # a flat or straight molecule leaves the eye's direction open
        right, up = axes[:, 0], axes[:, 1]
        if np.linalg.norm(right) > 0.5 and np.linalg.norm(up) > 0.5:
            axes = np.stack([right, up, np.cross(right, up)], 1)
        else:
            axes = np.linalg.svd(x - centre)[2].T[:, [1, 0, 2]]
    else:
        axes = np.linalg.svd(x - centre)[2].T[:, [1, 0, 2]]
    seen = (x - centre) @ axes
    return centre, axes, float(np.abs(seen[:, :2]).max()) + MARGIN, float(np.abs(seen[:, 2]).max()) + MARGIN


def grid_of(one: Completed) -> Array:
    """Places of a molecule's picture, rows from below, columns, then depth: (PIXELS · PIXELS · SLICES, 3), Å."""
    centre, axes, across, deep = _axes_of(one)
    line, depth = np.linspace(-across, across, PIXELS), np.linspace(-deep, deep, SLICES)
    up, right, near = np.meshgrid(line, line, depth, indexing="ij")
    return np.asarray(np.stack([right, up, near], -1).reshape(-1, 3) @ axes.T + centre)


def draw_completion(axis: Any, one: Completed) -> None:
    """Draw a molecule into matplotlib axes: density, what is left, the predicted atom in blue, the missing one in green."""
    from matplotlib.patches import Circle

    centre, axes, across, _ = _axes_of(one)
    draw_molecule(axis, one.numbers, one.positions, seen=(one.positions - centre) @ axes)
    if one.density is not None:
        cube = one.density.reshape(PIXELS, PIXELS, SLICES)
        image = cube.max(2) - cube.max()
        axis.imshow(
            np.clip(image / SPAN + 1, 0, 1), origin="lower", extent=(-across, across, -across, across), cmap="YlOrRd",
            vmin=0, vmax=1, zorder=-100, interpolation="bilinear",
        )  # fmt: skip
    marks = [(one.place, "tab:blue", "-", 0.34)]
    if one.truth is not None:
        marks.append((one.truth, "tab:green", "--", 0.42))
    for place, colour, line, radius in marks:
        right, up, _ = ((place - centre) @ axes).tolist()
        axis.add_patch(Circle((right, up), radius, fc="none", ec=colour, ls=line, lw=1.8, zorder=100))
    axis.set_xlim(-across, across)
    axis.set_ylim(-across, across)


def completions_picture(
    path: str | Path, molecules: Sequence[Completed], titles: Sequence[str] | None = None
) -> Path:
    """Molecules side by side, in two rows from four on.

    Args:
        path: the PNG.
        molecules: what to draw.
        titles: what each is called; the missing element if None.
    """
    from ase.data import chemical_symbols

    columns = len(molecules) if len(molecules) < 4 else (len(molecules) + 1) // 2
    lines = -(-len(molecules) // columns)
    figure = _figure(2.8 * columns, 3.2 * lines + 0.3)
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for k, (axis, one) in enumerate(zip(axes.flat, molecules, strict=False)):
        draw_completion(axis, one)
        said = f"predicted {chemical_symbols[one.number]} ({one.probability:.0%})"
        if one.error is not None:
            said += f", was {chemical_symbols[one.removed]}, {one.error:.2f} Å away"
        axis.set_title(said if titles is None else f"{titles[k]}\n{said}", fontsize=7)
    figure.text(
        0.5, 0.01, "tint: logarithm of the density, largest along the line of sight; blue: predicted; green: missing; "
        "distances are up to symmetries of the rest",
        ha="center", fontsize=7,
    )  # fmt: skip
    return _write_figure(path, figure)
