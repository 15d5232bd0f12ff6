"""Files of points, or of meshes seen as such, in; classes out: a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.points.dataset import Cloud, PointDataset, collate
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud
from spheregeo.data.points.views import Views
from spheregeo.tasks.pictures.points import clouds_picture
from spheregeo.tasks.predict import check_faults, find_files, predict_each, say_class, write_classes

SHOWN = 12


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


def single_batch(cloud: Cloud, num_points: int, normals: bool, name: str) -> dict[str, Any]:
    """Return a cloud as a batch of its own, thinned to ``num_points`` that lie far apart.

    Args:
        cloud: the points.
        num_points: points that are kept.
        normals: whether normals are among the features.
        name: what the cloud is called in messages.

    Raises: ValueError for a cloud without points, or without the normals that are asked for.
    """
    views = Views(_One(cloud, name), num_points, choose="farthest", normals=normals)
    return collate([views[0]])


@torch.inference_mode()
def predict_classes(
    classify: Callable[[Cloud, str], Tensor],
    source: Path,
    output: Path,
    num_points: int,
    class_names: Sequence[str],
) -> None:
    """Classify a cloud or a folder of clouds: predictions.csv and predictions.png.

    Args:
        classify: function of a cloud and its name that returns the probability of each class, (num_classes,).
        source: file or folder of clouds or meshes; points that are NaN or infinite are left out and counted.
        output: folder of the answers.
        num_points: points that the network takes; twice as many are sampled on meshes.
        class_names: one name per class.

    Raises: FileNotFoundError without clouds; ValueError for bad ones, after the others are done.
    """
    shown: list[tuple[np.ndarray[Any, Any], str]] = []

    def predict(path: Path) -> Tensor:
        cloud = read_cloud(path, 2 * num_points, drop_nan=True)
        probability = classify(cloud, str(path))
        if cloud.dropped:
            total = cloud.dropped + len(cloud.points)
            print(f"{path.name}: {cloud.dropped} of {total} points are NaN or infinite and were left out")
        line = say_class(path.name, probability, class_names)
        if len(shown) < SHOWN:
            shown.append((np.asarray(cloud.points), line))
        return probability

    paths = find_files(source, CLOUD_SUFFIXES, "cloud")
    probabilities, faults = predict_each(paths, predict)
    write_classes(output, probabilities, class_names)
    if shown:
        clouds, lines = zip(*shown, strict=True)
        print(clouds_picture(output / "predictions.png", clouds, lines))
    check_faults(faults, paths, "files")
