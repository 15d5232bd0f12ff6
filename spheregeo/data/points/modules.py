"""Data modules of point clouds: protocols of turns, fixed views in validation and test, drawn views in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS
from spheregeo.data.module import DataModule
from spheregeo.data.points.balanced import BalancedDraws
from spheregeo.data.points.dataset import PointDataset
from spheregeo.data.points.folder import PointFolder
from spheregeo.data.points.generated import PrimitiveClouds
from spheregeo.data.points.modelnet import axis_of
from spheregeo.data.points.views import PointAugment, Views

__all__ = ["PointData", "PointFolderData", "PrimitiveCloudsData"]

Rotation = Literal["none", "z", "so3"]
Choice = Literal["first", "farthest", "random"]
Up = Literal["auto", "x", "y", "z", "unknown"]


class PointData(DataModule[PointDataset]):
    """Base class of the data modules of clouds. A subclass implements ``make``.

    Clouds are centred on their mean and divided by the largest norm. Training views are drawn anew from (seed, epoch, index);
    those of validation and test are the same in every epoch and every run.

    Args:
        num_points: points of a view; clouds with fewer keep all they have.
        train_rotation: turns of training clouds: none, z (about the axis against gravity) or so3 (any).
        test_rotation: turns of the clouds of validation and test.
        normals: give normals as features; where files have none, they are estimated from the sixteen nearest points.
        balanced: let every class come equally often in training, however many clouds it has.
        batch_size: clouds in a batch.
        test_points: which points validation and test take of larger clouds: the first, the farthest, or random (but fixed) ones.
        votes: views of each test cloud whose probabilities are averaged.
        jitter: standard deviation of noise on training points, in radii of the cloud.
        scale: largest relative stretch of each axis of training clouds.
        dropout: largest share of points that a training cloud loses.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`; ``seed`` is also that of all views.

    Shape: batches of positions (P, 3) float32, clouds end to end; batch (P,) int64; features (P, 3); label and index (B,) int64.
    Raises: ValueError for numbers out of range.
    """

    drawn_anew = True

    def __init__(
        self,
        *,
        num_points: int = 1024,
        train_rotation: Rotation = "z",
        test_rotation: Rotation = "so3",
        normals: bool = False,
        batch_size: int = 16,
        test_points: Choice = "first",
        votes: int = 1,
        jitter: float = 0.0,
        scale: float = 0.0,
        dropout: float = 0.0,
        balanced: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        check_least(num_points=(num_points, 1), votes=(votes, 1))
        self.num_points, self.normals, self.votes = num_points, normals, votes
        self.train_rotation, self.test_rotation, self.test_points = train_rotation, test_rotation, test_points
        self.augment, self.balanced = PointAugment(jitter, scale, dropout), balanced
        self._views: dict[str, Views] = {}

    def items(self, split: str) -> Dataset[Any]:
        """Return the clouds of a split as a network sees them; in training every class equally often, if asked."""
        views = self.views(split)
        if split != "train" or not self.balanced:
            return views
        return BalancedDraws(views, self.dataset(split).labels, self.seed)

    def views(self, split: str) -> Views:
        """Return the clouds of a split as a network sees them."""
        if split not in self._views:
            train = split == "train"
            options: dict[str, Any] = {
                "normals": self.normals,
                "seed": self.seed,
                "stream": SPLITS.index(split),
                "choose": "random" if train else self.test_points,
                "augment": self.augment if train else None,
                "votes": self.votes if split == "test" else 1,
            }
            rotation = self.train_rotation if train else self.test_rotation
            self._views[split] = Views(self.dataset(split), self.num_points, rotation, **options)
        return self._views[split]

    @property
    def in_channels(self) -> int:
        """Channels of the features: 3 with normals, else none."""
        return 3 if self.normals else 0

    @property
    def feature_irreps(self) -> str:
        """How the features turn, in e3nn's notation: normals are one vector; empty without features."""
        return "1x1o" if self.normals else ""


class PrimitiveCloudsData(PointData):
    """Generated clouds of ten classes of bent primitives: no download, any number of them.

    Args:
        train: number of training clouds.
        val: number of validation clouds.
        test: number of test clouds.
        points: points of a stored cloud, of which views take ``num_points``.
        deform: strength of the smooth deformation; 1 stretches by some 20 %.
        noise: standard deviation of the points off the surface; the shapes have size 1.
        num_points: points of a view.
        **kwargs: arguments of :class:`PointData`; ``seed`` is also that of the clouds.

    Raises: ValueError for numbers out of range.

    Example:
        >>> from spheregeo.data import PrimitiveCloudsData
        >>> data = PrimitiveCloudsData(train=4, val=2, test=2, num_points=64)
        >>> next(iter(data.test_dataloader()))["positions"].shape
        torch.Size([128, 3])
    """

    def __init__(
        self,
        train: int = 1000,
        val: int = 200,
        test: int = 400,
        points: int = 1024,
        deform: float = 1.0,
        noise: float = 0.0,
        num_points: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_points=num_points, **kwargs)
        self.counts = {"train": train, "val": val, "test": test}
        self.points, self.deform, self.noise = points, deform, noise

    def make(self, split: str) -> PointDataset:
        return PrimitiveClouds(self.counts[split], self.points, self.deform, self.noise, self.seed, split)


class PointFolderData(PointData):
    """A folder of labelled clouds or meshes, a sub-folder for each class.

    Args:
        root: the folder: CLASS/NAME.ply, .off, .obj, .stl, .pcd, .xyz or .txt, and optionally train.txt, val.txt, test.txt.
        stored_points: points drawn from each mesh.
        up: axis against gravity: x, y, z; auto and unknown mean that it is not known.
        columns: names of the columns of text files, such as "x y z nx ny nz", "_" for those to leave out; found out if empty.
        drop_nan: leave out points that are NaN or infinite, which organised scans have, instead of refusing the file.
        train_rotation: turns of training clouds: none, z (about the axis against gravity) or so3 (any).
        test_points: which points validation and test take of larger clouds: the first, the farthest, or random (but fixed) ones.
        **kwargs: arguments of :class:`PointData`; files without normals are given estimated ones where ``normals`` asks for them.

    Raises: FileNotFoundError and ValueError, as :class:`PointFolder`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        stored_points: int = 2048,
        up: Up = "auto",
        columns: str = "",
        drop_nan: bool = False,
        *,
        train_rotation: Rotation = "so3",
        test_points: Choice = "farthest",
        **kwargs: Any,
    ) -> None:
        super().__init__(train_rotation=train_rotation, test_points=test_points, **kwargs)
        self.root, self.stored_points, self.up = Path(root), stored_points, up
        self.columns, self.drop_nan = columns, drop_nan

    def make(self, split: str) -> PointDataset:
        up = None if self.up == "auto" else axis_of(self.up, 2)
        return PointFolder(self.root, split, self.stored_points, self.seed, up, self.columns, self.drop_nan)
