"""Molecules from files: extended XYZ, SDF (V2000) with a table beside it, arrays of padded atoms."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.molecules import Molecules
from spheregeo.data.units import check_energy_unit, factor, unit, unit_in_name

ENERGY_KEYS = ("energy", "free_energy", "REF_energy", "dft_energy", "Energy", "total_energy")
FORCE_KEYS = ("forces", "force", "REF_forces", "dft_forces", "Forces")


@cache
def _numbers() -> dict[str, int]:
    from ase.data import atomic_numbers

    return {name: int(z) for name, z in atomic_numbers.items()}


def atomic_number(name: str, where: str) -> int:
    """The atomic number of a symbol. Raises: ValueError for an unknown element; ``where`` says whose it is."""
    if name not in _numbers() or name == "X":
        raise ValueError(f"{where} has an atom {name!r}; expected the symbol of an element, such as C or Cl")
    return _numbers()[name]


def need_file(path: str | Path, what: str) -> Path:
    """The path itself. Raises: FileNotFoundError when there is no such file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected {what} there")
    return path


def xyz_files(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """The file itself, the .xyz and .extxyz files of a folder by name, or all of a list. Raises: FileNotFoundError."""
    if isinstance(source, (list, tuple)):
        return [path for part in source for path in xyz_files(part)]
    path = Path(source)  # type: ignore[arg-type]
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in (".xyz", ".extxyz"))
        if not found:
            raise FileNotFoundError(f"{path} holds no .xyz or .extxyz file; give a file or a folder of them")
        return found
    return [need_file(path, "an extended XYZ file")]


def read_frames(path: str | Path) -> list[Any]:
    """All frames of an extended XYZ file as ASE's Atoms. Raises: FileNotFoundError; ValueError for other content."""
    from ase.io import read
    from ase.io.formats import UnknownFileTypeError

    path = need_file(path, "an extended XYZ file")
    try:
        frames = read(path, index=":", format="extxyz")
    except KeyError as error:
        raise ValueError(
            f"{path} has an atom {error}; expected the symbols of elements, such as C or Cl"
        ) from error
    except (OSError, ValueError, IndexError, UnknownFileTypeError) as error:
        raise ValueError(f"{path} cannot be read as extended XYZ ({error}); is the file complete?") from error
    if not frames:
        raise ValueError(f"{path} holds no molecule")
    return list(frames)


def _property(frame: Any, key: str) -> Any:
    """A number of a whole frame by its key: among its own, or what ASE took for a calculator's result."""
    if key in frame.info:
        return frame.info[key]
    results = frame.calc.results if frame.calc is not None else {}
    return results.get(key)


def _forces(frame: Any, keys: Iterable[str]) -> Any:
    results = frame.calc.results if frame.calc is not None else {}
    for key in keys:
        for place in (results, frame.arrays):
            if key in place:
                return np.asarray(place[key], np.float64)
    return None


def from_frames(
    frames: Sequence[Any],
    targets: Mapping[str, str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    energy_unit: str = "eV",
    forces_unit: str | None = None,
    forces: bool = False,
    names: Sequence[str] | None = None,
) -> Molecules:
    """ASE's Atoms as :class:`Molecules`.

    Args:
        frames: the molecules.
        targets: unit of each wanted target; none are read if None.
        columns: the key in the file of a target whose name differs.
        energy_key, forces_key: their keys where they are not among the usual names.
        energy_unit: unit of the energies.
        forces_unit: unit of the forces; the energies' unit per Å if None.
        forces: read energy and forces; each frame must have both.
        names: what the molecules are called.

    Raises: ValueError for a key that a frame does not have (the message names those it has), energies whose unit is clearly
        another one, and as :class:`Molecules`.
    """
    count = len(frames)
    columns = dict(columns or {})
    values: dict[str, np.ndarray] = {}
    for name in targets or {}:
        key = columns.get(name, name)
        column = np.full(count, np.nan)
        for k, frame in enumerate(frames):
            found = _property(frame, key)
            if found is None:
                continue
            number = np.asarray(found)
            if number.shape != () or number.dtype.kind not in "biuf":
                raise ValueError(
                    f"{key!r} of frame {k} is {found!r}; expected one number to be a target, or another column"
                )
            column[k] = float(number)
        if np.isnan(column).all():
            known = sorted({*frames[0].info, *(frames[0].calc.results if frames[0].calc is not None else {})})
            raise ValueError(
                f"no frame has a property {key!r}; those of the first one are {', '.join(known) or 'none'}"
            )
        values[name] = column
    more: dict[str, Any] = {}
    if forces:
        more = _energy_and_forces(frames, energy_key, forces_key, energy_unit, forces_unit)
    if any(frame.pbc.any() for frame in frames):
        more["cell"] = np.stack([np.asarray(frame.cell[:], np.float64) for frame in frames])
        more["pbc"] = np.stack([np.asarray(frame.pbc, bool) for frame in frames])
        for k, (cell, pbc) in enumerate(zip(more["cell"], more["pbc"])):
            if pbc.any() and (np.linalg.norm(cell[pbc], axis=1) < 1e-6).any():
                raise ValueError(
                    f"frame {k} repeats itself (pbc {pbc.tolist()}) along a cell vector of length 0"
                )
    return Molecules.of(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        values,
        {name: unit(u) for name, u in (targets or {}).items()},
        names=None if names is None else tuple(names),
        **more,
    )


def _energy_and_forces(
    frames: Sequence[Any],
    energy_key: str | None,
    forces_key: str | None,
    energy_unit: str,
    forces_unit: str | None,
) -> dict[str, Any]:
    energy_unit = unit(energy_unit)
    forces_unit = unit(forces_unit) if forces_unit else unit(f"{energy_unit}/Å")
    energies, found = np.empty(len(frames)), []
    for k, frame in enumerate(frames):
        keys = (energy_key,) if energy_key else ENERGY_KEYS
        energy = next((e for key in keys if (e := _property(frame, key)) is not None), None)
        force = _forces(frame, (forces_key,) if forces_key else FORCE_KEYS)
        if force is None and len(frame) == 1:
            force = np.zeros((1, 3))  # a free atom: files leave its forces out
        for what, value, key in (("energy", energy, energy_key), ("forces", force, forces_key)):
            if value is None:
                usual = key or ", ".join(ENERGY_KEYS if what == "energy" else FORCE_KEYS)
                have = sorted({*frame.info, *frame.arrays, *(frame.calc.results if frame.calc else {})})
                raise ValueError(
                    f"frame {k} has no {what} (looked for {usual}); it has {', '.join(have)}: name the column with "
                    f"{what}_key"
                )
        energies[k] = float(energy)  # type: ignore[arg-type]
        found.append(force)
    check_energy_unit(float(energies[0]), [int(z) for z in frames[0].numbers], energy_unit)
    return {
        "energy": energies * factor(energy_unit, "eV"),
        "forces": [f * factor(forces_unit, "eV/Å") for f in found],
    }


def read_extxyz(source: str | Path | Sequence[str | Path], **options: Any) -> Molecules:
    """Molecules of one or more extended XYZ files; options as :func:`from_frames`."""
    files = xyz_files(source)
    frames = [(path, k, frame) for path in files for k, frame in enumerate(read_frames(path))]
    several = len(files) > 1
    names = [f"{path.stem}:{k}" if several else str(k) for path, k, _ in frames]
    try:
        return from_frames([frame for *_, frame in frames], names=names, **options)
    except ValueError as error:
        raise ValueError(f"{files[0] if not several else files[0].parent}: {error}") from error


def isolated_atoms(
    source: str | Path, energy_key: str | None = None, energy_unit: str = "eV"
) -> dict[int, float]:
    """Energy in eV of each free atom in the file: of its frames that have one atom. Raises: ValueError when there is none."""
    found: dict[int, float] = {}
    for path in xyz_files(source):
        for k, frame in enumerate(read_frames(path)):
            if len(frame) != 1:
                continue
            keys = (energy_key,) if energy_key else ENERGY_KEYS
            energy = next((e for key in keys if (e := _property(frame, key)) is not None), None)
            if energy is None:
                raise ValueError(f"{path}: frame {k} is a free atom without an energy")
            found[int(frame.numbers[0])] = float(energy) * factor(energy_unit, "eV")
    if not found:
        raise ValueError(f"{source} holds no frame of one atom; expected the energies of free atoms there")
    return found


# ---- SDF and tables


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

    Raises: FileNotFoundError; ValueError for a file without Z and R.
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
    targets, units = {}, {}
    for name, values in table.items():
        quantity, of = unit_in_name(name)
        if of is not None:
            targets[quantity], units[quantity] = values, of
    names = tuple(str(n) for n in stored["id"]) if "id" in stored else None
    return Molecules.of(numbers, positions, targets, units, names=names)
