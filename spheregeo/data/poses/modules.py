"""Data modules of poses: one protocol of turns and normalisation for generated views, folders and archives."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS
from spheregeo.data.images.own import check_resize
from spheregeo.data.images.statistics import channel_statistics
from spheregeo.data.images.turns import turn, turn_of
from spheregeo.data.module import DataModule
from spheregeo.data.poses.dataset import PoseDataset, check_camera
from spheregeo.data.poses.folder import PoseFolder
from spheregeo.data.poses.generated import ShadedViews
from spheregeo.data.poses.layouts import PoseArrays
from spheregeo.data.poses.pascal3d import Pascal3D
from spheregeo.data.samples import stack_alike
from spheregeo.lazy import cached_property

__all__ = ["Pascal3DData", "PoseArraysData", "PoseData", "PoseFolderData", "ShadedViewsData"]

Camera = Literal["opengl", "opencv"]


class PoseViews(Dataset[dict[str, Tensor]]):
    """Normalised images with their rotations, turned about the view axis by turns that depend on (seed, epoch, index) alone.

    Args:
        data: the images.
        turns: "none", "c4" or "so2".
        seed: seed of the turns.
        mean: mean of each channel, which is subtracted.
        std: standard deviation of each channel, by which the rest is divided.
    """

    def __init__(
        self, data: PoseDataset, turns: str, seed: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.dataset, self.turns, self.seed = data, turns, seed
        self.mean, self.std = (np.array(v, np.float32)[:, None, None] for v in (mean, std))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, rotation = self.dataset[index], self.dataset.rotation(index)
        if self.turns != "none":
            angle, _ = turn_of(self.turns, np.random.default_rng([self.seed, epoch, index]))
            image = turn(image, angle, interpolation="linear")
            cos, sin = math.cos(angle), math.sin(angle)
            rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ rotation
        return {
            "image": torch.from_numpy((image - self.mean) / self.std),
            "rotation": torch.from_numpy(rotation).float(),
            "label": torch.tensor(int(self.dataset.labels[index])),
            "index": torch.tensor(index),
        }


def collate_poses(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join images of one shape, and their rotations, to a batch.

    Args:
        items: dicts with ``image``, ``rotation``, ``label`` and ``index``.

    Shape: image (C, H, W) -> (B, C, H, W), rotation (3, 3) -> (B, 3, 3), label () -> (B,).
    Raises: ValueError for images of different shapes.
    """
    return stack_alike(items, "image", "images")


class PoseData(DataModule[PoseDataset]):
    """Base class of the data modules of poses. A subclass implements :meth:`make`.

    Args:
        turns: how training images are turned about the view axis, and their rotations with them, anew in each epoch: none, c4
            (quarter turns, exact) or so2 (any angle, interpolated).
        batch_size: images in a batch.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`; ``seed`` is also that of the turns.

    Shape: batches hold image (B, C, H, W) float32, normalised; rotation (B, 3, 3) float32; label and index (B,) int64.
    Raises: ValueError for images of different shapes, when they are read.
    """

    constants = ("mean", "std")
    drawn_anew = True
    collate = staticmethod(collate_poses)

    def __init__(
        self, *, turns: Literal["none", "c4", "so2"] = "none", batch_size: int = 32, **kwargs: Any
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        if turns not in ("none", "c4", "so2"):
            raise ValueError(f"turns is {turns!r}; expected none, c4 or so2")
        self.turns = turns

    @abstractmethod
    def make(self, split: str) -> PoseDataset: ...

    def items(self, split: str) -> PoseViews:
        """Return the images of a split with their rotations, normalised, and turned if they are for training."""
        turns = self.turns if split == "train" else "none"
        seed = len(SPLITS) * self.seed + SPLITS.index(split)
        return PoseViews(self.dataset(split), turns, seed, *self._statistics)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of the images."""
        return tuple(self.dataset("train")[0].shape)

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.shape[0]

    @property
    def size(self) -> list[int]:
        """Pixels along each side, rows and columns."""
        return list(self.shape[1:])

    @property
    def symmetric(self) -> list[str]:
        """Names of the classes whose things some rotation takes to themselves."""
        return list(self.dataset("train").symmetric)

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_statistics(self.dataset("train"), self.in_channels)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over training images."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over training images; 1 where a channel is constant."""
        return self._statistics[1]


class ShadedViewsData(PoseData):
    """Generated views of solids, symmetric ones among them: no download.

    Args:
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        pixels: pixels along each side.
        objects: names of built-in things (aeroplane, chair, creature, mug, cone, cube, cylinder), or files of meshes; all
            built-in things if null.
        symmetric: names of the things that some rotation takes to themselves; of the built-in ones those that are so if null.
        distance: of the camera, in radii of the thing, above 1; parallel rays if null.
        noise: standard deviation of the pixels' noise, beside a brightness of 0 to 1.
        **kwargs: arguments of :class:`PoseData`; ``seed`` is also that of the views.

    Raises: ValueError for unknown things and numbers that are too small.

    Example:
        >>> from spheregeo.data import ShadedViewsData
        >>> data = ShadedViewsData(train=8, val=4, test=4, pixels=16, batch_size=4)
        >>> batch = next(iter(data.test_dataloader()))
        >>> batch["image"].shape, batch["rotation"].shape
        (torch.Size([4, 1, 16, 16]), torch.Size([4, 3, 3]))
    """

    def __init__(
        self,
        train: int = 4000,
        val: int = 200,
        test: int = 400,
        pixels: int = 48,
        objects: list[str] | None = None,
        symmetric: list[str] | None = None,
        distance: float | None = 4.0,
        noise: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        self.counts = {"train": train, "val": val, "test": test}
        self.pixels, self.objects, self.distance, self.noise = pixels, objects, distance, noise
        self.symmetric_objects = symmetric

    def make(self, split: str) -> ShadedViews:
        return ShadedViews(
            self.counts[split], self.pixels, self.objects, self.symmetric_objects, self.distance, self.noise,
            self.seed, split,
        )  # fmt: skip


class PoseFolderData(PoseData):
    """A folder of images with a table of rotations.

    Args:
        root: the folder, with rotations.csv or rotations.npz.
        camera: axes of the camera in whose frame the rotations are: opengl (x to the right, y up, z towards the viewer) or
            opencv (y down, z forward).
        channels: 1 for grey images, 3 for colours; as the files have them if null.
        resize: rows and columns to which images are resized; as they are if null.
        symmetric: names of the classes whose things some rotation takes to themselves, which are scored by likelihood alone.
        **kwargs: arguments of :class:`PoseData`.

    Raises: FileNotFoundError and ValueError, as :class:`PoseFolder`, when a split is first read.
    """

    def __init__(
        self, root: str, camera: Camera = "opengl", channels: int | None = None, resize: list[int] | None = None,
        symmetric: list[str] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.root, self.camera, self.channels = Path(root), check_camera(camera), channels
        self.resize, self.symmetric_classes = check_resize(resize), symmetric

    def make(self, split: str) -> PoseFolder:
        return PoseFolder(self.root, split, self.camera, self.channels, self.resize, self.symmetric_classes)


class PoseArraysData(PoseData):
    """Images and rotations as arrays: ModelNet10-SO(3) as .npz, and any file of that layout.

    Args:
        root: the file, or the folder with modelnet10_train.npz and modelnet10_test.npz.
        camera: axes of the camera in whose frame the rotations are: opencv (x to the right, y down, z forward) or opengl.
        resize: rows and columns to which images are resized; as they are if null.
        symmetric: names of the classes whose things some rotation takes to themselves, which are scored by likelihood alone.
        **kwargs: arguments of :class:`PoseData`.

    Raises: FileNotFoundError and ValueError, as :class:`PoseArrays`, when a split is first read.
    """

    def __init__(
        self, root: str, camera: Camera = "opencv", resize: list[int] | None = None,
        symmetric: list[str] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.root, self.camera = Path(root), check_camera(camera)
        self.resize, self.symmetric_classes = check_resize(resize), symmetric

    def make(self, split: str) -> PoseArrays:
        return PoseArrays(self.root, split, self.camera, self.resize, self.symmetric_classes)


class Pascal3DData(PoseData):
    """PASCAL3D+: photographs of twelve classes of things with the viewpoint of each.

    Args:
        root: the folder PASCAL3D+_release1.1, with Annotations, Images, Image_sets and PASCAL.
        resize: rows and columns of the images, which are the things' bounding boxes, widened to squares.
        margin: share of the bounding box that is added on each side.
        symmetric: names of the classes whose things some rotation takes to themselves, which are scored by likelihood alone.
        **kwargs: arguments of :class:`PoseData`.

    Raises: FileNotFoundError and ValueError, as :class:`Pascal3D`, when a split is first read.
    """

    def __init__(
        self, root: str, resize: list[int] = [128, 128], margin: float = 0.1,  # noqa: B006 - never changed
        symmetric: list[str] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        check_least(margin=(margin, 0))
        self.root, self.margin, self.symmetric_classes = Path(root), margin, symmetric
        self.resize = check_resize(resize) or [128, 128]

    def make(self, split: str) -> Pascal3D:
        return Pascal3D(self.root, split, self.resize, self.margin, self.symmetric_classes)
