"""Energies of free atoms and the scale of a force field, from the molecules that it is to learn from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.data.molecules.molecules import Molecules, fit_references
from spheregeo.tasks.molecules.base import per_element
from spheregeo.tasks.molecules.forces.fine_tuning import Origin, shifted_references
from spheregeo.tasks.molecules.regression import over_atoms

REFERENCES = ("isolated", "fit", "none", "checkpoint")
BOUND = 20.0  # eV an atom; energies further from free atoms than that are no binding energies


def fit_references_and_scale(task: Any, molecules: Molecules, origin: Origin | None) -> Tensor | None:
    """Set a task's energies of free atoms and, unless it goes on from a checkpoint, its scale.

    Args:
        task: :class:`~spheregeo.tasks.Forces`, attached to its trainer.
        molecules: the training molecules.
        origin: what the weights come from; None for new ones.

    Returns what the energies of free atoms (119,) differ by from the origin's; None without one.

    Raises: ValueError for data without energies or forces, unknown references, energies in another unit, a weight of stresses
        that no molecule has.
    """
    if molecules.energy is None or molecules.forces is None:
        raise ValueError("the training data hold no energies and forces; use data such as ForcesData")
    table = _free_atoms(task, molecules, origin)
    per_atom = (molecules.energy - over_atoms(table, molecules)) / molecules.counts
    if task.references != "none" and float(per_atom.abs().median()) > BOUND:
        raise ValueError(
            f"energies are {float(per_atom.abs().median()):.4g} eV an atom away from those of free atoms; expected a few eV: "
            "are energies and references in the same unit, and from the same method?"
        )
    task.atom_energy.copy_(table)
    _check_stress(task, molecules)
    forces = molecules.forces
    if task.free_only and molecules.fixed is not None:
        forces = forces[~molecules.fixed]
    known = forces[torch.isfinite(forces)]
    if not len(known):
        task.tell("no training molecule has forces: energies alone train")
    if origin is None:
        rms = float(known.square().mean().sqrt() if len(known) else per_atom.square().mean().sqrt())
        task.scale.fill_(rms if rms > 1e-12 else 1.0)
        return None
    task.elements |= origin.elements.to(task.elements)
    old = origin.atom_energy.to(table)
    missing = origin.elements.to(task.elements).clone()
    missing[molecules.elements] = False  # elements that the new data do not have
    task.atom_energy.copy_(torch.where(missing, old, table))
    shift: Tensor = (task.atom_energy - old).cpu()
    most = float(shift.abs().max())
    task.tell(f"the scale of the checkpoint is kept; energies of free atoms differ by up to {most:.4g} eV")
    return shift


def _free_atoms(task: Any, molecules: Molecules, origin: Origin | None) -> Tensor:
    """The energies of free atoms, (119,), by the task's kind of references."""
    assert molecules.energy is not None
    isolated = getattr(task.trainer.datamodule, "isolated", None)
    given = task.free_atoms if task.free_atoms is not None else isolated
    if task.references == "isolated":
        if not given:
            raise ValueError(
                "references is 'isolated' but the data hold no free atoms; give --data.isolated FILE, "
                "--model.free_atoms, or choose --model.references fit"
            )
        return per_element(given, molecules.elements, "energies of free atoms")
    if task.references == "checkpoint":
        if origin is None:
            raise ValueError(
                "references is 'checkpoint' but the training starts from no force field; give --init, or choose fit"
            )
        return origin.atom_energy.to(task.atom_energy)
    if task.references == "fit" and origin is not None:
        return shifted_references(task, molecules, origin).to(task.atom_energy)
    if task.references == "fit":
        return fit_references(molecules, molecules.energy)
    return torch.zeros_like(task.atom_energy)


def _check_stress(task: Any, molecules: Molecules) -> None:
    """Say where stresses are scored and not trained. Raises: ValueError where they are to be trained and are not there."""
    trained = max(task.stress_weight, task.swa_weights.get("stress", 0.0))
    if molecules.stress is not None and not trained and not task.direct:
        task.tell(
            "the data hold stresses, which are scored and not trained: --model.stress_weight 1 trains them"
        )
    if trained and molecules.stress is None:
        raise ValueError(
            f"stress_weight is {trained} but the training data hold no stress; expected 0, or --data.stress_key"
        )
