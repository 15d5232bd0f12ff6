"""What all tasks share: the loop over batches, checks of the loss, AdamW with warm-up and cosine decay (Loshchilov &
Hutter 2017, arXiv 1608.03983 and 1711.05101), and checkpoints that say how they were built.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from spheregeo.tasks.files import read_checkpoint

Batch = dict[str, Any]
# Settings without which a checkpoint's weights mean something else.
_BINDING = ("in_channels", "num_classes", "grid", "network", "width", "depth", "options", "targets", "units")


def plain(value: Any) -> Any:
    """A value as types that ``torch.load(..., weights_only=True)`` takes; grids and kernels as their ``repr``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return repr(value)  # grids and kernels: their repr evaluates back


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear rise over the first ``warmup`` share of ``total`` steps, then half a cosine down to 0."""
    warm = max(1, round(warmup * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


def class_list(names: Sequence[str] | None, num_classes: int) -> list[str]:
    """One name per class; numbers if None. Raises: ValueError when there are fewer or more."""
    found = list(names) if names is not None else [str(c) for c in range(num_classes)]
    if len(found) != num_classes:
        raise ValueError(f"class_names has {len(found)} names but num_classes is {num_classes}")
    return found


class Task(pl.LightningModule, ABC):
    """Base of the tasks. A subclass makes ``network`` and says what to run, count and draw.

    Args:
        lr, weight_decay, warmup: of AdamW and its rate, see the tasks.
        settings: the subclass's arguments, kept in checkpoints; plain types, grids and kernels.

    Raises: ValueError for a warm-up outside 0 ... 1, and in training when the loss is not finite.
    """

    monitor = "val/loss"
    mode = "min"
    network: torch.nn.Module

    def __init__(self, *, lr: float, weight_decay: float, warmup: float, settings: dict[str, Any]) -> None:
        super().__init__()
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}; it is the share of all steps, 0 <= warmup < 1")
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.mean_loss = MeanMetric()
        common = {"lr": lr, "weight_decay": weight_decay, "warmup": warmup}
        self.save_hyperparameters(plain({**settings, **common}), logger=False)

    # ---- what every task defines

    @abstractmethod
    def run(self, batch: Batch) -> Batch:
        """Check a batch and put it through the network: ``loss`` (), ``truth``, and what ``count`` wants to know."""

    @abstractmethod
    def count(self, ran: Batch) -> Batch:
        """Count what ``run`` gave into the scores; returns what ``examples`` wants to know."""

    @abstractmethod
    def summarise(self) -> dict[str, float]:
        """Scores of all that was counted since the last call; forgets the counts."""

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """Scores of the last evaluation, in detail, as plain types for a JSON file."""

    def examples(self, outputs: Batch) -> Iterable[Any]:
        """What ``count`` returned, sample by sample: what ``draw`` is given of the first few."""
        return ()

    def draw(self, folder: Path, examples: Sequence[Any]) -> None:
        """Write the pictures and tables of a test, of which ``results`` are the numbers, into a folder."""

    # ---- the loop

    def training_step(self, batch: Batch, index: int) -> Tensor:
        ran = self.run(batch)
        loss = self.check_loss(ran["loss"])
        size = len(ran["truth"])
        self.log(
            "train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size, sync_dist=True
        )
        return loss

    def _evaluate(self, batch: Batch) -> Batch:
        ran = self.run(batch)
        self.mean_loss.update(self.check_loss(ran["loss"]), weight=len(ran["truth"]))
        return self.count(ran)

    def validation_step(self, batch: Batch, index: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Batch, index: int) -> Batch:
        return self._evaluate(batch)

    def _log_scores(self, split: str) -> None:
        scores = {"loss": float(self.mean_loss.compute()), **self.summarise()}
        # The metrics have summed over the processes already: all hold the same number.
        self.log_dict({f"{split}/{k}": v for k, v in scores.items()}, prog_bar=split == "val", sync_dist=True)
        self.mean_loss.reset()

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    # ---- checks

    def take(self, batch: Batch, key: str) -> Any:
        """An entry of a batch. Raises: ValueError when the data do not give it."""
        if key not in batch:
            raise ValueError(
                f"the data give {', '.join(sorted(batch))} but {type(self).__name__} needs {key!r}; "
                "are the files for it in their folder?"
            )
        return batch[key]

    def check_loss(self, loss: Tensor) -> Tensor:
        """The loss itself, once it is found finite: no checkpoint is written after a run has diverged."""
        if not bool(torch.isfinite(loss)):
            raise ValueError(
                f"the loss is {float(loss.detach())}, so the training has diverged; lower --model.lr ({self.lr:g} now), or clip "
                "the gradient with --trainer.gradient_clip_val 1 (checkpoints written so far are intact)"
            )
        return loss

    # ---- the optimiser

    def configure_optimizers(self) -> Any:
        # Norms and biases are not decayed: they are scales and offsets, not evidence of over-fitting.
        decayed = [p for p in self.parameters() if p.requires_grad and p.dim() > 1]
        others = [p for p in self.parameters() if p.requires_grad and p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.lr)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of this step: a function of the step alone, so that a resumed run has no state to lose.

        Not a scheduler of torch's: those want the number of steps before a resumed run knows its epoch, and asking
        Lightning for it then makes worker processes read ahead in the wrong epoch.
        """
        batches = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        epochs, steps = self.trainer.max_epochs or -1, self.trainer.max_steps
        total = batches * epochs if steps < 0 else steps if epochs < 0 else min(steps, batches * epochs)
        rate = self.lr * learning_rate_factor(self.trainer.global_step, total, self.warmup)
        optimizers = self.optimizers(use_pl_optimizer=False)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            for group in optimizer.param_groups:  # type: ignore[union-attr]
                group["lr"] = rate

    # ---- checkpoints

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises: ValueError when the checkpoint to go on from holds another network, or one on another grid."""
        stored = checkpoint.get("hyper_parameters", {})
        for name in _BINDING:
            if name in stored and stored[name] != self.hparams.get(name):
                raise ValueError(
                    f"the checkpoint was written with {name} {stored[name]!r} but this run has {self.hparams.get(name)!r}; "
                    "resume with the settings it began with, or start a new run"
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["task"] = type(self).__name__


def _kind(name: Any) -> type[Task] | None:
    """The public task of that name."""
    from spheregeo import tasks

    found = getattr(tasks, name, None) if isinstance(name, str) and name in tasks.__all__ else None
    return found if isinstance(found, type) and issubclass(found, Task) else None


def load(path: str | Path, grid: Any = None, weights: bool = True) -> Task:
    """The task stored in a checkpoint, on the CPU, in evaluation mode; ``grid`` moves it to another resolution.

    Raises: FileNotFoundError, ValueError for a missing or foreign file.
    """
    content = read_checkpoint(path)
    kind = _kind(content.get("task"))
    if kind is None or getattr(kind, "__abstractmethods__", None):
        raise ValueError(
            f"{path} was not written by a spheregeo task; expected one such as Segmentation or Classification, "
            f"got {content.get('task')!r}"
        )
    arguments = {**content["hyper_parameters"], **({"grid": grid} if grid is not None else {})}
    if grid is not None and "grid" not in content["hyper_parameters"]:
        raise ValueError(f"{path} holds a {kind.__name__}, which is bound to no grid; leave the grid out")
    if grid is not None and (arguments.get("options") or {}).get("levels"):
        raise ValueError(
            "the checkpoint's network has its own list of levels, so its grid cannot be replaced"
        )
    task = kind(**arguments)
    if weights:
        missing, unexpected = task.load_state_dict(content["state_dict"], strict=False)
        if missing or unexpected:
            raise ValueError(
                f"{path} does not fit its own description: missing {missing[:3]}, unexpected {unexpected[:3]}"
            )
    return task.eval()
