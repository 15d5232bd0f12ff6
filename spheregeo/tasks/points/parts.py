"""Parts of clouds: scores by cloud and category, and files of points in, points with their parts out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from spheregeo.data.points.dataset import Cloud, check_spread
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud
from spheregeo.tasks.answers import ended
from spheregeo.tasks.files import write_bytes
from spheregeo.tasks.pictures.fields import palette
from spheregeo.tasks.pictures.points import parts_picture
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

SHOWN = 12
PICTURE = "predictions.png"


def check_category_parts(
    category_parts: Sequence[Sequence[int]] | None, category_names: Sequence[str] | None, num_parts: int
) -> list[list[int]]:
    """The parts of each category, one category of all parts if None.

    Raises: ValueError for parts out of range or in two categories, categories without parts, or as many names as there are not.
    """
    parts = [list(range(num_parts))] if category_parts is None else [list(held) for held in category_parts]
    flat = [part for held in parts for part in held]
    if not all(parts) or len(set(flat)) < len(flat) or not all(0 <= part < num_parts for part in flat):
        raise ValueError(
            f"category_parts is {category_parts}; expected parts 0 ... {num_parts - 1}, some for each category, none for two"
        )
    if category_names is not None and len(category_names) != len(parts):
        raise ValueError(f"category_names has {len(category_names)} names for {len(parts)} categories")
    return parts


def shape_iou(
    prediction: Tensor, truth: Tensor, cloud: Tensor, allowed: Tensor, ignore_index: int = 255
) -> Tensor:
    """Mean intersection over union of each cloud, over the parts of its category; 1 for a part neither there nor predicted.

    Args:
        prediction, truth: part of each point.
        cloud: cloud of each point.
        allowed: which parts each cloud's category has.
        ignore_index: true part of points that do not count.

    Shape: (P,), (P,), (P,), (B, C) -> (B,) float64.
    Reference: Qi et al. 2017, arXiv:1612.00593, section 5.1.

    Example:
        >>> truth, said = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
        >>> shape_iou(said, truth, torch.zeros(4, dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool))
        tensor([0.7222], dtype=torch.float64)
    """
    clouds, parts = allowed.shape
    known = truth != ignore_index

    def counts(of: Tensor, where: Tensor) -> Tensor:
        cells = (cloud * parts + of)[known & where]
        return torch.bincount(cells, minlength=clouds * parts).view(clouds, parts).double()

    everywhere = torch.ones_like(known)
    both = counts(torch.where(known, truth, 0), prediction == truth)
    union = counts(torch.where(known, truth, 0), everywhere) + counts(prediction, everywhere) - both
    iou = torch.where(union > 0, both / union.clamp_min(1), 1.0)
    own = allowed.double()
    return (iou * own).sum(1) / own.sum(1)


class PartScores(Metric):
    """Mean IoU of clouds by category.

    Shape: ``update`` takes the IoU (B,) and category (B,) of clouds; ``compute`` gives the mean of each category, NaN without
        clouds, and the number of its clouds, (categories,) float64 each.
    """

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self, categories: int) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, torch.zeros(categories, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, iou: Tensor, category: Tensor) -> None:
        self.total.index_add_(0, category, iou.to(self.total))
        self.count.index_add_(0, category, torch.ones_like(iou).to(self.count))

    def compute(self) -> tuple[Tensor, Tensor]:
        return self.total / self.count, self.count


def write_labelled_ply(path: str | Path, points: np.ndarray, parts: np.ndarray, colours: np.ndarray) -> Path:
    """Write points with a part and a colour each as binary PLY; whole or absent.

    Shape: points (P, 3), parts (P,), colours (P, 3) uint8.
    """
    kinds = (
        [(name, "<f4") for name in "xyz"]
        + [(name, "u1") for name in ("red", "green", "blue")]
        + [("part", "<i4")]
    )
    rows = np.empty(len(points), kinds)
    for k, name in enumerate("xyz"):
        rows[name] = points[:, k]
    for k, name in enumerate(("red", "green", "blue")):
        rows[name] = colours[:, k]
    rows["part"] = parts
    words = {"<f4": "float", "u1": "uchar", "<i4": "int"}
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    head += [f"property {words[kind]} {name}" for name, kind in kinds] + ["end_header"]
    return write_bytes(path, ("\n".join(head) + "\n").encode() + rows.tobytes())


@torch.inference_mode()
def predict_parts(
    label: Callable[[list[Cloud], list[str]], list[tuple[Tensor, Tensor, int]]],
    source: Path,
    output: Path,
    num_points: int,
    part_names: Sequence[str],
    category_names: Sequence[str],
    options: PredictOptions | None = None,
    least: int = 4,
) -> None:
    """Label the points of a cloud or of a folder of clouds: NAME_parts.ply, predictions.csv, predictions.png.

    Every point of a cloud is written, with the part of the nearest point that the network saw.

    Args:
        label: function of clouds and their names that returns the points kept, their parts, and the category of each cloud.
        source: file or folder of clouds or meshes; points that are NaN or infinite are left out and counted.
        output: folder of the answers.
        num_points: points that the network takes; twice as many are sampled on meshes.
        part_names: one name per part.
        category_names: one name per category.
        options: how files are predicted.
        least: points at different places that the network needs.

    Raises: FileNotFoundError without clouds; ValueError for bad ones, after the others are done.
    """
    from scipy.spatial import cKDTree

    shown: list[tuple[tuple[Any, ...], str]] = []

    def read(path: Path) -> list[Cloud]:
        cloud = read_cloud(path, 2 * num_points, drop_nan=True)
        if cloud.dropped:
            total = cloud.dropped + len(cloud.points)
            print(f"{path.name}: {cloud.dropped} of {total} points are NaN or infinite and were left out")
        check_spread(cloud.points, str(path), least)
        return [cloud]

    def write(path: Path, stem: Path, clouds: dict[int, Cloud], answers: list[Any]) -> Written:
        (rows, parts, category), points = answers[0], np.asarray(clouds[0].points, np.float64)
        nearest = cKDTree(points[rows.numpy()]).query(points)[1]
        every = parts.numpy()[nearest]
        file = write_labelled_ply(ended(stem, "_parts.ply"), points, every, palette(len(part_names))[every])
        shares = [float((every == k).mean()) for k in range(len(part_names))]
        if len(shown) < SHOWN:
            shown.append(((points, every), f"{path.name}: {category_names[category]}"))
        line = f"{category_names[category]}, {file.name} in {output}"
        return Written(line, [[path.name, category_names[category], *shares]])

    def finish() -> list[Path]:
        rows, titles = zip(*shown, strict=True)
        return [parts_picture(output / PICTURE, rows, titles, part_names)]

    job = Job(
        CLOUD_SUFFIXES, "cloud", "files", read, label, write, endings=["_parts.ply"],
        columns=["sample", "category", *(f"share({name})" for name in part_names)], shared=[PICTURE], finish=finish,
    )  # fmt: skip
    predict_files(job, source, output, options)
