"""Loss of energies, forces and stresses: each in units of the forces' root mean square, a mean over molecules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from spheregeo.tasks.losses import plain_mean
from spheregeo.tasks.molecules.base import penalty
from spheregeo.tasks.molecules.forces.parts import volumes


def force_loss(
    found: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    known: Tensor,
    scale: Tensor,
    weights: Mapping[str, float],
    kind: str,
    delta: float,
) -> Tensor:
    """Return the loss of a batch, see :class:`~spheregeo.tasks.Forces`; differentiable in what the network found.

    Args:
        found: energies and derivatives, as :meth:`~spheregeo.tasks.Forces.derive` gives them.
        batch: what is true: energy, forces, batch, perhaps stress with cell, and perhaps a weight of each term, (B, 3).
        known: whether the forces on each atom count, (P,).
        scale: root mean square of forces, which is the unit; ().
        weights: λ by "energy", "forces", "stress".
        kind: "l2", "l1" or "huber".
        delta: where the Huber loss turns linear.
    """
    energy, forces, index, bound = batch["energy"], batch["forces"], batch["batch"], found["bound"]
    count = energy.shape[0]
    scale = scale.to(bound)
    atoms = torch.bincount(index, minlength=count)
    own = batch["weight"].to(bound).unbind(1) if "weight" in batch else [1.0] * 3
    per_atom = (bound - (energy - found["free"]).to(bound)) / (atoms * scale)  # (B,)
    loss = weights["energy"] * plain_mean(own[0] * penalty(per_atom, kind, delta))
    by_molecule, have = _of_forces(found["forces"], forces, known, index, atoms, scale, kind, delta)
    loss = loss + weights["forces"] * plain_mean(own[1] * by_molecule, have)
    if "virials" in found and weights["stress"]:
        stress, volume = batch["stress"], volumes(batch["cell"])
        have = torch.isfinite(stress).flatten(1).all(1)
        virials = (stress.nan_to_num() * volume[:, None, None]).to(bound)
        error = (found["virials"] - virials) / (atoms * scale)[:, None, None]
        error = torch.where(have[:, None, None], error, 0.0)
        squares = penalty(error, kind, delta).mean((1, 2))
        loss = loss + weights["stress"] * plain_mean(own[2] * squares, have.to(squares))
    return loss


def _of_forces(
    derived: Tensor,
    forces: Tensor,
    known: Tensor,
    index: Tensor,
    atoms: Tensor,
    scale: Tensor,
    kind: str,
    delta: float,
) -> tuple[Tensor, Tensor]:
    """Each molecule's mean penalty of the forces that count, (B,), and whether it has any, as a number."""
    count = atoms.shape[0]
    if bool(known.all()):
        error, counted = (derived - forces.to(derived)) / scale, atoms
        have = None
    else:
        error = torch.where(known[:, None], (derived - forces.nan_to_num().to(derived)) / scale, 0.0)
        of_known = torch.bincount(index[known], minlength=count)
        counted, have = of_known.clamp_min(1), of_known > 0
    squares = penalty(error, kind, delta).sum(1) / (3 * counted[index])
    by_molecule = squares.new_zeros(count).index_add(0, index, squares)
    return by_molecule, torch.ones_like(by_molecule) if have is None else have.to(by_molecule)
