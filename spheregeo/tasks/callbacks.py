"""Lightning callbacks of the tasks: seeds per epoch, a line per epoch, the report of a test, the curves of a fit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from spheregeo.tasks.depth import Depth
from spheregeo.tasks.files import write_json
from spheregeo.tasks.pictures import (
    as_rgb,
    colour,
    colour_depth,
    confusion_picture,
    curves_picture,
    sheet_picture,
    world_picture,
)  # fmt: skip
from spheregeo.tasks.projections import to_panorama
from spheregeo.tasks.segmentation import Segmentation


class EpochSeed(Callback):
    """Every epoch starts from random states that depend on (seed, epoch, process) only.

    Data order and augmentation of epoch n are then the same in an unbroken run and in one resumed before n.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._resumed = False

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._resumed = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        states = np.random.SeedSequence(
            [self.seed, trainer.current_epoch, trainer.global_rank]
        ).generate_state(3)
        torch.manual_seed(int(states[0]))
        np.random.seed(int(states[1]))
        random.seed(int(states[2]))
        if self._resumed:
            # Lightning opens the loader of a resumed run before it tells the sampler the epoch, and worker processes
            # have read ahead in epoch 0 by now: open it again.
            iter(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
            self._resumed = False


class EpochLine(Callback):
    """One printed line per epoch, for logs that are files rather than terminals."""

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        words = "  ".join(f"{k} {v:.4f}" for k, v in sorted(values.items()))
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {words}", flush=True)


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
    """Writes metrics.json, predictions.png, world.png and, for classes, confusion.png into the run's folder."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, folder: str | Path, samples: int = 6, extra: dict[str, Any] | None = None) -> None:
        self.folder, self.samples, self.extra = Path(folder), samples, dict(extra or {})
        self._kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        for triple in zip(outputs["image"], outputs["truth"], outputs["prediction"], strict=True):
            if len(self._kept) < self.samples:
                self._kept.append(tuple(t.detach().float().cpu() for t in triple))  # type: ignore[arg-type]

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, (Segmentation, Depth)):
            raise TypeError(f"the report knows Segmentation and Depth, not {type(pl_module).__name__}")
        results = pl_module.results()
        write_json(self.folder / "metrics.json", {**self.extra, **results})
        names = pl_module.class_names if isinstance(pl_module, Segmentation) else None
        rows = [self._row(pl_module, *triple) for triple in self._kept]
        if names:
            confusion_picture(self.folder / "confusion.png", np.asarray(results["confusion"]), names)
        if rows:
            sheet_picture(self.folder / "predictions.png", rows, names)
            world_picture(self.folder / "world.png", rows[0][2], "prediction (Mollweide)", names)
        self._kept.clear()

    @staticmethod
    def _row(task: Segmentation | Depth, *triple: torch.Tensor) -> tuple[Any, Any, Any]:
        image, truth, prediction = triple
        picture = as_rgb(np.stack([to_panorama(channel, task.grid) for channel in image]))
        fields = [to_panorama(f, task.grid) for f in (truth, prediction)]
        if isinstance(task, Segmentation):
            known = np.where(fields[0] == task.ignore_index, 255, fields[0])
            return picture, colour(known, task.num_classes), colour(fields[1], task.num_classes)
        valid = fields[0][np.isfinite(fields[0])]
        limit = float(np.quantile(valid, 0.99)) if valid.size else None
        return picture, colour_depth(fields[0], limit), colour_depth(fields[1], limit)
