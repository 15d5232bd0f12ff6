"""Classes of files of points, or of meshes seen as such: a table and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from spheregeo.data.points.dataset import Cloud, PointDataset, collate
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud
from spheregeo.data.points.views import Views
from spheregeo.tasks import PointClassification, write_predictions
from spheregeo.tasks.pictures.points import clouds_picture

SHOWN = 12


def find_clouds(source: Path) -> list[Path]:
    """The file itself, or the clouds and meshes of a folder in order of their names. Raises: FileNotFoundError."""
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in CLOUD_SUFFIXES)
        if not found:
            raise FileNotFoundError(
                f"{source} holds no {', '.join(CLOUD_SUFFIXES)} file; give a folder of clouds"
            )
        return found
    if not source.is_file():
        raise FileNotFoundError(f"{source} does not exist; give a cloud or a folder of clouds")
    return [source]


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


def classify_cloud(task: PointClassification, cloud: Cloud, name: str = "the cloud") -> torch.Tensor:
    """The probability of each class of one cloud, thinned to as many points as in training. Shape: (num_classes,)."""
    views = Views(_One(cloud, name), task.num_points, choose="farthest", normals=task.in_channels > 0)
    batch = collate([views[0]])
    batch = {k: v.to(task.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    return task.logits(batch)[0].float().softmax(0).cpu()


@torch.inference_mode()
def run(task: PointClassification, source: str, output: Path) -> None:
    """Predict a cloud or a folder of clouds; a bad file in a folder is reported and the others are done."""
    paths = find_clouds(Path(source))
    faults: list[str] = []
    names: list[str] = []
    shown: list[tuple[np.ndarray, str]] = []
    probabilities: list[torch.Tensor] = []
    for path in paths:
        try:
            cloud = read_cloud(path, 2 * task.num_points)
            probability = classify_cloud(task, cloud, str(path))
        except ValueError as error:
            if len(paths) == 1:
                raise
            faults.append(str(error))
            continue
        best = int(probability.argmax())
        line = f"{path.name}: {task.class_names[best]} ({float(probability[best]):.0%})"
        print(line, flush=True)
        names.append(path.name)
        probabilities.append(probability)
        if len(shown) < SHOWN:
            shown.append((np.asarray(cloud.points), line))
    if names:
        table = torch.arange(len(names)), torch.full((len(names),), -1), torch.stack(probabilities)
        print(write_predictions(output / "predictions.csv", table, task.class_names, names))
        clouds, lines = zip(*shown, strict=True)
        print(clouds_picture(output / "predictions.png", clouds, lines))
    if faults:
        raise ValueError(f"{len(faults)} of {len(paths)} files failed: " + "; ".join(faults))
