"""MedMNIST3D: one .npz with all volumes, ``train_images`` (N, D, H, W), ``train_labels`` (N, 1), and so for val and test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.files import need_file, read_array
from spheregeo.data.voxels.dataset import VoxelDataset, check_volume

__all__ = ["MedMNIST3D"]

# Names of the classes by the file's name before its size; numbers for other files.
CLASSES: dict[str, tuple[str, ...]] = {
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "nodulemnist3d": ("benign", "malignant"),
    "synapsemnist3d": ("inhibitory", "excitatory"),
    "vesselmnist3d": ("vessel", "aneurysm"),
}
_HELD_OUT = {"val": (8,), "test": (9,)}  # numbers modulo 10, where the file lacks a split


class MedMNIST3D(VoxelDataset):
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

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.path, self.split = Path(root), check_split(split)
        need_file(self.path, "a MedMNIST3D file")
        stored = read_array(self.path)
        keys = {part: (f"{part}_images", f"{part}_labels") for part in SPLITS}
        present = (
            [] if not isinstance(stored, dict) else [p for p in SPLITS if all(k in stored for k in keys[p])]
        )
        if not isinstance(stored, dict) or "train" not in present:
            held = ", ".join(stored) if isinstance(stored, dict) else "one array"
            raise ValueError(
                f"{self.path} holds {held or 'no arrays'}; expected train_images and train_labels"
            )
        part = split if split in present else "train"
        images, labels = (stored[key] for key in keys[part])
        if images.ndim not in (4, 5) or len(images) != len(labels) or labels.size != len(labels):
            raise ValueError(
                f"{self.path}: {part}_images has shape {images.shape}, {part}_labels {labels.shape}; expected (N, D, H, W) "
                "and (N, 1)"
            )
        labels = labels.reshape(-1)
        every = np.concatenate([stored[keys[p][1]].reshape(-1) for p in present])
        if (
            every.dtype.kind not in "biu"
            or (every.size and every.min() < 0)
            or int(every.max(initial=0)) > 254
        ):
            raise ValueError(f"{self.path} has labels that are no classes 0 ... 254")
        grey = [stored[keys[p][0]] for p in present if stored[keys[p][0]].dtype in (np.uint8, np.uint16)]
        self._largest = max((int(array.max(initial=0)) for array in grey), default=0)
        chosen = self._chosen(len(labels), present)
        self.images, self.labels = images[chosen], labels[chosen].astype(int)
        count = int(every.max(initial=0)) + 1
        known = CLASSES.get(self.path.stem.partition("_")[0].rstrip("0123456789"), ())
        self.class_names = known if len(known) == count else tuple(map(str, range(count)))

    def _chosen(self, count: int, present: list[str]) -> np.ndarray:
        """Numbers of the volumes of this split within its part of the file."""
        numbers = np.arange(count)
        if self.split != "train" and self.split in present:
            return numbers
        missing = {part: at for part, at in _HELD_OUT.items() if part not in present}
        if self.split == "train":
            held = [residue for at in missing.values() for residue in at]
            return numbers[~np.isin(numbers % 10, held)]
        return numbers[np.isin(numbers % 10, missing[self.split])]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.split} {index}"

    def load(self, index: int) -> np.ndarray:
        values = self.images[index]
        if values.ndim == 4 and values.shape[-1] in (1, 3) and values.shape[0] not in (1, 3):
            values = np.moveaxis(values, -1, 0)  # channels last
        return check_volume(values, f"{self.path}: {self.name(index)}", self._largest)
