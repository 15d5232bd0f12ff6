"""Data modules of small pictures on the sphere: MNIST's digits, and generated glyphs that need no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.data.digits import read_digits
from spheregeo.data.sphere.glyphs import GLYPHS, make_glyphs
from spheregeo.data.sphere.images import SphericalImagesData
from spheregeo.lazy import cached_property

__all__ = ["SphericalGlyphsData", "SphericalMNISTData"]

MNIST_FILE = "mnist_t10k_first8000.npz"
DIGITS = tuple("0123456789")


class SphericalMNISTData(SphericalImagesData):
    """Spherical MNIST: handwritten digits around the south pole, or each turned by its own random rotation.

    Args:
        root: folder that holds the file, or whose folder mnist does.
        grid: grid on the sphere, such as HEALPix(16), Equiangular(32, 64) or Icosahedral(4).
        train: number of training digits, from the file's first on.
        val: number of validation digits, which come next.
        test: number of test digits, the file's last.
        batch_size: digits in a batch.
        file: name of the npz file with pictures x (n, 28, 28) uint8 and classes y (n,).
        **kwargs: arguments of :class:`SphericalImagesData`: ``train_rotated``, ``test_rotated``, ``copies``, ``redraw``,
            ``segment`` and more.

    Raises: FileNotFoundError without the file; ValueError for a file of another layout or with too few digits.
    """

    def __init__(
        self,
        root: str,
        grid: Any = "HEALPix(16)",
        *,
        train: int = 5500,
        val: int = 500,
        test: int = 2000,
        batch_size: int = 32,
        file: str = MNIST_FILE,
        **kwargs: Any,
    ) -> None:
        super().__init__(grid=grid, batch_size=batch_size, **kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        self.root, self.file, self.counts = root, file, (train, val, test)

    @cached_property
    def _content(self) -> tuple[Tensor, Tensor]:
        places = [Path(self.root) / self.file, Path(self.root) / "mnist" / self.file]
        path = next((p for p in places if p.is_file()), places[0])
        parts = read_digits(path, len(DIGITS))
        if "all" not in parts:
            raise ValueError(f"{path} holds x_train and x_test; expected one part, x and y")
        x, y = parts["all"]
        if sum(self.counts) > len(x):
            raise ValueError(
                f"{path} holds {len(x)} digits but train + val + test are {' + '.join(map(str, self.counts))}; "
                "ask for fewer"
            )
        return torch.from_numpy(x), torch.from_numpy(y)

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        x, y = self._content
        train, val, test = self.counts
        part = {
            "train": slice(0, train),
            "val": slice(train, train + val),
            "test": slice(len(x) - test, len(x)),
        }[split]
        return x[part], y[part]

    @property
    def class_names(self) -> tuple[str, ...]:
        return ("background", *DIGITS) if self.segment else DIGITS


class SphericalGlyphsData(SphericalImagesData):
    """Generated glyphs (bar, ell, tee, plus, fork, triangle, square, ring) around the south pole, or turned: no download.

    Args:
        grid: grid on the sphere, such as HEALPix(16), Equiangular(32, 64) or Icosahedral(4).
        test_rotated: turn the test glyphs.
        train: number of training glyphs.
        val: number of validation glyphs.
        test: number of test glyphs.
        **kwargs: arguments of :class:`SphericalImagesData`: ``train_rotated``, ``copies``, ``segment`` and more; ``seed`` is also
            that of the glyphs.

    Raises: ValueError for numbers that are too small or a grid that is no sphere.

    Example:
        >>> from spheregeo.data import SphericalGlyphsData
        >>> data = SphericalGlyphsData(grid="HEALPix(4)", train=4, val=2, test=2)
        >>> next(iter(data.test_dataloader()))["image"].shape
        torch.Size([2, 1, 192])
    """

    def __init__(
        self,
        grid: Any = "HEALPix(16)",
        *,
        test_rotated: bool = True,
        train: int = 800,
        val: int = 160,
        test: int = 400,
        **kwargs: Any,
    ) -> None:
        super().__init__(grid=grid, test_rotated=test_rotated, **kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        self.counts = {"train": train, "val": val, "test": test}

    @cached_property
    def _made(self) -> dict[str, tuple[Tensor, Tensor]]:
        return {split: make_glyphs(count, self.seed, split) for split, count in self.counts.items()}

    def images(self, split: str) -> tuple[Tensor, Tensor]:
        return self._made[split]

    @property
    def class_names(self) -> tuple[str, ...]:
        return ("background", *GLYPHS) if self.segment else GLYPHS
