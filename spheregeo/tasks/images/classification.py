"""One class for each image: digits, cells, textures, scenes seen from above."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from spheregeo.tasks.checks import Batch, take
from spheregeo.tasks.images.base import ImageTask
from spheregeo.tasks.images.predict import classify_images
from spheregeo.tasks.label import LabelTask
from spheregeo.tasks.pictures.images import images_picture
from spheregeo.tasks.predict import PredictOptions
from spheregeo.tasks.predictions import check_probability


class ImageClassification(LabelTask, ImageTask):
    """Train and score a network that gives an image one class.

    Shape: batches hold image (B, in_channels, H, W), label (B,) and optionally index (B,).
    Equivariance: that of the network; ``spheregeo audit`` measures what turns and reflections change.
    Raises: ValueError for images of another shape, NaN, labels out of range, an unknown network.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        size: rows and columns of the training images, to which files are resized that are predicted; as they are if None.
        class_names: one name per class; numbers if None.
        network: name of a model of images; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, also filed under networks' names.
        mean: mean of each channel that the data module subtracts; kept for files.
        std: standard deviation of each channel that the data module divides by; kept for files.
        common: arguments of the labels and the optimiser, as :class:`~spheregeo.tasks.LabelTask` and
            :class:`~spheregeo.tasks.Task` have them.

    Example:
        >>> task = ImageClassification(4, network="image-cnn", width=4, depth=2)
        >>> task(torch.randn(2, 1, 9, 9)).shape
        torch.Size([2, 4])
    """

    output: ClassVar[str] = "label"
    linked_from_data: ClassVar[tuple[str, ...]] = (
        "num_classes", "in_channels", "size", "class_names", "mean", "std",
    )  # fmt: skip

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        size: Sequence[int] | None = None,
        class_names: list[str] | None = None,
        network: str = "image-cnn",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            num_classes, class_names=class_names, out_channels=num_classes, in_channels=in_channels, size=size,
            network=network, width=width, depth=depth, options=options, mean=mean, std=std, **common,
        )  # fmt: skip

    def logits(self, batch: Batch) -> Tensor:
        return self(take(self, batch, "image"))

    def classify_all(self, images: Sequence[Tensor], names: Sequence[str]) -> Tensor:
        """Return the probability of each class of several images of one shape, in their own units.

        Args:
            images: the images.
            names: what the images are called in messages.

        Shape: (in_channels, H, W) each -> (len(images), num_classes).
        Raises: ValueError where the network's output is not finite.
        """
        return check_probability(self(self.normalize(torch.stack(list(images)).to(self.device))))

    # ---- pictures and files

    def examples(self, outputs: Batch) -> Iterable[Any]:
        return zip(outputs["image"], outputs["truth"], outputs["prediction"], strict=True)

    def plot(self, folder: Path, examples: Sequence[Any]) -> None:
        super().plot(folder, examples)
        if examples:
            images = [image.numpy() for image, *_ in examples]
            images_picture(folder / "predictions.png", images, self.titles(examples))

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Classify an image or a folder of images: predictions.csv and predictions.png."""
        classify_images(self.classify_all, self.read, self.size, source, output, self.class_names, options)
