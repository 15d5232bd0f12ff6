"""Files of images in; classes out: a table and a picture, or a picture of labels for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.images.files import PICTURE_SUFFIXES, resized
from spheregeo.tasks.answers import ended
from spheregeo.tasks.classify import classify_files
from spheregeo.tasks.pictures.fields import as_rgb, colour, legend_within, overlay, palette, write_png
from spheregeo.tasks.pictures.images import images_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

Image = np.ndarray[Any, Any]


def classify_images(
    classify: Callable[[list[Tensor], list[str]], Tensor],
    read: Callable[[Path], Image],
    size: Sequence[int] | None,
    source: Path,
    output: Path,
    class_names: Sequence[str],
    options: PredictOptions | None = None,
) -> None:
    """Classify an image or a folder of images: predictions.csv and predictions.png.

    Args:
        classify: function of images and their names that returns the probability of each class, (B, num_classes).
        read: function of a file that returns its image.
        size: rows and columns to which images are resized; as they are if None.
        source: file or folder of images.
        output: folder of the answers.
        class_names: one name per class.
        options: how files are predicted.

    Raises: FileNotFoundError without images; ValueError for bad ones, after the others are done.
    """

    def prepared(path: Path) -> list[Tensor]:
        image = read(path)
        return [torch.from_numpy(image if size is None else resized(image, list(size)))]

    kind = (PICTURE_SUFFIXES, "image", "images")
    caption = "{name}\n{line}"
    classify_files(kind, prepared, classify, images_picture, caption, source, output, class_names, options)


@torch.inference_mode()
def label_images(
    ask: Callable[[list[Tensor], list[str]], Tensor],
    read: Callable[[Path], Image],
    source: Path,
    output: Path,
    class_names: Sequence[str],
    options: PredictOptions | None = None,
) -> None:
    """Label every pixel of an image or of a folder of images: NAME_labels.png, NAME_overlay.png, predictions.csv.

    Args:
        ask: function of images and their names that returns the probability of each class, (B, num_classes, H, W).
        read: function of a file that returns its image.
        source: file or folder of images.
        output: folder of the answers.
        class_names: one name per class.
        options: how files are predicted.

    Raises: FileNotFoundError without images; ValueError for bad ones, after the others are done.
    """
    asked, count = options or PredictOptions(), len(class_names)

    def write(path: Path, stem: Path, images: dict[int, Tensor], answers: list[Tensor]) -> Written:
        sure, label = (part.cpu().numpy() for part in answers[0].max(0))
        label = label.astype(np.uint8)
        present = np.unique(label).tolist()
        blend = overlay(as_rgb(images[0].numpy()), colour(label, count))
        files = [
            write_png(ended(stem, "_labels.png"), label, palette(count)),
            write_png(ended(stem, "_overlay.png"), legend_within(blend, class_names, present)),
        ]
        if asked.confidence:
            grey = (255 * sure).round().astype(np.uint8)
            files.append(write_png(ended(stem, "_confidence.png"), grey))
        shares = [float((label == c).mean()) for c in range(count)]
        line = f"{', '.join(f.name for f in files)} in {output}"
        return Written(line, [[path.name, float(sure.mean()), *shares]])

    endings = ["_labels.png", "_overlay.png", *(["_confidence.png"] if asked.confidence else [])]
    job = Job(
        PICTURE_SUFFIXES, "image", "images", lambda path: [torch.from_numpy(read(path))], ask, write, endings=endings,
        columns=["sample", "confidence", *(f"share({name})" for name in class_names)],
    )  # fmt: skip
    predict_files(job, source, output, asked)
