"""A trained model as an ASE calculator: energies, forces and stress for relaxation, dynamics and phonons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from spheregeo.tasks.base import Task, load
from spheregeo.tasks.molecules.dynamics.evaluator import Evaluator


class SpheregeoCalculator(Calculator):
    """Energy, forces and stress of a model that was trained on energies and forces.

    Works in float64 unless told otherwise: the energy is then conserved to the integrator's error.

    Units: eV, eV/Å, eV/Å³ (ASE's sign: negative under pressure), as ASE has them.
    Equivariance: as :class:`~spheregeo.tasks.molecules.forces.Forces`.
    Raises: ValueError for a checkpoint of another task, elements that the training has not seen, no atoms, NaN or coincident
        positions; ASE's PropertyNotImplementedError for the stress of a system that is not periodic, or whose cell has no volume.
        For a slab, periodic along two of three cell vectors, the stress is dE/dε over the volume of the whole cell, vacuum
        included, as that of ASE's own calculators; without a third vector there is no volume, and no stress.

    Args:
        model: a checkpoint file, or the task itself (which is then moved and cast).
        device: where to compute, such as "cuda"; the CPU if None.
        dtype: of the computation.
        skin: width in Å of the shell beyond the cutoff whose pairs are kept, so that neighbours are found anew only when an atom
            has moved by half of it; 0 finds them at each step.
        compile: whether the network is compiled: many seconds at the first step; what it saves at the others depends on the
            network, and is little for those that do small systems in arrays.
        options: as ASE's Calculator.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - ASE declares it so

    def __init__(
        self,
        model: str | Path | Task,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float64,
        skin: float = 0.5,
        compile: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        task = model if isinstance(model, Task) else load(model)
        if not callable(getattr(task, "derive", None)):
            raise ValueError(
                f"model holds a {type(task).__name__}; expected a checkpoint of fit-forces, which knows energies and forces"
            )
        self.task: Any = task.eval().to(device=torch.device(device or "cpu"), dtype=dtype)
        self.evaluator = Evaluator(self.task, skin, compile)
        self._stress = (
            False  # asked for before: it then comes with the forces of each step, not by a second evaluation
        )

    def reset(self) -> None:
        """Forget all earlier systems: what comes next depends on the atoms given alone, to the last bit."""
        super().reset()
        self.evaluator.forget()
        self._stress = False

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill ``results`` for the atoms; see ASE's Calculator."""
        wanted = properties or ["energy"]
        super().calculate(atoms, wanted, system_changes)
        system: Any = self.atoms
        known = bool(system.pbc.any() and system.cell.rank == 3 and not self.task.direct)
        if "stress" in wanted and not known:
            raise PropertyNotImplementedError(
                "the stress is defined for periodic systems with three cell vectors, and forces that are the energy's gradient"
            )
        stress = self._stress = known and (self._stress or "stress" in wanted)
        found = self.evaluator(system, stress=stress)
        energy = float(found["energy"].detach())
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": _array(found["forces"]),
        }
        if stress:
            virial = _array(found["virial"])
            self.results["stress"] = full_3x3_to_voigt_6_stress((virial + virial.T) / 2 / system.get_volume())


def _array(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().double().cpu().numpy()
    return found
