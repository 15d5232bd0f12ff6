"""Data modules of ModelNet and ScanObjectNN."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from spheregeo.data.points.arrays import ArrayClouds
from spheregeo.data.points.dataset import PointDataset
from spheregeo.data.points.modelnet import read_modelnet, read_scanobjectnn
from spheregeo.data.points.modules import PointData, Up
from spheregeo.lazy import cached_property

__all__ = ["ModelNetData", "ScanObjectNNData"]

ScanVariant = Literal[
    "objectdataset", "objectdataset_augmented25_norot", "objectdataset_augmented25rot", "objectdataset_augmentedrot",
    "objectdataset_augmentedrot_scale75",
]  # fmt: skip


class _InParts(PointData):
    """A data module whose splits are read together."""

    @abstractmethod
    def read(self) -> dict[str, ArrayClouds]:
        """All splits by name."""

    @cached_property
    def _parts(self) -> dict[str, ArrayClouds]:
        return self.read()

    def make(self, split: str) -> PointDataset:
        return self._parts[split]


class ModelNetData(_InParts):
    """ModelNet40 or ModelNet10: meshes of furniture and other things, as OFF, HDF5, text or npz files.

    Args:
        root: folder with ModelNet, see datasets/modelnet/README.md.
        layout: off, hdf5, text or npz; auto looks which one it is.
        held_out: every so many-th training cloud of a class validates, where the data have no split for it; 0 for none.
        stored_points: points drawn from each mesh (off), or kept of each file (text).
        cache: folder for points drawn from meshes; root/.spheregeo if not given.
        up: axis against gravity: x, y, z; auto for that of the layout.
        **kwargs: arguments of :class:`PointData`; ``seed`` is also that of the points drawn from meshes.

    Raises: FileNotFoundError and ValueError, as :func:`read_modelnet`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        layout: Literal["auto", "off", "hdf5", "text", "npz"] = "auto",
        held_out: int = 10,
        stored_points: int = 2048,
        cache: str | None = None,
        up: Up = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.layout, self.held_out, self.stored_points = root, layout, held_out, stored_points
        self.cache, self.up = cache, up

    def read(self) -> dict[str, ArrayClouds]:
        return read_modelnet(
            self.root, layout=self.layout, held_out=self.held_out, num_points=self.stored_points, seed=self.seed,
            cache=self.cache, up=self.up,
        )  # fmt: skip


class ScanObjectNNData(_InParts):
    """ScanObjectNN: scans of fifteen kinds of things in rooms, with or without what lies around them.

    Args:
        root: folder with training_VARIANT.h5 and test_VARIANT.h5, see datasets/scanobjectnn/README.md.
        variant: objectdataset as scanned, objectdataset_augmentedrot_scale75 the hardest, or one between.
        background: keep the points of the background.
        held_out: every so many-th training cloud of a class validates; 0 for none.
        **kwargs: arguments of :class:`PointData`; the scans have no normals, so that ``normals`` are estimated.

    Raises: FileNotFoundError and ValueError, as :func:`read_scanobjectnn`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        variant: ScanVariant = "objectdataset_augmentedrot_scale75",
        background: bool = True,
        held_out: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.variant, self.background, self.held_out = root, variant, background, held_out

    def read(self) -> dict[str, ArrayClouds]:
        return read_scanobjectnn(
            self.root, variant=self.variant, background=self.background, held_out=self.held_out
        )
