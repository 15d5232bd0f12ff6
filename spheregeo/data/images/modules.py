"""Data modules of images: one protocol of turns for generated textures, digits, folders and archives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import SPLITS
from spheregeo.data.images.dataset import ImageDataset, MaskDataset
from spheregeo.data.images.generated import Textures
from spheregeo.data.images.statistics import channel_statistics
from spheregeo.data.images.turns import turn, turn_of
from spheregeo.data.module import DataModule
from spheregeo.data.samples import stack_alike
from spheregeo.lazy import cached_property

__all__ = ["ImageData", "TexturesData"]

Turns = Literal["none", "c4", "d4", "so2", "o2"]
Interpolation = Literal["linear", "cubic"]
BUDGET = 1 << 28  # bytes of images that are kept, once read and turned


class TurnedImages(Dataset[dict[str, Tensor]]):
    """Normalised images of a split, turned by turns that depend on (seed, epoch, index) alone.

    Args:
        data: the images.
        rotation: "none", "c4", "d4", "so2" or "o2".
        redraw: whether turns are drawn anew in each epoch; else each image has one turn of its own.
        interpolation: "linear" or "cubic".
        seed: seed of the turns.
        mean: mean of each channel, which is subtracted.
        std: standard deviation of each channel, by which the rest is divided.
    """

    def __init__(
        self, data: ImageDataset, rotation: str, redraw: bool, interpolation: str, seed: int,
        mean: Sequence[float], std: Sequence[float],
    ) -> None:  # fmt: skip
        self.data, self.rotation, self.interpolation, self.seed = data, rotation, interpolation, seed
        self.redraw = redraw and rotation != "none"
        self.mean, self.std = (np.array(v, np.float32)[:, None, None] for v in (mean, std))
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if index in self._kept:
            item = self._kept[index]
        else:
            item = self._item(index, *(self._drawn(0, index) if not self.redraw else (0.0, False)))
            size = sum(value.numel() * value.element_size() for value in item.values())
            if self._bytes + size <= BUDGET:
                self._kept[index], self._bytes = item, self._bytes + size
        return self._turned(item, *self._drawn(epoch, index)) if self.redraw else dict(item)

    def _drawn(self, epoch: int, index: int) -> tuple[float, bool]:
        return turn_of(self.rotation, np.random.default_rng([self.seed, epoch, index]))

    def _item(self, index: int, angle: float, flip: bool) -> dict[str, Tensor]:
        image = (self.data[index] - self.mean) / self.std
        item = {"image": torch.from_numpy(image), "index": torch.tensor(index)}
        if len(self.data.labels):
            item["label"] = torch.tensor(int(self.data.labels[index]))
        else:
            assert isinstance(self.data, MaskDataset)
            item["mask"] = torch.from_numpy(self.data.mask(index))
        return self._turned(item, angle, flip)

    def _turned(self, item: dict[str, Tensor], angle: float, flip: bool) -> dict[str, Tensor]:
        if not angle and not flip:
            return dict(item)
        how = {"image": self.interpolation, "mask": "nearest"}
        return {
            key: torch.from_numpy(turn(value.numpy(), angle, flip, how[key])) if key in how else value
            for key, value in item.items()
        }


def collate_images(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join images of one shape to a batch.

    Args:
        items: dicts with ``image``, ``index`` and ``label`` or ``mask``.

    Shape: image (C, H, W) -> (B, C, H, W), mask (H, W) -> (B, H, W), label () -> (B,).
    Raises: ValueError for images of different shapes.
    """
    return stack_alike(items, "image", "images")


class ImageData(DataModule[ImageDataset]):
    """Base class of the data modules of images. A subclass implements :meth:`make`.

    Args:
        train_rotation: turns of training and validation images: none, c4 (quarter turns, exact), d4 (with reflections, exact),
            so2 (any angle, interpolated) or o2 (with reflections).
        test_rotation: turns of test images, one fixed turn each.
        redraw: draw training turns anew in each epoch, as augmentation; else each image has one turn of its own for good, as in
            rotated MNIST.
        interpolation: "linear" or "cubic", for angles that are no quarter turns.
        batch_size: images in a batch.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`; ``seed`` is also that of the turns.

    Shape: batches hold image (B, C, H, W) float32, normalised; label (B,) or mask (B, H, W) int64; index (B,).
    Raises: ValueError for images of different shapes, when they are read.
    """

    constants = ("mean", "std")
    drawn_anew = True
    collate = staticmethod(collate_images)

    def __init__(
        self,
        *,
        train_rotation: Turns = "none",
        test_rotation: Turns = "none",
        redraw: bool = False,
        interpolation: Interpolation = "cubic",
        batch_size: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.rotations = {"train": train_rotation, "val": train_rotation, "test": test_rotation}
        self.redraw, self.interpolation = redraw, interpolation
        for kind in self.rotations.values():
            turn_of(kind, np.random.default_rng(0))
        turn(np.zeros((1, 1)), 0.0, interpolation=interpolation)

    @abstractmethod
    def make(self, split: str) -> ImageDataset: ...

    def items(self, split: str) -> TurnedImages:
        """Return the images of a split, turned and normalised."""
        return TurnedImages(
            self.dataset(split), self.rotations[split], self.redraw and split == "train", self.interpolation,
            len(SPLITS) * self.seed + SPLITS.index(split), *self._statistics,
        )  # fmt: skip

    def readings(self, split: str) -> tuple[int, Callable[[int], Any]]:
        """Return how many images a split has, and the function of a number that reads one, with its mask where it has one."""
        data = self.dataset(split)
        if not isinstance(data, MaskDataset):
            return super().readings(split)

        def read(index: int) -> dict[str, Any]:
            return {"image": data.load(index), "label": torch.from_numpy(data.mask(index))}

        return len(data), read

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, H, W) of the images."""
        return tuple(self.dataset("train")[0].shape)

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.shape[0]

    @property
    def size(self) -> list[int]:
        """Pixels along each side, rows and columns."""
        return list(self.shape[1:])

    @property
    def ignore_index(self) -> int:
        """Class of pixels that do not count."""
        return int(getattr(self.dataset("train"), "ignore_index", -1))

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_statistics(self.dataset("train"), self.in_channels)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over training images."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over training images; 1 where a channel is constant."""
        return self._statistics[1]


class TexturesData(ImageData):
    """Generated textures of five classes, or shapes filled with them: no download.

    Args:
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        pixels: pixels along each side.
        noise: standard deviation of the pixels' noise, beside a contrast of 0.5 to 1.
        turned: how textures and shapes of the test stand: none (upright within some degrees, as in training), c4, d4, so2 or o2.
            They are made so, nothing is interpolated.
        shapes: shapes of an image, whose pixels are to be labelled; 0 for one texture over the whole image.
        **kwargs: arguments of :class:`ImageData`; ``seed`` is also that of the textures.

    Raises: ValueError for numbers that are too small.

    Example:
        >>> from spheregeo.data import TexturesData
        >>> data = TexturesData(train=8, val=4, test=4, pixels=16, batch_size=4)
        >>> batch = next(iter(data.test_dataloader()))
        >>> batch["image"].shape, batch["label"].tolist()
        (torch.Size([4, 1, 16, 16]), [0, 1, 2, 3])
    """

    def __init__(
        self,
        train: int = 500,
        val: int = 100,
        test: int = 400,
        pixels: int = 32,
        noise: float = 0.3,
        turned: Turns = "none",
        shapes: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        turn_of(turned, np.random.default_rng(0))
        self.counts = {"train": train, "val": val, "test": test}
        self.pixels, self.noise, self.turned, self.shapes = pixels, noise, turned, shapes

    def make(self, split: str) -> Textures:
        turned = self.turned if split == "test" else "none"
        return Textures(self.counts[split], self.pixels, self.noise, turned, self.shapes, self.seed, split)
