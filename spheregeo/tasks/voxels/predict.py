"""Files of volumes in; classes out: a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from spheregeo.data.voxels.files import VOXEL_SUFFIXES, read_volume
from spheregeo.tasks.classify import classify_files
from spheregeo.tasks.pictures.voxels import volumes_picture
from spheregeo.tasks.predict import PredictOptions


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

    def prepared(path: Path) -> list[Tensor]:
        return [torch.from_numpy(read_volume(path))]

    kind = (VOXEL_SUFFIXES, "volume", "files")
    caption = "{name}: {line}"
    classify_files(kind, prepared, classify, volumes_picture, caption, source, output, class_names, options)
