"""Molecules from tables: SDF (V2000) with a CSV file beside it, arrays of padded atoms."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from spheregeo.data.molecules.files import atomic_number, need_file
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.units import unit, unit_in_name


def _records(path: Path) -> Iterator[list[str]]:
    """The lines of each record of an SDF file."""
    record: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("$$$$"):
                yield record
                record = []
            else:
                record.append(line)
    if any(line.strip() for line in record):
        yield record


def read_sdf(path: str | Path) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Atomic numbers, positions (Å) and titles of the molecules of a V2000 SDF file; bonds and properties are skipped.

    Raises: FileNotFoundError; ValueError for V3000 or broken records, unknown elements.
    """
    path = need_file(path, "an SDF file")
    numbers, positions, titles = [], [], []
    for k, record in enumerate(_records(path)):
        where = f"{path}: record {k}"
        if len(record) < 4:
            raise ValueError(
                f"{where} has {len(record)} lines; expected a header of three and a line of counts"
            )
        if "V3000" in record[3]:
            raise ValueError(
                f"{where} is in format V3000; expected V2000: convert it, for instance with Open Babel"
            )
        try:
            count = int(record[3][:3])
            lines = record[4 : 4 + count]
            if len(lines) != count:
                raise ValueError("fewer atom lines than counted")
            xyz = np.array([[float(line[a : a + 10]) for a in (0, 10, 20)] for line in lines])
        except ValueError as error:
            raise ValueError(f"{where} cannot be read ({error}); expected a V2000 record") from error
        numbers.append(np.array([atomic_number(line[31:34].strip(), where) for line in lines], np.int64))
        positions.append(xyz.reshape(-1, 3))
        titles.append(record[0].strip())
    if not numbers:
        raise ValueError(f"{path} holds no molecule")
    return numbers, positions, titles


def read_table(path: str | Path) -> dict[str, list[str]]:
    """The columns of a CSV file with a head line, as text. Raises: FileNotFoundError; ValueError for ragged rows."""
    path = need_file(path, "a CSV table")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2:
        raise ValueError(f"{path} has {len(rows)} lines; expected a head line and a line for each molecule")
    for k, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{path}: line {k} has {len(row)} entries but the head line names {len(rows[0])}"
            )
    return {name: [row[c] for row in rows[1:]] for c, name in enumerate(rows[0])}


def numeric(table: Mapping[str, Sequence[str]], column: str, path: str | Path) -> np.ndarray:
    """A column as numbers, NaN where it is empty. Raises: ValueError for an unknown column or other text."""
    if column not in table:
        raise ValueError(f"{path} has no column {column!r}; its columns are {', '.join(table)}")
    try:
        return np.array([float(text) if text.strip() else np.nan for text in table[column]])
    except ValueError as error:
        raise ValueError(f"{path}: column {column!r} is no target ({error})") from error


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
    return Molecules.of(
        numbers, positions, values, {k: unit(u) for k, u in targets.items()},
        names=tuple(titles) if unique else None,
    )  # fmt: skip


# ---- arrays


def unpad(numbers: np.ndarray, positions: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Molecules from arrays padded with atomic number 0: (N, A) and (N, A, 3)."""
    if numbers.ndim != 2 or positions.shape != (*numbers.shape, 3):
        raise ValueError(
            f"Z has shape {numbers.shape} and R {positions.shape}; expected (molecules, atoms) and (molecules, atoms, 3)"
        )
    real = numbers > 0
    return (
        [z[r].astype(np.int64) for z, r in zip(numbers, real)],
        [p[r].astype(np.float64) for p, r in zip(positions, real)],
    )


def read_npz(path: str | Path) -> Molecules:
    """Molecules of an archive with padded ``Z`` (N, A), ``R`` (N, A, 3) in Å and targets by columns or as ``props``.

    Targets' names say their units: ``gap_Ha``, ``energy_pbe0_kcalmol``; ``props`` (N, T) goes with ``prop_names`` (T,); ``id``
    (N,) names the molecules. Columns whose names tell no unit are left out.

    Raises: FileNotFoundError; ValueError for a file without Z and R, or a target in two units.
    """
    path = need_file(path, "an .npz archive")
    try:
        with open(path, "rb") as file:
            stored = dict(np.load(file, allow_pickle=False))
    except Exception as error:  # numpy raises OSError, ValueError, BadZipFile, zlib.error for broken files
        raise ValueError(f"{path} cannot be read as an archive ({error}); is the file complete?") from error
    if "Z" not in stored or "R" not in stored:
        raise ValueError(f"{path} holds {', '.join(stored)}; expected Z (N, A) and R (N, A, 3) among them")
    numbers, positions = unpad(stored["Z"], stored["R"])
    table: dict[str, np.ndarray] = {}
    if "props" in stored and "prop_names" in stored:
        table = {str(name): stored["props"][:, k] for k, name in enumerate(stored["prop_names"])}
    for name, values in stored.items():
        if name not in ("Z", "R", "props") and values.shape == (len(numbers),) and values.dtype.kind in "fiu":
            table[name] = values
    targets: dict[str, np.ndarray] = {}
    units: dict[str, str] = {}
    for name, values in table.items():
        quantity, of = unit_in_name(name)
        if of is None:
            continue
        if quantity in targets:
            raise ValueError(
                f"{path} holds {quantity!r} in {units[quantity]} and in {of}; expected each target once"
            )
        targets[quantity], units[quantity] = values, of
    names = tuple(str(n) for n in stored["id"]) if "id" in stored else None
    return Molecules.of(numbers, positions, targets, units, names=names)
