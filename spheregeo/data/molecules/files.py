"""Molecules from extended XYZ files, by ASE: positions, any properties, energies and forces, cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.units import check_energy_unit, factor, unit

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
