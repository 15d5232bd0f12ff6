"""Semantic segmentation of fields on the sphere: area-weighted cross-entropy, mIoU, mAcc and per-class IoU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.tasks.base import Batch, class_list
from spheregeo.tasks.losses import balanced_weights, cross_entropy, mean_over_processes
from spheregeo.tasks.metrics import ConfusionMatrix, class_iou, class_recall, number, segmentation_scores
from spheregeo.tasks.pictures.fields import colour, confusion_picture
from spheregeo.tasks.pictures.projections import to_panorama
from spheregeo.tasks.sphere.base import Example, SphereTask


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
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"kernel": "Rings(5)", "checkpoint": true}.
        mean: mean of each channel that the data module subtracts; kept for photos.
        std: standard deviation of each channel that the data module divides by; kept for photos.
        class_weights: one number per class, "balanced" (from the training labels), or None.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        warmup: share of all steps over which the learning rate rises.
    """

    monitor = "val/miou"
    mode = "max"
    class_weight: Tensor

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        grid: Any,
        class_names: list[str] | None = None,
        ignore_index: int = 255,
        network: str = "sphere-unet-small",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        class_weights: list[float] | str | None = None,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.05,
    ) -> None:
        names = class_list(class_names, num_classes)
        super().__init__(
            num_classes, in_channels=in_channels, grid=grid, network=network, width=width, depth=depth,
            options=options, mean=mean, std=std, lr=lr, weight_decay=weight_decay, warmup=warmup,
            settings={"num_classes": num_classes, "class_names": names, "ignore_index": ignore_index,
                      "class_weights": class_weights},
        )  # fmt: skip
        self.num_classes, self.class_names, self.ignore_index = num_classes, names, ignore_index
        self._balance = class_weights == "balanced"
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
        self.confusion = ConfusionMatrix(num_classes, ignore_index)

    def check_label(self, label: Tensor) -> Tensor:
        """The labels themselves, once their shape and range are found sound."""
        if tuple(label.shape[1:]) != tuple(self.grid.shape):
            raise ValueError(
                f"label has shape {tuple(label.shape)}; expected (B, {', '.join(map(str, self.grid.shape))}) "
                f"on {self.grid!r}"
            )
        wrong = (label != self.ignore_index) & ((label < 0) | (label >= self.num_classes))
        if bool(wrong.any()):
            raise ValueError(
                f"label {int(label[wrong][0])} is out of range: there are {self.num_classes} classes, 0 to "
                f"{self.num_classes - 1}, and {self.ignore_index} is ignored; check the label files and the classes"
            )
        return label

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Class weights from the areas of the training labels, where asked for."""
        if not self._balance:
            return
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        area = torch.zeros(self.num_classes, dtype=torch.float64)
        weights = self.areas.double().cpu()
        for batch in loader:
            label = self.check_label(self.take(batch, "label")).long()
            valid = label != self.ignore_index
            area += torch.bincount(
                label[valid], weights=weights.expand(label.shape)[valid], minlength=self.num_classes
            )
        # Each process has seen all images here (the loader is not yet split); the mean keeps them in step regardless.
        self.class_weight.copy_(balanced_weights(mean_over_processes(area.to(self.device))))

    def run(self, batch: Batch) -> Batch:
        image, label = (
            self.check_image(self.take(batch, "image")),
            self.check_label(self.take(batch, "label")),
        )
        logits = self(image)
        loss = cross_entropy(logits, label, self.areas, self.ignore_index, self.class_weight)
        return {"image": image, "truth": label, "output": logits, "loss": loss}

    def count(self, ran: Batch) -> Batch:
        prediction = self.decide(ran["output"])
        self.confusion.update(prediction, ran["truth"], self.areas)
        return {"image": ran["image"], "truth": ran["truth"], "prediction": prediction}

    def summarise(self) -> dict[str, float]:
        self.matrix = self.confusion.compute().cpu()
        self.confusion.reset()
        return segmentation_scores(self.matrix)

    def results(self) -> dict[str, Any]:
        """Scores of the last evaluation, per class too, as plain types for a JSON file."""
        iou, recall = class_iou(self.matrix).tolist(), class_recall(self.matrix).tolist()
        share = (self.matrix.sum(1) / self.matrix.sum()).tolist()
        classes = {
            name: {"iou": number(i), "recall": number(r), "share": s}
            for name, i, r, s in zip(self.class_names, iou, recall, share, strict=True)
        }
        return {**segmentation_scores(self.matrix), "classes": classes, "confusion": self.matrix.tolist()}

    def colours_of(self, truth: Tensor, prediction: Tensor) -> tuple[Any, Any]:
        fields = [to_panorama(f, self.grid) for f in (truth, prediction)]
        known = np.where(fields[0] == self.ignore_index, 255, fields[0])
        return colour(known, self.num_classes), colour(fields[1], self.num_classes)

    def draw(self, folder: Path, examples: Sequence[Example]) -> None:
        confusion_picture(folder / "confusion.png", np.asarray(self.matrix), self.class_names)
        self._draw_fields(folder, examples, self.class_names)
