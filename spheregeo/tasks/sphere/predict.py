"""From photos to pictures of labels or depths, as they are, over the photo and on the sphere; or to a table of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spheregeo.data.sphere.files import IMAGE_SUFFIXES as SUFFIXES
from spheregeo.data.sphere.files import check_panorama, read_image
from spheregeo.data.sphere.pictures.decode import image_size
from spheregeo.tasks.pictures import fields as pictures
from spheregeo.tasks.predict import check_faults, find_files, predict_each, say_class, write_classes
from spheregeo.tasks.sphere.base import SphereTask
from spheregeo.tasks.sphere.photos import classify_photo, label_photo

LARGEST = (4096, 8192)
Picture = np.ndarray[Any, Any]


def read_photo(path: Path) -> torch.Tensor:
    """Read an equirectangular photo as (3, H, W) float32 in [0, 1].

    Args:
        path: image file.

    Raises: FileNotFoundError; ValueError for a file that is no image, not 2:1, or larger than 4096 x 8192.
    """
    height, width = image_size(path)
    check_panorama(path, height, width)
    if height > LARGEST[0]:
        raise ValueError(
            f"{path} is {height} x {width} pixels; at most {LARGEST[0]} x {LARGEST[1]}: scale it down first"
        )
    return torch.from_numpy(read_image(path))


def predict_fields(
    task: SphereTask,
    source: Path,
    output: Path,
    write: Callable[[Picture, Path], tuple[Path, Picture]],
    class_names: Sequence[str] | None = None,
) -> None:
    """Predict a photo or a folder of photos pixel by pixel and write three pictures per photo.

    Args:
        task: the task that decides.
        source: photo or folder of photos.
        output: folder of the pictures.
        write: function of the decision (H, W) and the path without suffix of what belongs to the photo; writes the decision
            and returns the file and the decision's colours (H, W, 3).
        class_names: one name per class for the legend; no legend if None.

    Raises: FileNotFoundError without photos; ValueError for bad ones, after the others are done.
    """

    def predict(path: Path) -> None:
        photo = read_photo(path)
        decision = label_photo(task, photo).numpy()
        pixels = np.ascontiguousarray((photo * 255).round_().to(torch.uint8).permute(1, 2, 0).numpy())
        del photo
        first, colours = write(decision, output / path.stem)
        second = pictures.write_png(output / f"{path.stem}_overlay.png", pictures.overlay(pixels, colours))
        names = list(class_names) if class_names is not None else None
        third = pictures.world_picture(output / f"{path.stem}_world.png", colours, path.name, names)
        print(f"{path.name}: {first.name}, {second.name}, {third.name} in {output}", flush=True)

    paths = find_files(source, SUFFIXES, "photo")
    _, faults = predict_each(paths, predict)
    check_faults(faults, paths, "photos")


def predict_classes(task: SphereTask, source: Path, output: Path, class_names: Sequence[str]) -> None:
    """Classify a photo or a folder of photos as wholes and write a table.

    Args:
        task: the task that decides.
        source: photo or folder of photos.
        output: folder of the table.
        class_names: one name per class.

    Raises: FileNotFoundError without photos; ValueError for bad ones, after the others are done.
    """

    def predict(path: Path) -> torch.Tensor:
        probability = classify_photo(task, read_photo(path))
        say_class(path.name, probability, class_names)
        return probability

    paths = find_files(source, SUFFIXES, "photo")
    probabilities, faults = predict_each(paths, predict)
    write_classes(output, probabilities, class_names)
    check_faults(faults, paths, "photos")
