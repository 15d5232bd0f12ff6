"""Molecules from extended XYZ files, by ASE: positions, any properties, energies and forces, cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.files import need_file, read_text
from spheregeo.data.molecules import groups, keys
from spheregeo.data.molecules.frames import read_frames, xyz_files
from spheregeo.data.molecules.keys import ENERGY_KEYS, FORCE_KEYS, STRESS_KEYS, target
from spheregeo.data.molecules.molecules import Kind, Molecules, symbol
from spheregeo.data.molecules.units import check_energy_unit, factor, unit
from spheregeo.files import reading

__all__ = [
    "ENERGY_KEYS", "FORCE_KEYS", "STRESS_KEYS", "atomic_number",
    "from_frames", "isolated_atoms", "need_file", "read_extxyz", "read_frames",
    "xyz_files",
]  # fmt: skip

MAX_CELL = 1e5  # Å; longer vectors are no cell of atoms
FREE = 6.0  # Å; an atom whose images are farther away counts as free


@cache
def _numbers() -> dict[str, int]:
    from ase.data import atomic_numbers

    return {name: int(z) for name, z in atomic_numbers.items()}


def atomic_number(name: str, where: str) -> int:
    """The atomic number of a symbol. Raises: ValueError for an unknown element; ``where`` says whose it is."""
    if name not in _numbers() or name == "X":
        raise ValueError(f"{where} has an atom {name!r}; expected the symbol of an element, such as C or Cl")
    return _numbers()[name]


def from_frames(
    frames: Sequence[Any],
    targets: Mapping[str, str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    energy_unit: str = "eV",
    forces_unit: str | None = None,
    stress_key: str | None = None,
    stress_unit: str | None = None,
    stress_sign: int = 1,
    forces: bool = False,
    names: Sequence[str] | None = None,
    split_by: str | None = None,
    told: dict[str, str] | None = None,
) -> Molecules:
    """ASE's Atoms as :class:`Molecules`.

    Args:
        frames: the molecules.
        targets: unit of each wanted target; none are read if None.
        columns: the key in the file of a target whose name differs.
        energy_key, forces_key, stress_key: their keys where they are not among the usual names.
        energy_unit: unit of the energies.
        forces_unit: unit of the forces; the energies' unit per Å if None.
        stress_unit: unit of the stresses; the energies' unit per Å^3 if None. Virials have that of the energies.
        stress_sign: 1 where stresses are negative under pressure, as ASE's; -1 for the opposite, as pressure
            tensors and VASP's output.
        forces: read energies, forces, stresses, tags, fixed atoms, configuration types and weights; each frame must have an
            energy, and the others where it has them.
        names: what the molecules are called.
        split_by: what frames belong together by, see :func:`~spheregeo.data.molecules.groups.group_frames`; nothing if None.
        told: takes the keys that were used, by label, and how frames were grouped.

    Raises: ValueError for a key that a frame does not have (the message names those it has), arrays where numbers belong, an
        energy under several keys that differ, energies whose unit is clearly another one, cells that are none, and as
        :class:`Molecules`.
    """
    columns = dict(columns or {})
    places = [f"frame {k}" for k in range(len(frames))]
    values: dict[Kind, dict[str, np.ndarray]] = {"molecule": {}, "vector": {}, "atom": {}}
    for name in targets or {}:
        kind, found = target(frames, columns.get(name, name), places)
        values[kind][name] = found
    more: dict[str, Any] = {"vectors": values["vector"], "atomic": values["atom"]}
    if forces:
        told = {} if told is None else told
        more |= _energy_and_forces(frames, places, energy_key, forces_key, energy_unit, forces_unit, told)
        found = keys.stresses(frames, stress_key, places, told)
        if np.isfinite(found).any():
            per_volume = stress_unit or f"{unit(energy_unit)}/Å^3"
            if (
                stress_unit is not None
                and "virial" in told["stress"].lower()
                and "/" not in unit(stress_unit)
            ):
                raise ValueError(
                    f"{told['stress']!r} holds virials, which are energies, but stress_unit is {stress_unit!r}; leave it out"
                )
            more["stress"] = stress_sign * found * factor(per_volume, "eV/Å^3")
        more |= {"tags": keys.tags(frames), "fixed": keys.fixed_atoms(frames)}
        more |= groups.configurations(frames, places)
        if split_by is not None:
            more["groups"] = groups.group_frames(frames, split_by, places, told)
        if rest := keys.unused(frames, told.values()):
            told["not used"] = ", ".join(rest)
    if any(frame.pbc.any() for frame in frames):
        more["cell"] = np.stack([np.asarray(frame.cell[:], np.float64) for frame in frames])
        more["pbc"] = np.stack([np.asarray(frame.pbc, bool) for frame in frames])
        for place, cell, pbc in zip(places, more["cell"], more["pbc"]):
            check_cell(cell, pbc, place)
    return Molecules.of(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        values["molecule"],
        {name: unit(u) for name, u in (targets or {}).items()},
        names=None if names is None else tuple(names),
        **more,
    )


def check_cell(cell: np.ndarray, pbc: np.ndarray, place: str) -> None:
    """Raises: ValueError for a cell (3, 3) whose periodic vectors are no lengths of atoms, or lie in a plane or on a line."""
    vectors = cell[pbc]
    lengths = np.linalg.norm(vectors, axis=1)
    for length in lengths:
        if not 1e-6 <= length <= MAX_CELL:
            raise ValueError(
                f"{place} repeats itself (pbc {pbc.tolist()}) along a cell vector of length {length:.4g}; expected up to "
                f"{MAX_CELL:.0e} Å"
            )
    if len(vectors) and np.linalg.svd(vectors / lengths[:, None], compute_uv=False)[-1] < 1e-4:
        raise ValueError(
            f"{place} has periodic cell vectors {np.round(vectors, 4).tolist()} that are parallel or lie in a plane; expected "
            "independent ones"
        )


def _energy_and_forces(
    frames: Sequence[Any],
    places: Sequence[str],
    energy_key: str | None,
    forces_key: str | None,
    energy_unit: str,
    forces_unit: str | None,
    told: dict[str, str] | None,
) -> dict[str, Any]:
    energy_unit = unit(energy_unit)
    forces_unit = unit(forces_unit) if forces_unit else unit(f"{energy_unit}/Å")
    found = keys.energies(frames, energy_key, places, told)
    for frame, energy, place in zip(frames, found.tolist(), places):
        try:
            check_energy_unit(energy, [int(z) for z in frame.numbers], energy_unit)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    on_atoms = keys.forces(frames, forces_key, places, told)
    return {
        "energy": found * factor(energy_unit, "eV"),
        "forces": [f * factor(forces_unit, "eV/Å") for f in on_atoms],
    }


def read_extxyz(source: str | Path | Sequence[str | Path], **options: Any) -> Molecules:
    """Molecules of one or more extended XYZ files; options as :func:`from_frames`.

    Raises: FileNotFoundError; ValueError as :func:`~spheregeo.data.molecules.frames.read_frames` and :func:`from_frames`, with
        the file's name.
    """
    files = xyz_files(source)
    frames = {path: read_frames(path) for path in dict.fromkeys(files)}
    stems = [path.stem for path in frames]
    titles = [path.stem if stems.count(path.stem) == 1 else str(path) for path in frames]
    several = len(frames) > 1
    names = [
        f"{t}:{k}" if several else str(k) for t, f in zip(titles, frames.values()) for k in range(len(f))
    ]
    try:
        return from_frames([one for found in frames.values() for one in found], names=names, **options)
    except ValueError as error:
        for path, found in frames.items() if several else ():
            _blame(path, found, options)
        raise ValueError(f"{files[0].parent if several else files[0]}: {error}") from error


def _blame(path: Path, frames: Sequence[Any], options: dict[str, Any]) -> None:
    """Raises: ValueError with the file's name where its frames are at fault by themselves."""
    try:
        from_frames(frames, **{**options, "targets": None})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def free_atoms(molecules: Molecules) -> Tensor:
    """Whether each molecule (N,) is a free atom: one atom that sees no image of itself, or is called one by its type."""
    alone = molecules.counts == 1
    if molecules.pbc is not None and molecules.cell is not None:
        lengths = molecules.cell.norm(dim=2)
        alone &= ~((lengths < FREE) & molecules.pbc).any(1)
    if molecules.types is not None:
        named = torch.tensor([name.lower() in groups.ISOLATED for name in molecules.type_names])
        several = (named[molecules.types] & (molecules.counts != 1)).nonzero()[:, 0]
        if len(several):
            k = int(several[0])
            raise ValueError(
                f"molecule {molecules.name(k)} has the configuration type {molecules.type_names[int(molecules.types[k])]!r} and "
                f"{int(molecules.counts[k])} atoms; expected one"
            )
        alone |= named[molecules.types]
    return alone


def without_atoms(molecules: Molecules, root: str) -> Molecules:
    """The molecules without free atoms, numbered anew. Raises: ValueError where none is left."""
    bound = (~free_atoms(molecules)).nonzero()[:, 0]
    if not len(bound):
        raise ValueError(f"{root} holds free atoms only; expected molecules with energies")
    return replace(molecules.select(bound), index=torch.arange(len(bound)))


def energies_of_atoms(molecules: Molecules) -> dict[int, float]:
    """Energy in eV of each free atom among molecules. Raises: ValueError for an element with two different energies."""
    assert molecules.energy is not None
    found: dict[int, float] = {}
    for k in free_atoms(molecules).nonzero()[:, 0].tolist():
        number, energy = int(molecules.numbers[molecules.ptr[k]]), float(molecules.energy[k])
        before = found.setdefault(number, energy)
        if abs(before - energy) > keys.AGREE:
            raise ValueError(
                f"the free atom {symbol(number)} has the energies {before:.10g} and {energy:.10g} eV (again in molecule "
                f"{molecules.name(k)}); expected one energy of each element"
            )
    return found


def isolated_atoms(
    source: str | Path, energy_key: str | None = None, energy_unit: str = "eV"
) -> dict[int, float]:
    """Energy in eV of each free atom in the file: of its frames that have one atom.

    Args:
        source: an extended XYZ file or a folder of them, or a .json or .yaml file such as {"H": -13.6, "O": -432.1}.
        energy_key: the energies' key; one of the usual names if None.
        energy_unit: unit of the energies.

    Raises: ValueError when there is none, or one that has two different energies.
    """
    if Path(source).suffix.lower() in (".json", ".yaml", ".yml"):
        return _energies_by_symbol(Path(source), energy_unit)
    alone = [frame for path in xyz_files(source) for frame in read_frames(path) if len(frame) == 1]
    if not alone:
        raise ValueError(f"{source} holds no frame of one atom; expected the energies of free atoms there")
    with reading(source, "energies of free atoms"):
        return energies_of_atoms(
            from_frames(alone, forces=True, energy_key=energy_key, energy_unit=energy_unit)
        )


def _energies_by_symbol(path: Path, energy_unit: str) -> dict[int, float]:
    """Energy in eV by atomic number, from a file of energies by symbol or number. Raises: ValueError for other content."""
    import yaml  # which reads JSON, too

    text = read_text(need_file(path, "a file of free atoms' energies"), "a file of free atoms' energies")
    with reading(path, "energies of free atoms"):
        held = yaml.safe_load(text)
        if not isinstance(held, dict) or not held:
            raise ValueError("it holds no energies by symbol; expected such as {H: -13.6, O: -432.1}")
        return {
            int(name) if str(name).isdigit() else atomic_number(str(name), str(path)): keys.number(
                value, str(name)
            )
            * factor(energy_unit, "eV")
            for name, value in held.items()
        }
