"""Files of points, or of meshes seen as such, in; classes out: a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.points.dataset import Cloud, PointDataset, check_spread, collate
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud
from spheregeo.data.points.views import Views
from spheregeo.tasks.pictures.points import clouds_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files
from spheregeo.tasks.predictions import class_columns, class_line, class_row

SHOWN = 12
PICTURE = "predictions.png"


class _One(PointDataset):
    """A single cloud as a dataset."""

    labels = (0,)

    def __init__(self, cloud: Cloud, name: str) -> None:
        self.cloud, self._name = cloud, name

    def __len__(self) -> int:
        return 1

    def name(self, index: int) -> str:
        return self._name

    def load(self, index: int) -> Cloud:
        return self.cloud


def cloud_batch(
    clouds: Sequence[Cloud], num_points: int, normals: bool, names: Sequence[str], rows: bool = False
) -> dict[str, Any]:
    """Return clouds as a batch, each thinned to ``num_points`` that lie far apart.

    Args:
        clouds: the clouds.
        num_points: points of a cloud that are kept.
        normals: whether normals are among the features.
        names: what the clouds are called in messages.
        rows: whether to return the numbers of the points kept, as ``row``.

    Raises: ValueError for a cloud without the normals that are asked for.
    """
    if rows:  # parts go where their points go
        clouds = [replace(cloud, parts=np.arange(len(cloud.points))) for cloud in clouds]
    views = [
        Views(_One(cloud, name), num_points, choose="farthest", normals=normals)[0]
        for cloud, name in zip(clouds, names, strict=True)
    ]
    batch = collate(views)
    if rows:
        batch["row"] = batch.pop("part")
    return batch


@torch.inference_mode()
def predict_classes(
    classify: Callable[[list[Cloud], list[str]], Tensor],
    source: Path,
    output: Path,
    num_points: int,
    class_names: Sequence[str],
    options: PredictOptions | None = None,
    least: int = 4,
) -> None:
    """Classify a cloud or a folder of clouds: predictions.csv and predictions.png.

    Args:
        classify: function of clouds and their names that returns the probability of each class, (B, num_classes).
        source: file or folder of clouds or meshes; points that are NaN or infinite are left out and counted.
        output: folder of the answers.
        num_points: points that the network takes; twice as many are sampled on meshes.
        class_names: one name per class.
        options: how files are predicted.
        least: points at different places that the network needs.

    Raises: FileNotFoundError without clouds; ValueError for bad ones, after the others are done.
    """
    shown: list[tuple[np.ndarray[Any, Any], str]] = []

    def read(path: Path) -> list[Cloud]:
        cloud = read_cloud(path, 2 * num_points, drop_nan=True)
        if cloud.dropped:
            total = cloud.dropped + len(cloud.points)
            print(f"{path.name}: {cloud.dropped} of {total} points are NaN or infinite and were left out")
        check_spread(cloud.points, str(path), least)
        return [cloud]

    def write(path: Path, stem: Path, clouds: dict[int, Cloud], answers: list[Tensor]) -> Written:
        line = class_line(answers[0], class_names)
        if len(shown) < SHOWN:
            shown.append((np.asarray(clouds[0].points), f"{path.name}: {line}"))
        return Written(line, [class_row(path.name, answers[0], class_names)])

    def finish() -> list[Path]:
        return [clouds_picture(output / PICTURE, *zip(*shown, strict=True))]

    job = Job(
        CLOUD_SUFFIXES, "cloud", "files", read, classify, write,
        columns=class_columns(class_names), shared=[PICTURE], finish=finish,
    )  # fmt: skip
    predict_files(job, source, output, options)
