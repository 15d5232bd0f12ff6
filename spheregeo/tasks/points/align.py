"""Files of clouds brought to the first of them: matrices, aligned clouds and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spheregeo.data.points.dataset import Cloud, check_spread
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud
from spheregeo.data.points.views import NORMAL_NEIGHBORS
from spheregeo.sampling import RigidMotion, estimate_normals, farthest_points
from spheregeo.tasks.answers import ended
from spheregeo.tasks.files import write_bytes
from spheregeo.tasks.inputs import find_files
from spheregeo.tasks.pictures.points import clouds_together
from spheregeo.tasks.predict import Job, PredictOptions, Written, predict_files

SHOWN = 6
PICTURE = "predictions.png"
COLUMNS = ("sample", "reference", "matches that agree", *(f"m{i}{j}" for i in range(4) for j in range(4)))


def thinned(
    cloud: Cloud, radius: float, num_points: int, normals: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Points of a cloud that lie far apart, about its mean and in units of ``radius``, their normals, and the mean.

    Normals are estimated from the whole cloud where it has none.

    Shape: -> (P, 3) float32, (P, 3) float32 or None, (3,) float64.
    """
    points = torch.from_numpy(np.asarray(cloud.points, np.float64))
    middle = points.mean(0)
    points = (points - middle) / radius
    rows = farthest_points(points, min(num_points, len(points)))
    if not normals:
        return points[rows].float(), None, middle
    up = (
        estimate_normals(points, NORMAL_NEIGHBORS)
        if cloud.normals is None
        else torch.as_tensor(cloud.normals)
    )
    return points[rows].float(), up[rows].float(), middle


def radius_of(cloud: Cloud) -> float:
    """Largest distance of a point from the mean of its cloud."""
    points = np.asarray(cloud.points, np.float64)
    return float(np.linalg.norm(points - points.mean(0), axis=1).max())


def in_units_of_files(motion: RigidMotion, radius: float, source: Tensor, target: Tensor) -> RigidMotion:
    """The motion of whole clouds, from that of clouds about their means ``source`` and ``target`` in units of ``radius``."""
    rotation = motion.rotation.double().cpu()
    shift = radius * motion.translation.double().cpu() + target - rotation @ source
    return RigidMotion(rotation, shift, motion.inliers)


def align_files(
    align: Callable[[Cloud, Cloud, list[str]], RigidMotion],
    source: Path,
    output: Path,
    num_points: int,
    options: PredictOptions | None = None,
) -> None:
    """Bring the clouds of a folder to the first of them, in the order of their names.

    Writes NAME.json with the 4 x 4 matrix, NAME_aligned.ply, predictions.csv and predictions.png.

    Args:
        align: function of a cloud, the reference and their names that returns the motion between them, in the files' units.
        source: folder of two clouds or meshes at least, in one unit of length.
        output: folder of the answers.
        num_points: points that the network takes; eight times as many are sampled on meshes.
        options: how files are predicted.

    Raises: FileNotFoundError without clouds; ValueError for a single one, and for bad ones, after the others are done.
    """
    paths = find_files(source, CLOUD_SUFFIXES, "cloud")
    if len(paths) < 2:
        raise ValueError(
            f"{source} holds one cloud; expected a folder with two at least, the first being the reference"
        )

    def read(path: Path) -> list[Cloud]:
        cloud = read_cloud(path, 8 * num_points, drop_nan=True)
        check_spread(cloud.points, str(path), 4)
        return [cloud]

    reference = read(paths[0])[0]
    shown: list[tuple[np.ndarray, str]] = []

    def ask(clouds: list[Cloud], names: list[str]) -> list[RigidMotion]:
        return [
            align(cloud, reference, [name, paths[0].name]) for cloud, name in zip(clouds, names, strict=True)
        ]

    def write(path: Path, stem: Path, clouds: dict[int, Cloud], answers: list[RigidMotion]) -> Written:
        motion = answers[0]
        moved = motion.apply(torch.from_numpy(np.asarray(clouds[0].points, np.float64))).numpy()
        agree = 0 if motion.inliers is None else int(motion.inliers.sum())
        matrix = motion.matrix().tolist()
        content = {"reference": paths[0].name, "matrix": matrix, "matches that agree": agree}
        write_bytes(ended(stem, ".json"), (json.dumps(content, indent=1) + "\n").encode())
        write_bytes(ended(stem, "_aligned.ply"), ply_of(moved))
        line = f"brought to {paths[0].name} by {agree} matches" if agree else "no motion found"
        if len(shown) < SHOWN and path != paths[0]:
            shown.append((moved, f"{path.name}: {line}"))
        return Written(
            line, [[path.name, paths[0].name, agree, *(f"{v:.9g}" for row in matrix for v in row)]]
        )

    def finish() -> list[Path]:
        return [clouds_together(output / PICTURE, np.asarray(reference.points), shown)] if shown else []

    job = Job(
        CLOUD_SUFFIXES, "cloud", "files", read, ask, write, endings=(".json", "_aligned.ply"), columns=COLUMNS,
        shared=[PICTURE], finish=finish,
    )  # fmt: skip
    predict_files(job, source, output, options)


def ply_of(points: np.ndarray) -> bytes:
    """A binary PLY file of points."""
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property double {axis}\n" for axis in "xyz") + "end_header\n"
    return head.encode() + np.ascontiguousarray(points, "<f8").tobytes()
