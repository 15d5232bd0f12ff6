"""Lightning data modules of meshes: ragged batches, one dataset a split, shuffled by (seed, epoch) alone.

Nothing is loaded by worker processes: meshes stay in memory, and so does the geometry that layers keep under their value.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from spheregeo.data.common import EpochSampler
from spheregeo.data.meshes.dataset import MeshDataset, Simplified, Template, Warped, collate
from spheregeo.data.meshes.faust import Faust, FaustSet
from spheregeo.data.meshes.folder import MeshFolder, Shrec11
from spheregeo.data.meshes.generated import Creatures, Primitives


class _IndexSampler(EpochSampler):
    """Shuffles by (seed, epoch) and deals out to the processes, as ``EpochSampler``; yields plain indices."""

    def __iter__(self) -> Iterator[Any]:
        return (index for _, index in super().__iter__())


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


class MeshData(LightningDataModule):
    """What all data modules of meshes share; subclasses say which dataset stands behind a split.

    Args:
        batch_size: meshes in a batch.
        copies: smoothly deformed copies of each training mesh beside the mesh itself.
        warp: strength of those deformations; 1 stretches by some 20 %.
        seed: of the order and of the copies.
        simplify: number of vertices to which larger meshes are decimated; 0 leaves all as they are. Of two numbers, the
            fewest and the most, the copies have any between, each its own, and all other meshes the geometric mean.
    """

    def __init__(
        self, batch_size: int, copies: int, warp: float, seed: int, simplify: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        least = {"batch_size": (batch_size, 1), "copies": (copies, 0), "seed": (seed, 0)}
        if isinstance(simplify, int):
            least["simplify"] = (simplify, 0)
        for name, (value, bound) in least.items():
            if value < bound:
                raise ValueError(f"{name} is {value}; expected at least {bound}")
        if warp < 0:
            raise ValueError(f"warp is {warp}; expected 0 (none) or more")
        self.batch_size, self.copies, self.warp, self.seed = batch_size, copies, warp, seed
        self.spread = None if isinstance(simplify, int) else _spread(simplify, copies)
        self.simplify = simplify if isinstance(simplify, int) else round(math.sqrt(math.prod(simplify)))
        self._full: dict[str, MeshDataset] = {}
        self._datasets: dict[str, MeshDataset] = {}

    @abstractmethod
    def make(self, split: str) -> MeshDataset:
        """The dataset of a split."""

    def dataset(self, split: str) -> MeshDataset:
        """The dataset of a split, made once."""
        if split not in self._datasets:
            made = self._full[split] = self.make(split)
            self._datasets[split] = Simplified(made, self.simplify) if self.simplify else made
        return self._datasets[split]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their indices; empty where meshes have none."""
        return self.dataset("train").class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def template(self) -> Template | None:
        """The shape that correspondences point to, where there are any."""
        return self.dataset("train").template

    @property
    def num_points(self) -> int:
        """Points of the template; 0 without one."""
        return 0 if self.template is None else self.template.num_points

    def _loader(self, dataset: MeshDataset, **options: Any) -> DataLoader[Any]:
        return DataLoader(dataset, self.batch_size, collate_fn=collate, **options)

    def train_dataloader(self) -> DataLoader[Any]:
        data = self.dataset("train")
        if self.copies and (self.warp or self.spread):
            if "warped" not in self._datasets:
                source = self._full["train"] if self.spread else None
                self._datasets["warped"] = Warped(
                    data, self.copies, self.warp, self.seed, source=source, vertices=self.spread
                )
            data = self._datasets["warped"]
        return self._loader(data, sampler=_IndexSampler(data, shuffle=True, seed=self.seed))

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.dataset("val"))

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.dataset("test"))

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Tensors move; meshes stay, and the geometry made of them goes where the network is."""
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"class_names": list(self.class_names), "num_points": self.num_points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to restore. Raises: ValueError if the checkpoint knew other classes or another template."""
        found = self.state_dict()
        for name, value in found.items():
            if value != state_dict[name]:
                raise ValueError(
                    f"the checkpoint was trained with {name} {state_dict[name]} but the data have {value}; "
                    "resume with the data it began with"
                )


class PrimitivesData(MeshData):
    """Generated meshes of ten classes of bent primitives: no download, any number of them.

    Args:
        train: number of training meshes.
        val: number of validation meshes.
        test: number of test meshes.
        vertices: fewest and most vertices of a mesh.
        deform: strength of the smooth deformation; 1 stretches by some 20 %.
        batch_size: meshes in a batch.
        copies: further deformed copies of each training mesh.
        warp: strength of the copies' deformation.
        seed: seed of the meshes and of their order.
    """

    def __init__(
        self,
        train: int = 200,
        val: int = 50,
        test: int = 100,
        vertices: tuple[int, int] = (400, 700),
        deform: float = 1.0,
        batch_size: int = 8,
        copies: int = 0,
        warp: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, copies, warp, seed)
        self.counts = {"train": train, "val": val, "test": test}
        self.vertices, self.deform = vertices, deform

    def make(self, split: str) -> MeshDataset:
        return Primitives(self.counts[split], self.vertices, self.deform, self.seed, split)


class CreaturesData(MeshData):
    """Generated poses of one creature with correspondences to it at rest: no download.

    Args:
        train: number of training meshes.
        val: number of validation meshes.
        test: number of test meshes.
        vertices: fewest and most vertices of a mesh.
        template_vertices: vertices of the creature at rest, to which others correspond.
        deform: strength of poses and builds; 1 turns limbs by some 35 degrees.
        batch_size: meshes in a batch.
        copies: further deformed copies of each training mesh.
        warp: strength of the copies' deformation.
        seed: seed of the meshes and of their order.
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
        copies: int = 0,
        warp: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, copies, warp, seed)
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
        simplify: vertices to which larger meshes are decimated, 0 for none; or fewest and most, between which copies vary.
        batch_size: meshes in a batch.
        copies: smoothly deformed copies of each training mesh.
        warp: strength of the copies' deformation; 1 stretches by some 20 %.
        seed: seed of the order and of the copies.
    """

    def __init__(
        self,
        root: str,
        train_subjects: list[int] = [0, 1, 2, 3],  # noqa: B006
        val_subjects: list[int] = [4],  # noqa: B006
        test_subjects: list[int] = [5, 6],  # noqa: B006
        simplify: int | tuple[int, int] = 0,
        batch_size: int = 2,
        copies: int = 0,
        warp: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, copies, warp, seed, simplify)
        self.subjects = {"train": train_subjects, "val": val_subjects, "test": test_subjects}
        seen = {*train_subjects, *val_subjects} & {*test_subjects}
        if seen:
            raise ValueError(f"test_subjects {sorted(seen)} are among the training or validation subjects")
        self.root, self._source = root, None

    def make(self, split: str) -> MeshDataset:
        if self._source is None:
            self._source = FaustSet(self.root)  # type: ignore[assignment]
        return Faust(self._source, self.subjects[split])  # type: ignore[arg-type]


class Shrec11Data(MeshData):
    """SHREC'11 non-rigid shapes: 30 classes of 20 meshes, 16 or 10 of each for training.

    Args:
        root: folder with SHREC'11, see datasets/shrec11/README.md.
        size: training meshes of each class, 16 or 10.
        fold: which random split, where the folder has no lists.
        held_out: of the training meshes of each class, how many validate instead; 0 validates on the training meshes.
        repair: mend faulty meshes instead of refusing them.
        simplify: vertices to which larger meshes are decimated, 0 for none; or fewest and most, between which copies vary.
        batch_size: meshes in a batch.
        copies: smoothly deformed copies of each training mesh.
        warp: strength of the copies' deformation.
        seed: seed of the order and of the copies.
    """

    def __init__(
        self,
        root: str,
        size: int = 16,
        fold: int = 0,
        held_out: int = 2,
        repair: bool = True,
        simplify: int | tuple[int, int] = 0,
        batch_size: int = 8,
        copies: int = 0,
        warp: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, copies, warp, seed, simplify)
        self.root, self.size, self.fold, self.held_out, self.repair = root, size, fold, held_out, repair

    def make(self, split: str) -> MeshDataset:
        return Shrec11(self.root, self.size, self.fold, self.held_out, split, self.repair)


class MeshFolderData(MeshData):
    """A folder of labelled meshes, a sub-folder for each class.

    Args:
        root: the folder: CLASS/NAME.off, .ply, .obj or .stl, and optionally train.txt, val.txt, test.txt.
        repair: mend faulty meshes instead of refusing them.
        simplify: vertices to which larger meshes are decimated, 0 for none; or fewest and most, between which copies vary.
        batch_size: meshes in a batch.
        copies: smoothly deformed copies of each training mesh.
        warp: strength of the copies' deformation.
        seed: seed of the order and of the copies.
    """

    def __init__(
        self,
        root: str,
        repair: bool = True,
        simplify: int | tuple[int, int] = 0,
        batch_size: int = 8,
        copies: int = 0,
        warp: float = 0.3,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, copies, warp, seed, simplify)
        self.root, self.repair = root, repair

    def make(self, split: str) -> MeshDataset:
        return MeshFolder(self.root, split, self.repair)
