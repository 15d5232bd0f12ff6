"""MedMNIST of images: one .npz with ``train_images`` (N, H, W) or (N, H, W, 3), ``train_labels`` (N, 1), and others."""

from __future__ import annotations

from spheregeo.data.images.dataset import ImageDataset
from spheregeo.data.medmnist import MedMNISTFile

__all__ = ["MedMNIST"]


class MedMNIST(MedMNISTFile, ImageDataset):
    """Images of one split of a MedMNIST file, or of any file of that layout.

    A file without a test (or validation) part is split: of its training images every tenth, by number, is held out.

    Args:
        root: the .npz file.
        split: train, val or test.

    Shape: images (C, H, W) float32; uint8 is divided by 255 and uint16 by 65535 where the file's largest value is above 1.
    Raises: FileNotFoundError; ValueError for another layout, counts that differ, or labels that are no classes (several labels
        for an image among them).
    Reference: Yang et al. 2023, MedMNIST v2, Scientific Data 10, 41.
    """
