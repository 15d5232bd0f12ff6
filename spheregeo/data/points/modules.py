"""Lightning data modules of point clouds: protocols of turns, fixed views in validation and test, drawn views in training."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from spheregeo.data.common import SPLITS, EpochSampler
from spheregeo.data.labelled import check_counts
from spheregeo.data.points.dataset import PointDataset, collate
from spheregeo.data.points.folder import PointFolder
from spheregeo.data.points.generated import PrimitiveClouds
from spheregeo.data.points.modelnet import axis_of
from spheregeo.data.points.views import PointAugment, Views

Rotation = Literal["none", "z", "so3"]
Choice = Literal["first", "farthest", "random"]
Up = Literal["auto", "x", "y", "z", "unknown"]


class PointData(LightningDataModule):
    """What all data modules of clouds share; subclasses say which dataset stands behind a split.

    Clouds are centred on their mean and divided by the largest norm. Training views are drawn anew from (seed, epoch, index);
    those of validation and test are the same in every epoch and every run.

    Args:
        num_points: points of a view; clouds with fewer keep all they have.
        train_rotation: turns of training clouds: none, z (about the axis against gravity) or so3 (any).
        test_rotation: turns of the clouds of validation and test.
        normals: give normals as features.
        batch_size: clouds in a batch.
        test_points: which points validation and test take of larger clouds: the first, the farthest, or random (but fixed) ones.
        votes: views of each test cloud whose probabilities are averaged.
        jitter: standard deviation of noise on training points, in radii of the cloud.
        scale: largest relative stretch of each axis of training clouds.
        dropout: largest share of points that a training cloud loses.
        num_workers: processes that load data; 0 loads in the training process.
        seed: of all views and of their order.
    """

    def __init__(
        self,
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
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_counts(
            num_points=(num_points, 1), batch_size=(batch_size, 1), votes=(votes, 1), num_workers=(num_workers, 0),
            seed=(seed, 0),
        )  # fmt: skip
        self.num_points, self.normals, self.batch_size = num_points, normals, batch_size
        self.train_rotation, self.test_rotation, self.test_points = train_rotation, test_rotation, test_points
        self.votes, self.num_workers, self.seed = votes, num_workers, seed
        self.augment = PointAugment(jitter, scale, dropout)
        self._datasets: dict[str, PointDataset] = {}
        self._views: dict[str, Views] = {}

    @abstractmethod
    def make(self, split: str) -> PointDataset:
        """The dataset of a split."""

    def dataset(self, split: str) -> PointDataset:
        """The stored clouds of a split, made once."""
        if split not in self._datasets:
            self._datasets[split] = self.make(split)
        return self._datasets[split]

    def views(self, split: str) -> Views:
        """The clouds of a split as a network sees them."""
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
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices."""
        return self.dataset("train").class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Channels of the features: 3 with normals, else none."""
        return 3 if self.normals else 0

    @property
    def feature_irreps(self) -> str:
        """How the features turn, in e3nn's notation: normals are one vector; empty without features."""
        return "1x1o" if self.normals else ""

    def _loader(self, split: str, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            self.views(split), self.batch_size, collate_fn=collate, num_workers=self.num_workers,
            persistent_workers=False, **options,
        )  # fmt: skip

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(
            "train", sampler=EpochSampler(self.views("train"), shuffle=True, seed=self.seed)  # type: ignore[arg-type]
        )  # fmt: skip

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def state_dict(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore. Raises: ValueError if the checkpoint knew other classes."""
        if list(self.class_names) != list(state_dict["class_names"]):
            raise ValueError(
                f"the checkpoint was trained on classes {', '.join(state_dict['class_names'])} but the data have "
                f"{', '.join(self.class_names)}; resume with the data it began with"
            )


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
        train_rotation: turns of training clouds: none, z (about the axis against gravity) or so3 (any).
        test_rotation: turns of the clouds of validation and test.
        normals: give normals as features.
        batch_size: clouds in a batch.
        test_points: which points validation and test take of larger clouds.
        votes: views of each test cloud whose probabilities are averaged.
        jitter: standard deviation of noise on training points, in radii of the cloud.
        scale: largest relative stretch of each axis of training clouds.
        dropout: largest share of points that a training cloud loses.
        num_workers: processes that load data.
        seed: of the clouds, all views and their order.
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
        train_rotation: Rotation = "z",
        test_rotation: Rotation = "so3",
        normals: bool = False,
        batch_size: int = 16,
        test_points: Choice = "first",
        votes: int = 1,
        jitter: float = 0.0,
        scale: float = 0.0,
        dropout: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_points, train_rotation, test_rotation, normals, batch_size, test_points, votes, jitter, scale, dropout,
            num_workers, seed,
        )  # fmt: skip
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
        num_points: points of a view; clouds with fewer keep all they have.
        train_rotation: turns of training clouds: none, z (about the axis against gravity) or so3 (any).
        test_rotation: turns of the clouds of validation and test.
        normals: give normals as features; every file must have some.
        batch_size: clouds in a batch.
        test_points: which points validation and test take of larger clouds.
        votes: views of each test cloud whose probabilities are averaged.
        jitter: standard deviation of noise on training points, in radii of the cloud.
        scale: largest relative stretch of each axis of training clouds.
        dropout: largest share of points that a training cloud loses.
        num_workers: processes that load data.
        seed: of the points drawn from meshes, all views and their order.
    """

    def __init__(
        self,
        root: str,
        stored_points: int = 2048,
        up: Up = "auto",
        num_points: int = 1024,
        train_rotation: Rotation = "so3",
        test_rotation: Rotation = "so3",
        normals: bool = False,
        batch_size: int = 16,
        test_points: Choice = "farthest",
        votes: int = 1,
        jitter: float = 0.0,
        scale: float = 0.0,
        dropout: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            num_points, train_rotation, test_rotation, normals, batch_size, test_points, votes, jitter, scale, dropout,
            num_workers, seed,
        )  # fmt: skip
        self.root, self.stored_points, self.up = Path(root), stored_points, up

    def make(self, split: str) -> PointDataset:
        up = None if self.up == "auto" else axis_of(self.up, 2)
        return PointFolder(self.root, split, self.stored_points, self.seed, up)
