"""Images and rotations as arrays in .npz files: the layout in which ModelNet10-SO(3) is prepared, and excerpts of PASCAL3D+.

::

    imgs (N, H, W, C) or (N, H, W) uint8, rots (N, 3, 3) or (N, 4), and optionally cat_ids or clss (N,) or (N, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spheregeo.data.common import check_split
from spheregeo.data.files import need_file, read_array
from spheregeo.data.images.dataset import check_image
from spheregeo.data.images.files import resized
from spheregeo.data.medmnist import held_out
from spheregeo.data.poses.dataset import PoseDataset, as_rotations, check_camera, check_symmetric
from spheregeo.files import reading

__all__ = ["PoseArrays"]

MODELNET10 = (
    "bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet",
)  # fmt: skip
PASCAL3D = (
    "aeroplane", "bicycle", "boat", "bottle", "bus", "car", "chair", "diningtable", "motorbike", "sofa", "train", "tvmonitor",
)  # fmt: skip
CLASSES = {"cat_ids": MODELNET10, "clss": PASCAL3D}  # names by the name of the array that numbers them


class PoseArrays(PoseDataset):
    """Images and rotations of one split, in one .npz file or one for training and one for the test.

    A file by itself is split: every tenth image, by number, is for validation, and every tenth for the test. Of a folder's
    training images every tenth is for validation.

    Args:
        root: the file, or a folder with one file NAME_train.npz and one NAME_test.npz.
        split: train, val or test.
        camera: axes of the camera in whose frame the rotations are: "opencv" or "opengl".
        size: rows and columns to which images are resized; as they are if None.
        symmetric: names of the classes whose things some rotation takes to themselves.

    Shape: images (C, H, W) float32 in [0, 1].
    Raises: FileNotFoundError; ValueError for another layout, counts that differ, or what is no rotation.
    Reference: Liao, Gavves & Snoek 2019, arXiv:1904.05404 (ModelNet10-SO(3)); Klee et al. 2023, arXiv:2302.13926 (its layout).
    """

    def __init__(
        self, root: str | Path, split: str = "train", camera: str = "opencv", size: Sequence[int] | None = None,
        symmetric: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.root, self.split, self.size = (
            Path(root),
            check_split(split),
            None if size is None else list(size),
        )
        self.path, missing = self._file()
        images, rotations, labels, self.class_names = read_pose_arrays(self.path, check_camera(camera))
        chosen: np.ndarray | slice = held_out(len(images), split, missing) if missing else slice(None)
        self.images, self.rotations, self.labels = images[chosen], rotations[chosen], labels[chosen]
        if not len(self.labels):
            raise ValueError(f"{self.path} holds no images for {split} ({len(images)} in all); add some")
        self._largest = int(images.max(initial=0))
        self.symmetric = check_symmetric(symmetric, self.class_names)

    def _file(self) -> tuple[Path, tuple[str, ...]]:
        """The file of the split, and the splits that take from its images."""
        if not self.root.is_dir():
            return need_file(self.root, "an .npz file of images and rotations"), ("val", "test")
        part = "test" if self.split == "test" else "train"
        found = sorted(p for p in self.root.glob(f"*_{part}.npz") if "limited" not in p.name)
        if len(found) != 1:
            raise FileNotFoundError(
                f"{self.root} holds {len(found)} files *_{part}.npz; expected one, such as modelnet10_{part}.npz"
            )
        return found[0], () if part == "test" else ("val",)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.class_names[self.labels[index]]} {index}"

    def rotation(self, index: int) -> np.ndarray:
        found: np.ndarray = self.rotations[index]
        return found

    def load(self, index: int) -> np.ndarray:
        values = np.moveaxis(self.images[index], -1, 0)
        image = check_image(values, f"{self.path}: {self.name(index)}", self._largest)
        return image if self.size is None else resized(image, self.size)


def read_pose_arrays(path: Path, camera: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return images (N, H, W, C), rotations (N, 3, 3) in our camera's frame, classes (N,) and the classes' names of a file.

    Args:
        path: the .npz file.
        camera: axes of the camera in whose frame the rotations are.

    Raises: FileNotFoundError; ValueError for another layout.
    """
    with reading(path, "images and rotations"):
        stored = read_array(path)
        if not isinstance(stored, dict) or not {"imgs", "rots"} <= set(stored):
            held = ", ".join(stored) if isinstance(stored, dict) else "one array"
            raise ValueError(f"it holds {held or 'no arrays'}; expected imgs and rots")
        images, count = stored["imgs"], len(stored["imgs"]) if stored["imgs"].ndim else 0
        images = images[..., None] if images.ndim == 3 else images
        if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
            raise ValueError(f"imgs has shape {stored['imgs'].shape}; expected (N, H, W, 1 or 3)")
        kind = next((key for key in CLASSES if key in stored), None)
        labels = np.zeros(count, np.int64) if kind is None else stored[kind].reshape(-1)
        if len(stored["rots"]) != count or len(labels) != count:
            raise ValueError(
                f"it has {count} images, {len(stored['rots'])} rotations and {len(labels)} classes"
            )
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 254:
            raise ValueError(f"{kind} are no classes 0 ... 254")
        rotations = as_rotations(stored["rots"], camera, [f"rotation {k}" for k in range(count)])
    known = () if kind is None else CLASSES[kind]
    most = int(labels.max()) + 1
    names = known if most <= len(known) else tuple(map(str, range(most)))
    return images, rotations, labels.astype(int), names if kind is not None else ("thing",)
