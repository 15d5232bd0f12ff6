"""Structures brought to rest by ASE's optimisers: atoms alone, or with the cell, one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from spheregeo.tasks.molecules.dynamics.models import check_model, knows_stress

OPTIMIZERS = ("bfgs", "fire")
CELLS = ("none", "isotropic", "full")
Row = dict[str, Any]


@dataclass(frozen=True)
class Relaxation:
    """How structures are relaxed.

    Units: eV/Å, GPa.
    Raises: ValueError for values out of range, with the argument's name.

    Args:
        optimizer: "bfgs", or "fire", which takes more and surer steps.
        fmax: largest force at rest; with a cell, the largest of the strain's forces per atom, too.
        steps: most steps.
        cell: "none" keeps the cell, "isotropic" scales it, "full" lets all its vectors change.
        pressure: pressure from outside, on cells that change.

    Example:
        >>> Relaxation(cell="full").fmax
        0.01
    """

    optimizer: str = "bfgs"
    fmax: float = 0.01
    steps: int = 500
    cell: str = "none"
    pressure: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMIZERS), ("cell", CELLS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        if not (self.fmax > 0 and np.isfinite(self.fmax)):
            raise ValueError(f"fmax is {self.fmax}; expected a positive number")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}; expected 0 or more")
        if not np.isfinite(self.pressure):
            raise ValueError(f"pressure is {self.pressure}; expected a finite number")
        if self.pressure and self.cell == "none":
            raise ValueError(f"pressure is {self.pressure} with a cell that stays; expected 0")


def relax(atoms: Atoms, how: Relaxation) -> tuple[Row, list[Atoms]]:
    """Relax a system, which ends at rest, or where the steps end.

    Args:
        atoms: the system, with its calculator.
        how: the optimiser and its bounds.

    Returns energies in eV, steps, the largest force and whether it is small enough, by name; and the path, a frame for each step.

    Raises: ValueError for a system that the model does not take, or that has no stress for its cell to follow.

    Example:
        >>> from ase.build import bulk
        >>> from ase.calculators.emt import EMT
        >>> copper = bulk("Cu", a=3.7, cubic=True)
        >>> copper.calc = EMT()
        >>> row, path = relax(copper, Relaxation(cell="isotropic"))
        >>> row["converged"], round(float(copper.cell[0, 0]), 2)
        (True, 3.59)
    """
    from ase import optimize
    from ase.filters import FrechetCellFilter

    check_model(atoms)
    moving: Any = atoms
    if how.cell != "none":
        if not knows_stress(atoms):
            raise ValueError(
                f"cell is {how.cell!r}, but the stress of this system is not known (pbc {atoms.pbc.tolist()}); relax its atoms "
                "alone"
            )
        moving = FrechetCellFilter(
            atoms, hydrostatic_strain=how.cell == "isotropic", scalar_pressure=how.pressure * units.GPa
        )
    path: list[Atoms] = []

    def keep() -> None:
        frame = atoms.copy()
        frame.info["step"] = search.nsteps
        frame.calc = SinglePointCalculator(
            frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces()
        )
        path.append(frame)

    kind = optimize.BFGS if how.optimizer == "bfgs" else optimize.FIRE
    search = kind(moving, logfile=None)
    search.attach(keep)
    begin = float(atoms.get_potential_energy())
    try:
        converged = bool(search.run(fmax=how.fmax, steps=how.steps))
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        raise ValueError(
            f"step {search.nsteps}: the optimiser {how.optimizer} cannot go on: {error}"
        ) from error
    largest = float(np.sqrt((np.asarray(moving.get_forces()) ** 2).sum(1)).max())
    row: Row = {
        "formula": atoms.get_chemical_formula(), "converged": converged, "steps": search.nsteps, "largest_force": largest,
        "energy_before_eV": begin, "energy_eV": float(atoms.get_potential_energy()),
    }  # fmt: skip
    if atoms.cell.rank == 3:
        row["volume_A3"] = float(atoms.get_volume())
    return row, path
