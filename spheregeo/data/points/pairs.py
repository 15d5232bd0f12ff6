"""Pairs of clouds of one surface, moved apart: drawn apart, seen in part, with noise; and the motion between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from spheregeo.data.batches import collate_clouds
from spheregeo.data.class_folder import files_in
from spheregeo.data.common import SPLITS, check_split, generator
from spheregeo.data.meshes.generated import LIMBS, creature
from spheregeo.data.points.dataset import Cloud, PointDataset, unit_sphere
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud, sample_surface
from spheregeo.data.points.generated import domain
from spheregeo.data.points.views import NORMAL_NEIGHBORS
from spheregeo.sampling import estimate_normals, random_rotations

__all__ = ["CloudFiles", "CloudPairs", "CreatureClouds", "collate_pairs"]


class CreatureClouds(PointDataset):
    """Clouds of creatures: a body with head, four limbs and tail, no two alike, none its own mirror image.

    Args:
        count: number of clouds.
        points: points of each cloud.
        deform: strength of poses and builds; 1 turns limbs by some 35 degrees and lengthens them by some 10 %.
        seed: seed of shapes and points.
        split: train, val or test, whose clouds differ.

    Shape: points and normals (P, 3) float32.
    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import CreatureClouds
        >>> CreatureClouds(2, points=50)[1].normals.shape
        (50, 3)
    """

    class_names = ("creature",)
    up = 2

    def __init__(
        self, count: int, points: int = 4096, deform: float = 1.0, seed: int = 0, split: str = "train"
    ) -> None:
        for name, value, least in (("count", count, 1), ("points", points, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}; expected at least {least}")
        if deform < 0:
            raise ValueError(f"deform is {deform}; expected 0 (none) or more")
        self.count, self.points, self.deform, self.seed = count, points, deform, seed
        self.split, self.labels = check_split(split), [0] * count
        self._clouds: dict[int, Cloud] = {}

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"{self.split} {index} (creature)"

    def load(self, index: int) -> Cloud:
        if index not in self._clouds:
            key = (5, SPLITS.index(self.split), index)
            rng = np.random.default_rng(np.random.SeedSequence(entropy=self.seed, spawn_key=key))
            lengths = np.exp(0.1 * self.deform * rng.standard_normal(len(LIMBS)))
            pose = 0.35 * self.deform * rng.standard_normal((len(LIMBS), 3))
            parameters, faces = domain("sphere")
            vertices = creature(lengths, pose)(parameters)
            made = sample_surface(vertices, faces, self.points, rng, self.name(index))
            assert made.normals is not None
            self._clouds[index] = Cloud(made.points.astype(np.float32), made.normals.astype(np.float32))
        return self._clouds[index]


class CloudFiles(PointDataset):
    """All clouds and meshes of a folder, without classes.

    Args:
        root: the folder.
        num_points: points drawn from the surface where a file is a mesh.
        seed: seed of that draw.

    Raises: FileNotFoundError for a folder without such files; ValueError that names a faulty one.
    """

    class_names = ("cloud",)

    def __init__(self, root: str | Path, num_points: int = 4096, seed: int = 0) -> None:
        self.root, self.num_points, self.seed = Path(root), num_points, seed
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"root {self.root} is not a folder; expected one with clouds (see --data.root)"
            )
        self.paths = files_in(self.root, CLOUD_SUFFIXES)
        if not self.paths:
            raise FileNotFoundError(
                f"{self.root} holds no cloud or mesh; expected files {', '.join(CLOUD_SUFFIXES)}"
            )
        self.labels = [0] * len(self.paths)
        self._clouds: dict[int, Cloud] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return self.paths[index].name

    def load(self, index: int) -> Cloud:
        if index not in self._clouds:
            self._clouds[index] = read_cloud(self.paths[index], self.num_points, self.seed)
        return self._clouds[index]


class CloudPairs(Dataset[Any]):
    """Pairs of clouds drawn from stored ones, without a point in common, each turned and one moved; and the motion between them.

    With an ``overlap`` below 1, one cloud keeps what lies on one side of a random plane, the other what lies on the other
    side of another, parallel one, so that this share of each cloud's surface is seen by both. A pair depends on
    (seed, epoch, index) alone.

    Args:
        dataset: of stored clouds, with at least twice ``num_points`` each, or what there is.
        num_points: points of each cloud of a pair; fewer where the stored cloud has too few.
        overlap: smallest and largest share of surface in common, between which it is drawn.
        noise: standard deviation of noise on each coordinate, in radii of the whole stored cloud.
        normals: give unit normals as features; where the data have none, they are estimated from the whole stored cloud.
        pairs: number of pairs, of the stored clouds in turn; one of each if None.
        seed: of everything that is drawn.
        stream: keeps what is drawn for one split apart from the others.

    Shape: an item holds views, two dicts with positions (P, 3) and perhaps features (P, 3); rotation (3, 3), translation (3,).
    Units: the radius of the whole stored cloud is 1 in both clouds.
    Raises: ValueError for values out of range, clouds with fewer than eight points.

    Example:
        >>> from spheregeo.data import CloudPairs, CreatureClouds
        >>> item = CloudPairs(CreatureClouds(1, 200), 80)[0]
        >>> [tuple(view["positions"].shape) for view in item["views"]], tuple(item["rotation"].shape)
        ([(80, 3), (80, 3)], (3, 3))
    """

    def __init__(
        self,
        dataset: PointDataset,
        num_points: int = 512,
        *,
        overlap: tuple[float, float] = (1.0, 1.0),
        noise: float = 0.0,
        normals: bool = False,
        pairs: int | None = None,
        seed: int = 0,
        stream: int = 0,
    ) -> None:
        if num_points < 4:
            raise ValueError(f"num_points is {num_points}; expected at least 4")
        if len(overlap) != 2 or not 0 < overlap[0] <= overlap[1] <= 1:
            raise ValueError(f"overlap is {overlap}; expected two shares, 0 < smallest <= largest <= 1")
        if noise < 0:
            raise ValueError(f"noise is {noise}; expected 0 (none) or more")
        if pairs is not None and pairs < 1:
            raise ValueError(f"pairs is {pairs}; expected at least 1")
        self.dataset, self.num_points, self.overlap, self.noise = dataset, num_points, overlap, noise
        self.normals, self.pairs, self.seed, self.stream = normals, pairs or len(dataset), seed, stream
        self._normals: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.pairs

    def name(self, index: int) -> str:
        """What a pair is called in tables."""
        return self.dataset.name(index % len(self.dataset))

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < self.pairs:
            raise IndexError(f"index {index} is outside {self.pairs} pairs")
        number = index % len(self.dataset)
        points, normals = self._stored(number)
        draw = generator(self.seed, 7, self.stream, epoch, index)
        turns = random_rotations(2, draw).numpy()
        away = 2 * torch.rand(3, generator=draw, dtype=torch.float64).numpy() - 1
        low, high = self.overlap
        share = 1 / (2 - (low + (high - low) * float(torch.rand((), generator=draw))))
        side = torch.randn(3, generator=draw, dtype=torch.float64).numpy()
        height = points @ side
        rank = np.empty(len(points))
        rank[height.argsort(kind="stable")] = (np.arange(len(points)) + 0.5) / len(points)
        order = torch.randperm(len(points), generator=draw).numpy()
        halves = (order[: len(order) // 2], order[len(order) // 2 :])
        kept = (halves[0][rank[halves[0]] <= share], halves[1][rank[halves[1]] >= 1 - share])
        views = []
        for rows, turn, shift in zip(kept, turns, (np.zeros(3), away), strict=True):
            rows = rows[: self.num_points]
            noise = torch.randn(len(rows), 3, generator=draw, dtype=torch.float64).clamp(-3, 3).numpy()
            view: dict[str, Any] = {
                "positions": torch.from_numpy((points[rows] + self.noise * noise) @ turn.T + shift).float(),
                "label": 0,
                "index": index,
            }
            if normals is not None:
                view["features"] = torch.from_numpy(normals[rows] @ turn.T).float()
            views.append(view)
        return {
            "views": views,
            "rotation": torch.from_numpy(turns[1] @ turns[0].T).float(),
            "translation": torch.from_numpy(away).float(),
        }

    def _stored(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Points of a stored cloud, its mean at the origin and its radius 1, and normals where they are asked for."""
        cloud = self.dataset[number]
        if len(cloud.points) < 8:
            raise ValueError(
                f"{self.dataset.name(number)} holds {len(cloud.points)} points; expected at least 8"
            )
        points = unit_sphere(cloud.points)
        if not self.normals:
            return points, None
        if cloud.normals is not None:
            return points, np.asarray(cloud.normals, np.float64)
        if number not in self._normals:
            self._normals[number] = estimate_normals(torch.from_numpy(points), NORMAL_NEIGHBORS).numpy()
        return points, self._normals[number]


def collate_pairs(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join pairs to a batch: the clouds end to end, those of pair b being numbers 2b and 2b + 1.

    Args:
        items: what :class:`CloudPairs` gives.

    Shape: positions (P, 3), batch (P,) with the cloud of each point, features (P, 3) if there are some, rotation (B, 3, 3),
        translation (B, 3), index (B,).

    Example:
        >>> from spheregeo.data import CloudPairs, CreatureClouds, collate_pairs
        >>> pairs = CloudPairs(CreatureClouds(2, 40), 4)
        >>> collate_pairs([pairs[0], pairs[1]])["batch"].tolist()
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    """
    batch = collate_clouds([item["views"] for item in items])
    batch.pop("votes"), batch.pop("label")
    for name in ("rotation", "translation"):
        batch[name] = torch.stack([item[name] for item in items])
    return batch
