"""Errors of energies, forces and stresses."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.data.molecules.molecules import MAX_NUMBER, symbol

MILLI = 1000.0
VOIGT = (0, 4, 8, 5, 2, 1)  # of nine components those that ASE lists: xx, yy, zz, yz, xz, xy
UNITS = {"energy": "meV/atom", "force": "meV/Å", "stress": "meV/Å³"}


class ForceScores(Metric):
    """Errors of energies per atom and of the components of forces and stresses, summed over batches and processes.

    Shape: ``update`` takes errors of the energies per atom (B,), of the forces (P, 3), NaN where forces are not known, the
        atomic numbers (P,), and errors of the stresses (B, 3, 3), likewise, of which the six components xx, yy, zz, yz, xz, xy
        count; ``compute`` gives scores by name, those of forces and stresses only where some are known.
    Units: eV, eV/Å and eV/Å³ in, meV/atom, meV/Å and meV/Å³ out.
    """

    full_state_update = False
    higher_is_better = None
    sums: Tensor
    elements: Tensor  # of each atomic number: sum of absolute errors of forces, number of components

    def __init__(self) -> None:
        super().__init__()
        self.of_elements: dict[str, dict[str, float]] = {}
        self.add_state("sums", torch.zeros(3, 3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("elements", torch.zeros(MAX_NUMBER + 1, 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, energy: Tensor, forces: Tensor, numbers: Tensor | None = None, stress: Tensor | None = None
    ) -> None:
        if numbers is not None:
            has = torch.isfinite(forces)
            errors = torch.where(has, forces, 0.0).abs().double().sum(1)
            self.elements.index_add_(0, numbers, torch.stack([errors, has.sum(1).double()], 1))
        known = forces[torch.isfinite(forces)]
        of_cells = energy[:0] if stress is None else stress.flatten(1)[:, list(VOIGT)]
        of_cells = of_cells[torch.isfinite(of_cells)]
        for row, error in enumerate((energy.double().flatten(), known.double(), of_cells.double())):
            self.sums[row] += torch.stack(
                [error.abs().sum(), error.square().sum(), error.new_tensor(len(error))]
            )

    def compute(self) -> dict[str, float]:
        found = {}
        self.of_elements = self.by_element()  # here the sums are those of all processes
        for name, (absolute, squared, count) in zip(("energy", "force", "stress"), self.sums.tolist()):
            if not count:
                continue
            found[f"{name}_mae"] = MILLI * absolute / count
            found[f"{name}_rmse"] = MILLI * (squared / count) ** 0.5
        return found

    def by_element(self) -> dict[str, dict[str, float]]:
        """Return the MAE of the forces in meV/Å and the number of atoms of each element, by its symbol."""
        return {
            symbol(z): {"force_mae": MILLI * float(total / count), "count": int(count) // 3}
            for z, (total, count) in enumerate(self.elements.cpu())
            if count > 0
        }
