"""Lightning data modules, one for each dataset of this room; what they share is ``PanoramaData``."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from spheregeo.data.sphere.dataset import PanoramaDataset
from spheregeo.data.sphere.field import FieldSource
from spheregeo.data.sphere.fields import Fields, weighted_statistics
from spheregeo.data.sphere.files import read_class_names
from spheregeo.data.sphere.folder import PanoramaFolder
from spheregeo.data.sphere.koppen import KOPPEN_CLASSES, Koppen
from spheregeo.data.sphere.module import Augment, PanoramaData
from spheregeo.data.sphere.rooms.rooms import ROOM_CLASSES, Rooms
from spheregeo.data.sphere.stanford2d3ds import Stanford2D3DS, stanford_classes

__all__ = ["FieldsData", "FolderData", "KoppenData", "PanoramaData", "RoomsData", "Stanford2D3DSData"]

# By area, over 200 training rooms of seed 0.
ROOMS_MEAN, ROOMS_STD = (0.52, 0.51, 0.49), (0.19, 0.20, 0.21)
STATISTICS_IMAGES = 32  # as many training images give a folder's mean and standard deviation


class RoomsData(PanoramaData):
    """Generated rooms: no download, any number of them.

    Args:
        size: rows and columns of the images, 2:1.
        train: number of training rooms.
        val: number of validation rooms.
        test: number of test rooms.
        batch_size: rooms in a batch.
        num_workers: processes that load data; 0 loads in the training process.
        augment: turns of the training images: none, about the vertical (and mirrors), or by any rotation.
        jitter: largest relative change of brightness, contrast and saturation in training.
        rotate_test: 0 tests upright rooms; n tests n copies of each, turned by fixed random rotations.
        seed: seed of the rooms and of the augmentation.
        cache_dir: folder that keeps finished rooms; in memory only if None.
    """

    def __init__(
        self,
        size: tuple[int, int] = (64, 128),
        train: int = 200,
        val: int = 20,
        test: int = 50,
        batch_size: int = 4,
        num_workers: int = 0,
        augment: Augment = "azimuth",
        jitter: float = 0.2,
        rotate_test: int = 0,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(size, batch_size, num_workers, augment, jitter, rotate_test, seed)
        self.counts = {"train": train, "val": val, "test": test}
        for name, count in self.counts.items():
            if count < 1:
                raise ValueError(f"{name} is {count}; expected at least 1 room")
        self.cache_dir = cache_dir

    def make(self, split: str) -> PanoramaDataset:
        return Rooms(self.counts[split], self.size, self.seed, split, cache_dir=self.cache_dir)

    @property
    def class_names(self) -> tuple[str, ...]:
        return ROOM_CLASSES

    @property
    def mean(self) -> tuple[float, ...]:
        return ROOMS_MEAN

    @property
    def std(self) -> tuple[float, ...]:
        return ROOMS_STD


class _MeasuredData(PanoramaData):
    """Modules over image files: mean and standard deviation are measured on the training images when first needed."""

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        data = self.dataset("train")
        chosen = np.unique(np.linspace(0, len(data) - 1, min(len(data), STATISTICS_IMAGES)).astype(int))
        rows = np.cos((np.arange(self.size[0]) + 0.5) * np.pi / self.size[0] - np.pi / 2)
        stack = np.concatenate(
            [data[int(k)]["image"].numpy() for k in chosen], -1
        )  # (3, H, n W): one wide image
        return weighted_statistics(stack, np.broadcast_to(rows[:, None], stack.shape[1:]))

    @property
    def mean(self) -> tuple[float, ...]:
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        return self._statistics[1]


class FolderData(_MeasuredData):
    """A folder of panoramas: images/, labels/ or depth/, classes.txt.

    Args:
        root: the folder.
        size: rows and columns of the working grid, 2:1.
        batch_size: images in a batch.
        num_workers: processes that load data.
        augment: turns of the training images: none, azimuth or so3.
        jitter: largest relative change of brightness, contrast and saturation in training.
        rotate_test: 0 tests upright images; n tests n copies of each, turned by fixed random rotations.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        root: str,
        size: tuple[int, int] = (256, 512),
        batch_size: int = 2,
        num_workers: int = 0,
        augment: Augment = "azimuth",
        jitter: float = 0.2,
        rotate_test: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(size, batch_size, num_workers, augment, jitter, rotate_test, seed)
        self.root = root

    def make(self, split: str) -> PanoramaDataset:
        return PanoramaFolder(self.root, self.size, split)

    @property
    def class_names(self) -> tuple[str, ...]:
        """From classes.txt; empty for a folder with depth only."""
        if (Path(self.root) / "labels").is_dir():
            return read_class_names(Path(self.root) / "classes.txt")
        return self.dataset("train").class_names


class Stanford2D3DSData(_MeasuredData):
    """Stanford 2D-3D-S panoramas, one of the three official folds.

    Args:
        root: folder that holds area_1 ... area_6 and assets.
        fold: 1 tests on area 5, 2 on areas 2 and 4, 3 on areas 1, 3 and 6.
        size: rows and columns of the working grid, 2:1.
        depth: read the depth images too.
        batch_size: images in a batch.
        num_workers: processes that load data.
        augment: turns of the training images: none, azimuth or so3.
        jitter: largest relative change of brightness, contrast and saturation in training.
        rotate_test: 0 tests upright images; n tests n copies of each, turned by fixed random rotations.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        root: str,
        fold: int = 1,
        size: tuple[int, int] = (256, 512),
        depth: bool = False,
        batch_size: int = 2,
        num_workers: int = 0,
        augment: Augment = "azimuth",
        jitter: float = 0.2,
        rotate_test: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(size, batch_size, num_workers, augment, jitter, rotate_test, seed)
        self.root, self.fold, self.depth = root, fold, depth

    def make(self, split: str) -> PanoramaDataset:
        return Stanford2D3DS(self.root, self.fold, self.size, split, self.depth)

    @property
    def class_names(self) -> tuple[str, ...]:
        return stanford_classes()


class _PlanetData(PanoramaData):
    """Modules over one planet: an epoch is so many augmented views of it."""

    samples_per_epoch: int

    def _train_length(self) -> int:
        return self.samples_per_epoch

    @property
    def mean(self) -> tuple[float, ...]:
        return self._fields.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self._fields.std

    @property
    def _fields(self) -> Fields:
        data = self.dataset("train")
        assert isinstance(data, Fields)
        return data


class FieldsData(_PlanetData):
    """Aligned global fields of one planet, split by longitude.

    Args:
        root: folder that holds the files.
        inputs: fields of the image, each a path (PATH:VARIABLE in NetCDF and npz) or a description with orientation.
        label: field of classes 0, 1, 2 ...
        class_names: their names.
        size: rows and columns of the working grid, 2:1.
        colours: number of leading channels that are colours in [0, 1].
        test_longitudes: sectors (west, east) in degrees held out for the test.
        val_longitudes: sectors held out for validation.
        latitudes: southern and northern limit of what counts.
        mask: field, at least 1/2 where the label counts.
        void: label values that are ignored.
        samples_per_epoch: augmented views of the planet in an epoch.
        batch_size: views in a batch.
        num_workers: processes that load data.
        augment: turns of the training views: none, azimuth or so3.
        jitter: largest relative change of colours, and of other fields' scale and offset, in training.
        rotate_test: 0 tests the planet upright; n tests n copies turned by fixed random rotations.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        root: str,
        inputs: list[FieldSource | str],
        label: FieldSource | str,
        class_names: list[str],
        size: tuple[int, int] = (128, 256),
        colours: int = 0,
        test_longitudes: list[tuple[float, float]] = [(-60.0, 60.0)],  # noqa: B006  (jsonargparse shows it as the default)
        val_longitudes: list[tuple[float, float]] = [(-105.0, -75.0)],  # noqa: B006
        latitudes: tuple[float, float] = (-90.0, 90.0),
        mask: FieldSource | str | None = None,
        void: list[int] = [],  # noqa: B006
        samples_per_epoch: int = 64,
        batch_size: int = 2,
        num_workers: int = 0,
        augment: Augment = "azimuth",
        jitter: float = 0.1,
        rotate_test: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(size, batch_size, num_workers, augment, jitter, rotate_test, seed)
        self.root, self.inputs, self.label, self.names = root, inputs, label, tuple(class_names)
        self.colours, self.samples_per_epoch = colours, samples_per_epoch
        self.test_longitudes, self.val_longitudes, self.latitudes = test_longitudes, val_longitudes, latitudes
        self.mask, self.void = mask, void

    def make(self, split: str) -> PanoramaDataset:
        return Fields(
            self.root, self.inputs, self.label, self.names, self.size, split,
            self.test_longitudes, self.val_longitudes, self.latitudes, self.mask, self.void,
        )  # fmt: skip

    @property
    def in_channels(self) -> int:  # type: ignore[override]
        return len(self._fields.mean)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names


class KoppenData(_PlanetData):
    """Köppen climate groups from the Earth's colour and elevation.

    Args:
        root: folder with the files that the card datasets/earth-fields lists.
        size: rows and columns of the working grid, 2:1.
        ocean: count the ocean as a class; its pixels are ignored otherwise.
        samples_per_epoch: augmented views of the Earth in an epoch.
        batch_size: views in a batch.
        num_workers: processes that load data.
        augment: turns of the training views: none, azimuth or so3.
        jitter: largest relative change of colours, and of the elevation's scale and offset, in training.
        rotate_test: 0 tests the Earth upright; n tests n copies turned by fixed random rotations.
        seed: seed of the augmentation.
        test_longitudes: sectors (west, east) in degrees held out for the test.
        val_longitudes: sectors held out for validation.
    """

    in_channels = 4

    def __init__(
        self,
        root: str,
        size: tuple[int, int] = (128, 256),
        ocean: bool = True,
        samples_per_epoch: int = 64,
        batch_size: int = 2,
        num_workers: int = 0,
        augment: Augment = "azimuth",
        jitter: float = 0.1,
        rotate_test: int = 0,
        seed: int = 0,
        test_longitudes: list[tuple[float, float]] = [(-60.0, 60.0)],  # noqa: B006
        val_longitudes: list[tuple[float, float]] = [(-105.0, -75.0)],  # noqa: B006
    ) -> None:
        super().__init__(size, batch_size, num_workers, augment, jitter, rotate_test, seed)
        self.root, self.ocean, self.samples_per_epoch = root, ocean, samples_per_epoch
        self.sectors = {"test_longitudes": test_longitudes, "val_longitudes": val_longitudes}

    def make(self, split: str) -> PanoramaDataset:
        return Koppen(self.root, self.size, split, ocean=self.ocean, **self.sectors)

    @property
    def class_names(self) -> tuple[str, ...]:
        return KOPPEN_CLASSES
