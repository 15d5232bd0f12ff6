"""One class for each sample: cross-entropy, accuracy, mean class accuracy, macro-F1, AUC, every prediction as a table.

What a sample is (a signal on the sphere, a cloud of points, a mesh) is the business of a subclass of ``LabelTask``, which
turns a batch into logits; everything after the logits is here, once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from spheregeo.tasks.base import Task
from spheregeo.tasks.checks import Batch, check_classes, class_list, take
from spheregeo.tasks.losses import cross_entropy
from spheregeo.tasks.metrics import (
    ConfusionMatrix,
    class_f1,
    class_precision,
    class_recall,
    class_table,
    classification_scores,
    mean_auc,
    number,
)
from spheregeo.tasks.pictures.fields import confusion_picture
from spheregeo.tasks.predictions import Predictions, sample_names, write_predictions

NONE = -1  # no sample is ignored: -1 is out of range like any other


class LabelTask(Task):
    """Base of the tasks that give each sample one class; a subclass defines :meth:`logits`.

    Shape: batches hold label (B,) int64 and, if they are to be told apart in the table, index (B,) int64.
    Raises: ValueError for labels of another shape or out of range.

    Args:
        num_classes: number of classes.
        class_names: one name per class; numbers if None.
        label_smoothing: share of the target spread over all classes.
        common: arguments of the other bases.
    """

    monitor = "val/accuracy"
    mode = "max"
    artifacts: ClassVar[tuple[str, ...]] = ("confusion.png", "predictions.csv", "predictions.png")

    def __init__(
        self,
        num_classes: int,
        *,
        class_names: Sequence[str] | None = None,
        label_smoothing: float = 0.0,
        **common: Any,
    ) -> None:
        names = class_list(class_names, num_classes)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; expected 0 (none) to below 1")
        super().__init__(
            num_classes=num_classes, class_names=names, label_smoothing=label_smoothing, **common
        )
        self.num_classes, self.class_names, self.label_smoothing = num_classes, names, label_smoothing
        self.confusion = ConfusionMatrix(num_classes, ignore_index=NONE)
        self.predictions = Predictions()
        self._auc: float | None = None

    @abstractmethod
    def logits(self, batch: Batch) -> Tensor:
        """Check the input of a batch and return the network's output (B, num_classes)."""

    def forward_batch(self, batch: Batch) -> Batch:
        label = take(self, batch, "label")
        logits = self.logits(batch)
        label = check_classes(label, len(logits), self.num_classes)
        loss = cross_entropy(logits, label, ignore_index=NONE, smoothing=self.label_smoothing)
        return {**batch, "truth": label, "output": logits, "loss": loss}

    def update_metrics(self, outputs: Batch) -> Batch:
        prediction = outputs["output"].argmax(1)
        self.confusion.update(prediction, outputs["truth"])
        return {**outputs, "prediction": prediction}

    def test_step(self, batch: Batch, index: int) -> Batch:
        outputs = super().test_step(batch, index)
        self.predictions.update(
            outputs["truth"], outputs["output"].float().softmax(1), outputs.get("index", None)
        )
        return outputs

    def compute_metrics(self) -> dict[str, float]:
        self.matrix = self.confusion.compute().cpu()
        self.confusion.reset()
        self._auc = None  # known after a test alone, which keeps all probabilities
        return classification_scores(self.matrix)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._table = self.predictions.compute()  # gathered from all processes
        self.predictions.reset()
        self._auc = mean_auc(*self._table[1:])
        if self._trainer is not None and self._auc == self._auc:
            self.log("test/auc", self._auc, sync_dist=True)
        self._names = (
            sample_names(self.trainer, self._table[0].tolist()) if self._trainer is not None else None
        )

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, per class too, as plain types for a JSON file."""
        columns = (class_recall, class_precision, class_f1)
        scores = zip(
            self.class_names, self.matrix.sum(1).tolist(), *(f(self.matrix).tolist() for f in columns)
        )
        classes = {
            name: {"count": int(n), "recall": number(r), "precision": number(p), "f1": number(f)}
            for name, n, r, p, f in scores
        }
        matrix = self.matrix.long().tolist()
        auc = {} if self._auc is None else {"auc": number(self._auc)}
        return {**classification_scores(self.matrix), **auc, "classes": classes, "confusion": matrix}

    def summary(self) -> str:
        """Return recall, precision, F1 and number of samples by class, as text."""
        columns = {
            "recall": class_recall(self.matrix),
            "precision": class_precision(self.matrix),
            "F1": class_f1(self.matrix),
            "count": self.matrix.sum(1),
        }
        totals = {"accuracy": classification_scores(self.matrix)["accuracy"]}
        if self._auc is not None:
            totals["AUC"] = self._auc
        return class_table(self.class_names, columns, totals)

    def example_class(self, example: Any) -> int:
        """Return the true class of an example."""
        *_, truth, _ = example
        return int(truth)

    def titles(self, examples: Sequence[Any]) -> list[str]:
        """Return "truth: taken for prediction" per example (sample, truth, prediction)."""
        return [
            f"{self.class_names[int(truth)]}: taken for {self.class_names[int(said)]}"
            for *_, truth, said in examples
        ]

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        confusion_picture(
            folder / "confusion.png",
            np.asarray(self.matrix),
            self.class_names,
            "% of the true class's samples",
        )
        write_predictions(folder / "predictions.csv", self._table, self.class_names, self._names)
