"""The base of the data modules of molecules: everything in memory, a batch is one gather, shuffled by (seed, epoch) alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spheregeo.checks import check_least, nearest
from spheregeo.data.common import check_split
from spheregeo.data.module import DataModule
from spheregeo.data.molecules.edges import EdgeBatches, count_edges
from spheregeo.data.molecules.molecules import Batch, Molecules
from spheregeo.lazy import cached_property

__all__ = ["MoleculeData"]

Split = dict[str, Tensor]


class MoleculeSet(Dataset[Batch]):
    """Molecules as a dataset whose items are whole batches: ``__getitems__`` gathers them in one step."""

    def __init__(self, molecules: Molecules, targets: Sequence[str]) -> None:
        self.molecules, self.targets = molecules, tuple(targets)

    def __len__(self) -> int:
        return len(self.molecules)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.molecules.batch(indices, self.targets)


def random_split(count: int, val: int, test: int, seed: int, train: int = 0) -> Split:
    """A permutation of ``count`` numbers by seed, cut into test, val and train, in this order; ``train`` 0 takes the rest.

    Test and validation do not depend on the size of the training part: learning curves are comparable.

    Raises: ValueError when there are not enough.
    """
    rest = count - val - test
    if rest < max(train, 1):
        raise ValueError(
            f"{count} molecules cannot be split into {train or 'some'} for training, {val} for validation and {test} for the test"
        )
    order = torch.from_numpy(np.random.RandomState(seed).permutation(count).astype(np.int64))
    return {
        "test": order[:test],
        "val": order[test : test + val],
        "train": order[test + val : test + val + (train or rest)],
    }


class MoleculeData(DataModule[MoleculeSet]):
    """Base class of the data modules of molecules. A subclass implements ``read`` and ``split``.

    Args:
        batch_size: molecules in a batch.
        max_edges: most edges of a batch, which has ``batch_size`` molecules at most; 0 for batches of that size. For trainings
            in one process.
        edge_cutoff: longest edge that ``max_edges`` counts, Å: the network's cutoff.
        train_size: how many of the training molecules are used, the first of the split; 0 for all. For learning curves.
        test_root: a file or folder of its own for the test, read as the training molecules are; a part of those if None. Built-in
            molecules are tested on extended XYZ.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`, without ``num_workers``; random splits use ``seed``
            too.

    Shape: batches as :mod:`spheregeo.data.molecules.molecules` has them.
    Raises: ValueError for numbers that are too small.
    """

    must_agree = ("targets", "units")

    # Names of all targets that the data may have, where they are known before the files are read.
    target_names: ClassVar[tuple[str, ...]] = ()
    # Path of the molecules, where they come from files.
    root: str = ""

    def __init__(
        self, *, batch_size: int = 10, max_edges: int = 0, edge_cutoff: float = 5.0, train_size: int = 0,
        test_root: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(batch_size=batch_size, num_workers=0, **kwargs)
        check_least(train_size=(train_size, 0), max_edges=(max_edges, 0))
        if not edge_cutoff > 0:
            raise ValueError(f"edge_cutoff is {edge_cutoff}; expected a positive length in Å")
        self.max_edges, self.edge_cutoff = max_edges, edge_cutoff
        self.train_size, self.test_root = train_size, test_root
        self._parts: dict[str, Molecules] = {}

    @abstractmethod
    def read(self) -> Molecules:
        """Read all molecules of the source."""

    @abstractmethod
    def split(self, source: Molecules) -> Split:
        """Return the numbers of the molecules that train, validate and test."""

    def read_file(self, root: str) -> Molecules:
        """Read the molecules of another file or folder, with the targets that the data have.

        Args:
            root: the file or folder.

        Raises: ValueError where the data have no such files.
        """
        raise ValueError(f"{type(self).__name__} reads no files; test_root is {root!r}, expected none")

    def held_out(self, count: int) -> int:
        """How many of the source's molecules are held out for the test: ``count``, or none where the test has its own file."""
        return 0 if self.test_root is not None else count

    def make(self, split: str) -> MoleculeSet:
        """Make the dataset of a split, which gathers whole batches."""
        return MoleculeSet(self.molecules(split), self.targets)

    def _loader(self, split: str) -> DataLoader[Any]:
        loader = super()._loader(split)
        if not self.max_edges:
            return loader
        sampler: Any = loader.sampler
        if getattr(sampler, "num_replicas", 1) > 1:
            raise ValueError(
                f"max_edges is {self.max_edges} in a training of several processes, whose batches would be of different numbers; "
                "expected 0"
            )
        train = split == "train"
        edges = count_edges(self.molecules(split), self.edge_cutoff)
        over = int((edges > self.max_edges).sum())
        if over and train:
            print(
                f"{over} of {len(edges)} molecules have more than {self.max_edges} edges; each is a batch of its own"
            )
        size = self.batch_size if train else self.eval_batch_size
        batches = EdgeBatches(sampler, edges, self.max_edges, size, shuffled=train)
        return DataLoader(
            self.items(split),
            batch_sampler=batches,
            collate_fn=self.collate,
            pin_memory=torch.cuda.is_available(),
        )

    @cached_property
    def source(self) -> Molecules:
        """All molecules of the source, read once."""
        return self.read()

    @cached_property
    def _split(self) -> Split:
        found = self.split(self.source)
        if self.train_size > len(found["train"]):
            raise ValueError(
                f"train_size is {self.train_size} but there are {len(found['train'])} training molecules; expected at most that"
            )
        if self.train_size:
            found = {**found, "train": found["train"][: self.train_size]}
        return found

    def readings(self, split: str) -> tuple[int, Callable[[int], Any]]:
        """Return the files of the root for training and those of ``test_root`` for the test, each of them one reading."""
        root = {"train": self.root, "test": self.test_root}.get(split)
        if not self.root and not root:
            return super().readings(split)
        if not root:
            return 0, lambda _: None
        files = sorted(str(path) for path in _files(root) if path.suffix.lower() in (".xyz", ".extxyz"))
        if len(files) < 2:
            return 1, lambda _: self.source if split == "train" else self.read_file(root)
        return len(files), lambda number: self.read_file(files[number])

    def unmatched(self) -> list[str]:
        return []

    def labels(self, split: str) -> Sequence[int]:
        return ()

    def molecules(self, split: str) -> Molecules:
        """Return the molecules of a split."""
        if split not in self._parts:
            own = check_split(split) == "test" and self.test_root is not None
            self._parts[split] = self._own_test() if own else self.source.select(self._split[split])
        return self._parts[split]

    def _own_test(self) -> Molecules:
        """The molecules of ``test_root``. Raises: ValueError where some of its files train."""
        assert self.test_root is not None
        if self.root:
            shared = _files(self.root) & _files(self.test_root)
            if shared:
                raise ValueError(
                    f"{min(shared)} is in root and in test_root; expected molecules for the test that do not train"
                )
        return self.read_file(self.test_root)

    @property
    def targets(self) -> list[str]:
        """Names of the targets: numbers of molecules in the order of the batches' columns, then vectors, then those of atoms."""
        return [*self.source.targets, *self.source.vectors, *self.source.atomic]

    @property
    def kinds(self) -> list[str]:
        """What each target is: "molecule" for a number, "vector" for a vector of it, "atom" for a number of each atom."""
        return [self.source.kind(name) for name in self.targets]

    @property
    def units(self) -> list[str]:
        """The targets' units."""
        return [self.source.units[name] for name in self.targets]

    @property
    def additive(self) -> list[str]:
        """The targets that add up over atoms, up to a rest that is worth learning."""
        return []

    def atom_references(self, target: str) -> Tensor | None:
        """Values of free atoms (119,) in the target's unit, where the data know them."""
        return None

    @property
    def isolated(self) -> dict[int, float] | None:
        """Energies in eV of free atoms, where the data know them."""
        return None


def _files(root: str) -> set[Path]:
    path = Path(root)
    return {p.resolve() for p in path.rglob("*") if p.is_file()} if path.is_dir() else {path.resolve()}


def check_names(targets: Iterable[str], units: Iterable[str], known: Sequence[str]) -> None:
    """Check the names of targets, and of those that a unit is given for, against those that there are.

    Args:
        targets: names of the wanted targets.
        units: names of targets with a unit.
        known: names that there are.

    Raises: ValueError for an unknown one, with the nearest ones.
    """
    for name in targets:
        if name not in known:
            raise ValueError(
                f"target {name!r} is none of the data's: {', '.join(known)}{nearest(name, known)}"
            )
    for name in units:
        if name not in known:
            raise ValueError(
                f"units name {name!r}, but the targets are {', '.join(targets)}{nearest(name, known)}"
            )


def pick(molecules: Molecules, targets: Sequence[str], units: dict[str, str] | None) -> Molecules:
    """The molecules with the named targets alone, some in other units; a unit of a target that is not wanted is no error.

    Raises: ValueError for an unknown one.
    """
    check_names(targets, units or {}, [*molecules.targets, *molecules.vectors, *molecules.atomic])
    places: dict[str, dict[str, Tensor]] = {"molecule": {}, "vector": {}, "atom": {}}
    held = {**molecules.targets, **molecules.vectors, **molecules.atomic}
    for name in targets:
        places[molecules.kind(name)][name] = held[name]
    chosen = replace(molecules, targets=places["molecule"], vectors=places["vector"], atomic=places["atom"])
    return chosen.in_units({name: unit for name, unit in (units or {}).items() if name in targets})
