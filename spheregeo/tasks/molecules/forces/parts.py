"""Parts of the task of energies and forces: forces under rotations, the system that is pictured, volumes of cells."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from spheregeo.groups import random_rotations
from spheregeo.tasks.checks import Batch


@torch.no_grad()
def turned_forces(task: Any) -> float:
    """Largest change of forces when clusters are rotated and forces rotated back, relative to the largest force; in float64.

    Args:
        task: the task with its network; a copy is measured.
    """
    positions, numbers, index = task.clusters()
    network = copy.deepcopy(task.network).double().eval()

    def forces(x: Tensor) -> Tensor:
        graph, count = network.neighbors(x, index), int(index[-1]) + 1
        if task.direct:
            found: Tensor = network.energy_and_forces(x, numbers, index, graph, count)[1]
            return found
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(network(x, numbers, index, graph, count).sum(), x)
        return -slope

    x = positions.double()
    plain = forces(x)
    changes = [
        float((forces(x @ turn.T) @ turn - plain).abs().max())
        for turn in random_rotations(4, torch.Generator().manual_seed(0)).double()
    ]
    return max(changes) / max(float(plain.abs().max()), 1e-30)


def strongest(outputs: Batch, known: Tensor) -> dict[str, Tensor]:
    """Of a batch the system with the largest mean force, for a picture; empty where no force is known.

    Args:
        outputs: the batch with predicted forces.
        known: whether the forces on each atom count, (P,).
    """
    if "index" not in outputs or not bool(known.any()):
        return {}
    sizes = torch.where(known, outputs["forces"].norm(dim=1), 0.0)
    owner = outputs["batch"]
    sums = sizes.new_zeros(len(outputs["index"])).index_add(0, owner, sizes)
    k = int((sums / torch.bincount(owner, minlength=len(sums))).argmax())
    mine = owner == k
    rows = {name: outputs[name][mine].cpu() for name in ("numbers", "positions", "predicted_forces")}
    return {**rows, "forces": outputs["forces"][mine].nan_to_num().cpu(), "index": outputs["index"][k].cpu()}


def volumes(cells: Tensor) -> Tensor:
    """Volumes (B,) of cells (B, 3, 3), vacuum included; 1 for a system without one."""
    volumes = torch.linalg.det(cells).abs()
    return torch.where(volumes > 0, volumes, 1.0)
