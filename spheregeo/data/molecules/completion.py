"""Molecules that lack an atom, and the atom that they lack: G2, QM7 and your own files.

Batches hold the atoms that are left (numbers, positions, batch, index; see :mod:`spheregeo.data.molecules.molecules`) and of each
molecule ``removed`` (B,), the missing atom's atomic number, and ``place`` (B, 3), where it was.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.molecules.files import read_extxyz
from spheregeo.data.molecules.module import MoleculeData, Split, random_split
from spheregeo.data.molecules.modules import G2Data, QM7Data
from spheregeo.data.molecules.molecules import Batch, Molecules, symbol
from spheregeo.data.molecules.tables import read_sdf

__all__ = [
    "CompletionData",
    "G2CompletionData",
    "MissingAtoms",
    "MoleculeCompletionData",
    "QM7CompletionData",
]


class MissingAtoms(Dataset[Batch]):
    """Molecules without one of their atoms; items are whole batches.

    For training an item is a molecule, and which atom it lacks is drawn by (seed, epoch, molecule): items are (epoch, index)
    pairs. For scores an item is an atom of a molecule, the same in every epoch.

    Args:
        molecules: whole molecules; those of a single atom, of which nothing would be left, are skipped.
        each: atoms of each molecule that are removed, one an item; 0 for all; None to draw one in every epoch.
        seed: seed of the draws.

    Raises: ValueError for periodic systems, or where no molecule has two atoms.

    Example:
        >>> from spheregeo.data import Molecules
        >>> water = Molecules.of([[8, 1, 1]], [[[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]])
        >>> batch = MissingAtoms(water, each=0).__getitems__([0, 1])
        >>> batch["numbers"].tolist(), batch["removed"].tolist()
        ([1, 1, 8, 1], [8, 1])
    """

    def __init__(self, molecules: Molecules, each: int | None = None, seed: int = 0) -> None:
        if molecules.pbc is not None and bool(molecules.pbc.any()):
            raise ValueError("some molecules are periodic; expected molecules in open space, without pbc")
        several = (molecules.counts > 1).nonzero()[:, 0]
        if not len(several):
            raise ValueError(f"none of the {len(molecules)} molecules has two atoms; expected at least one")
        self.molecules, self.each, self.seed = molecules, each, seed
        items = []
        for k in several.tolist():
            count = int(molecules.counts[k])
            if each is None:
                items.append((k, -1))
            elif each == 0 or each >= count:
                items += [(k, atom) for atom in range(count)]
            else:
                number = int(molecules.index[k]) if molecules.index is not None else k
                chosen = np.random.default_rng([seed, number]).permutation(count)[:each]
                items += [(k, int(atom)) for atom in np.sort(chosen)]
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def name(self, index: int) -> str:
        """Return the molecule's name, and which atom an item lacks."""
        molecule, atom = self.items[index]
        called = self.molecules.name(molecule)
        if atom < 0:
            return called
        return f"{called} without {symbol(int(self.molecules.numbers[self.molecules.ptr[molecule] + atom]))}{atom}"

    def __getitem__(self, index: int | tuple[int, int]) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[Any]) -> Batch:
        pairs = [key if isinstance(key, tuple) else (0, key) for key in indices]
        chosen, removed = [], []
        for epoch, index in pairs:
            molecule, atom = self.items[index]
            if atom < 0:
                count = int(self.molecules.counts[molecule])
                atom = int(np.random.default_rng([self.seed, epoch, index]).integers(count))
            chosen.append(molecule)
            removed.append(atom)
        whole = self.molecules.select(chosen)
        gone = whole.ptr[:-1] + torch.tensor(removed)
        left = torch.ones(len(whole.numbers), dtype=torch.bool)
        left[gone] = False
        owner = torch.repeat_interleave(torch.arange(len(whole)), whole.counts)
        return {
            "numbers": whole.numbers[left],
            "positions": whole.positions[left],
            "batch": owner[left],
            "index": torch.tensor([index for _, index in pairs]),
            "removed": whole.numbers[gone],
            "place": whole.positions[gone],
        }


class CompletionData(MoleculeData):
    """Base class of the data modules of molecules that lack an atom. A subclass implements ``read`` and ``split``.

    Args:
        each: atoms of each molecule of validation and test that are removed, one a sample, drawn by the seed; 0 for all. In
            training
            another one is removed in every epoch.
        **kwargs: arguments of :class:`MoleculeData`.

    Shape: batches as :mod:`spheregeo.data.molecules.completion` has them.
    Raises: ValueError for numbers that are too small, periodic systems, molecules of single atoms alone.
    """

    must_agree: tuple[str, ...] = ()  # type: ignore[assignment]
    drawn_anew = True

    def __init__(self, *, each: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_least(each=(each, 0))
        self.each = each

    def make(self, split: str) -> MissingAtoms:  # type: ignore[override]
        """Make the dataset of a split."""
        return MissingAtoms(self.molecules(split), None if split == "train" else self.each, self.seed)


def without_targets(molecules: Molecules) -> Molecules:
    """Molecules with neither targets nor energies and forces, which completion does not ask for."""
    return replace(molecules, targets={}, vectors={}, atomic={}, units={}, energy=None, forces=None)


class _Published(CompletionData):
    """Base class of the modules of published sets, whose molecules and splits are those of another module."""

    inner: MoleculeData

    def read(self) -> Molecules:
        return without_targets(self.inner.read())

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of another file or folder."""
        return without_targets(self.inner.read_file(root))

    def split(self, source: Molecules) -> Split:
        return self.inner.split(source)


class G2CompletionData(_Published):
    """The 148 molecules of the G2 set, each without one of its atoms: built in, no download.

    Args:
        val: number of validation molecules.
        test: number of test molecules.
        each: atoms of each of those that are removed, one a sample; 0 for all.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: Å.
    Raises: ValueError for numbers that are too small.

    Example:
        >>> data = G2CompletionData(each=0)
        >>> len(data.molecules("test")), len(data.dataset("test"))
        (28, 156)
    """

    def __init__(self, val: int = 20, test: int = 28, *, each: int = 0, **kwargs: Any) -> None:
        super().__init__(each=each, **kwargs)
        self.inner = G2Data([], val=val, test=test, seed=self.seed, test_root=self.test_root)
        self.val, self.test = val, test


class QM7CompletionData(_Published):
    """QM7's molecules, each without one of its atoms.

    Args:
        root: folder or file with QM7, see datasets/qm7/README.md.
        fold: which of the five official folds is the test, 0 to 4 (qm7.mat only); a random split by seed if None.
        train: training molecules of a random split; 0 for all that are left.
        val: validation molecules, taken from the training folds.
        test: test molecules of a random split; what train and val leave if 0.
        each: atoms of each molecule of validation and test that are removed, one a sample; 0 for all.
        batch_size: molecules in a batch.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: Å.
    Raises: ValueError for an unknown fold or numbers that are too small; FileNotFoundError without the files, when a split is
        first read.
    """

    def __init__(
        self, root: str, fold: int | None = None, train: int = 5000, val: int = 100, test: int = 0, *, each: int = 1,
        batch_size: int = 32, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(each=each, batch_size=batch_size, **kwargs)
        self.inner = QM7Data(root, [], None, fold, train, val, test, seed=self.seed, test_root=self.test_root)
        self.root, self.fold = root, fold
        self.train, self.val, self.test = train, val, test


class MoleculeCompletionData(CompletionData):
    """Your own molecules, each without one of its atoms: extended XYZ files, or one SDF file.

    Args:
        root: an extended XYZ or SDF file, or a folder of extended XYZ files, with whole molecules.
        val_share: share of the molecules that validate.
        test_share: share of the molecules for the test.
        each: atoms of each molecule of validation and test that are removed, one a sample; 0 for all.
        batch_size: molecules in a batch.
        **kwargs: arguments of :class:`MoleculeData`; ``seed`` is also that of the split.

    Units: Å.
    Raises: ValueError for shares that leave nothing to train on, files that cannot be read, periodic systems.
    """

    def __init__(
        self, root: str, val_share: float = 0.1, test_share: float = 0.1, *, each: int = 1, batch_size: int = 32,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(each=each, batch_size=batch_size, **kwargs)
        if not (0 < val_share < 1 and 0 < test_share < 1 and val_share + test_share < 1):
            raise ValueError(
                f"val_share is {val_share} and test_share {test_share}; expected shares between 0 and 1 that leave some "
                "for training"
            )
        self.root, self.val_share, self.test_share = root, val_share, test_share

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of a file or folder."""
        if Path(root).suffix.lower() == ".sdf":
            numbers, positions, titles = read_sdf(Path(root))
            return Molecules.of(numbers, positions, names=tuple(titles))
        return without_targets(read_extxyz(root))

    def read(self) -> Molecules:
        return self.read_file(self.root)

    def split(self, source: Molecules) -> Split:
        count = len(source)
        val, test = (max(1, round(share * count)) for share in (self.val_share, self.test_share))
        return random_split(count, val, self.held_out(test), self.seed)
