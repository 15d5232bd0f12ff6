"""Data modules of meshes: ragged batches, one dataset per split, shuffled by (seed, epoch) alone.

Nothing is loaded by worker processes: meshes stay in memory, and so does the geometry that layers keep under their value.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from spheregeo.checks import check_least
from spheregeo.data.meshes.dataset import MeshDataset, Simplified, Template, Warped
from spheregeo.data.meshes.faust import Faust, FaustSet
from spheregeo.data.meshes.folder import MeshFolder, Shrec11
from spheregeo.data.meshes.generated import Creatures, Primitives
from spheregeo.data.module import DataModule
from spheregeo.lazy import cached_property

__all__ = ["CreaturesData", "FaustData", "MeshData", "MeshFolderData", "PrimitivesData", "Shrec11Data"]


def _spread(simplify: tuple[int, int], copies: int) -> tuple[int, int]:
    """Fewest and most vertices of the copies, once found to make sense."""
    two = isinstance(simplify, (tuple, list)) and len(simplify) == 2
    if not two or not 4 <= simplify[0] <= simplify[1]:
        raise ValueError(
            f"simplify is {simplify!r}; expected one whole number, or the fewest (4 at least) and the most vertices"
        )
    if not copies:
        raise ValueError(f"simplify is {simplify!r}, for copies of many resolutions, but copies is 0")
    return simplify[0], simplify[1]


class MeshData(DataModule[MeshDataset]):
    """Base class of the data modules of meshes. A subclass implements ``make``.

    Args:
        batch_size: meshes in a batch.
        copies: smoothly deformed copies of each training mesh beside the mesh itself.
        warp: strength of those deformations; 1 stretches by some 20 %.
        simplify: number of vertices to which larger meshes are decimated; 0 leaves all as they are. Of two numbers, the
            fewest and the most, the copies have any between, each its own, and all other meshes the geometric mean.
        **kwargs: arguments of :class:`~spheregeo.data.module.DataModule`, without ``num_workers``; ``seed`` is also that of the
            copies.

    Shape: batches of mesh, a list of B meshes; label and index (B,) int64; target (V_1 + ... + V_B,) int64.
    Raises: ValueError for numbers out of range.
    """

    must_agree = ("class_names", "num_points")

    def __init__(
        self,
        *,
        batch_size: int = 8,
        copies: int = 0,
        warp: float = 0.3,
        simplify: int | tuple[int, int] = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=0, **kwargs)
        check_least(copies=(copies, 0))
        if warp < 0:
            raise ValueError(f"warp is {warp}; expected 0 (none) or more")
        self.copies, self.warp = copies, warp
        if isinstance(simplify, int):
            check_least(simplify=(simplify, 0))
            self.spread, self.simplify = None, simplify
        else:
            self.spread = _spread(simplify, copies)
            self.simplify = round(math.sqrt(math.prod(simplify)))
        self._simplified: dict[str, MeshDataset] = {}
        self._warped: Warped | None = None

    def dataset(self, split: str) -> MeshDataset:
        """Return the dataset of a split, larger meshes decimated, made when first asked for."""
        if split not in self._simplified:
            full = super().dataset(split)
            self._simplified[split] = Simplified(full, self.simplify) if self.simplify else full
        return self._simplified[split]

    def items(self, split: str) -> MeshDataset:
        """Return the meshes of a split; those of training with their deformed copies."""
        if split != "train" or not self.copies or not (self.warp or self.spread):
            return self.dataset(split)
        if self._warped is None:
            source = super().dataset("train") if self.spread else None
            self._warped = Warped(
                self.dataset("train"), self.copies, self.warp, self.seed, source=source, vertices=self.spread
            )
        return self._warped

    @property
    def template(self) -> Template | None:
        """The shape that correspondences point to, where there are any."""
        return self.dataset("train").template

    @property
    def num_points(self) -> int:
        """Points of the template; 0 without one."""
        return 0 if self.template is None else self.template.num_points

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the tensors; meshes stay, and the geometry made of them goes where the network is."""
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


class PrimitivesData(MeshData):
    """Generated meshes of ten classes of bent primitives: no download, any number of them.

    Args:
        train: number of training meshes.
        val: number of validation meshes.
        test: number of test meshes.
        vertices: fewest and most vertices of a mesh.
        deform: strength of the smooth deformation; 1 stretches by some 20 %.
        warp: strength of the copies' deformation.
        **kwargs: arguments of :class:`MeshData`, without ``simplify``; ``seed`` is also that of the meshes.

    Raises: ValueError for numbers out of range.

    Example:
        >>> from spheregeo.data import PrimitivesData
        >>> data = PrimitivesData(train=2, val=1, test=1, vertices=(100, 120))
        >>> len(next(iter(data.train_dataloader()))["mesh"]), data.num_classes
        (2, 10)
    """

    def __init__(
        self,
        train: int = 200,
        val: int = 50,
        test: int = 100,
        vertices: tuple[int, int] = (400, 700),
        deform: float = 1.0,
        *,
        warp: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(warp=warp, simplify=0, **kwargs)
        self.counts = {"train": train, "val": val, "test": test}
        self.vertices, self.deform = vertices, deform

    def make(self, split: str) -> MeshDataset:
        return Primitives(self.counts[split], self.vertices, self.deform, self.seed, split)


class CreaturesData(MeshData):
    """Generated poses of one creature with correspondences to the creature at rest: no download.

    Args:
        train: number of training meshes.
        val: number of validation meshes.
        test: number of test meshes.
        vertices: fewest and most vertices of a mesh.
        template_vertices: vertices of the creature at rest, to which others correspond.
        deform: strength of poses and builds; 1 turns limbs by some 35 degrees.
        batch_size: meshes in a batch.
        warp: strength of the copies' deformation.
        **kwargs: arguments of :class:`MeshData`, without ``simplify``; ``seed`` is also that of the meshes.

    Raises: ValueError for numbers out of range.

    Example:
        >>> from spheregeo.data import CreaturesData
        >>> data = CreaturesData(1, 1, 1, vertices=(150, 200), template_vertices=150)
        >>> data.num_points == data.template.num_points
        True
    """

    def __init__(
        self,
        train: int = 100,
        val: int = 20,
        test: int = 40,
        vertices: tuple[int, int] = (500, 900),
        template_vertices: int = 500,
        deform: float = 1.0,
        batch_size: int = 4,
        *,
        warp: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, warp=warp, simplify=0, **kwargs)
        self.counts = {"train": train, "val": val, "test": test}
        self.vertices, self.template_vertices, self.deform = vertices, template_vertices, deform

    def make(self, split: str) -> MeshDataset:
        return Creatures(
            self.counts[split], self.vertices, self.deform, self.template_vertices, self.seed, split
        )


class FaustData(MeshData):
    """FAUST: ten people in ten poses; classes are the poses, correspondences go to the first mesh.

    Args:
        root: folder with FAUST, see datasets/faust/README.md.
        train_subjects: people, 0 to 9, whose meshes train.
        val_subjects: people whose meshes validate; among the training ones only if you say so.
        test_subjects: people whose meshes are for the test; in neither of the others.
        batch_size: meshes in a batch.
        **kwargs: arguments of :class:`MeshData`.

    Raises: ValueError for people of the test who also train or validate; FileNotFoundError when a split is first read.
    """

    def __init__(
        self,
        root: str,
        train_subjects: list[int] = [0, 1, 2, 3],  # noqa: B006
        val_subjects: list[int] = [4],  # noqa: B006
        test_subjects: list[int] = [5, 6],  # noqa: B006
        *,
        batch_size: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.subjects = {"train": train_subjects, "val": val_subjects, "test": test_subjects}
        seen = {*train_subjects, *val_subjects} & {*test_subjects}
        if seen:
            raise ValueError(f"test_subjects {sorted(seen)} are among the training or validation subjects")
        self.root = root

    @cached_property
    def _source(self) -> FaustSet:
        return FaustSet(self.root)

    def make(self, split: str) -> MeshDataset:
        return Faust(self._source, self.subjects[split])


class Shrec11Data(MeshData):
    """SHREC'11 non-rigid shapes: 30 classes of 20 meshes, 16 or 10 of each for training.

    Args:
        root: folder with SHREC'11, see datasets/shrec11/README.md.
        size: training meshes of each class, 16 or 10.
        fold: which random split, where the folder has no lists.
        held_out: of the training meshes of each class, how many validate instead; 0 validates on the training meshes.
        repair: mend faulty meshes instead of refusing them.
        **kwargs: arguments of :class:`MeshData`.

    Raises: FileNotFoundError and ValueError, as :class:`Shrec11`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        size: int = 16,
        fold: int = 0,
        held_out: int = 2,
        repair: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.size, self.fold, self.held_out, self.repair = root, size, fold, held_out, repair

    def make(self, split: str) -> MeshDataset:
        return Shrec11(self.root, self.size, self.fold, self.held_out, split, self.repair)


class MeshFolderData(MeshData):
    """A folder of labelled meshes, a sub-folder for each class.

    Args:
        root: the folder: CLASS/NAME.off, .ply, .obj or .stl, and optionally train.txt, val.txt, test.txt.
        repair: mend faulty meshes instead of refusing them.
        **kwargs: arguments of :class:`MeshData`.

    Raises: FileNotFoundError and ValueError, as :class:`MeshFolder`, when a split is first read.
    """

    def __init__(self, root: str, repair: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.repair = root, repair

    def make(self, split: str) -> MeshDataset:
        return MeshFolder(self.root, split, self.repair)
