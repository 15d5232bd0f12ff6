"""Pictures of molecules: balls and sticks in parallel projection from where the molecule looks widest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spheregeo.tasks.pictures.meshes import view

Array = NDArray[Any]
BOND = 1.25  # atoms are joined up to so many times the sum of their covalent radii
BALL = 0.55  # radius of a ball in covalent radii
LEAST = 0.3  # and at least so many Å


def draw_molecule(axis: Any, numbers: Array, positions: Array, seen: Array | None = None) -> None:
    """Draw a molecule into matplotlib axes, far atoms first.

    Args:
        axis: the axes.
        numbers: atomic numbers, (P,).
        positions: places of the atoms in Å, (P, 3).
        seen: (P, 3) places right, up and towards the eye, where something else chooses the side; the widest if None.
    """
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.patches import Circle

    x = np.asarray(positions, np.float64)
    if seen is None:
        seen = view(x) if len(x) > 2 else (x - x.mean(0))[:, [2, 0, 1]]
    radius = covalent_radii[numbers]
    size = np.maximum(BALL * radius, LEAST)
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    for i, j in zip(*np.nonzero(np.triu(distance < BOND * (radius[:, None] + radius[None]), 1)), strict=True):
        depth = seen[[i, j], 2].min()
        for width, colour in ((7.0, "0.35"), (5.0, "0.8")):
            axis.plot(
                seen[[i, j], 0], seen[[i, j], 1], color=colour, lw=width, zorder=depth, solid_capstyle="round"
            )
    for i in seen[:, 2].argsort():
        (right, up), ball, tint = seen[i, :2].tolist(), float(size[i]), np.asarray(jmol_colors[numbers[i]])
        axis.add_patch(Circle((right, up), ball, fc=tint * 0.92, ec="0.3", lw=0.8, zorder=seen[i, 2] + 0.01))
        shine = (right - 0.3 * ball, up + 0.3 * ball)
        light = 0.45 + 0.55 * tint
        axis.add_patch(Circle(shine, 0.35 * ball, fc=light, ec="none", zorder=seen[i, 2] + 0.02))
    reach = np.abs(seen[:, :2]).max() + size.max() + 0.2
    axis.set_xlim(-reach, reach)
    axis.set_ylim(-reach, reach)
    axis.set_aspect("equal")
    axis.set_axis_off()
