"""Calculators by name: a trained model, a committee of several, or one of ASE's own for tries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator

from spheregeo.tasks.molecules.dynamics.calculator import SpheregeoCalculator
from spheregeo.tasks.molecules.dynamics.committee import CommitteeCalculator
from spheregeo.tasks.molecules.dynamics.program import ProgramCalculator

PROGRAM = ".pt2"  # how names of compiled force fields end
PLAIN = ("emt", "lj")  # ASE's calculators that need no model and no program


def open_calculator(
    models: Sequence[str | Path], device: str | None = None, dtype: torch.dtype = torch.float64
) -> Calculator:
    """Return the calculator of one or several models.

    Args:
        models: a checkpoint of fit-forces, or a compiled force field, whose type and device are its own, or several for a
            committee; "emt" or "lj" for ASE's effective-medium theory and
            Lennard-Jones potential.
        device: where to compute; the CPU if None.
        dtype: of the computation.

    Raises: FileNotFoundError, ValueError for what is no such checkpoint, or a committee with one of ASE's calculators.
    """
    if len(models) == 1 and str(models[0]) in PLAIN:
        return _plain(str(models[0]))
    for name in models:
        if str(name) in PLAIN:
            raise ValueError(
                f"models are {', '.join(map(str, models))}; {name} stands alone, in no committee"
            )
    compiled = [name for name in models if str(name).endswith(PROGRAM)]
    if compiled:
        if len(models) > 1:
            raise ValueError(
                f"models are {', '.join(map(str, models))}; a compiled force field stands alone, in no committee"
            )
        return ProgramCalculator(models[0])
    members = [SpheregeoCalculator(name, device, dtype) for name in models]
    return members[0] if len(members) == 1 else CommitteeCalculator(members)


def _plain(name: str) -> Calculator:
    if name == "emt":
        from ase.calculators.emt import EMT

        return EMT()
    from ase.calculators.lj import LennardJones

    return LennardJones(sigma=3.4, epsilon=0.0104, rc=8.5, smooth=True)  # argon


def check_model(atoms: Atoms) -> None:
    """Evaluate a system once, so that what its calculator cannot do is told before anything else begins.

    Args:
        atoms: the system, with its calculator.

    Raises: ValueError where the calculator does not know an element, or finds no finite energy and forces.
    """
    import numpy as np

    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    except (NotImplementedError, KeyError) as error:
        raise ValueError(f"the model cannot compute {atoms.get_chemical_formula()}: {error}") from error
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise ValueError(
            f"the model gives {atoms.get_chemical_formula()} an energy of {energy} eV and forces that are not all finite"
        )


def knows_stress(atoms: Atoms) -> bool:
    """Return whether the calculator of a system finds its stress.

    Args:
        atoms: the system, with its calculator.
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    calculator: Any = atoms.calc
    if not atoms.pbc.all() or atoms.cell.rank < 3 or "stress" not in calculator.implemented_properties:
        return False
    try:
        atoms.get_stress()
    except PropertyNotImplementedError:
        return False
    return True


def forget(calculator: Any) -> None:
    """Make a calculator forget what it has kept of earlier positions, so that its next answer depends on those given alone.

    Args:
        calculator: the calculator, or a committee, whose members then forget.
    """
    for member in getattr(calculator, "members", ()):
        forget(member)
    calculator.reset()
