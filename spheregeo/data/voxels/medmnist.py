"""MedMNIST3D: one .npz with all volumes, ``train_images`` (N, D, H, W), ``train_labels`` (N, 1), and so for val and test."""

from __future__ import annotations

from spheregeo.data.medmnist import MedMNISTFile
from spheregeo.data.voxels.dataset import VoxelDataset

__all__ = ["MedMNIST3D"]


class MedMNIST3D(MedMNISTFile, VoxelDataset):
    """Volumes of one split of a MedMNIST3D file, or of any file of that layout.

    A file without a test (or validation) part is split: of its training volumes every tenth, by number, is held out.

    Args:
        root: the .npz file.
        split: train, val or test.

    Shape: volumes (C, D, H, W) float32; uint8 is divided by 255 and uint16 by 65535 where the file's largest value is above 1.
        Other whole numbers stay as they are.
    Raises: FileNotFoundError; ValueError for another layout, counts that differ, or labels that are no classes.
    Reference: Yang et al. 2023, MedMNIST v2, Scientific Data 10, 41.
    """

    kind = "MedMNIST3D"
    axes = "D, H, W"
    points = "voxels"
