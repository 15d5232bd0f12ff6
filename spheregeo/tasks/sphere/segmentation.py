"""Semantic segmentation of fields on the sphere: area-weighted cross-entropy, mIoU, mAcc and per-class IoU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from spheregeo.tasks.answers import ended
from spheregeo.tasks.checks import Batch, check_field, check_labels, take
from spheregeo.tasks.pictures.fields import colour, confusion_picture, palette, write_png
from spheregeo.tasks.pictures.projections import to_panorama
from spheregeo.tasks.point_labels import PointLabels
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.sphere.base import Example, SphereTask
from spheregeo.tasks.sphere.predict import Picture, predict_fields, row_areas


class Segmentation(PointLabels, SphereTask):
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
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> task = Segmentation(3, 5, HEALPix(4), network="pixel-mlp", width=8)
        >>> outputs = task.forward_batch({"image": torch.randn(2, 3, 192), "label": torch.zeros(2, 192).long()})
        >>> outputs["output"].shape
        torch.Size([2, 5, 192])
    """

    artifacts: ClassVar[tuple[str, ...]] = (
        "confusion.png", "predictions.csv", "predictions.png", "world.png",
    )  # fmt: skip
    linked_from_data: ClassVar[tuple[str, ...]] = (
        *SphereTask.linked_from_data, "num_classes", "class_names", "ignore_index",
    )  # fmt: skip
    areas: Tensor

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
        super().__init__(
            num_classes, in_channels=in_channels, grid=grid, network=network, class_names=class_names,
            ignore_index=ignore_index, class_weights=class_weights, loss=loss, focal_gamma=focal_gamma, **common,
        )  # fmt: skip

    def image_of(self, batch: Batch) -> Tensor:
        return check_field(take(self, batch, "image"), self.grid, self.in_channels)

    def truth_of(self, batch: Batch) -> Tensor:
        return check_labels(take(self, batch, "label"), self.grid, self.num_classes, self.ignore_index)

    # ---- pictures and files

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
