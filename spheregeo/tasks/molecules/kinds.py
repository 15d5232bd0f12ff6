"""Kinds of targets: numbers of molecules, vectors of molecules, numbers of atoms; their scales, losses and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules, symbol
from spheregeo.files import write_bytes
from spheregeo.tasks.losses import plain_mean
from spheregeo.tasks.pictures.parity import parity_picture

KINDS = ("molecule", "vector", "atom")
# Key of a batch that holds the targets of each kind.
KEYS = {"molecule": "target", "vector": "vectors", "atom": "atomic"}
AXES = ("x", "y", "z")
MAX_ATOMS = 1 << 24  # atoms of a molecule that a row's number can tell apart


def vector_scale(values: Tensor) -> float:
    """Root mean square of the components of known vectors (N, 3); 1 where there is nothing to learn."""
    known = values[torch.isfinite(values)]
    spread = float(known.square().mean().sqrt()) if len(known) else 0.0
    return spread if spread > 1e-12 else 1.0


def atom_values(molecules: Molecules, values: Tensor) -> tuple[Tensor, float]:
    """Mean of each element's values (119,), and the spread about it.

    Args:
        molecules: the training molecules.
        values: values of all their atoms, (P,), NaN where unknown.
    """
    known = torch.isfinite(values)
    numbers, found = molecules.numbers[known], values[known].double()
    count = torch.bincount(numbers, minlength=MAX_NUMBER + 1).double()
    table = found.new_zeros(MAX_NUMBER + 1).index_add(0, numbers, found) / count.clamp_min(1.0)
    spread = float((found - table[numbers]).square().mean().sqrt()) if len(found) else 0.0
    return table, spread if spread > 1e-12 else 1.0


def atom_rows(index: Tensor, batch: Tensor) -> Tensor:
    """A number (P,) for each atom of a batch, unique among all batches.

    Args:
        index: numbers of the molecules, (B,).
        batch: molecule of each atom within the batch, (P,).
    """
    counts = torch.bincount(batch, minlength=len(index))
    first = counts.cumsum(0) - counts
    within = torch.arange(len(batch), device=batch.device) - first.index_select(0, batch)
    return index.index_select(0, batch) * MAX_ATOMS + within


def by_element(truth: Tensor, prediction: Tensor, numbers: Tensor) -> dict[str, dict[str, float]]:
    """MAE and number of atoms of each element, by its symbol.

    Args:
        truth: values, (P,), NaN where unknown.
        prediction: predicted values, (P,).
        numbers: atomic numbers, (P,).
    """
    known = torch.isfinite(truth)
    error, kinds = (prediction - truth)[known].abs(), numbers[known].long()
    return {
        symbol(z): {"mae": float(error[kinds == z].mean()), "count": int((kinds == z).sum())}
        for z in kinds.unique().tolist()
    }


def parity_of(
    path: Path,
    shown: Sequence[tuple[str, str, str, int]],
    tables: Mapping[str, tuple[Tensor, Tensor, Tensor]],
) -> Path:
    """Write the parity plot of targets of all kinds; components of vectors are points of one panel.

    Args:
        path: the picture.
        shown: name, unit, kind and number within the kind of each target.
        tables: numbers of the rows, truth (n, ...) and prediction (n, ...) by kind.
    """
    columns: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _, _, kind, t in shown:
        parts = slice(3 * t, 3 * t + 3) if kind == "vector" else slice(t, t + 1)
        for column, table in zip(columns, tables[kind][1:]):
            column.append(table[:, parts].flatten())
    longest = max(len(column) for column in columns[0])
    truth, prediction = (
        torch.stack([pad(column, (0, longest - len(column)), value=torch.nan) for column in both], 1) for both in columns
    )  # fmt: skip
    return parity_picture(
        path, truth, prediction, [name for name, *_ in shown], [unit for _, unit, *_ in shown]
    )


def write_atoms(
    path: Path, names: Sequence[str], atoms: Sequence[int], numbers: Sequence[int], columns: Sequence[str],
    prediction: Tensor, truth: Tensor,
) -> Path:  # fmt: skip
    """Write a line for each atom: its molecule's name, its number there, its element, predictions and, where known, truths.

    Args:
        path: the CSV file.
        names: name of each atom's molecule, (P,).
        atoms: number of each atom in its molecule, (P,).
        numbers: atomic numbers, (P,).
        columns: targets with their units.
        prediction: (P, A).
        truth: (P, A), NaN where unknown.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", "atom", "element", *columns, *(f"true {c}" for c in columns)])
    for name, atom, number, said, true in zip(names, atoms, numbers, prediction.tolist(), truth.tolist()):
        known = [f"{v:.10g}" if v == v else "" for v in true]
        writer.writerow([name, atom, symbol(number), *(f"{v:.10g}" for v in said), *known])
    return write_bytes(path, text.getvalue().encode())


def check_kinds(kinds: Sequence[str] | None, targets: Sequence[str]) -> list[str]:
    """The kinds of targets, all numbers of molecules if None. Raises: ValueError for an unknown kind or another number."""
    found = ["molecule"] * len(targets) if kinds is None else list(kinds)
    if len(found) != len(targets) or any(kind not in KINDS for kind in found):
        raise ValueError(f"kinds are {kinds}; expected one of {', '.join(KINDS)} for each of {list(targets)}")
    return found


def loss_over(parts: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Mean penalty of each kind's known values, weighted by the number of its targets.

    Args:
        parts: penalties and whether each value is known, of the same shape, by kind; targets along axis 1.
    """
    weights = {kind: known.shape[1] for kind, (_, known) in parts.items()}
    total = sum(weights.values())
    losses: list[Tensor] = [
        plain_mean(terms, known) * (weights[kind] / total) for kind, (terms, known) in parts.items()
    ]
    return torch.stack(losses).sum()
