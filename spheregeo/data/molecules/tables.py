"""Molecules from tables: SDF with a CSV file beside it, arrays of padded atoms."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spheregeo.checks import nearest
from spheregeo.data.files import need_file, read_stored, read_text
from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules
from spheregeo.data.molecules.sdf import read_sdf
from spheregeo.data.molecules.units import unit, unit_in_name
from spheregeo.files import reading

__all__ = ["numeric", "read_npz", "read_sdf", "read_sdf_csv", "read_table", "unpad"]


def read_table(path: str | Path) -> dict[str, list[str]]:
    """The columns of a table with a head line, as text: CSV, or with tabs or semicolons where the head line has no comma.

    Names and entries are without blanks at their ends; quoted entries may hold line ends. Lines without any entry are left out.

    Raises: FileNotFoundError; ValueError for ragged rows, or a column that is named twice.
    """
    text = read_text(path, "a CSV table")
    with reading(path, "a CSV table"):
        head = text.lstrip("\n").split("\n", 1)[0]
        delimiter = next((mark for mark in (",", "\t", ";") if mark in head), ",")
        numbered = []
        lines = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        for row in lines:
            entries = [entry.strip() for entry in row]
            if any(entries):
                numbered.append((lines.line_num, entries))
    if len(numbered) < 2:
        raise ValueError(
            f"{path} has {len(numbered)} lines; expected a head line and a line for each molecule"
        )
    names = numbered[0][1]
    while not names[-1] and all(len(row) < len(names) or not row[-1] for _, row in numbered):
        names.pop()  # a delimiter at the end of every line
        numbered = [(k, row[: len(names)]) for k, row in numbered]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names the column {twice[0]!r} twice; expected different names")
    for k, row in numbered[1:]:
        if len(row) != len(names):
            raise ValueError(f"{path}: line {k} has {len(row)} entries but the head line names {len(names)}")
    return {name: [row[c] for _, row in numbered[1:]] for c, name in enumerate(names)}


def numeric(table: Mapping[str, Sequence[str]], column: str, path: str | Path) -> np.ndarray:
    """A column as numbers, NaN where it is empty. Raises: ValueError for an unknown column or other text."""
    if column not in table:
        raise ValueError(
            f"{path} has no column {column!r}; its columns are {', '.join(table)}{nearest(column, table)}"
        )
    found = np.full(len(table[column]), np.nan)
    for k, text in enumerate(table[column]):
        try:
            if "_" in text:  # which Python reads over
                raise ValueError(f"could not convert string to float: {text!r}")
            found[k] = float(text) if text else np.nan
        except ValueError as error:
            comma = "; decimal commas are written as points here" if "," in text else ""
            raise ValueError(
                f"{path}: column {column!r} is no target (row {k + 1}: {error}){comma}"
            ) from error
        if np.isinf(found[k]):
            raise ValueError(
                f"{path}: column {column!r} holds {text!r} in row {k + 1}; expected finite numbers"
            )
    return found


def read_sdf_csv(
    sdf: str | Path, table: str | Path, targets: Mapping[str, str], columns: Mapping[str, str] | None = None
) -> Molecules:
    """Molecules of an SDF file with targets from a CSV table, row k for record k.

    Args: ``targets``, the unit of each; ``columns``, the table's column of a target whose name differs.
    Raises: ValueError when there are not as many rows as records, or a column is unknown.
    """
    numbers, positions, titles = read_sdf(sdf)
    rows = read_table(table)
    count = len(next(iter(rows.values())))
    if count != len(numbers):
        raise ValueError(
            f"{table} has {count} rows but {sdf} has {len(numbers)} molecules; expected as many, in order"
        )
    values = {name: numeric(rows, (columns or {}).get(name, name), table) for name in targets}
    unique = len(set(titles)) == len(titles) and all(titles)
    with reading(sdf, "an SDF file"):
        return Molecules.of(
            numbers, positions, values, {k: unit(u) for k, u in targets.items()},
            names=tuple(titles) if unique else None,
        )  # fmt: skip


# ---- arrays


def unpad(numbers: np.ndarray, positions: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Molecules from arrays padded with atomic number 0: (N, A) and (N, A, 3).

    Raises: ValueError for other shapes, or atomic numbers that are no whole numbers from 0 on.
    """
    if numbers.ndim != 2 or positions.shape != (*numbers.shape, 3):
        raise ValueError(
            f"Z has shape {numbers.shape} and R {positions.shape}; expected (molecules, atoms) and (molecules, atoms, 3)"
        )
    if numbers.dtype.kind not in "iuf" or positions.dtype.kind not in "iuf":
        raise ValueError(
            f"Z and R hold {numbers.dtype} and {positions.dtype}; expected atomic numbers and lengths"
        )
    if not ((numbers >= 0) & (numbers <= MAX_NUMBER)).all() or (numbers != np.rint(numbers)).any():
        raise ValueError(f"Z holds other values than whole numbers of 0 (no atom) to {MAX_NUMBER}")
    real = numbers > 0
    return (
        [z[r].astype(np.int64) for z, r in zip(numbers, real)],
        [p[r].astype(np.float64) for p, r in zip(positions, real)],
    )


def read_npz(path: str | Path) -> Molecules:
    """Molecules of an archive with padded ``Z`` (N, A), ``R`` (N, A, 3) in Å and targets by columns or as ``props``.

    Targets' names say their units: ``gap_Ha``, ``energy_pbe0_kcalmol``; ``props`` (N, T) goes with ``prop_names`` (T,); ``id``
    (N,) names the molecules. Columns whose names tell no unit are left out.

    Raises: FileNotFoundError; ValueError for a file without Z and R, arrays whose shapes do not fit, or a target in two units.
    """
    path = need_file(path, "an .npz archive")
    with reading(path, "an archive of molecules"):
        stored = read_stored(path, "an archive of molecules")
        if not isinstance(stored, dict):
            raise ValueError("it holds one array; expected an archive with Z (N, A) and R (N, A, 3)")
        if "Z" not in stored or "R" not in stored:
            raise ValueError(f"it holds {', '.join(stored)}; expected Z (N, A) and R (N, A, 3) among them")
        numbers, positions = unpad(stored["Z"], stored["R"])
        names = _named(stored, len(numbers))
        targets: dict[str, np.ndarray] = {}
        units: dict[str, str] = {}
        for name, values in _columns(stored, len(numbers)).items():
            quantity, of = unit_in_name(name)
            if of is None:
                continue
            if quantity in targets:
                raise ValueError(
                    f"it holds {quantity!r} in {units[quantity]} and in {of}; expected each target once"
                )
            targets[quantity], units[quantity] = values, of
        return Molecules.of(numbers, positions, targets, units, names=names)


def _named(stored: Mapping[str, np.ndarray], count: int) -> tuple[str, ...] | None:
    if "id" not in stored:
        return None
    if stored["id"].shape != (count,):
        raise ValueError(f"id has shape {stored['id'].shape}; expected ({count},), one of each molecule")
    return tuple(str(name) for name in stored["id"])


def _columns(stored: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The columns of numbers (N,) of an archive by name, those of ``props`` first."""
    table: dict[str, np.ndarray] = {}
    if "props" in stored and "prop_names" in stored:
        props, titles = stored["props"], stored["prop_names"]
        if props.shape != (count, len(titles.ravel())) or props.dtype.kind not in "fiu":
            raise ValueError(
                f"props has shape {props.shape} of {props.dtype}; expected numbers of shape {(count, len(titles.ravel()))}, a "
                "column for each of prop_names"
            )
        table = {str(name): props[:, k] for k, name in enumerate(titles.ravel())}
    for name, values in stored.items():
        if name not in ("Z", "R", "props") and values.shape == (count,) and values.dtype.kind in "fiu":
            table[name] = values
    return table
