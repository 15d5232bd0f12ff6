"""From stored clouds to what a network sees: a choice of points, the unit sphere, noise, a turn.

Everything is drawn from (seed, epoch, index) and nothing else, and what one option draws does not change what another one does:
the same cloud keeps its points under any protocol of turns. Points are chosen before the turn, so that a rule that reads
coordinates chooses alike in every pose.

Protocols of turns: "none" leaves clouds as they are stored, "z" turns about the axis that points against gravity, "so3" draws
evenly from all rotations. A run that trains on one and is tested on the other is named by both, such as z/SO(3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spheregeo.data.common import generator
from spheregeo.data.points.dataset import Cloud, PointDataset, PointItem, unit_sphere
from spheregeo.sampling import estimate_normals, farthest_points, random_rotations

__all__ = ["PointAugment", "Views"]

ROTATIONS = ("none", "z", "so3")
CHOICES = ("random", "first", "farthest")
NORMAL_NEIGHBORS = 16  # from which normals are estimated
CLIP = 3.0  # jitter ends at so many standard deviations
_TURN, _CHOOSE, _CHANGE = range(3)  # streams of random numbers


@dataclass(frozen=True)
class PointAugment:
    """Random changes of a training cloud.

    Args:
        jitter: standard deviation of noise on each coordinate, in radii of the cloud; cut at three of them.
        scale: each axis of the stored cloud is stretched by a factor between 1/(1 + scale) and 1 + scale.
        dropout: largest share of points left out; the share is drawn for each cloud.

    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import PointAugment, PrimitiveClouds, Views
        >>> views = Views(PrimitiveClouds(1, 50), 40, augment=PointAugment(dropout=0.9))
        >>> len(views[0]["positions"]) < 40
        True
    """

    jitter: float = 0.0
    scale: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.jitter < 0 or self.scale < 0:
            raise ValueError(f"jitter is {self.jitter}, scale {self.scale}; expected 0 (none) or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected a share of the points, 0 <= dropout < 1")


def check_protocol(name: str, protocol: str, up: int | None) -> str:
    """The name of a protocol of turns, checked. Raises: ValueError."""
    if protocol not in ROTATIONS:
        raise ValueError(f"{name} is {protocol!r}; expected one of {', '.join(map(repr, ROTATIONS))}")
    if protocol == "z" and up is None:
        raise ValueError(
            f"{name} is 'z' but the data do not say which axis points upwards; give it as --data.up, or take 'so3' or 'none'"
        )
    return protocol


def draw_rotation(protocol: str, up: int | None, draw: torch.Generator) -> Tensor:
    """A rotation of a protocol. Shape: (3, 3) float64."""
    if protocol == "so3":
        return random_rotations(1, draw)[0]
    turn = torch.eye(3, dtype=torch.float64)
    if protocol == "z":
        assert up is not None
        angle = 2 * math.pi * float(torch.rand((), dtype=torch.float64, generator=draw))
        a, b = (up + 1) % 3, (up + 2) % 3
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
    return turn


class Views(Dataset[Any]):
    """Clouds as a network sees them.

    An item asked for as (epoch, index) is drawn for that epoch; a plain index means epoch 0. With several ``votes`` an item is a
    list: the cloud as it would be with one vote, then further choices of points and turns.

    Args:
        dataset: of stored clouds.
        num_points: points of a view; clouds with fewer keep all they have.
        rotation: "none", "z" or "so3".
        choose: "random" points, the "first" ones, or those "farthest" from one another.
        normals: give unit normals as features; where the data have none, they are estimated from the whole stored cloud.
        augment: random changes; none if None.
        votes: views of each item.
        seed: of everything that is drawn.
        stream: keeps what is drawn for one split apart from the others.

    Raises: ValueError for values out of range, and for clouds whose points are all at one place.

    Example:
        >>> from spheregeo.data import PrimitiveClouds, Views
        >>> views = Views(PrimitiveClouds(2, 50), 40, "so3", normals=True)
        >>> views[(3, 1)]["features"].shape  # the second cloud in epoch 3
        torch.Size([40, 3])
    """

    def __init__(
        self,
        dataset: PointDataset,
        num_points: int = 1024,
        rotation: str = "none",
        *,
        choose: str = "random",
        normals: bool = False,
        augment: PointAugment | None = None,
        votes: int = 1,
        seed: int = 0,
        stream: int = 0,
    ) -> None:
        if num_points < 1:
            raise ValueError(f"num_points is {num_points}; expected at least 1")
        if votes < 1:
            raise ValueError(f"votes is {votes}; expected at least 1")
        if choose not in CHOICES:
            raise ValueError(f"choose is {choose!r}; expected one of {', '.join(map(repr, CHOICES))}")
        self.dataset, self.num_points, self.choose, self.normals = dataset, num_points, choose, normals
        self.rotation = check_protocol("rotation", rotation, dataset.up)
        self.augment, self.votes, self.seed, self.stream = augment, votes, seed, stream
        self._farthest: dict[int, np.ndarray] = {}
        self._estimated: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> PointItem | list[PointItem]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        cloud = self.dataset[index]
        if (cloud.points == cloud.points[0]).all():
            held = f"{len(cloud.points)} points, all at one place" if len(cloud.points) > 1 else "one point"
            raise ValueError(f"{self.dataset.name(index)} holds {held}; expected a shape")
        views = [self._view(cloud, epoch, index, vote) for vote in range(self.votes)]
        return views if self.votes > 1 else views[0]

    def _view(self, cloud: Cloud, epoch: int, index: int, vote: int) -> PointItem:
        draws = [generator(self.seed, self.stream, k, epoch, index, vote) for k in (_TURN, _CHOOSE, _CHANGE)]
        kept = self._chosen(cloud, index, "random" if vote else self.choose, draws[_CHOOSE])
        points = cloud.points[kept].astype(np.float64)
        normals = self._normals_of(cloud, index)[kept].astype(np.float64) if self.normals else None
        if self.augment is not None:
            points, normals, rows = self._changed(points, normals, self.augment, draws[_CHANGE])
            kept = kept[rows]
        else:
            points = unit_sphere(points)
        turn = draw_rotation(self.rotation, self.dataset.up, draws[_TURN]).numpy()
        item: PointItem = {
            "positions": torch.from_numpy(points @ turn.T).float(),
            "label": int(self.dataset.labels[index]),
            "index": index,
        }
        if normals is not None:
            item["features"] = torch.from_numpy(normals @ turn.T).float()
        if cloud.parts is not None:
            item["part"] = torch.from_numpy(cloud.parts[kept])
        return item

    def _normals_of(self, cloud: Cloud, index: int) -> np.ndarray:
        """The normals of a stored cloud, or else those that are estimated, once for each cloud. Shape: (P, 3)."""
        if cloud.normals is not None:
            return cloud.normals
        if index not in self._estimated:
            points = torch.from_numpy(unit_sphere(cloud.points))
            self._estimated[index] = estimate_normals(points, NORMAL_NEIGHBORS).float().numpy()
        return self._estimated[index]

    def _chosen(self, cloud: Cloud, index: int, choose: str, draw: torch.Generator) -> np.ndarray:
        """Numbers of the points that a view keeps."""
        count = len(cloud.points)
        if count <= self.num_points or choose == "first":
            return np.arange(min(count, self.num_points))
        if choose == "random":
            return torch.randperm(count, generator=draw)[: self.num_points].numpy()
        if index not in self._farthest:
            points = torch.from_numpy(np.asarray(cloud.points, np.float64))
            self._farthest[index] = farthest_points(points, self.num_points).numpy()
        return self._farthest[index]

    @staticmethod
    def _changed(
        points: np.ndarray, normals: np.ndarray | None, augment: PointAugment, draw: torch.Generator
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """The cloud stretched, on the unit sphere, thinned, then with noise in its radii, and the points kept."""
        stretch = (
            math.log1p(augment.scale) * (2 * torch.rand(3, generator=draw, dtype=torch.float64) - 1)
        ).exp()
        share = augment.dropout * float(torch.rand((), generator=draw))
        order = torch.rand(len(points), generator=draw, dtype=torch.float64)
        noise = torch.randn(len(points), 3, generator=draw, dtype=torch.float64).clamp(-CLIP, CLIP)
        points = unit_sphere(points * stretch.numpy())
        kept = np.sort(order.argsort().numpy()[: max(1, round((1 - share) * len(points)))])
        points = points[kept] + augment.jitter * noise.numpy()[kept]
        if normals is not None:
            normals = normals[kept] / stretch.numpy()  # a normal is a gradient: it takes the inverse stretch
            normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
        return points, normals, kept
