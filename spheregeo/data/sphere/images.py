"""Small labelled pictures on the sphere, upright or each turned by its own rotation: the dataset and its data module."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spheregeo.data.common import SPLITS, EpochSampler, Item, check_split, generator
from spheregeo.data.labelled import LabelledData, check_counts
from spheregeo.data.sphere.dataset import MEMORY_BUDGET
from spheregeo.data.sphere.stereographic import project
from spheregeo.grids import Grid
from spheregeo.grids.parse import parse_grid
from spheregeo.sampling import random_rotations

STATISTICS_IMAGES = 256  # as many training images give mean and standard deviation
Key = int | tuple[int, int]  # index, or epoch and index


def _check_sphere(grid: Grid) -> Grid:
    if not grid.is_sphere:
        raise ValueError(f"grid is {grid!r}; expected a grid on the sphere")
    return grid


class SphericalImages(Dataset[Item]):
    """Pictures projected onto a grid of the sphere, see :mod:`spheregeo.data.sphere.stereographic`.

    Items: image (1, *grid.shape) float32, label () int64, index () int64. Rotations are drawn evenly from SO(3), one an
    image, from (seed, split) and, for ``redraw``, the epoch: with :class:`EpochSampler` each epoch then has new ones.
    What does not change is projected once and kept while it fits ``MEMORY_BUDGET``.

    Args:
        images: (n, H, W), brightness in [0, 1], or 0 ... 255 as uint8.
        labels: (n,) class numbers.
        grid: a grid on the sphere.
        rotated: turn each image; upright if not.
        redraw: draw the rotations anew in every epoch.
        mean, std: the items' images are (brightness - mean) / std.

    Raises: ValueError for arrays that do not fit each other, or a grid that is no sphere.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        grid: Grid,
        rotated: bool = False,
        redraw: bool = False,
        seed: int = 0,
        split: str = "train",
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        if images.ndim != 3 or tuple(labels.shape) != (len(images),):
            raise ValueError(
                f"images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}; expected (n, H, W) and (n,)"
            )
        self.images, self.labels, self.grid = images, labels.long(), _check_sphere(grid)
        self.rotated, self.redraw, self.seed, self.split = (
            rotated,
            redraw and rotated,
            seed,
            check_split(split),
        )
        self.mean, self.std = mean, std
        self._epoch: int | None = None
        self._rotations = torch.empty(0)
        self._fields: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def rotations(self, epoch: int = 0) -> Tensor | None:
        """The images' rotations in an epoch (n, 3, 3); None where they stay upright."""
        if not self.rotated:
            return None
        epoch = epoch if self.redraw else 0
        if epoch != self._epoch:
            draw = generator(self.seed, SPLITS.index(self.split), epoch)
            self._rotations, self._epoch = random_rotations(len(self), draw), epoch
        return self._rotations

    def fields(self, indices: Tensor, epoch: int = 0) -> Tensor:
        """Brightness in [0, 1] of some images on the grid: (n,) -> (n, N)."""
        if self._fields is not None:
            return self._fields[indices]
        rotations = self.rotations(epoch)
        turned = project(
            self.images[indices], self.grid.points, None if rotations is None else rotations[indices]
        )
        return turned / 255 if self.images.dtype == torch.uint8 else turned

    def prepare(self) -> SphericalImages:
        """Project all images now, where they do not change and fit into memory; returns the dataset itself."""
        if self._fields is None and not self.redraw and 4 * len(self) * self.grid.num_points <= MEMORY_BUDGET:
            self._fields = self.fields(torch.arange(len(self)))
        return self

    def __getitem__(self, key: Key) -> Item:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: list[Key]) -> list[Item]:
        """Items of a whole batch at once, which is how torch's loaders ask for them."""
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        for _, index in pairs:
            if not 0 <= index < len(self):
                raise IndexError(f"index {index} is outside a dataset of {len(self)} items")
        indices = torch.tensor([index for _, index in pairs])
        epochs = {epoch for epoch, _ in pairs}
        if len(epochs) > 1:  # two epochs in one batch: one by one
            return [self[key] for key in keys]
        fields = (self.fields(indices, epochs.pop()) - self.mean) / self.std
        images = fields.unflatten(1, self.grid.shape)[:, None]  # (n, 1, *shape)
        return [
            {"image": image, "label": self.labels[i], "index": i}
            for image, i in zip(images, indices, strict=True)
        ]


class SphericalImagesData(LabelledData):
    """What the data modules of pictures on the sphere share; subclasses say which pictures stand behind a split."""

    in_channels = 1

    def __init__(
        self, grid: Any, train_rotated: bool, test_rotated: bool, redraw: bool, batch_size: int, num_workers: int, seed: int
    ) -> None:  # fmt: skip
        super().__init__()
        check_counts(batch_size=(batch_size, 1), num_workers=(num_workers, 0), seed=(seed, 0))
        self.grid = _check_sphere(parse_grid(grid) if isinstance(grid, str) else grid)
        self.rotated = {"train": train_rotated, "val": train_rotated, "test": test_rotated}
        self.redraw, self.batch_size, self.num_workers, self.seed = redraw, batch_size, num_workers, seed
        self._datasets: dict[str, SphericalImages] = {}

    @abstractmethod
    def images(self, split: str) -> tuple[Tensor, Tensor]:
        """Pictures (n, H, W) and classes (n,) of a split."""

    @cached_property
    def _statistics(self) -> tuple[float, float]:
        """Mean and standard deviation over the sphere, which rotations do not change."""
        images, labels = self.images("train")
        chosen = torch.arange(min(len(images), STATISTICS_IMAGES))
        fields = SphericalImages(images, labels, self.grid).fields(chosen).double()
        share = self.grid.areas / self.grid.areas.sum()
        mean = float((fields @ share).mean())
        return mean, float(((fields - mean).square() @ share).mean().sqrt())

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean brightness over the training pictures, by area."""
        return (self._statistics[0],)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the brightness over the training pictures, by area."""
        return (self._statistics[1],)

    def dataset(self, split: str) -> SphericalImages:
        """The normalised dataset of a split, made once. Validation is turned as training is, for it stands for it."""
        if split not in self._datasets:
            images, labels = self.images(check_split(split))
            self._datasets[split] = SphericalImages(
                images, labels, self.grid, self.rotated[split], self.redraw and split == "train", self.seed, split,
                *self._statistics,
            )  # fmt: skip
        return self._datasets[split]

    def _loader(self, split: str, **options: Any) -> DataLoader[Item]:
        return DataLoader(
            self.dataset(split).prepare(),
            self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            **options,
        )

    def train_dataloader(self) -> DataLoader[Item]:
        return self._loader(
            "train", sampler=EpochSampler(self.dataset("train"), shuffle=True, seed=self.seed)
        )

    def val_dataloader(self) -> DataLoader[Item]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Item]:
        return self._loader("test")
