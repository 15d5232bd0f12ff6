"""A folder of labelled volumes, a sub-folder for each class; see :mod:`spheregeo.data.class_folder` for its splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.class_folder import class_entries
from spheregeo.data.common import check_split
from spheregeo.data.voxels.dataset import VoxelDataset
from spheregeo.data.voxels.files import VOXEL_SUFFIXES, read_volume

__all__ = ["VoxelFolder"]


class VoxelFolder(VoxelDataset):
    """A folder with a sub-folder of volumes for each class; classes are the sub-folders' sorted names.

    Args:
        root: the folder: CLASS/NAME.npy, .npz, .nii or .nii.gz, and optionally train.txt, val.txt, test.txt.
        split: train, val or test.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root, self.split = Path(root), check_split(split)
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"root {self.root} is not a folder; expected one with volumes (see --data.root)"
            )
        self.class_names, self.entries = class_entries(self.root, split, VOXEL_SUFFIXES)
        if not self.entries:
            raise ValueError(
                f"the {split} split of {self.root} is empty; add volumes, or list paths in train.txt, val.txt and test.txt"
            )
        self.labels = [label for _, label in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return str(self.entries[index][0].relative_to(self.root))

    def load(self, index: int) -> np.ndarray:
        return read_volume(self.entries[index][0])
