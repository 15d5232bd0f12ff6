"""Data modules of volumes: one protocol of turns and sizes for generated solids, folders and MedMNIST3D."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS
from spheregeo.data.module import DataModule
from spheregeo.data.samples import stack_alike
from spheregeo.data.voxels.dataset import VoxelDataset
from spheregeo.data.voxels.folder import VoxelFolder
from spheregeo.data.voxels.generated import Solids
from spheregeo.data.voxels.medmnist import MedMNIST3D
from spheregeo.data.voxels.turns import rotation_of, turn
from spheregeo.lazy import cached_property

__all__ = ["MedMNIST3DData", "SolidsData", "VoxelData", "VoxelFolderData"]

Turns = Literal["none", "cube", "so3"]


class _Turned(Dataset[dict[str, Tensor]]):
    """Volumes of a split, turned by rotations that depend on (seed, epoch, index) alone."""

    def __init__(self, data: VoxelDataset, rotation: str, seed: int) -> None:
        self.data, self.rotation, self.seed = data, rotation, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        volume = self.data[index]
        if self.rotation != "none":
            volume = turn(
                volume, rotation_of(self.rotation, np.random.default_rng([self.seed, epoch, index]))
            )
        label, number = torch.tensor(int(self.data.labels[index])), torch.tensor(index)
        return {"volume": torch.from_numpy(volume), "label": label, "index": number}


def collate_volumes(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join volumes of one shape to a batch.

    Args:
        items: dicts with ``volume``, ``label`` and ``index``.

    Shape: volume (C, D, H, W) -> (B, C, D, H, W).
    Raises: ValueError for volumes of different shapes.
    """
    return stack_alike(items, "volume", "volumes")


class VoxelData(DataModule[VoxelDataset]):
    """Base class of the data modules of volumes. A subclass implements :meth:`make`.

    Args:
        train_rotation: turns of training volumes, drawn anew in each epoch: none, cube (its 24 rotations, exact) or so3 (any,
            interpolated).
        test_rotation: turns of validation and test volumes, which are fixed.
        batch_size: volumes in a batch.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`.

    Shape: batches hold volume (B, C, D, H, W), label (B,) and index (B,).
    Raises: ValueError for volumes of different shapes, when they are read.
    """

    drawn_anew = True
    collate = staticmethod(collate_volumes)

    def __init__(
        self,
        *,
        train_rotation: Turns = "none",
        test_rotation: Turns = "none",
        batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.rotations = {"train": train_rotation, "val": test_rotation, "test": test_rotation}
        for kind in self.rotations.values():
            rotation_of(kind, np.random.default_rng(0))

    def items(self, split: str) -> Dataset[Any]:
        data = self.dataset(split)
        return _Turned(data, self.rotations[split], len(SPLITS) * self.seed + SPLITS.index(split))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, D, H, W) of the volumes."""
        return tuple(self.dataset("train")[0].shape)

    @property
    def in_channels(self) -> int:
        """Channels of the volumes."""
        return self.shape[0]

    @property
    def size(self) -> list[int]:
        """Voxels along each axis."""
        return list(self.shape[1:])


class SolidsData(VoxelData):
    """Generated solids of eight classes in cubes of voxels: no download.

    Args:
        train: number of training volumes.
        val: number of validation volumes.
        test: number of test volumes.
        voxels: voxels along each axis.
        noise: standard deviation of the voxels' noise; inside is 1, outside 0.
        turned: how the solids of validation and test stand: none (upright, as in training), cube or so3.
        **kwargs: arguments of :class:`VoxelData`; ``seed`` is also that of the solids.

    Raises: ValueError for numbers that are too small.

    Example:
        >>> from spheregeo.data import SolidsData
        >>> data = SolidsData(train=8, val=8, test=8, voxels=12)
        >>> next(iter(data.test_dataloader()))["volume"].shape
        torch.Size([8, 1, 12, 12, 12])
    """

    def __init__(
        self,
        train: int = 400,
        val: int = 80,
        test: int = 160,
        voxels: int = 24,
        noise: float = 0.1,
        turned: Turns = "none",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        self.counts = {"train": train, "val": val, "test": test}
        self.voxels, self.noise, self.turned = voxels, noise, turned

    def make(self, split: str) -> Solids:
        turned = "none" if split == "train" else self.turned
        return Solids(self.counts[split], self.voxels, self.noise, turned, self.seed, split)


class VoxelFolderData(VoxelData):
    """A folder of labelled volumes, a sub-folder for each class.

    Args:
        root: the folder: CLASS/NAME.npy, .npz, .nii or .nii.gz, and optionally train.txt, val.txt, test.txt.
        **kwargs: arguments of :class:`VoxelData`.

    Raises: FileNotFoundError and ValueError, as :class:`VoxelFolder`, when a split is first read.
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)

    def make(self, split: str) -> VoxelFolder:
        return VoxelFolder(self.root, split)


class MedMNIST3DData(VoxelData):
    """MedMNIST3D, or any .npz of its layout.

    Args:
        root: the file, such as adrenalmnist3d_64.npz.
        packed: whether the file holds masks as bits, eight voxels of the last axis in a byte, as ``numpy.packbits`` writes them.
        **kwargs: arguments of :class:`VoxelData`.

    Raises: FileNotFoundError and ValueError, as :class:`MedMNIST3D`, when a split is first read.
    """

    def __init__(self, root: str, packed: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.packed = Path(root), packed

    def make(self, split: str) -> MedMNIST3D:
        return MedMNIST3D(self.root, split, self.packed)
