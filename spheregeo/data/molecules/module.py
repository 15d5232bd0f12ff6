"""What all data modules of molecules share: everything in memory, a batch is one gather, shuffled by (seed, epoch) alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spheregeo.data.common import EpochSampler, check_split
from spheregeo.data.labelled import check_counts
from spheregeo.data.molecules.molecules import Batch, Molecules

Split = dict[str, Tensor]


class MoleculeSet(Dataset[Batch]):
    """Molecules as a dataset whose items are whole batches: ``__getitems__`` gathers them in one step."""

    def __init__(self, molecules: Molecules, targets: Sequence[str]) -> None:
        self.molecules, self.targets = molecules, tuple(targets)

    def __len__(self) -> int:
        return len(self.molecules)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[Any]) -> Batch:
        plain = [k[1] if isinstance(k, tuple) else k for k in indices]  # EpochSampler says (epoch, index)
        return self.molecules.batch(plain, self.targets)


def _whole(batch: Any) -> Any:
    return batch


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


class MoleculeData(LightningDataModule):
    """What all data modules of molecules share; subclasses read the source and split it.

    Args:
        batch_size: molecules in a batch.
        train_size: how many of the training molecules are used, the first of the split; 0 for all. For learning curves.
        seed: of the order, and of splits that are random.
        eval_batch_size: molecules in a batch of validation and test; as in training if 0.
    """

    def __init__(self, batch_size: int, train_size: int, seed: int, eval_batch_size: int = 0) -> None:
        super().__init__()
        check_counts(
            batch_size=(batch_size, 1), train_size=(train_size, 0), seed=(seed, 0), eval_batch_size=(eval_batch_size, 0)
        )  # fmt: skip
        self.batch_size, self.train_size, self.seed = batch_size, train_size, seed
        self.eval_batch_size = eval_batch_size or batch_size
        self._parts: dict[str, Molecules] = {}

    @abstractmethod
    def read(self) -> Molecules:
        """All molecules of the source."""

    @abstractmethod
    def split(self, source: Molecules) -> Split:
        """Numbers of the molecules that train, validate and test."""

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

    def molecules(self, split: str) -> Molecules:
        """The molecules of a split."""
        if split not in self._parts:
            self._parts[check_split(split)] = self.source.select(self._split[split])
        return self._parts[split]

    @property
    def targets(self) -> list[str]:
        """Names of the targets, in the order of the batches' columns."""
        return list(self.source.targets)

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

    def _loader(self, split: str, size: int, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            MoleculeSet(self.molecules(split), self.targets), size, collate_fn=_whole, **options
        )

    def train_dataloader(self) -> DataLoader[Any]:
        data = MoleculeSet(self.molecules("train"), self.targets)
        return DataLoader(
            data, self.batch_size, collate_fn=_whole, sampler=EpochSampler(data, shuffle=True, seed=self.seed)
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test", self.eval_batch_size)

    def state_dict(self) -> dict[str, Any]:
        return {"targets": self.targets, "units": self.units}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore. Raises: ValueError if the checkpoint knew other targets or units."""
        for name, value in self.state_dict().items():
            if value != state_dict[name]:
                raise ValueError(
                    f"the checkpoint was trained with {name} {state_dict[name]} but the data have {value}; "
                    "resume with the data it began with"
                )


def pick(molecules: Molecules, targets: Sequence[str], units: dict[str, str] | None) -> Molecules:
    """The molecules with the named targets alone, some in other units. Raises: ValueError for an unknown one."""
    for name in targets:
        if name not in molecules.targets:
            raise ValueError(f"target {name!r} is none of the data's: {', '.join(molecules.targets)}")
    for name in units or {}:
        if name not in targets:
            raise ValueError(f"units name {name!r}, but the targets are {', '.join(targets)}")
    chosen = replace(molecules, targets={name: molecules.targets[name] for name in targets})
    return chosen.in_units(units or {})
