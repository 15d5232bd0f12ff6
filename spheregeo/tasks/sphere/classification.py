"""One class for a whole field on the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from spheregeo.tasks.checks import Batch, check_field, take
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.pictures.fields import label_sheet_picture
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.sphere.base import Example, SphereTask
from spheregeo.tasks.sphere.predict import predict_classes

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
        common: arguments of the network, the labels and the optimiser, as :class:`~spheregeo.tasks.SphereTask`,
            :class:`~spheregeo.tasks.LabelTask` and :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> task = Classification(1, 5, HEALPix(4), width=4, depth=2)
        >>> task.logits({"image": torch.randn(2, 1, 192)}).shape
        torch.Size([2, 5])
    """

    output: ClassVar[str] = "label"
    linked_from_data: ClassVar[tuple[str, ...]] = (
        *SphereTask.linked_from_data, "num_classes", "class_names",
    )  # fmt: skip

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        grid: Any,
        class_names: list[str] | None = None,
        network: str = "disco",
        **common: Any,
    ) -> None:
        super().__init__(
            num_classes, class_names=class_names, out_channels=num_classes, in_channels=in_channels, grid=grid,
            network=network, **common,
        )  # fmt: skip

    def logits(self, batch: Batch) -> Tensor:
        return self.network(check_field(take(self, batch, "image"), self.grid, self.in_channels))

    # ---- pictures and files

    def plot(self, folder: Path, examples: Sequence[Example]) -> None:
        super().plot(folder, examples)
        if examples:
            rows = [(self.picture_of(image), self.view_of(image)) for image, *_ in examples]
            label_sheet_picture(folder / "predictions.png", rows, self.titles(examples))

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Classify a photo or a folder of photos as wholes: predictions.csv."""
        predict_classes(self, source, output, self.class_names, options)

    def view_of(self, image: Tensor) -> tuple[float, float]:
        """Return latitude and longitude in ``picture_of(image)`` about which the image's contrast gathers."""
        field = image.double().flatten(1).mean(0)
        weight = (field - field.median()).abs() * self.areas.double().cpu().flatten()
        x, y, z = (weight @ self.grid.points).tolist()
        latitude, longitude = float(np.arctan2(z, np.hypot(x, y))), float(np.arctan2(y, x))
        if abs(latitude) > POLAR:  # the longitude is chance there
            latitude, longitude = float(np.copysign(np.pi / 2, latitude)), 0.0
        first = float(self.grid.longitude[0]) if len(self.grid.shape) == 2 else 0.0
        return latitude, longitude - first - np.pi  # pictures are taken to begin at longitude -pi
