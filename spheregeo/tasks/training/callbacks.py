"""Lightning callbacks of the tasks: seeds per epoch, a line per epoch, the report of a test, the curves of a fit."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from spheregeo.tasks.base import Task
from spheregeo.tasks.files import write_json
from spheregeo.tasks.pictures.fields import curves_picture
from spheregeo.tasks.training.progress import Chosen, remaining, with_unit


class EpochSeed(Callback):
    """Lightning callback that starts every epoch from random states of (seed, epoch) alone, the same in all processes.

    Data order, augmentation and dropout of epoch n are then the same in an unbroken run and in one resumed before n, and those of
    several processes the same as of one. The data module of a resumed run is told the epoch with which its training loader
    begins.

    Args:
        seed: seed of all epochs.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._next = 0  # the epoch that runs, or follows where one has ended

    def state_dict(self) -> dict[str, Any]:
        return {"next_epoch": self._next}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Of checkpoints that hold no state of this callback; those were written at the end of their epoch.
        self._next = checkpoint["epoch"] + 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._next = state_dict["next_epoch"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.datamodule is not None:  # type: ignore[attr-defined]
            trainer.datamodule.first_epoch = self._next  # type: ignore[attr-defined]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._next = trainer.current_epoch + 1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._next = trainer.current_epoch
        states = np.random.SeedSequence([self.seed, trainer.current_epoch, 0]).generate_state(3)
        torch.manual_seed(int(states[0]))
        np.random.seed(int(states[1]))
        random.seed(int(states[2]))


class EpochLine(Callback):
    """One printed line per epoch, with units and the time that is left, for logs that are files rather than terminals."""

    def __init__(self) -> None:
        self._begin, self._first = time.monotonic(), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Asked for in every process: the first to ask makes them exchange their means.
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        if not trainer.is_global_zero:
            return
        words = "  ".join(with_unit(pl_module, k, v) for k, v in sorted(values.items()))
        left = remaining(trainer, self._begin, self._first)
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {words}{left}", flush=True)


class Curves(Callback):
    """Draws ``curves.png`` into the run's folder when the training ends."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logs = self.folder.glob("logs/version_*/metrics.csv")
        curves_picture(
            self.folder / "curves.png", sorted(logs, key=lambda p: int(p.parent.name.split("_")[1]))
        )


class TestReport(Callback):
    """Writes metrics.json and pictures of a task's samples into the run's folder: worst, median and best, one of each class.

    Where a task knows neither errors nor classes of its examples, the first few are shown.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, folder: str | Path, samples: int = 6, extra: dict[str, Any] | None = None) -> None:
        self.folder, self.samples, self.extra = Path(folder), samples, dict(extra or {})
        self._chosen = Chosen(samples)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        if not isinstance(pl_module, Task):
            raise TypeError(f"the report knows the tasks of spheregeo, not {type(pl_module).__name__}")
        for example in pl_module.examples(outputs):
            error, kind = pl_module.example_error(example), pl_module.example_class(example)
            if not self._chosen.offer(partial(_at_rest, example), error, kind):
                break

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Task)
        write_json(self.folder / "metrics.json", {**self.extra, **pl_module.report()})
        pl_module.plot(self.folder, self._chosen.examples())
        self._chosen = Chosen(self.samples)
        if text := pl_module.summary():
            print(text, flush=True)


def _at_rest(example: Any) -> Any:
    """An example whose tensors are on the CPU, without a graph, floating point in float32."""
    if isinstance(example, torch.Tensor):
        found = example.detach().cpu()
        return found.float() if found.is_floating_point() else found
    if isinstance(example, (tuple, list)):
        return tuple(_at_rest(part) for part in example)
    return example
