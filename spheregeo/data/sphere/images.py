"""Small labelled pictures on the sphere, upright or each turned by its own rotation: the dataset and its data module."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from spheregeo.checks import check_least
from spheregeo.data.common import IGNORE, SPLITS, Item, check_split, generator
from spheregeo.data.module import DataModule
from spheregeo.data.sphere.dataset import MEMORY_BUDGET
from spheregeo.data.sphere.stereographic import project
from spheregeo.grids import Grid, parse_grid
from spheregeo.lazy import cached_property
from spheregeo.sampling import random_rotations

__all__ = ["SphericalImages", "SphericalImagesData"]

THRESHOLD = 150 / 255  # brightness of a stroke, as Gerken et al. 2022 label MNIST's digits
STATISTICS_IMAGES = 256  # as many training images give mean and standard deviation
Key = int | tuple[int, int]  # index, or epoch and index


def _check_sphere(grid: Grid) -> Grid:
    if not grid.is_sphere:
        raise ValueError(f"grid is {grid!r}; expected a grid on the sphere")
    return grid


class SphericalImages(Dataset[Item]):
    """Pictures projected onto a grid of the sphere, see :mod:`spheregeo.data.sphere.stereographic`.

    Rotations are drawn evenly from SO(3), one per image, from (seed, split) and, for ``redraw``, the epoch: with
    :class:`EpochSampler` each epoch has new ones. What does not change is projected once and kept while memory allows.

    Args:
        images: brightness in [0, 1], or 0 ... 255 as uint8.
        labels: class numbers.
        grid: a grid on the sphere.
        rotated: turn each image; upright if not.
        redraw: draw the rotations anew in every epoch.
        seed: seed of the rotations.
        split: train, val or test, whose rotations differ.
        mean, std: the items' images are (brightness - mean) / std.
        copies: rotations of each image, taken in turn epoch by epoch, unless they are drawn anew.
        threshold: brightness above which a point has the image's class, for labels of points; None for one label per image.

    Shape: images (n, H, W), labels (n,); items: image (1, *grid.shape) float32, index () int64, and label () int64 or, with a
        threshold, (*grid.shape) int64, class number + 1 on the picture's strokes and 0 elsewhere.
    Raises: ValueError for arrays that do not fit each other, or a grid that is no sphere.

    Example:
        >>> import torch
        >>> from spheregeo.data import SphericalImages
        >>> from spheregeo.grids import HEALPix
        >>> SphericalImages(torch.rand(2, 28, 28), torch.tensor([3, 1]), HEALPix(4))[1]["image"].shape
        torch.Size([1, 192])
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
        copies: int = 1,
        threshold: float | None = None,
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
        check_least(copies=(copies, 1))
        self.copies, self.threshold = copies if rotated else 1, threshold
        self._epoch: int | None = None
        self._rotations = torch.empty(0)
        self._fields: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def rotations(self, epoch: int = 0) -> Tensor | None:
        """The images' rotations in an epoch (n, 3, 3); None where they stay upright."""
        if not self.rotated:
            return None
        epoch = epoch if self.redraw else epoch % self.copies
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
        changing = self.redraw or self.copies > 1
        if self._fields is None and not changing and 4 * len(self) * self.grid.num_points <= MEMORY_BUDGET:
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
        fields = self.fields(indices, epochs.pop()).unflatten(1, self.grid.shape)  # (n, *shape)
        images = ((fields - self.mean) / self.std)[:, None]
        labels = self.labels[indices]
        if self.threshold is not None:
            drawn = fields > self.threshold
            labels = torch.where(drawn, labels.view(-1, *[1] * len(self.grid.shape)) + 1, 0)
        return [
            {"image": image, "label": label, "index": i}
            for image, label, i in zip(images, labels, indices, strict=True)
        ]


class SphericalImagesData(DataModule[SphericalImages]):
    """Base class of the data modules of pictures on the sphere. A subclass implements ``images`` and ``class_names``.

    Args:
        grid: grid on the sphere, such as HEALPix(16), Equiangular(32, 64) or Icosahedral(4).
        train_rotated: turn the training (and validation) pictures, each by its own fixed rotation.
        test_rotated: turn the test pictures.
        redraw: draw the training pictures' rotations anew in every epoch.
        copies: rotations of each training picture, taken in turn epoch by epoch, unless they are drawn anew.
        segment: label the points of the grid in place of the picture: class "background" outside the strokes.
        batch_size: pictures in a batch.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`; ``seed`` is also that of the rotations.

    Shape: batches of image (B, 1, *grid.shape) float32, normalised; label (B,) int64, with ``segment`` (B, *grid.shape);
        index (B,) int64.
    Raises: ValueError for a grid that is no sphere.
    """

    in_channels = 1
    ignore_index = IGNORE
    constants = ("mean", "std")
    drawn_anew = True

    def __init__(
        self,
        *,
        grid: Any = "HEALPix(16)",
        train_rotated: bool = False,
        test_rotated: bool = False,
        redraw: bool = False,
        copies: int = 1,
        segment: bool = False,
        batch_size: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.grid = _check_sphere(parse_grid(grid) if isinstance(grid, str) else grid)
        self.rotated = {"train": train_rotated, "val": train_rotated, "test": test_rotated}
        check_least(copies=(copies, 1))
        self.redraw, self.copies, self.segment = redraw, copies, segment

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

    def make(self, split: str) -> SphericalImages:
        """Make the normalised dataset of a split. Validation is turned as training is, which it stands for."""
        images, labels = self.images(check_split(split))
        return SphericalImages(
            images, labels, self.grid, self.rotated[split], self.redraw and split == "train", self.seed, split,
            *self._statistics, self.copies if split == "train" else 1, THRESHOLD if self.segment else None,
        )  # fmt: skip

    def items(self, split: str) -> SphericalImages:
        """Return the dataset of a split, projected already where the pictures do not change."""
        return self.dataset(split).prepare()
