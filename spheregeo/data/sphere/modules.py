"""Data modules of panoramas and of fields on planets, one per dataset; what they share is ``PanoramaData``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.checks import check_least
from spheregeo.data.files import read_class_names
from spheregeo.data.sphere.dataset import PanoramaDataset
from spheregeo.data.sphere.field import FieldSource
from spheregeo.data.sphere.fields import Fields, weighted_statistics
from spheregeo.data.sphere.folder import PanoramaFolder
from spheregeo.data.sphere.koppen import KOPPEN_CLASSES, Koppen
from spheregeo.data.sphere.module import Augment, PanoramaData
from spheregeo.data.sphere.pictures.views import View
from spheregeo.data.sphere.rooms.rooms import ROOM_CLASSES, Rooms
from spheregeo.data.sphere.stanford2d3ds import Stanford2D3DS, stanford_classes
from spheregeo.lazy import cached_property

__all__ = ["FieldsData", "FolderData", "KoppenData", "PanoramasData", "RoomsData", "Stanford2D3DSData"]

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
        cache_dir: folder that keeps finished rooms; in memory only if None.
        **kwargs: arguments of :class:`PanoramaData`; ``seed`` is also that of the rooms.

    Raises: ValueError for numbers that are too small.

    Example:
        >>> from spheregeo.data import RoomsData
        >>> data = RoomsData(size=(16, 32), train=2, val=1, test=1)
        >>> next(iter(data.val_dataloader()))["image"].shape
        torch.Size([1, 3, 16, 32])
    """

    def __init__(
        self,
        size: tuple[int, int] = (64, 128),
        train: int = 200,
        val: int = 20,
        test: int = 50,
        batch_size: int = 4,
        *,
        cache_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, **kwargs)
        check_least(train=(train, 1), val=(val, 1), test=(test, 1))
        self.counts, self.cache_dir = {"train": train, "val": val, "test": test}, cache_dir

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
        depth_unit: unit of stored depths: mm, cm, m or metres per step; detected if None.
        void: label values, and colours as "#RRGGBB", that are not counted, beside 255.
        group: what keeps images together in one split: folder (images/ROOM/NAME.png), or a regular expression that finds the
            group in an image's name, such as ^([^_]+)_ for what stands before the first underscore.
        projection: equirectangular, cube (a cross, a strip, or files NAME_front, NAME_right ...), perspective or fisheye.
        hfov: width of the pictures' field of view in degrees; 360 if None.
        vfov: height of the pictures' field of view in degrees; by their shape if None.
        faces: order of the faces of a cube map in a strip, by first letters.
        **kwargs: arguments of :class:`PanoramaData`.

    Raises: FileNotFoundError and ValueError, as :class:`PanoramaFolder`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        size: tuple[int, int] = (256, 512),
        batch_size: int = 2,
        *,
        depth_unit: float | str | None = None,
        void: list[int | str] = [],  # noqa: B006
        group: str | None = None,
        projection: str = "equirectangular",
        hfov: float | None = None,
        vfov: float | None = None,
        faces: str = "frblud",
        **kwargs: Any,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, **kwargs)
        self.root, self.group = root, group
        self.depth_unit, self.void = depth_unit, void
        self.view = View(projection, hfov, vfov, faces)

    def make(self, split: str) -> PanoramaDataset:
        return PanoramaFolder(
            self.root, self.size, split, depth_unit=self.depth_unit, void=self.void, group=self.group,
            view=self.view,
        )  # fmt: skip

    @property
    def class_names(self) -> tuple[str, ...]:
        """From classes.txt; empty for a folder with depth only."""
        if (Path(self.root) / "labels").is_dir():
            return read_class_names(Path(self.root) / "classes.txt")
        return self.dataset("train").class_names


class PanoramasData(_MeasuredData):
    """A folder of panoramas without labels: its images, or those of images/ in it.

    Args:
        root: the folder.
        size: rows and columns of the working grid, 2:1.
        batch_size: images in a batch.
        group: what keeps images together in one split, as for :class:`FolderData`.
        **kwargs: arguments of :class:`PanoramaData`.

    Raises: FileNotFoundError and ValueError, as :class:`PanoramaFolder`, when a split is first read.
    """

    class_names = ()

    def __init__(
        self,
        root: str,
        size: tuple[int, int] = (256, 512),
        batch_size: int = 2,
        *,
        group: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, **kwargs)
        self.root, self.group = root, group

    def make(self, split: str) -> PanoramaDataset:
        return PanoramaFolder(self.root, self.size, split, targets=(), group=self.group)


class Stanford2D3DSData(_MeasuredData):
    """Stanford 2D-3D-S panoramas, one of the three official folds.

    Args:
        root: folder that holds area_1 ... area_6 and assets.
        fold: 1 tests on area 5, 2 on areas 2 and 4, 3 on areas 1, 3 and 6.
        size: rows and columns of the working grid, 2:1.
        depth: read the depth images too.
        batch_size: images in a batch.
        **kwargs: arguments of :class:`PanoramaData`.

    Raises: FileNotFoundError and ValueError, as :class:`Stanford2D3DS`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        fold: int = 1,
        size: tuple[int, int] = (256, 512),
        depth: bool = False,
        batch_size: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(size=size, batch_size=batch_size, **kwargs)
        self.root, self.fold, self.depth = root, fold, depth

    def make(self, split: str) -> PanoramaDataset:
        return Stanford2D3DS(self.root, self.fold, self.size, split, self.depth)

    @property
    def class_names(self) -> tuple[str, ...]:
        return stanford_classes()


class _PlanetData(PanoramaData):
    """Base class of the modules of one planet, of which an epoch shows so many augmented views.

    Args:
        samples_per_epoch: augmented views of the planet in an epoch.
        batch_size: views in a batch.
        augment: turns of the training views: none, azimuth or so3.
        jitter: largest relative change of colours, and of other fields' scale and offset, in training.
        rotate_test: 0 tests the planet upright; n tests n copies turned by fixed random rotations.
        **kwargs: arguments of :class:`PanoramaData`.
    """

    def __init__(
        self,
        *,
        samples_per_epoch: int = 64,
        batch_size: int = 2,
        augment: Augment = "azimuth",
        jitter: float = 0.1,
        rotate_test: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            batch_size=batch_size, augment=augment, jitter=jitter, rotate_test=rotate_test, **kwargs
        )
        self.samples_per_epoch = samples_per_epoch

    def _train_length(self) -> int:
        return self.samples_per_epoch

    @property
    def mean(self) -> tuple[float, ...]:
        return self._planet.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self._planet.std

    @property
    def _planet(self) -> Fields:
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
        **kwargs: ``samples_per_epoch``, the number of augmented views in an epoch (64), and the arguments of
            :class:`PanoramaData`, of which ``jitter`` is 0.1.

    Units: longitudes and latitudes in degrees.
    Raises: FileNotFoundError and ValueError, as :class:`Fields`, when a split is first read.
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
        **kwargs: Any,
    ) -> None:
        super().__init__(size=size, **kwargs)
        self.root, self.inputs, self.label, self.names = root, inputs, label, tuple(class_names)
        self.colours, self.mask, self.void = colours, mask, void
        self.test_longitudes, self.val_longitudes, self.latitudes = test_longitudes, val_longitudes, latitudes

    def make(self, split: str) -> PanoramaDataset:
        return Fields(
            self.root, self.inputs, self.label, self.names, self.size, split,
            self.test_longitudes, self.val_longitudes, self.latitudes, self.mask, self.void,
        )  # fmt: skip

    @property
    def in_channels(self) -> int:  # type: ignore[override]
        return len(self._planet.mean)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names


class KoppenData(_PlanetData):
    """Köppen climate groups from the Earth's colour and elevation.

    Args:
        root: folder with the files that the card datasets/earth-fields lists.
        size: rows and columns of the working grid, 2:1.
        ocean: count the ocean as a class; its pixels are ignored otherwise.
        test_longitudes: sectors (west, east) in degrees held out for the test.
        val_longitudes: sectors held out for validation.
        **kwargs: ``samples_per_epoch``, the number of augmented views in an epoch (64), and the arguments of
            :class:`PanoramaData`, of which ``jitter`` is 0.1.

    Units: longitudes in degrees.
    Raises: FileNotFoundError and ValueError, as :class:`Koppen`, when a split is first read.
    """

    in_channels = 4

    def __init__(
        self,
        root: str,
        size: tuple[int, int] = (128, 256),
        ocean: bool = True,
        *,
        test_longitudes: list[tuple[float, float]] = [(-60.0, 60.0)],  # noqa: B006
        val_longitudes: list[tuple[float, float]] = [(-105.0, -75.0)],  # noqa: B006
        **kwargs: Any,
    ) -> None:
        super().__init__(size=size, **kwargs)
        self.root, self.ocean = root, ocean
        self.sectors = {"test_longitudes": test_longitudes, "val_longitudes": val_longitudes}

    def make(self, split: str) -> PanoramaDataset:
        return Koppen(self.root, self.size, split, ocean=self.ocean, **self.sectors)

    @property
    def class_names(self) -> tuple[str, ...]:
        return KOPPEN_CLASSES
