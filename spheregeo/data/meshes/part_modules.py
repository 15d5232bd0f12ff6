"""Data modules of meshes with labelled vertices or faces."""

from __future__ import annotations

from typing import Any

from spheregeo.data.common import IGNORE
from spheregeo.data.meshes.dataset import MeshDataset
from spheregeo.data.meshes.generated import CreatureParts
from spheregeo.data.meshes.modules import MeshData
from spheregeo.data.meshes.parts import HumanParts, MeshParts

__all__ = ["CreaturePartsData", "HumanPartsData", "MeshPartsData", "PartsData"]


class PartsData(MeshData):
    """Base class of the data modules of meshes with labelled vertices or faces. A subclass implements ``make``.

    Args:
        batch_size: meshes in a batch.
        copies: smoothly deformed copies of each training mesh beside the mesh itself.
        warp: strength of those deformations; 1 stretches by some 20 %.
        simplify: number of vertices to which larger meshes are decimated, or fewest and most, as :class:`MeshData` has it.
        **kwargs: further arguments of :class:`MeshData`.

    Shape: batches of mesh, a list of B meshes; part (V_1 + ... + V_B,) or (F_1 + ... + F_B,) int64, 255 where unknown.
    """

    must_agree = ("class_names", "elements")
    ignore_index = IGNORE

    @property
    def elements(self) -> str:
        """What has labels, "vertices" or "faces"."""
        dataset: Any = self._full("train")
        found: str = dataset.elements
        return found

    def _full(self, split: str) -> MeshDataset:
        dataset: Any = self.dataset(split)
        while hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        result: MeshDataset = dataset
        return result


class CreaturePartsData(PartsData):
    """Generated poses of one creature, each vertex or face with the part that it belongs to: no download.

    Args:
        train: number of training meshes.
        val: number of validation meshes.
        test: number of test meshes.
        vertices: fewest and most vertices of a mesh.
        deform: strength of poses and builds; 1 turns limbs by some 35 degrees.
        label: what is labelled, "vertices" or "faces".
        batch_size: meshes in a batch.
        warp: strength of the copies' deformation.
        **kwargs: arguments of :class:`MeshData`; ``seed`` is also that of the meshes.

    Raises: ValueError for numbers out of range.

    Example:
        >>> from spheregeo.data import CreaturePartsData
        >>> data = CreaturePartsData(1, 1, 1, vertices=(150, 200), batch_size=1)
        >>> len(next(iter(data.train_dataloader()))["part"]) == data.dataset("train")[0]["mesh"].num_points
        True
    """

    def __init__(
        self,
        train: int = 60,
        val: int = 10,
        test: int = 20,
        vertices: tuple[int, int] = (500, 900),
        deform: float = 1.0,
        label: str = "vertices",
        batch_size: int = 4,
        *,
        warp: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, warp=warp, **kwargs)
        self.counts = {"train": train, "val": val, "test": test}
        self.vertices, self.deform, self.label = vertices, deform, label

    def make(self, split: str) -> MeshDataset:
        return CreatureParts(self.counts[split], self.vertices, self.deform, self.label, self.seed, split)


class MeshPartsData(PartsData):
    """A folder of meshes with files of labels for their vertices, faces or edges.

    Args:
        root: the folder: NAME.off (.ply, .obj, .stl) with NAME.txt (.seg, .eseg, .npy, .npz), see datasets/mesh-parts/README.md.
        label: what is labelled, "vertices" or "faces"; by the length of the first file of labels if None.
        first: number of the first class; the smallest of all files if None.
        repair: mend faulty meshes, and their labels with them, instead of refusing them.
        batch_size: meshes in a batch.
        **kwargs: arguments of :class:`MeshData`.

    Raises: FileNotFoundError and ValueError, as :class:`MeshParts`, when a split is first read.
    """

    def __init__(
        self,
        root: str,
        label: str | None = None,
        first: int | None = None,
        repair: bool = True,
        *,
        batch_size: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.root, self.label, self.first, self.repair = root, label, first, repair

    def make(self, split: str) -> MeshDataset:
        return MeshParts(self.root, split, self.label, self.first, self.repair)


class HumanPartsData(PartsData):
    """Human bodies with labelled faces: 370 training and 18 test meshes of other scans, as published or as MeshCNN has them.

    Args:
        root: folder with the bodies, see datasets/human-parts/README.md.
        repair: mend faulty meshes, and their labels with them, instead of refusing them.
        batch_size: meshes in a batch.
        **kwargs: arguments of :class:`MeshData`.

    Raises: FileNotFoundError and ValueError, as :class:`HumanParts`, when a split is first read.
    """

    def __init__(self, root: str, repair: bool = True, *, batch_size: int = 4, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.root, self.repair = root, repair

    def make(self, split: str) -> MeshDataset:
        return HumanParts(self.root, split, self.repair)
