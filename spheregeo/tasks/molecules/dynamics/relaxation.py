"""Relaxations done again with a network, and how far they end from where the data's end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spheregeo.data.molecules.molecules import Molecules
from spheregeo.tasks.molecules.dynamics.calculator import SpheregeoCalculator

NEAR = 0.05  # Å


def relax_again(
    task: Any, molecules: Molecules, pairs: Sequence[tuple[int, int]], fmax: float = 0.02, steps: int = 200
) -> dict[str, float]:
    """Relax systems by BFGS with a task's forces, and compare their ends with those that the data give.

    Args:
        task: the trained :class:`~spheregeo.tasks.Forces`; computes in its own type.
        molecules: beginnings and ends of relaxations; atoms that are held in place stay.
        pairs: where each begins and ends among the molecules.
        fmax: largest force on a free atom at the end, eV/Å.
        steps: most steps.

    Returns ``relaxed_distance``, the mean distance of the free atoms in Å, a mean over systems; ``relaxed_worst``, the largest of
    the systems' means; ``relaxed_near``, the share of systems whose mean is at most 0.05 Å; ``relaxed_steps``, steps on average.
    """
    from ase import Atoms
    from ase.constraints import FixAtoms
    from ase.geometry import find_mic
    from ase.optimize import BFGS

    distances, counts = [], []
    for first, last in pairs:
        one = molecules.select([first, last])
        half = int(one.ptr[1])
        fixed = np.zeros(half, bool) if one.fixed is None else one.fixed[:half].numpy()
        periodic: dict[str, Any] = {}
        if one.cell is not None and one.pbc is not None:
            periodic = {"cell": one.cell[0].numpy(), "pbc": one.pbc[0].numpy()}
        atoms = Atoms(one.numbers[:half].numpy(), one.positions[:half].numpy(), **periodic)
        atoms.set_constraint(FixAtoms(mask=fixed))
        atoms.calc = SpheregeoCalculator(task, task.device, next(task.network.parameters()).dtype)
        search = BFGS(atoms, logfile=None)
        search.run(fmax=fmax, steps=steps)
        _, away = find_mic(atoms.positions - one.positions[half:].numpy(), atoms.cell, atoms.pbc)
        distances.append(float(away[~fixed].mean()))
        counts.append(search.nsteps)
    found = np.array(distances)
    return {
        "relaxed_distance": float(found.mean()), "relaxed_worst": float(found.max()),
        "relaxed_near": float((found <= NEAR).mean()), "relaxed_steps": float(np.mean(counts)),
    }  # fmt: skip
