"""Semantic segmentation of fields on the sphere: area-weighted cross-entropy, mIoU, mAcc and per-class IoU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo.tasks.answers import ended
from spheregeo.tasks.checks import Batch, check_field, check_labels, class_list, take
from spheregeo.tasks.losses import NOTHING_LABELLED, balanced_weights, cross_entropy, mean_over_processes
from spheregeo.tasks.metrics import (
    ConfusionMatrix,
    class_iou,
    class_recall,
    class_table,
    number,
    segmentation_scores,
)
from spheregeo.tasks.pictures.fields import colour, confusion_picture, palette, write_png
from spheregeo.tasks.pictures.projections import to_panorama
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.sphere.base import Example, SphereTask
from spheregeo.tasks.sphere.predict import Picture, predict_fields, row_areas

LOSSES = ("cross_entropy", "focal")


class Segmentation(SphereTask):
    """Train and score a network that labels every point of a grid.

    Shape: batches hold image (B, in_channels, *grid.shape) and label (B, *grid.shape).
    Units: points are weighted by their area in loss and scores.
    Equivariance: that of the network.
    Raises: ValueError for images that do not fit, NaN, labels out of range.

    Args:
        in_channels: channels of the images.
        num_classes: number of classes.
        grid: grid of images and labels, or its repr.
        class_names: one name per class; numbers if None.
        ignore_index: label of points that neither train nor count.
        network: name of a model, see ``spheregeo list models``.
        class_weights: one number per class, "balanced" (from the training labels), or None.
        loss: "cross_entropy", or "focal", which counts what is already right for less.
        focal_gamma: exponent of the focal loss; 0 is the cross-entropy.
        common: arguments of the network and the optimiser, as :class:`~spheregeo.tasks.SphereTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> task = Segmentation(3, 5, HEALPix(4), network="pixel-mlp", width=8)
        >>> outputs = task.forward_batch({"image": torch.randn(2, 3, 192), "label": torch.zeros(2, 192).long()})
        >>> outputs["output"].shape
        torch.Size([2, 5, 192])
    """

    monitor = "val/miou"
    mode = "max"
    artifacts: ClassVar[tuple[str, ...]] = (
        "confusion.png", "predictions.csv", "predictions.png", "world.png",
    )  # fmt: skip
    sample_score: ClassVar[tuple[str, bool] | tuple[()]] = ("accuracy", True)
    linked_from_data: ClassVar[tuple[str, ...]] = (
        *SphereTask.linked_from_data, "num_classes", "class_names", "ignore_index",
    )  # fmt: skip
    class_weight: Tensor

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        grid: Any,
        class_names: list[str] | None = None,
        ignore_index: int = 255,
        network: str = "sphere-unet-small",
        *,
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
            num_classes, in_channels=in_channels, grid=grid, network=network, num_classes=num_classes,
            class_names=names, ignore_index=ignore_index, class_weights=class_weights,
            loss=loss, focal_gamma=focal_gamma, **common,
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

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Take class weights from the areas of the training labels, where asked for."""
        if not self._balance:
            return
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        area = torch.zeros(self.num_classes, dtype=torch.float64)
        weights = self.areas.double().cpu()
        for batch in loader:
            label = take(self, batch, "label")
            label = check_labels(label, self.grid, self.num_classes, self.ignore_index).long()
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
        some = (take(self, batch, "label") != self.ignore_index).any()
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
        image = check_field(take(self, batch, "image"), self.grid, self.in_channels)
        label = check_labels(take(self, batch, "label"), self.grid, self.num_classes, self.ignore_index)
        logits = self.network(image)
        loss = cross_entropy(
            logits, label, self.areas, self.ignore_index, self.class_weight, gamma=self._gamma
        )
        return {"image": image, "truth": label, "output": logits, "loss": loss}

    def update_metrics(self, outputs: Batch) -> Batch:
        prediction = self.decide(outputs["output"])
        self.confusion.update(prediction, outputs["truth"], self.areas)
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

    # ---- pictures and files

    def example_error(self, example: Example) -> float:
        """Return the share of the labelled area that an example labels wrongly."""
        _, truth, prediction = example
        weights = self.areas.to(truth.device) * (truth != self.ignore_index)
        wrong = (weights * (truth != prediction)).sum()
        return float(wrong / weights.sum().clamp_min(1e-12))

    def colours_of(self, truth: Tensor, prediction: Tensor) -> tuple[Any, Any]:
        fields = [to_panorama(f, self.grid) for f in (truth, prediction)]
        known = np.where(fields[0] == self.ignore_index, 255, fields[0])
        return colour(known, self.num_classes), colour(fields[1], self.num_classes)

    def plot(self, folder: Path, examples: Sequence[Example]) -> None:
        confusion_picture(folder / "confusion.png", np.asarray(self.matrix), self.class_names)
        self._plot_fields(folder, examples, self.class_names)

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Label every pixel of a photo or of a folder of photos: NAME_labels.png, NAME_overlay.png, NAME_world.png, a table.

        The table gives each photo's mean confidence and the share of the sphere that each class covers.
        """

        def write(decision: Picture, stem: Path) -> tuple[Path, Picture]:
            path = write_png(ended(stem, "_labels.png"), decision, palette(self.num_classes))
            return path, colour(decision, self.num_classes)

        def row(decision: Picture, sure: Picture | None) -> list[float]:
            areas = row_areas(len(decision))
            covered = [float(areas @ (decision == c).mean(1)) for c in range(self.num_classes)]
            assert sure is not None
            return [float(areas @ sure.mean(1)) / 255, *covered]

        predict_fields(
            self, source, output, write, self.class_names, options,
            ending="_labels.png", columns=["confidence", *(f"share({n})" for n in self.class_names)], row=row,
        )  # fmt: skip
