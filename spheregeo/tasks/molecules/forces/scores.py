"""Errors of energies, forces and stresses."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.data.molecules.molecules import MAX_NUMBER, symbol
from spheregeo.files import write_bytes

MILLI = 1000.0
VOIGT = (0, 4, 8, 5, 2, 1)  # of nine components those that ASE lists: xx, yy, zz, yz, xz, xy
UNITS = {"energy": "meV/atom", "force": "meV/Å", "stress": "meV/Å³"}


MAX_TYPES = 256  # configuration types that are told apart


class ForceScores(Metric):
    """Errors of energies per atom and of the components of forces and stresses, summed over batches and processes.

    Shape: ``update`` takes errors of the energies per atom (B,), of the forces (P, 3), NaN where forces are not known, the
        atomic numbers (P,), errors of the stresses (B, 3, 3), likewise, of which the six components xx, yy, zz, yz, xz, xy
        count, configuration types (B,) and the molecule of each atom (P,); ``compute`` gives scores by name, those of forces and
        stresses only where some are known.
    Units: eV, eV/Å and eV/Å³ in, meV/atom, meV/Å and meV/Å³ out.
    """

    full_state_update = False
    higher_is_better = None
    sums: Tensor
    elements: (
        Tensor  # of each atomic number: sums of absolute and squared errors of forces, number of components
    )
    types: Tensor  # of each configuration type: such sums of energies, forces and stresses

    def __init__(self) -> None:
        super().__init__()
        self.of_elements: dict[str, dict[str, float]] = {}
        self.of_types: dict[int, dict[str, float]] = {}
        self.add_state("sums", torch.zeros(3, 3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("elements", torch.zeros(MAX_NUMBER + 1, 3, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("types", torch.zeros(MAX_TYPES, 3, 3, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        energy: Tensor,
        forces: Tensor,
        numbers: Tensor | None = None,
        stress: Tensor | None = None,
        types: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> None:
        of_cells = energy.new_full((len(energy), 0), torch.nan)
        if stress is not None:
            of_cells = stress.flatten(1)[:, list(VOIGT)]
        on_atoms, on_molecules = _sums(forces), (_sums(energy.flatten()[:, None]), _sums(of_cells))
        if numbers is not None:
            self.elements.index_add_(0, numbers, on_atoms)
        parts = (on_molecules[0], on_atoms, on_molecules[1])
        self.sums += torch.stack([part.sum(0) for part in parts])
        if types is not None and batch is not None:
            of = types.clamp_max(MAX_TYPES - 1)
            for row, (part, index) in enumerate(zip(parts, (of, of[batch], of), strict=True)):
                self.types[:, row].index_add_(0, index, part)

    def compute(self) -> dict[str, float]:
        self.of_elements = self.by_element()  # here the sums are those of all processes
        self.of_types = self.by_type()
        return _scores(self.sums)

    def by_element(self) -> dict[str, dict[str, float]]:
        """Return MAE and RMSE of the forces in meV/Å and the number of atoms of each element, by its symbol."""
        return {
            symbol(z): {
                "force_mae": MILLI * absolute / count,
                "count": int(count) // 3,
                "force_rmse": MILLI * (squared / count) ** 0.5,
            }
            for z, (absolute, squared, count) in enumerate(self.elements.tolist())
            if count > 0
        }

    def by_type(self) -> dict[int, dict[str, float]]:
        """Return scores as :meth:`compute` has them and the number of molecules of each configuration type."""
        counts = self.types[:, 0, 2].tolist()
        return {
            k: {**_scores(self.types[k]), "count": int(count)} for k, count in enumerate(counts) if count > 0
        }


def _sums(errors: Tensor) -> Tensor:
    """Of each row (N, C) the sums of absolute and squared errors and their number, NaN left out: (N, 3) float64."""
    known = torch.isfinite(errors)
    errors = torch.where(known, errors, 0.0).double()
    return torch.stack([errors.abs().sum(1), errors.square().sum(1), known.sum(1).double()], 1)


def _scores(sums: Tensor) -> dict[str, float]:
    found = {}
    for name, (absolute, squared, count) in zip(("energy", "force", "stress"), sums.tolist()):
        if count:
            found[f"{name}_mae"] = MILLI * absolute / count
            found[f"{name}_rmse"] = MILLI * (squared / count) ** 0.5
    return found


def error_table(elements: dict[str, dict[str, float]], types: dict[str, dict[str, float]]) -> str:
    """Errors by element, and by configuration type, as text; empty where there is one element and no type.

    Args:
        elements: scores by symbol.
        types: scores by name of the type.
    """
    lines = []
    if len(elements) > 1:
        lines.append(f"{'element':<16}{'atoms':>8}{'force MAE':>12}{'RMSE':>10}  meV/Å")
        lines += [
            f"{name:<16}{one['count']:>8}{one['force_mae']:>12.2f}{one['force_rmse']:>10.2f}"
            for name, one in elements.items()
        ]
    if types:
        head = f"{'config_type':<16}{'frames':>8}{'energy MAE':>12}{'RMSE':>10}  meV/atom"
        lines.append(f"{head}{'force MAE':>12}{'RMSE':>10}  meV/Å{'stress MAE':>12}  meV/Å³")
        for name, one in types.items():
            row = f"{name:<16}{int(one['count']):>8}{_number(one, 'energy_mae', 12)}{_number(one, 'energy_rmse', 10)}"
            row += f"{'':10}{_number(one, 'force_mae', 12)}{_number(one, 'force_rmse', 10)}"
            lines.append(f"{row}{'':7}{_number(one, 'stress_mae', 12)}".rstrip())
    return "\n".join(lines)


def _number(scores: dict[str, float], name: str, width: int) -> str:
    return f"{scores[name]:>{width}.2f}" if name in scores else f"{'-':>{width}}"


def write_errors(
    path: Path, elements: dict[str, dict[str, float]], types: dict[str, dict[str, float]]
) -> None:
    """Write a table of errors by element and by configuration type: a line for each of them and each quantity.

    Args:
        path: the CSV file.
        elements: scores by symbol.
        types: scores by name of the type.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["of", "name", "quantity", "mae", "rmse", "unit", "count"])
    for of, rows in (("element", elements), ("config_type", types)):
        for name, one in rows.items():
            for quantity, unit in UNITS.items():
                if f"{quantity}_mae" in one:
                    errors = [f"{one[f'{quantity}_{kind}']:.6g}" for kind in ("mae", "rmse")]
                    table.writerow([of, name, quantity, *errors, unit, int(one["count"])])
    write_bytes(path, text.getvalue().encode())
