"""The layout of the Open Catalyst sets: LMDB files whose records are pickled data objects of PyTorch Geometric.

Reference: Chanussot et al. 2021, arXiv:2010.09990 (OC20).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.data.molecules.module import MoleculeData, Split
from spheregeo.data.molecules.molecules import Molecules
from spheregeo.data.molecules.periodic.records import open_record
from spheregeo.files import reading

__all__ = ["OC20Data", "read_oc20"]

ENERGIES = ("y", "energy", "y_relaxed")
FORCES = ("force", "forces")


def lmdb_files(source: str | Path) -> list[Path]:
    """The LMDB file itself, or those of a folder by name. Raises: FileNotFoundError where there is none."""
    path = Path(source)
    found = sorted(p for p in path.glob("*.lmdb") if p.is_file()) if path.is_dir() else [path]
    if not found or not found[0].is_file():
        raise FileNotFoundError(
            f"{path} is no .lmdb file and holds none; expected the files of an Open Catalyst set"
        )
    return found


def records(path: Path, most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and values of each record of an LMDB file, at most so many. Raises: ImportError without lmdb; ValueError as
    read_oc20.
    """
    try:
        import lmdb
    except ImportError as error:
        raise ImportError(f"{path} needs the package lmdb: pip install 'spheregeo[lmdb]'") from error
    with reading(path, "an LMDB file of pickled records"):
        store = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, meminit=False)
        try:
            with store.begin() as transaction:
                length = transaction.get(b"length")
                count = store.stat()["entries"] if length is None else int(open_record(length))
                for k in range(min(count, most)):
                    content = transaction.get(str(k).encode())
                    if content is None:
                        raise ValueError(f"record {k} of {count} is missing; is the file complete?")
                    record = open_record(content)
                    if not isinstance(record, dict):
                        raise ValueError(f"record {k} is a {type(record).__name__}; expected a data object")
                    yield k, record
        finally:
            store.close()


def read_oc20(
    source: str | Path, *, trust_pickles: bool = False, energy_key: str | None = None, limit: int = 0
) -> tuple[Molecules, Tensor]:
    """Systems of an Open Catalyst set, and the number ``sid`` of the system of each frame (the record's number without one).

    Args:
        source: an .lmdb file, or a folder of them.
        trust_pickles: open the records, which are pickles; only tensors, arrays and data objects are made of them.
        energy_key: name of the energies; one of y, energy, y_relaxed if None.
        limit: most records; 0 for all.

    Units: Å, eV and eV/Å, as the sets have them; energies counted as there, from slab and adsorbate.
    Raises: ValueError without ``trust_pickles``, and for other content; ImportError without lmdb; FileNotFoundError.
    """
    files = lmdb_files(source)
    if not trust_pickles:
        raise ValueError(
            f"{files[0]} holds pickles, which may run code of whoever made the file; where you trust it, give trust_pickles "
            "(--data.trust_pickles true): only tensors, arrays and data objects are then made of them"
        )
    parts: dict[str, list[Any]] = {
        name: []
        for name in ("numbers", "positions", "energy", "forces", "cell", "pbc", "tags", "fixed", "names")
    }
    systems: list[int] = []
    keys = (energy_key,) if energy_key else ENERGIES
    for path in files:
        most = limit - len(systems) if limit else 2**62
        for k, record in records(path, most):
            with reading(path, f"an Open Catalyst set, record {k}"):
                _add(parts, record, keys)
            parts["names"].append(f"{path.stem}:{k}" if len(files) > 1 else str(k))
            systems.append(int(record.get("sid", len(systems))))
    if not systems:
        raise ValueError(f"{source} holds no record")
    names = tuple(parts.pop("names"))
    numbers, positions = parts.pop("numbers"), parts.pop("positions")
    more: dict[str, Any] = {
        name: values if any(v is not None for v in values) else None for name, values in parts.items()
    }
    for name in ("tags", "fixed"):
        if more[name] is not None:
            more[name] = [
                np.zeros(len(z)) if v is None else v for z, v in zip(numbers, more[name], strict=True)
            ]
    return Molecules.of(numbers, positions, names=names, **more), torch.tensor(systems)


def _add(parts: dict[str, list[Any]], record: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Put a record's values to the others'. Raises: ValueError for one without atoms or energy, or of other shapes."""
    missing = [name for name in ("atomic_numbers", "pos") if name not in record]
    energy = next((record[key] for key in keys if key in record), None)
    if missing or energy is None:
        raise ValueError(
            f"it has {', '.join(sorted(record))}; expected atomic_numbers, pos and an energy ({', '.join(keys)})"
        )
    numbers, count = _array(record["atomic_numbers"]), len(record["pos"])
    forces = next((record[key] for key in FORCES if key in record), None)
    parts["numbers"].append(numbers.astype(np.int64).reshape(-1))
    parts["positions"].append(_array(record["pos"]))
    parts["energy"].append(float(_array(energy).reshape(())))
    parts["forces"].append(np.full((count, 3), np.nan) if forces is None else _array(forces))
    parts["cell"].append(_array(record["cell"]).reshape(3, 3) if "cell" in record else np.zeros((3, 3)))
    pbc = _array(record.get("pbc", [True] * 3 if "cell" in record else [False] * 3)).reshape(3)
    parts["pbc"].append(pbc.astype(bool))
    for name, kind in (("tags", np.int64), ("fixed", bool)):
        parts[name].append(_array(record[name]).astype(kind).reshape(-1) if name in record else None)


def _array(value: Any) -> np.ndarray:
    found: np.ndarray = np.asarray(
        value.numpy(force=True) if isinstance(value, Tensor) else value, np.float64
    )
    return found


class OC20Data(MoleculeData):
    """Energies and forces in the layout of the Open Catalyst sets (S2EF): LMDB files of pickled records, split by systems.

    Args:
        root: an .lmdb file, or a folder of them.
        trust_pickles: open the records, which are pickles; only tensors, arrays and data objects are made of them.
        energy_key: name of the energies; one of y, energy, y_relaxed if None.
        limit: most records that are read; 0 for all.
        val: validation systems.
        test: test systems, unless ``test_root`` is given.
        batch_size: frames in a batch.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: Å, eV and eV/Å; energies are counted from slab and adsorbate: choose ``--model.references none``.
    Raises: ValueError without ``trust_pickles``, for numbers that are too small, or too few systems; ImportError without lmdb.
    """

    def __init__(
        self,
        root: str,
        trust_pickles: bool = False,
        energy_key: str | None = None,
        limit: int = 0,
        val: int = 20,
        test: int = 20,
        batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        check_least(limit=(limit, 0), val=(val, 1), test=(test, 0 if self.test_root else 1))
        self.root, self.trust_pickles, self.energy_key, self.limit = root, trust_pickles, energy_key, limit
        self.val, self.test = val, test
        self._systems = torch.zeros(0, dtype=torch.int64)

    def _read(self, root: str) -> tuple[Molecules, Tensor]:
        return read_oc20(root, trust_pickles=self.trust_pickles, energy_key=self.energy_key, limit=self.limit)

    def read(self) -> Molecules:
        found, self._systems = self._read(self.root)
        return found

    def read_file(self, root: str) -> Molecules:
        """Read the systems of another file or folder like the root."""
        return self._read(root)[0]

    def split(self, source: Molecules) -> Split:
        known, which = self._systems.unique(return_inverse=True)
        test = self.held_out(self.test)
        if len(known) <= self.val + test:
            raise ValueError(
                f"{len(known)} systems cannot be split into some for training, {self.val} for validation and {test} for the test"
            )
        order = torch.from_numpy(np.random.RandomState(self.seed).permutation(len(known)).astype(np.int64))
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        part = torch.bucketize(place[which], torch.tensor([test, test + self.val]), right=True)
        return {name: (part == k).nonzero()[:, 0] for k, name in enumerate(("test", "val", "train"))}
