"""Handwritten digits and their relatives, upright or each turned: MNIST, rotated MNIST, any set of its layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.checks import check_least
from spheregeo.data.common import check_split
from spheregeo.data.digits import Part, read_digits
from spheregeo.data.images.dataset import ImageDataset
from spheregeo.data.images.modules import ImageData
from spheregeo.lazy import cached_property

__all__ = ["MNISTData"]

FILE = "mnist_t10k_first8000.npz"


class GreyImages(ImageDataset):
    """Grey images in memory with a class each.

    Args:
        images: the images.
        labels: the classes.
        class_names: one name per class.
        split: train, val or test, for names.

    Shape: images (n, H, W) uint8, labels (n,).
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], split: str
    ) -> None:
        self.images, self.labels, self.class_names, self.split = images, labels, class_names, split

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return f"{self.split} {index}"

    def load(self, index: int) -> np.ndarray:
        return self.images[index].astype(np.float32)[None] / 255


class MNISTData(ImageData):
    """MNIST, or another set of its layouts (Fashion-MNIST, KMNIST): one .npz, or a folder of IDX files.

    With ``train_rotation="so2"`` and ``test_rotation="so2"`` it is rotated MNIST: each digit is turned once, by an angle of its
    own.

    Args:
        root: the .npz; a folder of IDX files; or a folder that holds ``file``, or whose folder mnist does.
        train: number of training images, from the first on; all but those of validation (and test) if 0.
        val: number of validation images, the last of the training images.
        test: number of test images: the last ones of a file of one part, else the first ones of the test part; all of the test
            part, or a tenth of the file, if 0.
        file: name of the .npz within a folder.
        **kwargs: arguments of :class:`ImageData`: ``train_rotation``, ``test_rotation``, ``redraw`` and more.

    Shape: images (1, H, W) float32.
    Raises: FileNotFoundError without the files; ValueError for files of another layout or with too few images.
    """

    def __init__(
        self, root: str, *, train: int = 0, val: int = 500, test: int = 0, file: str = FILE, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_least(train=(train, 0), val=(val, 1), test=(test, 0))
        self.root, self.file, self.counts = root, file, (train, val, test)

    @cached_property
    def _parts(self) -> dict[str, Part]:
        root = Path(self.root)
        places = [root / self.file, root / "mnist" / self.file]
        if root.is_dir():
            idx = any(root.glob("t10k-images*"))
            root = next((p for p in places if p.is_file()), root if idx else places[0])
        parts = read_digits(root)
        train, val, test = self.counts
        if "all" in parts:
            x, y = parts["all"]
            test = test or max(1, len(x) // 10)
            parts = (
                {"train": (x[:-test], y[:-test]), "test": (x[-test:], y[-test:])} if test < len(x) else parts
            )
        size = {part: len(x) for part, (x, _) in parts.items()}
        train, test = train or max(1, size.get("train", 0) - val), test or size.get("test", 0)
        if train + val > size.get("train", 0) or test > size.get("test", 0):
            raise ValueError(
                f"{root} holds {sum(size.values())} images but train + val + test are {train} + {val} + {test}; ask for fewer"
            )
        (x, y), (u, v) = parts["train"], parts["test"]
        return {
            "train": (x[:train], y[:train]), "val": (x[len(x) - val :], y[len(x) - val :]), "test": (u[:test], v[:test])
        }  # fmt: skip

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(map(str, range(1 + max(int(y.max()) for _, y in self._parts.values()))))

    def make(self, split: str) -> GreyImages:
        x, y = self._parts[check_split(split)]
        return GreyImages(x, y, self._names, split)
