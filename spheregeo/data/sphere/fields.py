"""Any aligned global fields as one image with one label map.

Each file is averaged by solid angle onto the working grid (classes: the majority). Train, validation and test are longitude
sectors: the image is whole in all of them, and the label is IGNORE outside the split's own sector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from spheregeo.data.common import IGNORE, Item, check_split
from spheregeo.data.sphere.dataset import PanoramaDataset
from spheregeo.data.sphere.field import Field, FieldSource, read_field
from spheregeo.data.sphere.gridded.points import PointField

__all__ = ["Fields"]

Sector = tuple[float, float]


def in_sector(longitude: np.ndarray, sectors: Sequence[Sector]) -> np.ndarray:
    """Which longitudes (degrees) lie in any of the sectors [west, east); one with west > east crosses +-180."""
    inside = np.zeros(longitude.shape, bool)
    for west, east in sectors:
        span = 360.0 if abs(east - west) >= 360 else (east - west) % 360
        inside |= (longitude - west) % 360 < span
    return inside


class Fields(PanoramaDataset):
    """One planet as a dataset of one item: aligned fields as channels, and a class map whose sector belongs to the split.

    Args:
        root: folder that holds the files.
        inputs: fields of the image, paths or :class:`FieldSource`, relative to ``root``.
        label: field of classes 0, 1, 2 ...
        class_names: names of the classes.
        size: (nlat, nlon) of the working grid, 2:1.
        split: train, val or test.
        test_longitudes: sectors (west, east) held out for the test.
        val_longitudes: sectors held out for validation.
        latitudes: southern and northern limit of all splits.
        mask: field; the label counts only where the field is at least 1/2.
        void: label values that are ignored.

    Shape: image (C, nlat, nlon), missing values at the training mean; label (nlat, nlon), IGNORE outside the split's region.
    Units: longitudes and latitudes in degrees; channels in the files' units.
    Raises: FileNotFoundError, ImportError, ValueError naming what came and what was expected.
    """

    def __init__(
        self,
        root: str | Path,
        inputs: Sequence[FieldSource | str],
        label: FieldSource | str,
        class_names: Sequence[str],
        size: tuple[int, int] = (128, 256),
        split: str = "train",
        test_longitudes: Sequence[Sector] = ((-60.0, 60.0),),
        val_longitudes: Sequence[Sector] = ((-105.0, -75.0),),
        latitudes: Sector = (-90.0, 90.0),
        mask: FieldSource | str | None = None,
        void: Sequence[int] = (),
    ) -> None:
        super().__init__(size)
        self.split, self.class_names = check_split(split), tuple(class_names)
        if not Path(root).is_dir():
            raise FileNotFoundError(
                f"root {root} is not a folder; expected the one that holds the fields (--data.root)"
            )
        if not inputs:
            raise ValueError("inputs is empty; expected at least one field as the image")
        fields = [read_field(source, root) for source in inputs]
        image = np.concatenate([field.map_to(self.size).average(field.values) for field in fields])
        truth = self._labels(read_field(label, root), void)
        lon = -180 + (np.arange(self.size[1]) + 0.5) * 360 / self.size[1]
        lat = 90 - (np.arange(self.size[0]) + 0.5) * 180 / self.size[0]
        test, val = in_sector(lon, test_longitudes), in_sector(lon, val_longitudes)
        if (test & val).any():
            raise ValueError(
                f"val_longitudes {val_longitudes} and test_longitudes {test_longitudes} overlap; keep them apart"
            )
        allowed = np.broadcast_to(((lat >= latitudes[0]) & (lat <= latitudes[1]))[:, None], self.size)
        if mask is not None:
            covering = read_field(mask, root)
            allowed = allowed & (covering.map_to(self.size).average(covering.values)[0] >= 0.5)
        columns = {"train": ~test & ~val, "val": val, "test": test}
        weight = (
            np.cos(np.radians(lat))[:, None] * columns["train"]
        )  # statistics see the training sector only
        self.mean, self.std = weighted_statistics(image, weight)
        gaps = np.isnan(image)
        image = np.where(gaps, np.array(self.mean, np.float32)[:, None, None], image)
        truth = np.where(allowed & columns[split], truth, IGNORE)
        if not (truth != IGNORE).any():
            raise ValueError(
                f"the {split} split has no label at all; look at its longitudes, latitudes and mask"
            )
        self.image, self.label = torch.from_numpy(image), torch.from_numpy(truth)

    def _labels(self, field: Field | PointField, void: Sequence[int]) -> np.ndarray:
        values = field.values[0]
        label = np.where(np.isfinite(values), np.rint(values), IGNORE).astype(np.int64)
        label[np.isin(label, list(void))] = IGNORE
        wrong = (label != IGNORE) & ((label < 0) | (label >= len(self.class_names)))
        if wrong.any():
            raise ValueError(
                f"the label field holds {int(label[wrong][0])}; expected 0 ... {len(self.class_names) - 1} "
                f"({len(self.class_names)} class names): name the class, or list the value under void"
            )
        return field.map_to(self.size).majority(label)

    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> Item:
        return {"image": self.image, "label": self.label}


def weighted_statistics(image: np.ndarray, weight: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, (C, H, W), under weights (H, W); NaN is left out."""
    mean, std = [], []
    for channel, plane in enumerate(image.astype(np.float64)):
        w = np.where(np.isfinite(plane), weight, 0.0)
        if w.sum() <= 0:
            raise ValueError(
                f"channel {channel} of the image has no finite value in the training region; look at its file "
                "(inputs lists them in order) and at the sectors"
            )
        m = float((np.nan_to_num(plane) * w).sum() / w.sum())
        mean.append(m)
        std.append(max(float(np.sqrt((np.nan_to_num((plane - m) ** 2) * w).sum() / w.sum())), 1e-6))
    return tuple(mean), tuple(std)
