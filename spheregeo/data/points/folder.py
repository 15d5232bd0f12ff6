"""A folder of labelled clouds or meshes, a sub-folder a class; see :mod:`spheregeo.data.class_folder` for its splits."""

from __future__ import annotations

import warnings
from pathlib import Path

from spheregeo.data.class_folder import class_entries
from spheregeo.data.common import check_split
from spheregeo.data.points.dataset import Cloud, PointDataset, check_spread
from spheregeo.data.points.files import CLOUD_SUFFIXES, read_cloud
from spheregeo.data.sphere.dataset import MEMORY_BUDGET

__all__ = ["PointFolder"]


class PointFolder(PointDataset):
    """A folder with a sub-folder of clouds for each class; classes are the sub-folders' sorted names.

    Args:
        root: the folder.
        split: train, val or test.
        num_points: points drawn from the surface where a file is a mesh.
        seed: seed of that draw.
        up: the axis against gravity, 0 to 2; None where it is not known.
        columns: names of the columns of text files, see :func:`read_cloud`.
        drop_nan: leave out points that are NaN or infinite; ``dropped`` counts them by file, a warning names the first such file.

    Raises: FileNotFoundError and ValueError naming the file, what was expected and what to do.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        num_points: int = 2048,
        seed: int = 0,
        up: int | None = None,
        columns: str = "",
        drop_nan: bool = False,
    ) -> None:
        self.root, self.split, self.num_points, self.seed, self.up = (
            Path(root), check_split(split), num_points, seed, up
        )  # fmt: skip
        self.columns, self.drop_nan, self.dropped = columns, drop_nan, dict[str, int]()
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"root {self.root} is not a folder; expected one with clouds (see --data.root)"
            )
        if num_points < 1:
            raise ValueError(f"num_points is {num_points}; expected at least 1")
        self.class_names, self.entries = class_entries(self.root, split, CLOUD_SUFFIXES)
        if not self.entries:
            raise ValueError(
                f"the {split} split of {self.root} is empty; add clouds, or list paths in train.txt, val.txt and test.txt"
            )
        self.labels = [label for _, label in self.entries]
        self._clouds: dict[int, Cloud] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self.entries)

    def name(self, index: int) -> str:
        return str(self.entries[index][0].relative_to(self.root))

    def load(self, index: int) -> Cloud:
        if index not in self._clouds:
            path = self.entries[index][0]
            cloud = read_cloud(path, self.num_points, self.seed, columns=self.columns, drop_nan=self.drop_nan)
            check_spread(cloud.points, str(path))
            if cloud.dropped:
                self._count(index, cloud)
            size = cloud.points.nbytes + (0 if cloud.normals is None else cloud.normals.nbytes)
            if self._held + size > MEMORY_BUDGET:
                return cloud
            self._clouds[index], self._held = cloud, self._held + size
        return self._clouds[index]

    def _count(self, index: int, cloud: Cloud) -> None:
        if not self.dropped:
            warnings.warn(
                f"{self.name(index)}: {cloud.dropped} of {cloud.dropped + len(cloud.points)} points are NaN or infinite "
                f"and were left out; PointFolder.dropped counts those of further files",
                stacklevel=2,
            )
        self.dropped[self.name(index)] = cloud.dropped
