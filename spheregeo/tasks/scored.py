"""A score of each sample of a test, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from spheregeo.tasks.answers import GrowingTable
from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import Batch
from spheregeo.tasks.predictions import Predictions, sample_names


class ScoredSamples(Task):
    """Base of the tasks whose tests score each sample by :meth:`example_error`.

    Args:
        common: arguments of the other bases.
    """

    # Score of a sample in the table of a test, and whether it is 1 less its error; none if empty.
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ()

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.sample_scores, self._tested = Predictions(), 0
        self._by_sample: list[list[Any]] = []  # name and score of each sample of the last test

    def test_step(self, batch: Batch, index: int) -> Batch:
        outputs = super().test_step(batch, index)
        if self.sample_score:
            errors = torch.tensor([self.example_error(example) for example in self.examples(outputs)])
            # a loader without shuffling gives every so-manieth sample to a process
            trainer: Any = self._trainer
            world, rank = (trainer.world_size, trainer.global_rank) if trainer is not None else (1, 0)
            numbers = (torch.arange(len(errors)) + self._tested) * world + rank
            self._tested += len(errors)
            parts = torch.zeros(len(errors)).long(), errors[:, None], batch.get("index", numbers)
            self.sample_scores.update(*(part.to(self.device) for part in parts))
        return outputs

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        if self.sample_score:
            numbers, _, errors = self.sample_scores.compute()
            # of a single sample torchmetrics gives bare numbers
            numbers, errors = numbers.reshape(-1), errors.reshape(-1, 1)
            names = sample_names(self._trainer, numbers.tolist()) or {}
            scores = [1 - e for e in errors[:, 0].tolist()] if self.sample_score[1] else errors[:, 0].tolist()
            self._by_sample = [
                [names.get(k, k), score] for k, score in zip(numbers.tolist(), scores, strict=True)
            ]
            self.sample_scores.reset()
            self._tested = 0

    def write_scores(self, folder: Path) -> None:
        """Write ``predictions.csv``, a row for each sample of the last test, where samples are scored.

        Args:
            folder: where the table goes.
        """
        if self._by_sample:
            assert self.sample_score
            table = GrowingTable(
                folder / "predictions.csv", ["sample", self.sample_score[0]], self._by_sample
            )
            table.close()
