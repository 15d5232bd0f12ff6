"""What frames hold under which key: one number of a whole frame, a vector, a number of each atom, energies and forces.

A key that means two things is an error that names the choice, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from spheregeo.checks import nearest
from spheregeo.data.molecules.molecules import Kind

ENERGY_KEYS = ("energy", "free_energy", "REF_energy", "dft_energy", "Energy", "total_energy")
STRESS_KEYS = (
    "stress",
    "REF_stress",
    "dft_stress",
    "virial",
    "virials",
    "REF_virial",
    "REF_virials",
    "dft_virial",
)
FORCE_KEYS = ("forces", "force", "REF_forces", "dft_forces", "Forces")
# What ASE keeps of each atom among a calculator's results; other arrays of results are of the whole frame.
_OF_ATOMS = ("charges", "magmoms", "energies")
# Columns (n, 3) that are no forces under another name.
_NO_FORCES = ("positions", "momenta", "velocities", "magmoms", "initial_magmoms", "numbers")
# Words of further names that are taken for such labels where no usual name is in the file: energy_pbe, forces.pbe, pbeStress.
_WORDS = {
    "energy": {"energy", "etot", "toten"},
    "forces": {"force", "forces"},
    "stress": {"stress", "virial", "virials", "stresses"},
}
# Words of names that are something else: energies of a part, per atom, of errors, of other programs' predictions.
_OTHERS = {
    "kinetic", "kin", "ekin", "weight", "weights", "unit", "units", "error", "errors", "std", "var", "uncertainty", "predicted",
    "atom", "atoms", "peratom", "max", "maximum", "fmax", "mean", "key", "type", "name", "corrected", "reference",
}  # fmt: skip
_LABEL = re.compile(r"energ|force|stress|virial|dipole|charge|magmom|polari", re.IGNORECASE)
AGREE = 1e-6  # in the file's unit: values that differ by less are one value, written with fewer digits


def results(frame: Any) -> Mapping[str, Any]:
    """What ASE took for a calculator's results in a frame."""
    return {} if frame.calc is None else frame.calc.results


def keys_of(frame: Any) -> list[str]:
    """All keys of a frame, sorted."""
    return sorted({*frame.info, *frame.arrays, *results(frame)} - {"numbers", "positions"})


def lookup(frame: Any, key: str) -> tuple[Any, bool]:
    """What a frame holds under a key, and whether it is of the atoms; (None, False) where it holds nothing."""
    from ase.io.extxyz import REV_PROPERTY_NAME_MAP

    named = REV_PROPERTY_NAME_MAP.get(key, key)  # ASE's name of a column, such as initial_charges for charge
    for name in dict.fromkeys((key, named)):
        if name in frame.info:
            return frame.info[name], False
        if name in results(frame):
            return results(frame)[name], name in _OF_ATOMS
        if name in frame.arrays:
            return frame.arrays[name], True
    return None, False


def kind_of(value: Any, of_atoms: bool) -> Kind | None:
    """What a value is: a number or a vector of the molecule, or a number of each atom; None for anything else."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return None
    if of_atoms:
        return "atom" if array.ndim == 1 else None
    return {(): "molecule", (3,): "vector"}.get(array.shape)  # type: ignore[return-value]


def target(frames: Sequence[Any], key: str, places: Sequence[str]) -> tuple[Kind, Any]:
    """A target of all frames: its kind, and (N,) numbers, (N, 3) vectors or (P,) numbers of atoms, NaN where unknown.

    Raises: ValueError for a key that no frame has, other content, or content of another kind in another frame.
    """
    found: list[Any] = []
    kind, first = None, ""
    for frame, place in zip(frames, places):
        value, of_atoms = lookup(frame, key)
        found.append(value)
        if value is None:
            continue
        this = kind_of(value, of_atoms)
        if this is None:
            raise ValueError(
                f"{key!r} of {place} is {_shown(value)}; expected one number or three of a vector, or one of each atom, to be "
                "a target: choose another column"
            )
        if kind is not None and this != kind:
            raise ValueError(
                f"{key!r} is {_KINDS[kind]} in {first} but {_KINDS[this]} in {place}; expected one kind in all"
            )
        kind, first = this, first or place
    if kind is None:
        known = keys_of(frames[0])
        raise ValueError(
            f"no frame has a property {key!r}; those of the first one are {', '.join(known) or 'none'}{nearest(key, known)}"
        )
    empty: Any = {"molecule": np.nan, "vector": np.full(3, np.nan)}.get(kind)
    if kind == "atom":
        parts = [np.full(len(f), np.nan) if v is None else v for f, v in zip(frames, found)]
        return kind, np.concatenate([np.asarray(part, np.float64) for part in parts])
    return kind, np.array([empty if v is None else np.asarray(v, np.float64) for v in found], np.float64)


_KINDS = {"molecule": "one number", "vector": "a vector", "atom": "a number of each atom"}


def number(value: Any, what: str) -> float:
    """A value as one number. Raises: ValueError for an array, text, a truth value or a number that is not finite."""
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "iuf" or not np.isfinite(array):
        raise ValueError(f"{what} is {_shown(value)}; expected one finite number")
    return float(array)


def energies(
    frames: Sequence[Any], given: str | None, places: Sequence[str], told: dict[str, str] | None = None
) -> np.ndarray:
    """The energy of each frame (N,), in the file's unit.

    Args:
        frames: ASE's Atoms.
        given: the key; one of the usual names if None.
        places: what each frame is called in messages.
        told: takes the key that was used, under the label's name.

    Raises: ValueError for a frame without one, for energies that differ within a frame, or whose key differs between frames.
    """
    wanted = _wanted(frames, given, "energy")
    found = [
        {key: number(v, f"{key!r} of {place}") for key in wanted if (v := _whole(frame, key)) is not None}
        for frame, place in zip(frames, places)
    ]
    for frame, held, place in zip(frames, found, places):
        if not held:
            raise ValueError(
                f"{place} has no energy (looked for {', '.join(wanted)}); it has "
                f"{', '.join(keys_of(frame)) or 'nothing'}: name the column with energy_key"
            )
    key = _agreed(found, places, "energy")
    _note(told, "energy", key)
    return np.array([held[key] for held in found])


def forces(
    frames: Sequence[Any], given: str | None, places: Sequence[str], told: dict[str, str] | None = None
) -> list[np.ndarray]:
    """The forces (n, 3) of each frame in the file's unit, NaN where a frame has none; those of a free atom are 0.

    Args: as :func:`energies`.
    Raises: ValueError for forces of another shape, a given key that no frame has, forces that differ within a frame, whose key
        differs between frames, or that may stand under a name that is none of the usual ones.
    """
    found: list[dict[str, np.ndarray]] = []
    wanted = _wanted(frames, given, "forces")
    for frame, place in zip(frames, places):
        held = {key: v for key in wanted if (v := _of_atoms(frame, key)) is not None}
        for key, value in held.items():
            array = np.asarray(value)
            if (
                array.shape != (len(frame), 3)
                or array.dtype.kind not in "iuf"
                or not np.isfinite(array).all()
            ):
                raise ValueError(
                    f"{key!r} of {place} has shape {array.shape} of {array.dtype}; expected {(len(frame), 3)} finite numbers"
                )
            held[key] = array.astype(np.float64)
        found.append(held)
    if not any(found):
        _check_no_other(frames, given, places)
    key = _agreed(found, places, "forces")
    _note(told, "forces", key)
    return [
        held[key] if held else np.full((len(frame), 3), 0.0 if len(frame) == 1 else np.nan)
        for frame, held in zip(frames, found)
    ]


def stresses(
    frames: Sequence[Any], given: str | None, places: Sequence[str], told: dict[str, str] | None = None
) -> np.ndarray:
    """The stress of each frame (N, 3, 3) in the file's unit, ASE's sign, NaN where a frame has none.

    Six numbers are xx, yy, zz, yz, xz, xy (ASE's order of Voigt), nine are rows. A key whose name has "virial" in it holds
    -V times the stress.

    Args: as :func:`energies`.
    Raises: ValueError for stresses of another shape, a given key that no frame has, stresses that differ within a frame, or
        whose key differs between frames.
    """
    wanted = _wanted(frames, given, "stress")
    found = [
        {key: _stress(frame, key, v, place) for key in wanted if (v := _whole(frame, key)) is not None}
        for frame, place in zip(frames, places)
    ]
    if given and not any(found):
        raise ValueError(
            f"no frame has a stress {given!r}; {places[0]} has {', '.join(keys_of(frames[0])) or 'nothing'}: correct stress_key"
        )
    key = _agreed(found, places, "stress")
    _note(told, "stress", key)
    return np.stack([held.get(key, np.full((3, 3), np.nan)) for held in found])


def _stress(frame: Any, key: str, value: Any, place: str) -> np.ndarray:
    array = np.asarray(value)
    if (
        array.shape not in ((6,), (9,), (3, 3))
        or array.dtype.kind not in "iuf"
        or not np.isfinite(array).all()
    ):
        raise ValueError(
            f"{key!r} of {place} is {_shown(value)}; expected six finite numbers xx, yy, zz, yz, xz, xy, or nine"
        )
    if array.shape == (6,):
        array = array[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    if "virial" in key.lower():
        volume = abs(float(np.linalg.det(np.asarray(frame.cell[:], np.float64))))
        if volume < 1e-6:
            raise ValueError(
                f"{key!r} of {place} is of a system whose cell has no volume; expected three cell vectors"
            )
        array = -array / volume
    return array.astype(np.float64).reshape(3, 3)


def fixed_atoms(frames: Sequence[Any]) -> list[np.ndarray] | None:
    """Whether each atom (n,) of each frame is held in place along all axes, by its constraints; None where no atom is."""
    found = []
    for frame in frames:
        held = np.zeros(len(frame), bool)
        for constraint in frame.constraints:
            told: dict[str, Any] = {"name": "", "kwargs": {}}
            if hasattr(constraint, "todict"):
                told = constraint.todict()
            whole = told["name"] == "FixCartesian" and np.all(told["kwargs"].get("mask", False))
            if whole or told["name"] == "FixAtoms":
                held[constraint.index] = True
        found.append(held)
    return found if any(held.any() for held in found) else None


def tags(frames: Sequence[Any]) -> list[np.ndarray] | None:
    """The tags of the atoms (n,) of each frame, 0 where a frame has none; None where no frame has any."""
    if not any(frame.has("tags") for frame in frames):
        return None
    return [np.asarray(frame.get_tags(), np.int64) for frame in frames]


def _check_no_other(frames: Sequence[Any], given: str | None, places: Sequence[str]) -> None:
    """Raises: ValueError where no frame has forces although they were named, or some column may be forces."""
    for frame, place in zip(frames, places):
        others = [
            name
            for name, array in frame.arrays.items()
            if name not in _NO_FORCES and array.shape == (len(frame), 3) and array.dtype.kind in "iuf"
        ]
        if len(frame) > 1 and (given or others):
            raise ValueError(
                f"{place} has no forces (looked for {', '.join(_wanted(frames, given, 'forces'))}); it has "
                f"{', '.join(keys_of(frame)) or 'nothing'}: name the column with forces_key"
            )


def _agreed(found: Sequence[Mapping[str, Any]], places: Sequence[str], what: str) -> str:
    """The key that all frames with such a quantity share. Raises: ValueError where values or keys differ."""
    choice = f"choose one with {what}_key (--data.{what}_key)"
    for held, place in zip(found, places):
        (first, value), *rest = list(held.items()) or [("", None)]
        for key, other in rest:
            if not np.allclose(value, other, rtol=1e-9, atol=AGREE):
                shown = f": {value:.10g} and {other:.10g}" if np.ndim(value) == 0 else ""
                raise ValueError(
                    f"{place} has two kinds of {what}, {first!r} and {key!r}, that differ{shown}; {choice}"
                )
    have = [(set(held), place) for held, place in zip(found, places) if held]
    if not have:
        return ""
    shared = set.intersection(*(keys for keys, _ in have))
    if not shared:
        one, place = have[0]
        another, elsewhere = next((keys, at) for keys, at in have if not keys & one or keys != one)
        raise ValueError(
            f"the {what} stands under {_quoted(one)} in {place} but under {_quoted(another)} in {elsewhere}; "
            f"expected one key in all frames: {choice}"
        )
    return next(key for held in found for key in held if key in shared)


def _wanted(frames: Sequence[Any], given: str | None, what: str) -> tuple[str, ...]:
    """The keys that a label may stand under: the given one, the usual ones, or the only one whose name has such a word.

    Raises: ValueError where several names have such words: which is meant is not said.
    """
    usual = {"energy": ENERGY_KEYS, "forces": FORCE_KEYS, "stress": STRESS_KEYS}[what]
    look = _of_atoms if what == "forces" else _whole
    if given or any(look(frame, key) is not None for frame in frames for key in usual):
        return (given,) if given else usual
    names = dict.fromkeys(
        key
        for frame in frames
        for key in ((*frame.arrays, *results(frame)) if what == "forces" else (*frame.info, *results(frame)))
    )
    fitting = [name for name in names if _has_word(name, what) and _fits(frames, name, what)]
    if len(fitting) > 1:
        raise ValueError(
            f"the {what} may stand under {_quoted(fitting)}; choose one with {what}_key (--data.{what}_key)"
        )
    return tuple(fitting) or usual


def _has_word(name: str, what: str) -> bool:
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    return bool(words & _WORDS[what]) and not words & _OTHERS


def _fits(frames: Sequence[Any], name: str, what: str) -> bool:
    """Whether what stands under a name has the shape of a label and holds numbers."""
    for frame in frames:
        value = _of_atoms(frame, name) if what == "forces" else _whole(frame, name)
        if value is not None:
            array = np.asarray(value)
            shapes: dict[str, list[tuple[int, ...]]] = {
                "energy": [()], "forces": [(len(frame), 3)], "stress": [(6,), (9,), (3, 3)],
            }  # fmt: skip
            return array.shape in shapes[what] and array.dtype.kind in "iuf"
    return False


def _note(told: dict[str, str] | None, what: str, key: str) -> None:
    if told is not None and key:
        told[what] = key


def unused(frames: Sequence[Any], used: Iterable[str]) -> list[str]:
    """Names in the frames that look like labels and are none of those used, sorted.

    Args:
        frames: ASE's Atoms.
        used: names of those that are used.
    """
    names = {
        n for frame in frames for n in (*frame.info, *frame.arrays, *results(frame)) if _LABEL.search(str(n))
    }
    return sorted(names - set(used) - {"initial_charges", "initial_magmoms"})


def _whole(frame: Any, key: str) -> Any:
    return frame.info[key] if key in frame.info else results(frame).get(key)


def _of_atoms(frame: Any, key: str) -> Any:
    return results(frame)[key] if key in results(frame) else frame.arrays.get(key)


def _quoted(keys: Iterable[str]) -> str:
    return ", ".join(repr(key) for key in sorted(keys))


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
