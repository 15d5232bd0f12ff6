"""The base of the Lightning data modules: augmentation, normalisation and loaders around one dataset a split.

Batches are normalised: (image - mean) / std per channel. ``mean`` and ``std`` go into every checkpoint (the module's
state), so that whoever predicts on a photo can do the same. Random draws depend on (seed, epoch, index) alone: a
resumed run sees what an unbroken run sees, whatever the number of workers.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from torch.utils.data import DataLoader, Dataset

from spheregeo.data.common import Augmented, EpochSampler, Item, Transform
from spheregeo.data.labelled import LabelledData, check_counts
from spheregeo.data.sphere.augment import AzimuthalShift, ColourJitter, FieldJitter, Normalize, RandomRotation
from spheregeo.data.sphere.dataset import PanoramaDataset, check_size
from spheregeo.grids import Equiangular

Augment = Literal["none", "azimuth", "so3"]


class PanoramaData(LabelledData):
    """What all data modules share; subclasses say which dataset stands behind a split."""

    in_channels = 3
    colours = 3  # leading channels that colour jitter may touch

    def __init__(
        self,
        size: tuple[int, int],
        batch_size: int,
        num_workers: int,
        augment: Augment,
        jitter: float,
        rotate_test: int,
        seed: int,
    ) -> None:
        super().__init__()
        if augment not in ("none", "azimuth", "so3"):
            raise ValueError(f"augment is {augment!r}; expected 'none', 'azimuth' or 'so3'")
        check_counts(batch_size=(batch_size, 1), num_workers=(num_workers, 0), rotate_test=(rotate_test, 0))
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter is {jitter}; expected 0 (none) ... 1")
        self.size = check_size(tuple(size))  # type: ignore[arg-type]
        self.batch_size, self.num_workers, self.augment, self.jitter = (
            batch_size,
            num_workers,
            augment,
            jitter,
        )
        self.rotate_test, self.seed = rotate_test, seed
        self.grid = Equiangular(*self.size)
        self._datasets: dict[str, PanoramaDataset] = {}

    @abstractmethod
    def make(self, split: str) -> PanoramaDataset:
        """The raw dataset of a split."""

    def dataset(self, split: str) -> PanoramaDataset:
        """The raw dataset of a split, made once."""
        if split not in self._datasets:
            self._datasets[split] = self.make(split)
        return self._datasets[split]

    def transforms(self) -> list[Transform]:
        """What training items go through before they are normalised."""
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

    def _normalize(self) -> Normalize:
        return Normalize(self.mean, self.std)

    def _train_length(self) -> int:
        return len(self.dataset("train"))

    def _loader(self, dataset: Dataset[Item], **options: Any) -> DataLoader[Item]:
        return DataLoader(
            dataset,
            self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            **options,
        )

    def train_dataloader(self) -> DataLoader[Item]:
        data = Augmented(
            self.dataset("train"), [*self.transforms(), self._normalize()], self.seed, self._train_length()
        )
        return self._loader(data, sampler=EpochSampler(data, shuffle=True, seed=self.seed))

    def val_dataloader(self) -> DataLoader[Item]:
        return self._loader(Augmented(self.dataset("val"), [self._normalize()]))

    def test_dataloader(self) -> DataLoader[Item]:
        """The test split, upright; or, for ``rotate_test`` = n, n copies of it, each item turned by its own fixed rotation."""
        raw = self.dataset("test")
        turn: list[Transform] = [RandomRotation()] if self.rotate_test else []
        return self._loader(
            Augmented(raw, [*turn, self._normalize()], self.seed, len(raw) * max(1, self.rotate_test))
        )
