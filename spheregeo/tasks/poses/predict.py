"""Files of images in; rotations out: a table, an .npz file and a picture of the distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.images.files import PICTURE_SUFFIXES, resized
from spheregeo.files import atomic_path
from spheregeo.tasks.pictures.poses import poses_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

SHOWN = 12
PICTURE, ARRAYS = "predictions.png", "rotations.npz"
COLUMNS = ["sample", *(f"r{i}{j}" for i in range(3) for j in range(3)), "log_probability"]
Image = np.ndarray[Any, Any]
Answer = tuple[Tensor, float, Tensor]  # rotation, log of its density, logs on the picture's grid


@torch.inference_mode()
def predict_poses(
    ask: Callable[[list[Tensor], list[str]], list[Answer]],
    read: Callable[[Path], Image],
    size: Sequence[int] | None,
    rotations: Image,
    source: Path,
    output: Path,
    options: PredictOptions | None = None,
) -> None:
    """Estimate the pose in an image or in each of a folder: predictions.csv, rotations.npz and predictions.png.

    Args:
        ask: function of images and their names that returns an answer each.
        read: function of a file that returns its image.
        size: rows and columns to which images are resized; as they are if None.
        rotations: the grid on which the picture shows densities.
        source: file or folder of images.
        output: folder of the answers.
        options: how files are predicted.

    Raises: FileNotFoundError without images; ValueError for bad ones, after the others are done.
    """
    shown: list[tuple[Image, str, Image]] = []

    def prepared(path: Path) -> list[Tensor]:
        image = read(path)
        return [torch.from_numpy(image if size is None else resized(image, list(size)))]

    def write(path: Path, stem: Path, images: dict[int, Tensor], answers: list[Answer]) -> Written:
        rotation, log, logs = answers[0]
        if len(shown) < SHOWN:
            shown.append((images[0].numpy(), path.name, logs.numpy()))
        numbers = [f"{v:.7f}" for v in rotation.flatten().tolist()]
        return Written(f"log p {log:.2f} at the likeliest rotation", [[path.name, *numbers, f"{log:.4f}"]])

    def finish() -> list[Path]:
        names, matrices = _table(output / "predictions.csv")
        with atomic_path(output / ARRAYS) as temporary, open(temporary, "wb") as file:
            np.savez(file, names=np.array(names), rotations=matrices)
        images, titles, logs = (list(part) for part in zip(*shown, strict=True))
        picture = poses_picture(output / PICTURE, images, titles, rotations, logs, [None] * len(images))
        return [output / ARRAYS, picture]

    job = Job(
        PICTURE_SUFFIXES, "image", "images", prepared, ask, write,
        columns=COLUMNS, shared=[PICTURE, ARRAYS], finish=finish, batch_size=8,
    )  # fmt: skip
    predict_files(job, source, output, options)


def _table(path: Path) -> tuple[list[str], Image]:
    """Names and rotations of a table of predictions: also those of a prediction that was resumed."""
    from spheregeo.data.molecules.tables import read_table

    columns = read_table(path)
    values = np.array([[float(v) for v in columns[name]] for name in COLUMNS[1:10]]).T
    return columns["sample"], values.reshape(-1, 3, 3)
