"""Pictures of forces: atoms from the side and from above, with arrows of the forces as given and as predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from spheregeo.tasks.pictures.fields import _figure, _write_figure

BALL = 0.6  # radius of a ball in covalent radii
LENGTH = 1.5  # Å of the longest arrow
VIEWS = ((0, 2, 1, "from the side"), (0, 1, 2, "from above"))  # right, up, towards the eye


def forces_picture(
    path: str | Path, numbers: Tensor, positions: Tensor, truth: Tensor, prediction: Tensor, title: str = ""
) -> Path:
    """Write a picture of atoms with their forces, as given (dark) and as predicted (light, thinner), in two views.

    Args:
        path: the file.
        numbers: atomic numbers, (P,).
        positions: places of the atoms in Å, (P, 3).
        truth: forces as given, (P, 3).
        prediction: forces as predicted, (P, 3).
        title: what the atoms are called.
    """
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.patches import Circle

    z, x = numbers.cpu().numpy(), positions.double().cpu().numpy()
    x = x - x.mean(0)
    arrows = [forces.double().cpu().numpy() for forces in (truth, prediction)]
    longest = max(float(np.linalg.norm(arrows[0], axis=1).max()), 1e-12)
    figure = _figure(7.2, 4.0)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.88, wspace=0.05)
    for axis, (right, up, eye, name) in zip(figure.subplots(1, 2), VIEWS):
        side = 1 if eye == 2 else -1  # from above z comes nearer, from the side −y
        for i in np.argsort(side * x[:, eye]):
            colour = 0.92 * np.asarray(jmol_colors[z[i]])
            radius = BALL * float(covalent_radii[z[i]])
            axis.add_patch(Circle((x[i, right], x[i, up]), radius, fc=colour, ec="0.3", lw=0.8, zorder=1))
        for forces, tint, width in zip(arrows, ("0.1", "#e69f00"), (0.010, 0.005)):
            steps = LENGTH / longest * forces[:, [right, up]]
            axis.quiver(
                x[:, right], x[:, up], steps[:, 0], steps[:, 1], angles="xy", scale_units="xy", scale=1, color=tint,
                width=width, zorder=3,
            )  # fmt: skip
        reach = np.abs(x[:, [right, up]]).max() + 0.6 * LENGTH + 0.5
        axis.set_xlim(-reach, reach)
        axis.set_ylim(-reach, reach)
        axis.set_aspect("equal")
        axis.set_axis_off()
        axis.set_title(name, fontsize=8)
    text = f"dark: forces as given (longest {longest:.3g} eV/Å), light: predicted"
    figure.suptitle(f"{title}; {text}" if title else text, fontsize=8)
    return _write_figure(path, figure)
