"""MedMNIST3D: one .npz with all volumes, ``train_images`` (N, D, H, W), ``train_labels`` (N, 1), and so for val and test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.medmnist import MedMNISTFile
from spheregeo.data.voxels.dataset import VoxelDataset

__all__ = ["MedMNIST3D"]


class MedMNIST3D(MedMNISTFile, VoxelDataset):
    """Volumes of one split of a MedMNIST3D file, or of any file of that layout.

    A file without a test (or validation) part is split: of its training volumes every tenth, by number, is held out.

    Args:
        root: the .npz file.
        split: train, val or test.
        packed: whether the file holds masks as bits, eight voxels of the last axis in a byte, as ``numpy.packbits`` writes them.

    Shape: volumes (C, D, H, W) float32; uint8 is divided by 255 and uint16 by 65535 where the file's largest value is above 1.
        Other whole numbers stay as they are.
    Raises: FileNotFoundError; ValueError for another layout, counts that differ, or labels that are no classes,
        packed voxels that are no bytes.
    Reference: Yang et al. 2023, MedMNIST v2, Scientific Data 10, 41.
    """

    kind = "MedMNIST3D"
    axes = "D, H, W"
    points = "voxels"

    def __init__(self, root: str | Path, split: str = "train", packed: bool = False) -> None:
        super().__init__(root, split)
        self.packed = packed
        if packed and (self.images.dtype != np.uint8 or self.images.ndim != 4):
            raise ValueError(
                f"packed is True, but {self.path} holds an array of shape {self.images.shape} and type {self.images.dtype}; "
                "expected bytes (N, D, H, W / 8)"
            )
        if packed:
            self._largest = 1

    def load(self, index: int) -> np.ndarray:
        if not self.packed:
            return super().load(index)
        return np.unpackbits(self.images[index], axis=-1).astype(np.float32)[None]
