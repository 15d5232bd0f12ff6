"""The base of the data modules of panoramas: augmentation and normalisation around one dataset per split.

Batches are normalised: (image - mean) / std per channel. ``mean`` and ``std`` go into every checkpoint (the module's
state), so that whoever predicts on a photo can normalise alike. Random draws depend on (seed, epoch, index) alone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from spheregeo.checks import check_least
from spheregeo.data.common import IGNORE, Augmented, Transform
from spheregeo.data.module import DataModule
from spheregeo.data.sphere.augment import AzimuthalShift, ColourJitter, FieldJitter, Normalize, RandomRotation
from spheregeo.data.sphere.dataset import PanoramaDataset, check_size
from spheregeo.grids import Equiangular

__all__ = ["PanoramaData"]

Augment = Literal["none", "azimuth", "so3"]


class PanoramaData(DataModule[PanoramaDataset]):
    """Base class of the data modules of panoramas. A subclass implements ``make``, ``class_names``, ``mean`` and ``std``.

    Args:
        size: rows and columns of the working grid, 2:1.
        batch_size: images in a batch.
        augment: turns of the training images: none, about the vertical with mirrors (azimuth), or by any rotation (so3).
        jitter: largest relative change of brightness, contrast and saturation in training; of the scale and offset of channels
            that are no colours.
        rotate_test: 0 tests upright images; n tests n copies of each, turned by fixed random rotations.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`.

    Shape: batches of image (B, C, H, W) float32, normalised; label (B, H, W) int64; depth (B, H, W) float32.
    Units: depth in metres.
    Raises: ValueError for a size that is not 2:1 and for numbers out of range.
    """

    in_channels = 3
    colours = 3  # leading channels that colour jitter may touch
    ignore_index = IGNORE
    constants = ("mean", "std")
    drawn_anew = True

    def __init__(
        self,
        *,
        size: tuple[int, int] = (256, 512),
        batch_size: int = 2,
        augment: Augment = "azimuth",
        jitter: float = 0.2,
        rotate_test: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        if augment not in ("none", "azimuth", "so3"):
            raise ValueError(f"augment is {augment!r}; expected 'none', 'azimuth' or 'so3'")
        check_least(rotate_test=(rotate_test, 0))
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter is {jitter}; expected 0 (none) ... 1")
        self.size = check_size(tuple(size))  # type: ignore[arg-type]
        self.augment, self.jitter, self.rotate_test = augment, jitter, rotate_test
        self.grid = Equiangular(*self.size)

    @property
    @abstractmethod
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training images, by area."""

    @property
    @abstractmethod
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training images, by area."""

    def transforms(self) -> list[Transform]:
        """Return what training items go through before they are normalised."""
        turns: dict[str, list[Transform]] = {
            "none": [],
            "azimuth": [AzimuthalShift()],
            "so3": [RandomRotation(mirror=True)],
        }
        turn = turns[self.augment]
        if self.jitter and self.colours:
            turn = [ColourJitter(self.jitter, self.jitter, self.jitter), *turn]
        if self.jitter and self.in_channels > self.colours:
            turn = [FieldJitter(self.colours, self.jitter, self.jitter), *turn]
        return turn

    def _train_length(self) -> int:
        return len(self.dataset("train"))

    def items(self, split: str) -> Augmented:
        """Return the normalised images of a split: augmented for training, each turned ``rotate_test`` times for the test."""
        raw, normalize = self.dataset(split), Normalize(self.mean, self.std)
        if split == "train":
            return Augmented(raw, [*self.transforms(), normalize], self.seed, self._train_length())
        if split == "test" and self.rotate_test:
            return Augmented(raw, [RandomRotation(), normalize], self.seed, len(raw) * self.rotate_test)
        return Augmented(raw, [normalize])
