"""A class for every point of a field: cross-entropy or focal loss, mIoU, mAcc and IoU by class, over points or by their areas.

What the points are (of a grid on the sphere, pixels of an image) is the business of a subclass of ``PointLabels``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from spheregeo.tasks.checks import Batch, class_list, take
from spheregeo.tasks.losses import NOTHING_LABELLED, balanced_weights, cross_entropy, mean_over_processes
from spheregeo.tasks.metrics import (
    ConfusionMatrix,
    class_iou,
    class_recall,
    class_table,
    number,
    segmentation_scores,
)
from spheregeo.tasks.scored import ScoredSamples

LOSSES = ("cross_entropy", "focal")
Example = tuple[Tensor, Tensor, Tensor]  # image, truth, prediction


class PointLabels(ScoredSamples):
    """Base of the tasks that give every point of a field a class; a subclass defines :meth:`image_of` and :meth:`truth_of`.

    Args:
        num_classes: number of classes.
        class_names: one name per class; numbers if None.
        ignore_index: label of points that neither train nor count.
        class_weights: one number per class, "balanced" (from the training labels), or None.
        loss: "cross_entropy", or "focal", which counts what is already right for less.
        focal_gamma: exponent of the focal loss; 0 is the cross-entropy.
        common: arguments of the other bases.

    Raises: ValueError for another loss, a wrong number of names or weights.
    """

    monitor = "val/miou"
    mode = "max"
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ("accuracy", True)
    truth_key: ClassVar[str] = "label"  # entry of a batch that holds the classes
    class_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        class_names: list[str] | None = None,
        ignore_index: int = 255,
        class_weights: list[float] | str | None = None,
        loss: str = "cross_entropy",
        focal_gamma: float = 2.0,
        **common: Any,
    ) -> None:
        names = class_list(class_names, num_classes)
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}; choose {' or '.join(map(repr, LOSSES))}")
        if not 0 <= focal_gamma < 100:
            raise ValueError(f"focal_gamma is {focal_gamma}; expected 0 (cross-entropy) or more, such as 2")
        super().__init__(
            out_channels=num_classes, num_classes=num_classes, class_names=names, ignore_index=ignore_index,
            class_weights=class_weights, loss=loss, focal_gamma=focal_gamma, **common,
        )  # fmt: skip
        self.num_classes, self.class_names, self.ignore_index = num_classes, names, ignore_index
        self._balance, self._gamma = class_weights == "balanced", focal_gamma if loss == "focal" else 0.0
        weights = torch.ones(num_classes)
        if isinstance(class_weights, str) and not self._balance:
            raise ValueError(
                f"class_weights is {class_weights!r}; give one number per class, 'balanced' or null"
            )
        if class_weights is not None and not isinstance(class_weights, str):
            if len(class_weights) != num_classes:
                raise ValueError(f"class_weights has {len(class_weights)} numbers for {num_classes} classes")
            weights = torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weight", weights)
        # Whether this epoch has shown a labelled pixel. No buffer: those are overwritten by the first process's at every step.
        self._labelled: Tensor | None = None
        self.confusion = ConfusionMatrix(num_classes, ignore_index)

    @property
    def point_areas(self) -> Tensor | None:
        """Areas by which points count, where the task has ``areas``; None where all count alike."""
        return getattr(self, "areas", None)

    def areas_of(self, batch: Batch) -> Tensor | None:
        """Return the areas by which the points of a batch count; those of the task, unless batches have their own."""
        return self.point_areas

    @abstractmethod
    def image_of(self, batch: Batch) -> Tensor:
        """Return the images of a batch, checked. Shape: (B, in_channels, *points)."""

    @abstractmethod
    def truth_of(self, batch: Batch) -> Tensor:
        """Return the classes of a batch's points, checked. Shape: (B, *points)."""

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Take class weights from the areas of the training labels, where asked for."""
        if not self._balance:
            return
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        area = torch.zeros(self.num_classes, dtype=torch.float64)
        for batch in loader:
            label = self.truth_of(batch).long()
            areas = self.areas_of(batch)
            weights = torch.ones((), dtype=torch.float64) if areas is None else areas.double().cpu()
            valid = label != self.ignore_index
            area += torch.bincount(
                label[valid], weights=weights.expand(label.shape)[valid], minlength=self.num_classes
            )
        if not bool(area.sum() > 0):
            raise ValueError(
                "no labelled area in training: every label is the ignored one; check the label files"
            )
        # Each process has seen all images here (the loader is not yet split); the mean keeps them in step regardless.
        self.class_weight.copy_(balanced_weights(mean_over_processes(area.to(self.device))))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        some = (take(self, batch, self.truth_key) != self.ignore_index).any()
        self._labelled = some if self._labelled is None else self._labelled | some
        return super().training_step(batch, index)

    def on_train_epoch_end(self) -> None:
        """Refuse to go on after an epoch in which no pixel was labelled: its loss is 0 whatever the network does."""
        if self._labelled is None:
            return
        seen, self._labelled = mean_over_processes(self._labelled.float()), None
        if not bool(seen > 0):
            raise ValueError(NOTHING_LABELLED)

    def forward_batch(self, batch: Batch) -> Batch:
        image, label = self.image_of(batch), self.truth_of(batch)
        logits = self.network(image)
        loss = cross_entropy(
            logits, label, self.point_areas, self.ignore_index, self.class_weight, gamma=self._gamma
        )
        return {"image": image, "truth": label, "output": logits, "loss": loss}

    def decide(self, output: Tensor) -> Tensor:
        """Return the classes that the network's output stands for. Shape: (B, num_classes, *points) -> (B, *points)."""
        return output.argmax(1)

    def update_metrics(self, outputs: Batch) -> Batch:
        prediction = self.decide(outputs["output"])
        self.confusion.update(prediction, outputs["truth"], self.point_areas)
        return {"image": outputs["image"], "truth": outputs["truth"], "prediction": prediction}

    def compute_metrics(self) -> dict[str, float]:
        self.matrix = self.confusion.compute().cpu()
        self.confusion.reset()
        return segmentation_scores(self.matrix)

    def report(self) -> dict[str, Any]:
        """Return the scores of the last evaluation, per class too, as plain types for a JSON file."""
        iou, recall = class_iou(self.matrix).tolist(), class_recall(self.matrix).tolist()
        share = (self.matrix.sum(1) / self.matrix.sum()).tolist()
        classes = {
            name: {"iou": number(i), "recall": number(r), "share": s}
            for name, i, r, s in zip(self.class_names, iou, recall, share, strict=True)
        }
        return {**segmentation_scores(self.matrix), "classes": classes, "confusion": self.matrix.tolist()}

    def summary(self) -> str:
        """Return IoU, accuracy and frequency by class, as text."""
        present = self.matrix.sum(1) > 0  # means are over these, as those of the scores
        columns = {
            "IoU": torch.where(present, class_iou(self.matrix), torch.nan),
            "accuracy": class_recall(self.matrix),
            "frequency": self.matrix.sum(1) / self.matrix.sum(),
        }
        return class_table(
            self.class_names, columns, {"accuracy": segmentation_scores(self.matrix)["accuracy"]}
        )

    def example_error(self, example: Example) -> float:
        """Return the share of the labelled area that an example labels wrongly."""
        _, truth, prediction = example
        known = truth != self.ignore_index
        weights = known.float() if (areas := self.point_areas) is None else areas.to(truth.device) * known
        wrong = (weights * (truth != prediction)).sum()
        return float(wrong / weights.sum().clamp_min(1e-12))
