"""What a training tells of itself: the work before it begins, the time that is left; and the samples that a test shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

WARM = 3  # steps that are not timed: compilation and first allocations
TIMED = 5  # steps that are
EACH = 12  # classes of which one sample each is shown
DRAWN = 12  # samples among which the median one is looked for


def duration(seconds: float) -> str:
    """Return a time as a person would say it.

    Args:
        seconds: the time.

    Example:
        >>> duration(42.4), duration(600), duration(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def with_unit(task: Any, name: str, value: float) -> str:
    """Return a score with its name and unit, such as "val/force_mae 31.2000 meV/Å".

    Args:
        task: the task, which knows the units.
        name: name with its split.
        value: the score.
    """
    unit_of = getattr(task, "unit_of", None)
    unit = unit_of(name.rpartition("/")[2]) if unit_of is not None else ""
    return f"{name} {value:.4f} {unit}".rstrip()


def remaining(trainer: Trainer, begin: float, first: int) -> str:
    """Return how long the epochs that are left will take, with two blanks before; empty where that is not known.

    Args:
        trainer: Lightning's trainer, at the end of an epoch.
        begin: clock when the training began, as ``time.monotonic`` has it.
        first: number of the epoch with which the training began.
    """
    done = trainer.current_epoch + 1 - first
    left = (trainer.max_epochs or 0) - trainer.current_epoch - 1
    if done < 1 or left < 1 or trainer.should_stop:
        return ""
    return f"  about {duration((time.monotonic() - begin) / done * left)} left"


class StartLine(Callback):
    """Lightning callback that prints what is going to be trained, and after a few steps how long a step and all of it take.

    The first line stands before the first epoch: samples of each split, parameters, the memory that weights, gradients and
    the optimiser's two moments need. Activations are not counted.
    """

    def __init__(self) -> None:
        self._steps, self._clock = 0, 0.0

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sizes = []
        for name, loader in (("training", trainer.train_dataloader), ("validation", trainer.val_dataloaders)):
            dataset = getattr(loader, "dataset", None)
            if dataset is not None and hasattr(dataset, "__len__"):
                sizes.append(f"{len(dataset)} {name} samples")
        trained = [p for p in pl_module.parameters() if p.requires_grad]
        count = sum(p.numel() for p in pl_module.parameters())
        memory = sum(p.numel() * p.element_size() for p in pl_module.parameters())
        memory += 3 * sum(p.numel() * p.element_size() for p in trained)
        frozen = (
            f" ({sum(p.numel() for p in trained):,} trained)"
            if len(trained) < len(list(pl_module.parameters()))
            else ""
        )
        steps = trainer.num_training_batches
        parts = [
            *sizes,
            f"{steps} steps an epoch",
            f"{count:,} parameters{frozen}",
            f"{memory / 2**20:.1f} MiB with optimiser",
        ]
        print("; ".join(parts), flush=True)
        self._steps = 0

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        if self._steps == WARM:
            self._clock = time.monotonic()
        if self._steps != WARM + TIMED:
            return
        step = (time.monotonic() - self._clock) / TIMED
        total = trainer.num_training_batches * ((trainer.max_epochs or 1) - trainer.current_epoch)
        peak = ""
        if pl_module.device.type == "cuda":
            peak = f", {torch.cuda.max_memory_allocated(pl_module.device) / 2**30:.2f} GiB at most so far"
        if trainer.max_epochs and trainer.max_epochs > 0:
            print(f"{step:.3g} s a step, about {duration(step * total)} of training{peak}", flush=True)


class Chosen:
    """A few of many examples: the worst, the median and the best ones, or one of each class, or the first.

    Args:
        count: number of examples that are chosen by their error, or are the first.

    Example:
        >>> chosen = Chosen(3)
        >>> all(chosen.offer(lambda k=k: k, error) for k, error in enumerate([0.3, 0.9, 0.1, 0.5, 0.2]))
        True
        >>> chosen.examples()
        [1, 0, 2]
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._seen = 0
        self._first: list[Any] = []
        self._classes: dict[int, Any] = {}
        self._errors: list[float] = []
        self._worst: list[tuple[float, int, Any]] = []
        self._best: list[tuple[float, int, Any]] = []
        self._drawn: list[tuple[float, int, Any]] = []
        self._random = torch.Generator().manual_seed(0)

    def offer(self, example: Callable[[], Any], error: float | None, kind: int | None = None) -> bool:
        """Look at an example and keep it if need be; returns whether further examples could be chosen.

        Args:
            example: function that returns the example in a form that may be kept.
            error: how far its prediction is off; None where that is not known.
            kind: its class; None where there is none.
        """
        number, self._seen = self._seen, self._seen + 1
        if kind is not None:
            if kind not in self._classes and len(self._classes) < EACH:
                self._classes[kind] = example()
            return len(self._classes) < EACH
        if error is None or error != error:
            if len(self._first) < self.count:
                self._first.append(example())
            return error is not None or len(self._first) < self.count
        self._errors.append(error)
        few = max(1, self.count // 3)
        made: list[Any] = []

        def once() -> Any:
            if not made:
                made.append(example())
            return made[0]

        for kept, sign in ((self._worst, -1.0), (self._best, 1.0)):
            if len(kept) < few or sign * error < sign * kept[-1][0]:
                kept.append((error, number, once()))
                kept.sort(key=lambda one: (sign * one[0], one[1]))
                del kept[few:]
        if len(self._drawn) < DRAWN:
            self._drawn.append((error, number, once()))
        else:  # every example is as likely to be among those drawn
            place = int(torch.randint(len(self._errors), (), generator=self._random))
            if place < DRAWN:
                self._drawn[place] = (error, number, once())
        return True

    def examples(self) -> list[Any]:
        """Return the chosen examples: by class, or from the worst to the best."""
        if self._classes:
            return [self._classes[kind] for kind in sorted(self._classes)]
        if not self._errors:
            return self._first
        median = float(torch.tensor(self._errors, dtype=torch.float64).median())
        ends = {number: (error, example) for error, number, example in (*self._worst, *self._best)}
        middle = sorted(self._drawn, key=lambda one: (abs(one[0] - median), one[1]))
        for error, number, example in middle:
            if len(ends) >= self.count:
                break
            ends.setdefault(number, (error, example))
        return [example for _, (_, example) in sorted(ends.items(), key=lambda one: (-one[1][0], one[0]))]
