"""A class for every pixel of an image: cells and tissue, buildings and roads from above, textured shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spheregeo.tasks.checks import Batch, check_output, take
from spheregeo.tasks.images.base import ImageTask
from spheregeo.tasks.images.predict import label_images
from spheregeo.tasks.pictures.fields import as_rgb, colour, confusion_picture, sheet_picture
from spheregeo.tasks.point_labels import Example, PointLabels
from spheregeo.tasks.predict import PredictOptions


def check_mask(mask: Tensor, image: Tensor, num_classes: int, ignore: int) -> Tensor:
    """Return the classes of a batch's pixels, checked.

    Args:
        mask: the classes.
        image: the images (B, C, H, W).
        num_classes: number of classes.
        ignore: class of pixels that do not count.

    Shape: (B, H, W) int64.
    Raises: ValueError for another shape, other types, and classes out of range.
    """
    if mask.is_floating_point() or tuple(mask.shape) != (len(image), *image.shape[-2:]):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, {mask.dtype}; expected ({len(image)}, {', '.join(map(str, image.shape[-2:]))}) "
            "of whole numbers, a class for each pixel"
        )
    mask = mask.long()
    wrong = (mask != ignore) & ((mask < 0) | (mask >= num_classes))
    if bool(wrong.any()):
        raise ValueError(
            f"mask holds {int(mask[wrong][0])}; expected 0 ... {num_classes - 1}, or {ignore} for pixels that do not count"
        )
    return mask


class ImageSegmentation(PointLabels, ImageTask):
    """Train and score a network that labels every pixel of an image.

    Shape: batches hold image (B, in_channels, H, W), mask (B, H, W) and optionally index (B,).
    Equivariance: that of the network; ``spheregeo audit`` measures what turns and reflections change.
    Raises: ValueError for images of another shape, NaN, classes out of range, an unknown network.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        size: rows and columns of the training images, for the audit.
        class_names: one name per class; numbers if None.
        ignore_index: class of pixels that neither train nor count.
        network: name of a model of images; see ``spheregeo list models``.
        width: width of the network; its own default if None.
        depth: depth of the network; its own default if None.
        options: further options of the network, also filed under networks' names.
        mean: mean of each channel that the data module subtracts; kept for files.
        std: standard deviation of each channel that the data module divides by; kept for files.
        class_weights: one number per class, "balanced" (from the training masks), or None.
        loss: "cross_entropy", or "focal", which counts what is already right for less.
        focal_gamma: exponent of the focal loss; 0 is the cross-entropy.
        common: arguments of the optimiser, as :class:`~spheregeo.tasks.Task` has them.

    Example:
        >>> task = ImageSegmentation(4, network="image-unet", width=4, depth=2)
        >>> task(torch.randn(2, 1, 9, 9)).shape
        torch.Size([2, 4, 9, 9])
    """

    output: ClassVar[str] = "field"
    truth_key: ClassVar[str] = "mask"
    artifacts: ClassVar[tuple[str, ...]] = ("confusion.png", "predictions.csv", "predictions.png")
    linked_from_data: ClassVar[tuple[str, ...]] = (
        "num_classes", "in_channels", "size", "class_names", "ignore_index", "mean", "std",
    )  # fmt: skip

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        size: Sequence[int] | None = None,
        class_names: list[str] | None = None,
        ignore_index: int = 255,
        network: str = "image-unet",
        width: int | None = None,
        depth: int | None = None,
        options: dict[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        class_weights: list[float] | str | None = None,
        loss: str = "cross_entropy",
        focal_gamma: float = 2.0,
        **common: Any,
    ) -> None:
        super().__init__(
            num_classes, class_names=class_names, ignore_index=ignore_index, class_weights=class_weights, loss=loss,
            focal_gamma=focal_gamma, in_channels=in_channels, size=size, network=network, width=width, depth=depth,
            options=options, mean=mean, std=std, **common,
        )  # fmt: skip

    def image_of(self, batch: Batch) -> Tensor:
        image: Tensor = take(self, batch, "image")
        if not bool(torch.isfinite(image).all()):
            raise ValueError("image holds NaN or infinite pixels; replace them")
        return image

    def truth_of(self, batch: Batch) -> Tensor:
        return check_mask(
            take(self, batch, "mask"), take(self, batch, "image"), self.num_classes, self.ignore_index
        )

    def probabilities(self, images: Sequence[Tensor], names: Sequence[str]) -> Tensor:
        """Return the probability of each class at each pixel of several images of one shape, in their own units.

        Args:
            images: the images.
            names: what the images are called in messages.

        Shape: (in_channels, H, W) each -> (len(images), num_classes, H, W).
        Raises: ValueError where the network's output is not finite.
        """
        output = self(self.normalize(torch.stack(list(images)).to(self.device)))
        return check_output(output).float().softmax(1)

    # ---- pictures and files

    def examples(self, outputs: Batch) -> Iterable[Example]:
        return zip(outputs["image"], outputs["truth"], outputs["prediction"], strict=True)

    def plot(self, folder: Path, examples: Sequence[Example]) -> None:
        confusion_picture(
            folder / "confusion.png",
            np.asarray(self.matrix),
            self.class_names,
            "% of the true class's pixels",
        )
        self.write_scores(folder)
        if not examples:
            return
        rows = []
        for image, *fields in examples:
            known = [np.where(np.asarray(f) == self.ignore_index, 255, np.asarray(f)) for f in fields]
            truth, prediction = (colour(field, self.num_classes) for field in known)
            rows.append((as_rgb(image.numpy()), truth, prediction))
        titles = [f"error {self.example_error(example):.3f}" for example in examples]
        sheet_picture(folder / "predictions.png", rows, self.class_names, titles, width=2.4)

    def predict(self, source: Path, output: Path, options: PredictOptions | None = None) -> None:
        """Label every pixel of an image or of a folder of images: NAME_labels.png, NAME_overlay.png, a table of shares."""
        label_images(self.probabilities, self.read, source, output, self.class_names, options)
