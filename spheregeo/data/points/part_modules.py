"""Data modules of clouds with parts: protocols of turns and views as those of other clouds, parts in place of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from spheregeo.data.points.dataset import PartDataset
from spheregeo.data.points.modelnet import axis_of
from spheregeo.data.points.modules import Choice, PointData, Rotation, Up
from spheregeo.data.points.part_files import PartFolder, ShapeNetPart, shapenet_part_text
from spheregeo.data.points.part_shapes import PartShapes

__all__ = ["PartData", "PartFolderData", "PartShapesData", "ShapeNetPartData"]


class PartData(PointData):
    """Base class of the data modules of clouds with parts. A subclass implements ``make``.

    Args:
        **kwargs: arguments of :class:`PointData`.

    Shape: batches as those of :class:`PointData`, with part (P,) int64, 255 where it is not known; label (B,) is the category.
    Raises: ValueError for several votes, which choose other points each.
    """

    must_agree = ("class_names", "category_names", "category_parts")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.votes != 1:
            raise ValueError(f"votes is {self.votes}; expected 1: each vote would choose other points")

    def _train(self) -> PartDataset:
        found = self.dataset("train")
        assert isinstance(found, PartDataset)
        return found

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the parts of all categories."""
        return self._train().part_names

    @property
    def category_names(self) -> tuple[str, ...]:
        """Names of the categories."""
        return self._train().class_names

    @property
    def category_parts(self) -> list[list[int]]:
        """Parts of each category."""
        return [list(parts) for parts in self._train().category_parts]

    def labels(self, split: str) -> Sequence[int]:
        """Return nothing: classes are parts here, which are not known without reading the clouds.

        Args:
            split: "train", "val" or "test".
        """
        return ()


class PartShapesData(PartData):
    """Generated clouds of six kinds of things with parts: no download, any number of them.

    Args:
        train: number of training clouds.
        val: number of validation clouds.
        test: number of test clouds.
        points: points of a stored cloud, of which views take ``num_points``.
        noise: standard deviation of the points off the surface; the things have a size of about 1.
        num_points: points of a view.
        **kwargs: arguments of :class:`PartData`; ``seed`` is also that of the clouds.

    Raises: ValueError for numbers out of range.

    Example:
        >>> from spheregeo.data import PartShapesData
        >>> data = PartShapesData(train=6, val=2, test=2, num_points=64)
        >>> batch = next(iter(data.test_dataloader()))
        >>> batch["part"].shape, data.num_classes
        (torch.Size([128]), 16)
    """

    def __init__(
        self,
        train: int = 480,
        val: int = 60,
        test: int = 120,
        points: int = 1024,
        noise: float = 0.005,
        num_points: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_points=num_points, **kwargs)
        self.counts = {"train": train, "val": val, "test": test}
        self.points, self.noise = points, noise

    def make(self, split: str) -> PartDataset:
        return PartShapes(self.counts[split], self.points, self.noise, self.seed, split)


class PartFolderData(PartData):
    """A folder of clouds whose points have a column of parts, a sub-folder for each category.

    Args:
        root: the folder: CATEGORY/NAME.ply, .pcd, .txt, .xyz or .npz, and optionally train.txt, val.txt, test.txt.
        up: axis against gravity: x, y, z; auto and unknown mean that it is not known.
        columns: names of the columns of text files, such as "x y z _ part", "_" for those to leave out; found out if empty.
        drop_nan: leave out points that are NaN or infinite, which organised scans have, instead of refusing the file.
        train_rotation: turns of training clouds: none, z (about the axis against gravity) or so3 (any).
        test_points: which points validation and test take of larger clouds: the first, the farthest, or random (but fixed) ones.
        **kwargs: arguments of :class:`PartData`; with ``normals`` every file must have some.

    Raises: FileNotFoundError and ValueError, as :class:`PartFolder`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        up: Up = "auto",
        columns: str = "",
        drop_nan: bool = False,
        *,
        train_rotation: Rotation = "so3",
        test_points: Choice = "farthest",
        **kwargs: Any,
    ) -> None:
        super().__init__(train_rotation=train_rotation, test_points=test_points, **kwargs)
        self.root, self.up, self.columns, self.drop_nan = Path(root), up, columns, drop_nan

    def make(self, split: str) -> PartDataset:
        up = None if self.up == "auto" else axis_of(self.up, 2)
        return PartFolder(self.root, split, up, self.columns, self.drop_nan)


class ShapeNetPartData(PartData):
    """ShapeNet-Part: sixteen categories of things with fifty parts, as HDF5 or text files.

    Args:
        root: folder with ShapeNet-Part, see datasets/shapenet-part/README.md.
        layout: hdf5 or text; auto looks which one it is.
        up: axis against gravity: x, y, z; auto for that of the data, y.
        num_points: points of a view.
        **kwargs: arguments of :class:`PartData`; ``normals`` in the text layout alone.

    Raises: FileNotFoundError and ValueError when a split is first read.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["auto", "hdf5", "text"] = "auto",
        up: Up = "auto",
        *,
        num_points: int = 2048,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_points=num_points, **kwargs)
        self.root, self.layout, self.up = Path(root), layout, up

    def make(self, split: str) -> PartDataset:
        text = (self.root / "synsetoffset2category.txt").is_file()
        hdf5 = any(self.root.glob("ply_data_train*.h5"))
        if self.layout == "auto" and not (text or hdf5):
            raise FileNotFoundError(
                f"{self.root} holds neither ply_data_train*.h5 nor synsetoffset2category.txt; see "
                "datasets/shapenet-part/README.md"
            )
        up = axis_of(self.up, 1)
        if self.layout == "hdf5" or (self.layout == "auto" and hdf5):
            return ShapeNetPart(self.root, split, up)
        return shapenet_part_text(self.root, split, up)
