"""From photos to pictures of labels or depths, as they are, over the photo and on the sphere; or to a table of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spheregeo.data.sphere.files import IMAGE_SUFFIXES as SUFFIXES
from spheregeo.data.sphere.files import check_panorama, read_image
from spheregeo.data.sphere.pictures.decode import image_size
from spheregeo.tasks.answers import ended
from spheregeo.tasks.pictures import fields as pictures
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files
from spheregeo.tasks.predictions import class_columns, class_line, class_row
from spheregeo.tasks.sphere.base import SphereTask
from spheregeo.tasks.sphere.passes import infer_passes, shrink_photo
from spheregeo.tasks.sphere.photos import enlarge_decision, on_working_grid, outputs_of, prepare_photo

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


def row_areas(height: int) -> np.ndarray[Any, Any]:
    """Return the share of the sphere that each row of pixels of an equirectangular picture covers, (height,); they sum to 1."""
    edges = np.cos(np.linspace(0, np.pi, height + 1))
    return np.asarray((edges[:-1] - edges[1:]) / 2)


@dataclass(frozen=True)
class Photo:
    """A photo that waits for its answer.

    Args:
        image: as the network takes it, (in_channels, *grid.shape).
        pixels: as it is, (H, W, 3) uint8.
    """

    image: torch.Tensor
    pixels: Picture


def _reader(task: SphereTask, keep: bool, finer: int | None = None) -> Callable[[Path], list[Photo]]:
    """Return the function that reads a photo for a task, with or without its pixels.

    With ``finer`` the image is not yet prepared, and so many times as fine as the working grid.
    """

    def read(path: Path) -> list[Photo]:
        photo = read_photo(path)
        image = prepare_photo(task, photo) if finer is None else shrink_photo(task, photo, finer)
        if not keep:
            return [Photo(image, np.empty((0, 0, 3), np.uint8))]
        return [Photo(image, (photo * 255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())]

    return read


def predict_fields(
    task: SphereTask,
    source: Path,
    output: Path,
    write: Callable[[Picture, Path], tuple[Path, Picture]],
    class_names: Sequence[str] | None = None,
    options: PredictOptions | None = None,
    *,
    ending: str = "",
    columns: Sequence[str] = (),
    row: Callable[[Picture, Picture | None], list[float]] = lambda decision, sure: [],
) -> None:
    """Predict a photo or a folder of photos pixel by pixel and write three pictures per photo, and a table.

    Args:
        task: the task that decides.
        source: photo or folder of photos.
        output: folder of the pictures.
        write: function of the decision (H, W) and the path without suffix of what belongs to the photo; writes the decision
            and returns the file and the decision's colours (H, W, 3).
        class_names: one name per class for the legend; no legend if None.
        options: how files are predicted.
        ending: what ``write`` adds to the path, such as "_labels.png".
        columns: head of the table, without the photo's name.
        row: function of the decision (H, W) and the confidence (H, W) uint8 or None that returns the photo's row.

    Raises: FileNotFoundError without photos; ValueError for bad ones, after the others are done.
    """
    asked = options or PredictOptions()
    if asked.confidence and class_names is None:
        raise ValueError(f"{type(task).__name__} decides no classes, so there is no confidence to draw")

    def ask(photos: list[Photo], names: list[str]) -> list[torch.Tensor]:
        if asked.several_passes:
            return [infer_passes(task, photo.image, asked.tiles, asked.turns) for photo in photos]
        found = outputs_of(task, torch.stack([photo.image for photo in photos]))
        return [on_working_grid(task, one) for one in found]

    def write_all(path: Path, stem: Path, photos: dict[int, Photo], answers: list[torch.Tensor]) -> Written:
        pixels = photos[0].pixels
        decided, certain = enlarge_decision(task, answers[0], *pixels.shape[:2])
        decision, sure = decided.numpy(), None if certain is None else certain.numpy()
        first, colours = write(decision, stem)
        present = None
        names = list(class_names) if class_names is not None else None
        if names is not None:
            present = [c for c in np.unique(decision).tolist() if c < len(names)]
        blend = pictures.overlay(pixels, colours)
        if names is not None and present is not None:
            blend = pictures.legend_within(blend, names, present)
        files = [first, pictures.write_png(ended(stem, "_overlay.png"), blend)]
        files.append(pictures.world_picture(ended(stem, "_world.png"), colours, path.name, names, present))
        if asked.confidence and sure is not None:
            files.append(pictures.write_png(ended(stem, "_confidence.png"), sure))
        return Written(f"{', '.join(f.name for f in files)} in {output}", [[path.name, *row(decision, sure)]])

    endings = [ending, "_overlay.png", "_world.png", *(["_confidence.png"] if asked.confidence else [])]
    job = Job(
        SUFFIXES, "photo", "photos", _reader(task, True, asked.tiles if asked.several_passes else None), ask, write_all,
        endings=[e for e in endings if e], columns=["sample", *columns], several_passes=True,
    )  # fmt: skip
    predict_files(job, source, output, asked)


def predict_classes(
    task: SphereTask,
    source: Path,
    output: Path,
    class_names: Sequence[str],
    options: PredictOptions | None = None,
) -> None:
    """Classify a photo or a folder of photos as wholes and write a table.

    Args:
        task: the task that decides.
        source: photo or folder of photos.
        output: folder of the table.
        class_names: one name per class.
        options: how files are predicted.

    Raises: FileNotFoundError without photos; ValueError for bad ones, after the others are done.
    """

    def ask(photos: list[Photo], names: list[str]) -> torch.Tensor:
        return outputs_of(task, torch.stack([photo.image for photo in photos])).softmax(1)

    def write(path: Path, stem: Path, photos: dict[int, Photo], answers: list[torch.Tensor]) -> Written:
        return Written(class_line(answers[0], class_names), [class_row(path.name, answers[0], class_names)])

    job = Job(
        SUFFIXES, "photo", "photos", _reader(task, False), ask, write, columns=class_columns(class_names)
    )
    predict_files(job, source, output, options)
