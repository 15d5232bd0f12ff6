"""Binary layouts of CIFAR-10, CIFAR-100 and STL-10.

::

    data_batch_1.bin ... data_batch_5.bin, test_batch.bin, batches.meta.txt   CIFAR-10: 1 byte of class, 3 x 32 x 32 bytes
    train.bin, test.bin, fine_label_names.txt                                CIFAR-100: coarse class, class, 3 x 32 x 32 bytes
    train_X.bin, train_y.bin, test_X.bin, test_y.bin, class_names.txt        STL-10: 3 x 96 x 96 bytes, by columns; classes from 1

References: Krizhevsky 2009, Learning multiple layers of features from tiny images; Coates, Ng & Lee 2011, AISTATS.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.common import check_split
from spheregeo.data.files import need_file, read_class_names
from spheregeo.data.images.dataset import ImageDataset
from spheregeo.data.medmnist import held_out
from spheregeo.files import reading

__all__ = ["BinaryImages"]


class BinaryImages(ImageDataset):
    """Images of one split of a folder in the binary layout of CIFAR-10, CIFAR-100 or STL-10.

    Of the training images every tenth, by number, is for validation.

    Args:
        root: the folder.
        split: train, val or test.

    Shape: images (3, 32, 32), or (3, 96, 96) for STL-10, float32 in [0, 1].
    Raises: FileNotFoundError without the files; ValueError naming a file that is torn or holds other classes.
    """

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root, self.split = Path(root), check_split(split)
        part = "test" if split == "test" else "train"
        if (self.root / "train_X.bin").is_file() or (self.root / "test_X.bin").is_file():
            images, labels, names = self._stl10(part)
        elif (self.root / "train.bin").is_file() or (self.root / "test.bin").is_file():
            images, labels, names = self._cifar([f"{part}.bin"], 2, "fine_label_names.txt", 100)
        else:
            files = ["test_batch.bin"] if part == "test" else [f"data_batch_{k}.bin" for k in range(1, 6)]
            images, labels, names = self._cifar(files, 1, "batches.meta.txt", 10)
        chosen: np.ndarray | slice = slice(None)
        if part == "train":
            chosen = held_out(len(labels), split, ("val",))
        self.images, self.labels, self.class_names = images[chosen], labels[chosen].astype(int), names
        if not len(self.images):
            raise ValueError(
                f"{self.root} holds no images for {split} ({len(labels)} in the files of {part}); add some"
            )

    def _names(self, file: str, count: int) -> tuple[str, ...]:
        path = self.root / file
        if not path.is_file():
            return tuple(map(str, range(count)))
        names = read_class_names(path)
        if len(names) != count:
            raise ValueError(f"{path} holds {len(names)} names; expected {count}")
        return names

    def _cifar(
        self, files: list[str], marks: int, names: str, count: int
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        rows = [_rows(self.root / file, marks + 3 * 32 * 32, count, marks - 1) for file in files]
        every = np.concatenate(rows)
        return every[:, marks:].reshape(-1, 3, 32, 32), every[:, marks - 1], self._names(names, count)

    def _stl10(self, part: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        images = _rows(self.root / f"{part}_X.bin", 3 * 96 * 96)
        path = self.root / f"{part}_y.bin"
        labels = _rows(path, 1)[:, 0]
        if len(labels) != len(images) or labels.min() < 1 or labels.max() > 10:
            raise ValueError(
                f"{path} holds {len(labels)} classes {labels.min()} ... {labels.max()}; expected {len(images)} of 1 ... 10"
            )
        return images.reshape(-1, 3, 96, 96).swapaxes(-1, -2), labels - 1, self._names("class_names.txt", 10)

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return f"{self.split} {index}"

    def load(self, index: int) -> np.ndarray:
        return self.images[index].astype(np.float32) / np.float32(255)


def _rows(path: Path, width: int, classes: int | None = None, column: int = 0) -> np.ndarray:
    """Records of a file as rows of bytes, (n, width), whose class in a column is below a number."""
    need_file(path, "images in the binary layout of CIFAR-10, CIFAR-100 or STL-10")
    with reading(path, "records of images"):
        size = path.stat().st_size
        if not size or size % width:
            raise ValueError(f"it has {size} bytes; expected a multiple of {width}: copy it again")
        rows = np.fromfile(path, np.uint8).reshape(-1, width)
        if classes is not None and int(rows[:, column].max()) >= classes:
            raise ValueError(f"it has class {int(rows[:, column].max())}; expected 0 ... {classes - 1}")
    return rows
