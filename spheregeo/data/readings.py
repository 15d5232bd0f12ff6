"""All of a data module's files read once, in parallel, with every bad one named: what ``spheregeo check`` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spheregeo.data.common import IGNORE, SPLITS

if TYPE_CHECKING:
    from spheregeo.data.module import DataModule

__all__ = ["Reading", "read_all"]

_one_by_one: ContextVar[bool] = ContextVar("one_by_one", default=False)


@contextmanager
def one_by_one() -> Iterator[None]:
    """Let datasets leave faults of single samples to the reading of those samples inside the block."""
    token = _one_by_one.set(True)
    try:
        yield
    finally:
        _one_by_one.reset(token)


def reads_one_by_one() -> bool:
    """Whether a fault of a single sample, such as a missing label, has to wait until the sample is read."""
    return _one_by_one.get()


@dataclass
class Reading:
    """What reading all of a data module's files has shown.

    Args:
        counts: number of readings by split.
        faults: (split, message) of every reading that failed.
        classes: number of samples by class index, by split; of points of the grid where each point has a class.

    Example:
        >>> Reading(counts={"train": 8}, faults=[("train", "3.png cannot be read")]).faults
        [('train', '3.png cannot be read')]
    """

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    classes: dict[str, Counter[int]] = field(default_factory=dict)


class _Attempts(Dataset[Any]):
    """Readings whose faults are values: (message or "", classes) by number."""

    def __init__(self, count: int, read: Callable[[int], Any]) -> None:
        self.count, self.read = count, read

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, Counter[int]]:
        try:
            item = self.read(index)
        except Exception as error:
            return " ".join(str(error).split()) or type(error).__name__, Counter()
        label = item.get("label") if isinstance(item, dict) else getattr(item, "label", None)
        if isinstance(label, Tensor) and not label.is_floating_point():
            values, counts = label.flatten().unique(return_counts=True)
            return "", Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        return "", Counter()


def _as_it_is(attempt: Any) -> Any:
    return attempt


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def read_all(
    module: DataModule[Any], workers: int = 0, progress: Callable[[Any, int, str], Any] | None = None
) -> Reading:
    """Read every file of every split once; faults are collected, none stops the others.

    Args:
        module: the data module.
        workers: processes that read; 0 reads in this process.
        progress: function of (readings, their number, name of the split) that returns the readings, such as a progress bar.

    Returns: counts, faults and classes.

    Example:
        >>> from spheregeo.data import PrimitiveCloudsData
        >>> read_all(PrimitiveCloudsData(train=8, val=2, test=2, num_points=64)).counts
        {'train': 8, 'val': 2, 'test': 2}
    """
    found = Reading()
    for split in SPLITS:
        try:
            with one_by_one():
                count, read = module.readings(split)
                if split == "train":
                    found.faults += [(split, message) for message in module.unmatched()]
        except Exception as error:
            message = " ".join(str(error).split()) or type(error).__name__
            if not any(message == earlier for _, earlier in found.faults):
                found.faults.append((split, message))
            continue
        if not count:
            continue
        loader = DataLoader(
            _Attempts(count, read), batch_size=None, num_workers=min(workers, count), collate_fn=_as_it_is,
            worker_init_fn=_one_thread,
        )  # fmt: skip
        classes: Counter[int] = Counter()
        for message, labels in progress(loader, count, split) if progress else loader:
            classes.update(labels)
            if message:
                found.faults.append((split, message))
        found.counts[split] = count
        if not classes:  # samples whose class is known without reading them
            classes.update(int(label) for label in module.labels(split))
        classes.pop(IGNORE, None)
        if classes:
            found.classes[split] = classes
    return found
