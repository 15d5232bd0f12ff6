"""Molecules as extended XYZ, or as an SDF file with a table: which properties there are, and in which units."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from spheregeo.cli.new.survey import Survey, counted
from spheregeo.data.molecules.frames import read_frames, xyz_files
from spheregeo.data.molecules.keys import keys_of, lookup
from spheregeo.data.molecules.tables import numeric, read_table
from spheregeo.data.molecules.units import unit_in_name

_ENERGIES, _FORCES = ("energy", "total_energy", "REF_energy", "TotEnergy"), ("forces", "force", "REF_forces")


def look(root: Path, kind: str) -> Survey:
    """Look at a file or folder of molecules.

    Args:
        root: an extended XYZ file, a folder of them, or an SDF file with a table of its name.
        kind: "regress-molecules" or "fit-md".

    Raises: FileNotFoundError, ValueError for files without molecules or without targets.
    """
    if root.suffix.lower() == ".sdf":
        return _table(root)
    forces = kind == "fit-md"
    survey = Survey(kind, "ForcesData" if forces else "ExtXYZData", {"root": str(root)})
    files = xyz_files(root)
    frames = [frame for path in files for frame in read_frames(path)]
    sizes = [len(frame) for frame in frames]
    elements = Counter(symbol for frame in frames for symbol in frame.get_chemical_symbols())
    periodic = sum(bool(frame.pbc.any()) for frame in frames)
    survey.found += [
        f"files: {len(files)}; frames: {len(frames)}, of {min(sizes)} to {max(sizes)} atoms, {periodic} periodic",
        f"elements: {counted(elements)}",
    ]
    keys = Counter(key for frame in frames for key in keys_of(frame))
    survey.found.append(f"properties: {counted(keys)}")
    for key, number in keys.items():
        if number < len(frames):
            survey.odd.append(f"{key} is in {number} of {len(frames)} frames only")
    if forces:
        _forces(survey, keys, len(frames))
        free = {frame.get_chemical_symbols()[0] for frame in frames if len(frame) == 1}
        survey.model["references"] = "isolated" if free >= set(elements) else "fit"
        if free < set(elements):
            survey.found.append("free atoms: not for every element, so their energies are fitted")
    else:
        _targets(survey, frames[0], keys, len(frames))
    return survey


def _forces(survey: Survey, keys: Counter[str], count: int) -> None:
    energies = [key for key in keys if "energy" in key.lower()]
    forces = [key for key in keys if "force" in key.lower()]
    if not energies:
        raise ValueError(
            f"{survey.options['root']} has no property that is an energy; its properties are {', '.join(keys)}"
        )
    for name, usual, given in (("energy_key", _ENERGIES, energies), ("forces_key", _FORCES, forces)):
        if given and (len(given) > 1 or given[0] not in usual):
            survey.options[name] = next((key for key in usual if key in given), given[0])
        if len(given) > 1:
            survey.odd.append(
                f"{' and '.join(given)} could be meant; data.{name} is {survey.options[name]}: correct it if need be"
            )
    if not forces:
        survey.odd.append("there are no forces; energies alone train")
    held = max(1, count // 10)
    survey.options |= {"energy_unit": "eV", "val": held, "test": held, "batch_size": 5}
    survey.odd.append(
        "a file does not tell its units; energies are taken to be in eV and forces in eV/Å: see data.energy_unit"
    )


def _targets(survey: Survey, frame: object, keys: Counter[str], count: int) -> None:
    numbers = []
    for key, number in keys.items():
        value, _ = lookup(frame, key)
        if number == count and np.asarray(value).dtype.kind in "fiu" and "force" not in key.lower():
            numbers.append(key)
    if not numbers:
        raise ValueError(
            f"{survey.options['root']} has no property that is a number in every frame; it has {', '.join(keys)}"
        )
    survey.options |= {"targets": {key: unit_in_name(key)[1] or "1" for key in numbers}, "batch_size": 10}
    bare = [key for key in numbers if unit_in_name(key)[1] is None]
    if bare:
        survey.odd.append(
            f"no units are told for {', '.join(bare)}; write them in data.targets, such as {{{bare[0]}: eV}}"
        )


def _table(root: Path) -> Survey:
    survey = Survey("regress-molecules", "SDFData", {"root": str(root)})
    place = root.with_suffix(".csv")
    table = read_table(place)
    rows = len(next(iter(table.values())))
    targets = []
    for name in table:
        try:
            numeric(table, name, place)
            targets.append(name)
        except ValueError:
            survey.found.append(f"column {name}: words")
    survey.found.append(f"table: {rows} rows; columns of numbers: {', '.join(targets)}")
    if not targets:
        raise ValueError(f"{place} has no column of numbers")
    survey.options |= {"targets": {name: unit_in_name(name)[1] or "1" for name in targets}, "batch_size": 10}
    return survey
