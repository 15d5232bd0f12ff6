"""QM9: 133,885 small organic molecules with twelve computed properties, in the layouts and splits that are in use.

Reference: Ramakrishnan, Dral, Rupp & von Lilienfeld 2014, doi:10.1038/sdata.2014.22.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.files import read_text
from spheregeo.data.molecules.files import atomic_number, read_extxyz
from spheregeo.data.molecules.molecules import MAX_NUMBER, Molecules
from spheregeo.data.molecules.tables import numeric, read_npz, read_sdf, read_table
from spheregeo.data.molecules.units import factor
from spheregeo.files import reading

# target: (unit in the files, name in the CSV, name in extended XYZ, additive over atoms)
PROPERTIES: dict[str, tuple[str, str, str, bool]] = {
    "mu": ("D", "mu", "mu", False),
    "alpha": ("a0^3", "alpha", "alpha", True),
    "homo": ("Ha", "homo", "epsHOMO", False),
    "lumo": ("Ha", "lumo", "epsLUMO", False),
    "gap": ("Ha", "gap", "epsgap", False),
    "r2": ("a0^2", "r2", "<R2>", False),
    "zpve": ("Ha", "zpve", "zpve", True),
    "U0": ("Ha", "u0", "U0", True),
    "U": ("Ha", "u298", "U", True),
    "H": ("Ha", "h298", "H", True),
    "G": ("Ha", "g298", "G", True),
    "Cv": ("cal/mol/K", "cv", "Cv", True),
}
# The order of the numbers on the second line of a raw file, after the tag and the index.
_RAW = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
_ELEMENTS = (1, 6, 7, 8, 9)
# Energies of free atoms at the level of the data, eV (Cv in cal/mol/K), in the order H, C, N, O, F.
REFERENCES: dict[str, tuple[float, ...]] = {
    "U0": (-13.61312172, -1029.86312267, -1485.30251237, -2042.61123593, -2713.48485589),
    "U": (-13.5745904, -1029.82456413, -1485.26398105, -2042.5727046, -2713.44632457),
    "H": (-13.54887564, -1029.79887659, -1485.2382935, -2042.54701705, -2713.42063702),
    "G": (-13.90303183, -1030.25891228, -1485.71166277, -2043.01812778, -2713.88796536),
    "zpve": (0.0,) * 5,
    "Cv": (2.981,) * 5,  # 3R/2
}
# A line of the list of uncharacterised molecules: number, SMILES. The file counts them in words, too.
_LISTED = re.compile(r"\s*(\d+)\s+[CNOFHcno0-9\[\]()=#@+\-/\\%.:]+(\s|$)")
WHOLE, CHARACTERISED = 133_885, 130_831
# seed of numpy's legacy generator, sizes of train and val, start of the SHA-256 of the little-endian int64 permutation
SPLITS: dict[str, tuple[int, int, int, str]] = {
    "A": (0, 100_000, 17_748, "77989252ff8c8309"),
    "B": (42, 110_000, 10_000, "f7b0eee126e61118"),
}


def official_split(name: str) -> dict[str, Tensor]:
    """Indices into the 130,831 characterised molecules, in the order of the source.

    "A" (Anderson, Hy & Kondor 2019, arXiv:1906.04015): 100,000 / 17,748 / 13,083. "B" (Gasteiger et al. 2020,
    arXiv:2003.03123): 110,000 / 10,000 / 10,831.

    Raises: ValueError for another name; RuntimeError if numpy's generator gave another permutation than it used to.
    """
    if name not in SPLITS:
        raise ValueError(f"split is {name!r}; expected one of {', '.join(SPLITS)}")
    seed, train, val, digest = SPLITS[name]
    order = np.random.RandomState(seed).permutation(CHARACTERISED).astype("<i8")
    found = hashlib.sha256(order.tobytes()).hexdigest()
    if not found.startswith(digest):
        raise RuntimeError(
            f"the permutation of QM9's split {name} has hash {found[:16]}; expected {digest}: this numpy draws differently"
        )
    parts = np.split(order.astype(np.int64), [train, train + val])
    return {split: torch.from_numpy(part) for split, part in zip(("train", "val", "test"), parts)}


def atom_references(target: str, unit: str) -> Tensor | None:
    """Value of each free atom by atomic number (119,) in ``unit``; None where the data give none."""
    if target not in REFERENCES:
        return None
    table = torch.zeros(MAX_NUMBER + 1, dtype=torch.float64)
    source = PROPERTIES[target][0] if target == "Cv" else "eV"
    table[list(_ELEMENTS)] = torch.tensor(REFERENCES[target], dtype=torch.float64) * factor(source, unit)
    return table


def uncharacterised(path: Path) -> np.ndarray:
    """Numbers (from 0) of the molecules whose geometry is doubtful, from the list that comes with the data."""
    with reading(path, "the list of uncharacterised molecules"):
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    found = [int(m[1]) - 1 for line in lines if (m := _LISTED.match(line))]
    if not found:
        raise ValueError(f"{path} lists no molecules; expected lines that begin with a number and a SMILES")
    return np.unique(found)


def read_raw(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """One file of the original distribution, ``dsgdb9nsd_NNNNNN.xyz``: numbers, positions (Å), properties.

    Raises: ValueError for a broken file. Numbers such as ``1.5*^-6`` are understood.
    """
    lines = read_text(path, "a file of QM9").split("\n")
    try:
        count = int(lines[0])
        values = lines[1].replace("\t", " ").split()[2:]
        atoms = [line.replace("*^", "e").split() for line in lines[2 : 2 + count]]
        if count < 1 or len(atoms) != count or len(values) < len(_RAW):
            raise ValueError("too few lines or numbers; is the file complete?")
        frequencies = lines[2 + count].replace("*^", "e").split()
        if not frequencies or any(len(atom) < 4 for atom in atoms):
            raise ValueError(f"its first line says {count} atoms, but the lines after it hold others")
        numbers = np.array([atomic_number(atom[0], str(path)) for atom in atoms], np.int64)
        positions = np.array([[float(x) for x in atom[1:4]] for atom in atoms])
        [float(x) for x in frequencies]  # where an atom stands in their place, there are more than counted
        properties = {name: float(v.replace("*^", "e")) for name, v in zip(_RAW, values)}
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is no file of QM9 ({error})") from error
    return numbers, positions, properties


def _from_sdf(root: Path, names: Sequence[str]) -> Molecules:
    numbers, positions, _ = read_sdf(root / "gdb9.sdf")
    path = root / "gdb9.sdf.csv"
    rows = read_table(path)
    values = {name: numeric(rows, PROPERTIES[name][1], path) for name in names}
    if any(len(v) != len(numbers) for v in values.values()):
        raise ValueError(f"{path} and gdb9.sdf differ in their numbers of molecules")
    # The SDF misses no record, but a few of them cannot be parsed by some chemistry kits; coordinates can.
    with reading(root / "gdb9.sdf", "the SDF file of QM9"):
        return Molecules.of(numbers, positions, values, {name: PROPERTIES[name][0] for name in names})


def _from_raw(files: Sequence[Path], names: Sequence[str]) -> Molecules:
    rows = [read_raw(path) for path in files]
    units = {name: PROPERTIES[name][0] for name in names}

    def made(chosen: Sequence[int]) -> Molecules:
        return Molecules.of(
            [rows[k][0] for k in chosen], [rows[k][1] for k in chosen], {n: [rows[k][2][n] for k in chosen] for n in names},
            units, names=tuple(files[k].stem for k in chosen),
        )  # fmt: skip

    try:
        return made(range(len(rows)))
    except ValueError:
        for k, path in enumerate(files):  # which file is at fault
            with reading(path, "a file of QM9"):
                made([k])
        raise


def read_qm9(root: str | Path, targets: Sequence[str] = tuple(PROPERTIES)) -> tuple[Molecules, bool]:
    """QM9, or a part of it, and whether it is the whole of it without the uncharacterised molecules.

    Layouts, tried in this order: ``gdb9.sdf`` with ``gdb9.sdf.csv``; files ``dsgdb9nsd_*.xyz``; an .npz archive or an
    extended XYZ file, named itself or the only one in the folder. ``uncharacterized.txt`` beside them names the molecules to
    leave out of a whole set.

    Raises: FileNotFoundError when there is none of them; ValueError for unknown targets, or a whole set without that list.
    """
    unknown = [name for name in targets if name not in PROPERTIES]
    if unknown:
        raise ValueError(f"target {unknown[0]!r} is none of QM9's: {', '.join(PROPERTIES)}")
    root = Path(root)
    folder = root if root.is_dir() else root.parent
    raw = sorted(root.rglob("dsgdb9nsd_*.xyz")) if root.is_dir() else []
    single = [root] if root.is_file() else sorted([*root.glob("*.npz"), *root.glob("*.xyz")])
    if (root / "gdb9.sdf").is_file():
        found = _from_sdf(root, targets)
    elif raw:
        found = _from_raw(raw, targets)
    elif len(single) == 1 and single[0].suffix == ".npz":
        found = read_npz(single[0])
        missing = [name for name in targets if name not in found.targets]
        if missing:
            raise ValueError(
                f"{single[0]} has no target {missing[0]!r}; its own are {', '.join(found.targets)}"
            )
    elif len(single) == 1:
        units = {name: PROPERTIES[name][0] for name in targets}
        found = read_extxyz(single[0], targets=units, columns={n: PROPERTIES[n][2] for n in targets})
    else:
        raise FileNotFoundError(
            f"{root} holds no QM9: expected gdb9.sdf with gdb9.sdf.csv, files dsgdb9nsd_*.xyz, or one .npz or .xyz file "
            f"(found {len(single)}); see datasets/qm9/README.md"
        )
    if len(found) == CHARACTERISED:
        return found, True
    if len(found) != WHOLE:
        return found, False
    listed = next((folder / n for n in ("uncharacterized.txt", "3195404") if (folder / n).is_file()), None)
    if listed is None:
        raise ValueError(
            f"{root} holds all {WHOLE} molecules, 3,054 of which are uncharacterised; "
            "put their list, uncharacterized.txt, beside them"
        )
    kept = np.setdiff1d(np.arange(WHOLE), uncharacterised(listed))
    if len(kept) != CHARACTERISED:
        raise ValueError(
            f"{listed} leaves {len(kept)} molecules of {WHOLE}; expected {CHARACTERISED}: is the list complete?"
        )
    chosen = found.select(kept)
    object.__setattr__(chosen, "index", torch.arange(CHARACTERISED))
    return chosen, True


def check_targets(targets: Sequence[str], units: Mapping[str, str]) -> dict[str, str]:
    """The unit of every target: eV for energies unless ``units`` says otherwise, else the files'."""
    found = {}
    for name in targets:
        own = PROPERTIES[name][0] if name in PROPERTIES else None
        found[name] = units.get(name, "eV" if own == "Ha" else own or "")
    return found
