"""The base of all data modules: one dataset per split, its loaders, and the data's part of a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from spheregeo.checks import check_least
from spheregeo.data.batches import collate
from spheregeo.data.common import EpochSampler, check_split, evaluation_batch_size

__all__ = ["DataModule"]

Data = TypeVar("Data", bound=Dataset[Any])


class DataModule(LightningDataModule, ABC, Generic[Data]):
    """Base class of all data modules. A subclass implements :meth:`make`, which returns the dataset of a split.

    Training items are shuffled by (seed, epoch) alone, whatever the number of workers, so that a run that was killed and resumed
    sees what an unbroken run sees. A subclass states its own arguments and takes those of its bases as ``**kwargs``; the command
    line lists and checks both.

    Args:
        batch_size: items in a batch.
        eval_batch_size: items in a batch of validation and test; as in training if 0.
        num_workers: processes that load data; 0 loads in the training process.
        seed: seed of the order and of everything that is drawn at random.

    Raises: ValueError for numbers that are too small.

    Example:
        >>> from spheregeo.data import PrimitiveCloudsData
        >>> data = PrimitiveCloudsData(train=8, val=2, test=2, num_points=64, batch_size=4)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["positions"].shape, batch["label"].shape
        (torch.Size([256, 3]), torch.Size([4]))
    """

    # Attributes that a checkpoint records and that have to agree when a run is resumed on these data.
    must_agree: tuple[str, ...] = ("class_names",)
    # Attributes that a checkpoint records for those who predict.
    constants: tuple[str, ...] = ()
    # True if training items change from epoch to epoch: their dataset is then indexed by (epoch, index).
    drawn_anew = False
    # Epoch with which training loaders begin. A resumed run opens its loader, and worker processes read ahead, before
    # Lightning tells the sampler the epoch.
    first_epoch = 0
    collate = staticmethod(collate)

    def __init__(
        self, *, batch_size: int = 8, eval_batch_size: int = 0, num_workers: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        check_least(
            batch_size=(batch_size, 1), eval_batch_size=(eval_batch_size, 0), num_workers=(num_workers, 0), seed=(seed, 0)
        )  # fmt: skip
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.num_workers, self.seed = num_workers, seed
        self._datasets: dict[str, Data] = {}

    @abstractmethod
    def make(self, split: str) -> Data:
        """Make the dataset of a split, "train", "val" or "test"."""

    def dataset(self, split: str) -> Data:
        """Return the dataset of a split, made when first asked for."""
        if split not in self._datasets:
            self._datasets[split] = self.make(check_split(split))
        return self._datasets[split]

    def items(self, split: str) -> Dataset[Any]:
        """Return what the loader of a split reads: the dataset of the split, unless a subclass augments or normalises it."""
        return self.dataset(split)

    def readings(self, split: str) -> tuple[int, Callable[[int], Any]]:
        """Return how many readings a split takes, and the function of a number that does one: the samples as they are stored.

        Args:
            split: "train", "val" or "test".

        Raises: FileNotFoundError, ValueError for a split that cannot be read at all.
        """
        data: Any = self.dataset(split)
        return len(data), getattr(data, "load", data.__getitem__)

    def unmatched(self) -> list[str]:
        """Return a message for every file of the data that belongs to no sample."""
        find = getattr(self.dataset("train"), "unmatched", None)
        return [] if find is None else list(find())

    def labels(self, split: str) -> Sequence[int]:
        """Return the class of every sample of a split where classes are known without reading the samples; else nothing."""
        return getattr(self.dataset(split), "labels", ())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices; empty where there are none."""
        return tuple(getattr(self.dataset("train"), "class_names", ()))

    @property
    def num_classes(self) -> int:
        """Number of the classes."""
        return len(self.class_names)

    def _loader(self, split: str) -> DataLoader[Any]:
        data, train = self.items(split), split == "train"
        items = len(data)  # type: ignore[arg-type]
        size = self.batch_size if train else evaluation_batch_size(items, self.eval_batch_size)
        pairs, first = (self.drawn_anew, self.first_epoch) if train else (False, 0)
        sampler = EpochSampler(data, train, self.seed, pairs, first, size)
        return DataLoader(
            data, size, collate_fn=self.collate, sampler=sampler if train or sampler.num_replicas > 1 else None,
            num_workers=self.num_workers, persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training items, shuffled."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation items, in their order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the test items, in their order."""
        return self._loader("test")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint records of the data, in plain types."""
        return {name: _plain(getattr(self, name)) for name in (*self.constants, *self.must_agree)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the data are those of the checkpoint; nothing has to be restored.

        Args:
            state_dict: what :meth:`state_dict` returned when the checkpoint was written.

        Raises: ValueError if they are others.
        """
        for name in self.must_agree:
            recorded, found = state_dict[name], _plain(getattr(self, name))
            if found != _plain(recorded):
                raise ValueError(
                    f"the checkpoint was trained with {name} {_shown(recorded)} but the data have {_shown(found)}; "
                    "resume with the data it began with"
                )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
