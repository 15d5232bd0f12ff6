"""A force field that goes on from another one's weights: its scale, its energies of free atoms, frames of its own training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spheregeo.data.molecules.molecules import Molecules, fit_references

MOST = 2000  # molecules by which energies of free atoms are fitted
BATCH = 32


@dataclass
class Origin:
    """What a training goes on from.

    Args:
        scale: scale of the energies that the weights belong to.
        atom_energy: energies of free atoms, (119,).
        elements: whether the first training had each element, (119,).
    """

    scale: float
    atom_energy: Tensor
    elements: Tensor

    @staticmethod
    def of(stored: dict[str, Tensor]) -> Origin | None:
        """Return the origin of a checkpoint's state; None where that is of no force field."""
        if not {"scale", "atom_energy", "elements"} <= set(stored):
            return None
        return Origin(
            float(stored["scale"]), stored["atom_energy"].double().clone(), stored["elements"].clone()
        )


def shifted_references(task: Any, molecules: Molecules, origin: Origin) -> Tensor:
    """Return energies of free atoms (119,) with which the weights as they are fit the energies best, by least squares.

    Elements that the molecules do not have, and directions that they leave open, keep the energies of the origin.

    Args:
        task: the task, with the origin's weights and scale.
        molecules: the molecules to fit to.
        origin: what the weights come from.
    """
    assert molecules.energy is not None
    step = max(1, -(-len(molecules) // MOST))
    chosen = molecules.select(range(0, len(molecules), step))
    training, place = task.training, task.scale.device
    task.eval()
    task.atom_energy.copy_(origin.atom_energy)
    said = [
        task({k: v.to(place) for k, v in chosen.batch(range(k, min(k + BATCH, len(chosen)))).items()})[
            "energy"
        ]
        for k in range(0, len(chosen), BATCH)
    ]
    task.train(training)
    assert chosen.energy is not None
    return origin.atom_energy + fit_references(chosen, chosen.energy - torch.cat(said).cpu())
