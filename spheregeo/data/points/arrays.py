"""Clouds of equal size in memory: arrays, the cache of points drawn from meshes, splits by class, the axis against gravity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from spheregeo.data.class_folder import Entry
from spheregeo.data.files import read_stored
from spheregeo.data.points.dataset import AXES, Cloud, PointDataset, check_cloud
from spheregeo.data.points.files import read_cloud
from spheregeo.files import atomic_path

VERSION = 1  # in the cache's file names: raise it whenever the same seed draws other points
TABLES = 40  # so many tables say which axis points upwards
CERTAIN = 0.2  # a table's top holds at least so much more than its feet


class ArrayClouds(PointDataset):
    """Clouds of equal size, all in memory.

    Args:
        points: (n, P, 3), real numbers, or integers that ``unit`` makes real.
        labels: (n,) class of each.
        class_names: names of the classes.
        normals: (n, P, 3), where known.
        mask: (n, P), the points that count; a cloud of which none does keeps all.
        names: what the clouds are called.
        up: axis that points against gravity, where known.
        unit: real length of an integer step.

    Raises: ValueError for shapes that do not fit one another, labels out of range, NaN.
    """

    def __init__(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        *,
        normals: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        names: Sequence[str] | None = None,
        up: int | None = None,
        unit: float = 1.0,
        source: str = "the data",
    ) -> None:
        if points.ndim != 3 or points.shape[2] != 3 or not points.shape[1]:
            raise ValueError(f"{source}: points have shape {points.shape}; expected (n, P, 3), P at least 1")
        kind = np.asarray(labels).dtype
        if points.dtype.kind not in "iuf" or kind.kind not in "iuf":
            raise ValueError(f"{source}: points are {points.dtype} and labels {kind}; expected numbers")
        if kind.kind == "f" and not np.array_equal(labels, np.round(labels)):
            raise ValueError(f"{source}: labels are {kind} with fractions; expected whole numbers")
        labels = np.asarray(labels).reshape(-1).astype(np.int64)
        if len(labels) != len(points):
            raise ValueError(f"{source}: there are {len(points)} clouds but {len(labels)} labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
            raise ValueError(
                f"{source}: labels run from {labels.min()} to {labels.max()} but there are {len(class_names)} classes"
            )
        if points.dtype.kind == "f" and not np.isfinite(points).all():
            bad = int((~np.isfinite(points)).reshape(len(points), -1).any(1).argmax())
            raise ValueError(f"{source}: cloud {bad} has points that are NaN or infinite; remove them")
        if normals is not None and normals.shape != points.shape:
            raise ValueError(f"{source}: normals have shape {normals.shape} but points {points.shape}")
        if mask is not None and mask.shape != points.shape[:2]:
            raise ValueError(f"{source}: the mask has shape {mask.shape} but points {points.shape}")
        self.points, self.normals, self.labels, self.mask = points, normals, labels, mask
        self.class_names, self.up, self.unit, self.source = tuple(class_names), up, unit, source
        if names is not None and len(names) != len(points):
            raise ValueError(f"{source}: there are {len(points)} clouds but {len(names)} names")
        self.names = None if names is None else [str(name) for name in names]

    def __len__(self) -> int:
        return len(self.points)

    def name(self, index: int) -> str:
        return f"{self.source} {index}" if self.names is None else self.names[index]

    def load(self, index: int) -> Cloud:
        points = self.points[index]
        if points.dtype.kind != "f":
            points = points.astype(np.float64) * self.unit
        normals = None if self.normals is None else self.normals[index]
        if self.mask is not None and self.mask[index].any():
            kept = self.mask[index]
            points, normals = points[kept], None if normals is None else normals[kept]
        return check_cloud(points, normals, self.name(index))

    def part(self, rows: np.ndarray) -> ArrayClouds:
        """Some of the clouds, in the order of ``rows``."""
        return ArrayClouds(
            self.points[rows], np.asarray(self.labels)[rows], self.class_names,
            normals=None if self.normals is None else self.normals[rows],
            mask=None if self.mask is None else self.mask[rows],
            names=None if self.names is None else [self.names[k] for k in rows],
            up=self.up, unit=self.unit, source=self.source,
        )  # fmt: skip


def split_rows(labels: Sequence[int] | np.ndarray, every: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows held out): of each class every ``every``-th row, in their order, is held out.

    With ``every`` 0 none is, and the second part is all rows again.
    Raises: ValueError for ``every`` 1 or below 0.
    """
    if every < 0 or every == 1:
        raise ValueError(f"held_out is {every}; expected 0, or N > 1 to hold out every N-th cloud of a class")
    labels = np.asarray(labels)
    if every == 0:
        return np.arange(len(labels)), np.arange(len(labels))
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[every - 1 :: every]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def upward_axis(clouds: Iterable[np.ndarray]) -> tuple[int, float]:
    """The axis along which tables have their top on one end, and by how much: share of points within 15 % of the height from
    the top less that near the feet, negative where tables stand on their heads.

    Shape: clouds (P, 3) of tables.
    """
    lean = []
    for points in clouds:
        low, high = points.min(0), points.max(0)
        at = (points - low) / np.maximum(high - low, 1e-12)
        lean.append((at > 0.85).mean(0) - (at < 0.15).mean(0))
    mean = np.mean(lean, 0)
    axis = int(np.abs(mean).argmax())
    return axis, float(mean[axis])


def check_up(data: PointDataset) -> None:
    """Compare the axis that is said to point upwards with the tables among the clouds, if there are some.

    Releases of the same data differ in it, and turns about a wrong axis would look right in every other way.
    Raises: ValueError when tables stand on another axis or on their heads.
    """
    if data.up is None or "table" not in data.class_names:
        return
    tables = np.flatnonzero(np.asarray(data.labels) == data.class_names.index("table"))[:TABLES]
    if len(tables) < 3:
        return
    axis, lean = upward_axis(data[int(k)].points for k in tables)
    if abs(lean) >= CERTAIN and (axis != data.up or lean < 0):
        sign = "" if lean > 0 else "-"
        raise ValueError(
            f"up is {AXES[data.up]!r} but the tables of {data.name(int(tables[0]))} and others stand along {sign}{AXES[axis]}; "
            + (
                f"give --data.up {AXES[axis]}"
                if lean > 0
                else "turn the data round, or give --data.up unknown"
            )
        )


def drawn_clouds(
    entries: Sequence[Entry],
    class_names: Sequence[str],
    root: Path,
    num_points: int,
    seed: int,
    cache: Path | None,
    up: int | None,
    columns: str = "",
) -> ArrayClouds:
    """Points of many files, ``num_points`` each, read once: the folder ``cache`` keeps them for later runs.

    The cache's name holds a digest of the files' names and contents, so that files that changed get another one.
    Raises: ValueError for a file with fewer points, or unreadable.
    """
    paths = [path for path, _ in entries]
    names = [str(path.relative_to(root)) for path in paths]
    labels = np.array([label for _, label in entries], np.int64)
    stored = (
        None
        if cache is None
        else cache / f"points-v{VERSION}-n{num_points}-s{seed}-{_digest(names, paths)}.npz"
    )
    arrays = None if stored is None else _read_cache(stored, len(paths), num_points)
    if arrays is None:
        arrays = _read_all(paths, num_points, seed, columns)
        if stored is not None:
            with atomic_path(stored) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
    return ArrayClouds(
        arrays["points"], labels, class_names, normals=arrays.get("normals"), names=names, up=up, source=str(root)
    )  # fmt: skip


def _digest(names: Sequence[str], paths: Sequence[Path]) -> str:
    """Sixteen hexadecimal digits of the files' names and contents. Hashing lets go of the interpreter, so threads help."""

    def facts(name: str, path: Path) -> str:
        with open(path, "rb") as file:
            return f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}"

    with ThreadPoolExecutor() as threads:
        return hashlib.sha256("\n".join(threads.map(facts, names, paths)).encode()).hexdigest()[:16]


def _read_cache(path: Path, count: int, num_points: int) -> dict[str, np.ndarray] | None:
    """The arrays of a cache; None where there is none, or one that is torn."""
    try:
        arrays = read_stored(path)
    except (OSError, ValueError):
        return None
    if not isinstance(arrays, dict):
        return None
    return arrays if arrays.get("points", np.empty(0)).shape == (count, num_points, 3) else None


def _read_all(paths: Sequence[Path], num_points: int, seed: int, columns: str) -> dict[str, np.ndarray]:
    points = np.empty((len(paths), num_points, 3), np.float32)
    normals: np.ndarray | None = np.empty_like(points)
    for k, path in enumerate(_progress(paths)):
        cloud = read_cloud(path, num_points, seed, columns=columns)
        if len(cloud.points) < num_points:
            raise ValueError(f"{path} holds {len(cloud.points)} points; expected at least {num_points}")
        points[k] = cloud.points[:num_points]
        if normals is not None and cloud.normals is not None:
            normals[k] = cloud.normals[:num_points]
        else:
            normals = None
    return {"points": points} | ({} if normals is None else {"normals": normals})


def _progress(paths: Sequence[Path]) -> Iterable[Path]:
    if len(paths) < 200:
        return paths
    try:
        from tqdm import tqdm
    except ImportError:
        return paths
    return tqdm(paths, desc="drawing points", unit="file", disable=None)
