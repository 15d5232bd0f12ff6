"""One class for a whole field on the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from spheregeo.tasks.base import Batch
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.pictures.fields import label_sheet_picture
from spheregeo.tasks.sphere.base import Example, SphereTask

POLAR = 1.4  # radians: beyond this latitude a globe is shown from right above the pole


class Classification(LabelTask, SphereTask):
    """Train and score a network that gives a whole field on the sphere one class.

    Shape: batches hold image (B, in_channels, *grid.shape), label (B,) and optionally index (B,), the samples' numbers.
    Equivariance: that of the network; those of the package are invariant to rotations as their docstrings say.
    Raises: ValueError for images that do not fit, NaN, labels out of range.

    Args:
        in_channels: channels of the images.
        num_classes: number of classes.
        grid: grid of the images, or its repr.
        class_names: one name per class; numbers if None.
        network: name of a model or one of disco, gauge, healpix, icosahedral, planar; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, such as {"kernel": "Rings(5)"}, also filed under networks' names.
        mean: mean of each channel that the data module subtracts; kept for photos.
        std: standard deviation of each channel that the data module divides by; kept for photos.
        label_smoothing: share of the target spread over all classes.
        lr: peak learning rate of AdamW.
        weight_decay: decay of the weights with more than one axis.
        warmup: share of all steps over which the learning rate rises.
    """

    output: ClassVar[str] = "label"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        grid: Any,
        class_names: list[str] | None = None,
        network: str = "disco",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.05,
    ) -> None:
        super().__init__(
            num_classes, class_names=class_names, label_smoothing=label_smoothing, out_channels=num_classes,
            in_channels=in_channels, grid=grid, network=network, width=width, depth=depth, options=options, mean=mean,
            std=std, lr=lr, weight_decay=weight_decay, warmup=warmup,
        )  # fmt: skip

    def logits(self, batch: Batch) -> Tensor:
        result: Tensor = self(self.check_image(self.take(batch, "image")))
        return result

    def draw(self, folder: Path, examples: Sequence[Example]) -> None:
        super().draw(folder, examples)
        if not examples:
            return
        rows = [(self.picture_of(image), self.view_of(image)) for image, *_ in examples]
        titles = [
            f"{self.class_names[int(truth)]}: taken for {self.class_names[int(said)]}"
            for _, truth, said in examples
        ]
        label_sheet_picture(folder / "predictions.png", rows, titles)

    def view_of(self, image: Tensor) -> tuple[float, float]:
        """Latitude and longitude in ``picture_of(image)`` about which the image's contrast gathers: where to look at it."""
        field = image.double().flatten(1).mean(0)
        weight = (field - field.median()).abs() * self.areas.double().cpu().flatten()
        x, y, z = (weight @ self.grid.points).tolist()
        latitude, longitude = float(np.arctan2(z, np.hypot(x, y))), float(np.arctan2(y, x))
        if abs(latitude) > POLAR:  # the longitude is chance there
            latitude, longitude = float(np.copysign(np.pi / 2, latitude)), 0.0
        first = float(self.grid.longitude[0]) if len(self.grid.shape) == 2 else 0.0
        return latitude, longitude - first - np.pi  # pictures are taken to begin at longitude -pi
