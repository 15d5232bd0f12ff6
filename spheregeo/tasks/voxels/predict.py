"""Files of volumes in; classes out: a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.voxels.files import VOXEL_SUFFIXES, read_volume
from spheregeo.tasks.pictures.voxels import volumes_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files
from spheregeo.tasks.predictions import class_columns, class_line, class_row

SHOWN = 12
PICTURE = "predictions.png"


@torch.inference_mode()
def predict_volumes(
    classify: Callable[[list[Tensor], list[str]], Tensor],
    source: Path,
    output: Path,
    class_names: Sequence[str],
    options: PredictOptions | None = None,
) -> None:
    """Classify a volume or a folder of volumes: predictions.csv and predictions.png.

    Args:
        classify: function of volumes and their names that returns the probability of each class, (B, num_classes).
        source: file or folder of .npy, .npz, .nii or .nii.gz.
        output: folder of the answers.
        class_names: one name per class.
        options: how files are predicted.

    Raises: FileNotFoundError without volumes; ValueError for bad ones, after the others are done.
    """
    shown: list[tuple[np.ndarray[Any, Any], str]] = []

    def read(path: Path) -> list[Tensor]:
        return [torch.from_numpy(read_volume(path))]

    def write(path: Path, stem: Path, volumes: dict[int, Tensor], answers: list[Tensor]) -> Written:
        line = class_line(answers[0], class_names)
        if len(shown) < SHOWN:
            shown.append((volumes[0].numpy(), f"{path.name}: {line}"))
        return Written(line, [class_row(path.name, answers[0], class_names)])

    def finish() -> list[Path]:
        return [volumes_picture(output / PICTURE, *zip(*shown, strict=True))]

    job = Job(
        VOXEL_SUFFIXES, "volume", "files", read, classify, write,
        columns=class_columns(class_names), shared=[PICTURE], finish=finish,
    )  # fmt: skip
    predict_files(job, source, output, options)
