"""What every dataset of meshes shares: the item, the batch, the scale-free frame, splits by name.

An item is a dict, the same for every dataset:

==============  ===================  =========================================================================
key             type                 meaning
==============  ===================  =========================================================================
``mesh``        TriangleMesh         centred at the centroid of its surface, total area 1, unless asked otherwise
``label``       int                  class of the whole mesh, where it has one
``target``      (V,) int64           point of the template that each vertex corresponds to; NO_TARGET where unknown
``part``        (V,) or (F,) int64   class of each vertex, or of each face; IGNORE where unknown
==============  ===================  =========================================================================

A batch holds a list of meshes, labels (B,), numbers of the items (B,) as ``index``, and targets and parts (V_1 + V_2 + ...,) end
to end: ragged, for no two meshes need be alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch.utils.data import Dataset

from spheregeo.data.batches import collate_meshes as collate  # noqa: F401  (its former place)
from spheregeo.data.meshes.shapes import bend
from spheregeo.mesh import TriangleMesh

__all__ = ["MeshDataset", "Template"]

NO_TARGET = -1
MeshItem = dict[str, Any]


def scale_free(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices moved and scaled so that the surface's centroid is the origin and its area 1, in float64.

    Raises: ValueError for a surface without area.
    """
    p = np.asarray(vertices, np.float64)
    a, b, c = (p[faces[:, k]] for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    total = float(areas.sum())
    if not (np.isfinite(total) and total > 0):
        raise ValueError(f"the mesh has area {total}; expected a surface with finite, positive area")
    centroid = (areas[:, None] * (a + b + c)).sum(0) / (3 * total)
    return (p - centroid) / np.sqrt(total)


def scaled_mesh(vertices: np.ndarray, faces: np.ndarray) -> TriangleMesh:
    """A mesh in the scale-free frame, given normals where sheets lie back to back and those of a vertex's faces cancel.

    Scans have such places (an arm that touches the body); the largest face there says which side is out.

    Raises: ValueError as :class:`~spheregeo.mesh.TriangleMesh` for faults of other kinds.
    """
    points = scale_free(vertices, faces)
    mesh = TriangleMesh(points, faces)
    try:
        mesh.normals  # noqa: B018
        return mesh
    except ValueError:
        pass
    corner = points[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])  # (F, 3)
    length = np.linalg.norm(normal, axis=1)
    total, size = np.zeros_like(points), np.zeros(len(points))
    np.add.at(total, faces.ravel(), np.repeat(normal, 3, 0))
    np.add.at(size, faces.ravel(), np.repeat(length, 3))
    cancel = np.linalg.norm(total, axis=1) < 1e-3 * size
    largest = np.zeros_like(points)
    order = np.argsort(length)  # the largest face of a vertex is written last
    largest[faces[order].ravel()] = np.repeat(normal[order], 3, 0)
    total[cancel] = largest[cancel]
    return TriangleMesh(points, faces, normals=total / np.linalg.norm(total, axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Template:
    """The shape that correspondences point to.

    Args:
        mesh: the shape.
        points: the vertex of each of the N named points; several points may share one.

    Shape: points (N,) int64, indices of the mesh's vertices.

    Example:
        >>> from spheregeo.data import CreaturesData
        >>> template = CreaturesData(1, 1, 1, vertices=(150, 200), template_vertices=150).template
        >>> template.num_points == len(template.points)
        True
    """

    mesh: TriangleMesh
    points: torch.Tensor

    @property
    def num_points(self) -> int:
        """N."""
        return len(self.points)


class MeshDataset(Dataset[MeshItem], ABC):
    """Base class of datasets of meshes, kept in memory once they were read or made.

    A subclass implements ``__len__`` and ``load``, and sets ``class_names`` and ``template`` where there are any.

    Raises: IndexError for an index outside the dataset.
    """

    class_names: tuple[str, ...] = ()
    template: Template | None = None

    def __init__(self) -> None:
        self._items: dict[int, MeshItem] = {}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> MeshItem:
        """Reads or makes one item; must depend on the index alone."""

    def name(self, index: int) -> str:
        """What an item is called in tables."""
        return str(index)

    def __getitem__(self, index: int) -> MeshItem:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} meshes")
        index %= len(self)
        if index not in self._items:
            self._items[index] = self.load(index)
        return {**self._items[index], "index": index}  # meshes are frozen; the dict is the caller's own


def simplified(item: MeshItem, vertices: int) -> MeshItem:
    """An item whose mesh is decimated to about ``vertices``, where it has more.

    A vertex that is left takes the target of the nearest known vertex of the mesh it came from; so do parts.
    """
    mesh: TriangleMesh = item["mesh"]
    if mesh.num_points <= vertices:
        return item
    coarse = mesh.coarsen(vertices / mesh.num_points)
    found = {**item, "mesh": scaled_mesh(coarse.points.numpy(), coarse.faces.numpy())}
    if "target" in item:
        known = (item["target"] >= 0).nonzero()[:, 0]
        if len(known):
            _, near = cKDTree(mesh.points[known].numpy()).query(coarse.points.numpy())
            found["target"] = item["target"][known][torch.from_numpy(near)]
        else:
            found["target"] = torch.full((coarse.num_points,), NO_TARGET)
    if "part" in item:
        of_faces = len(item["part"]) == mesh.num_faces
        before, after = (m.points[m.faces].mean(1) if of_faces else m.points for m in (mesh, coarse))
        _, near = cKDTree(before.numpy()).query(after.numpy())
        found["part"] = item["part"][torch.from_numpy(near)]
    return found


class Simplified(MeshDataset):
    """A dataset whose larger meshes are decimated: whole shapes are told apart by fewer vertices, at less cost.

    Args: ``dataset``; ``vertices`` left of a mesh, about.
    """

    def __init__(self, dataset: MeshDataset, vertices: int) -> None:
        super().__init__()
        self.dataset, self.vertices = dataset, vertices
        self.class_names, self.template = dataset.class_names, dataset.template

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        return self.dataset.name(index)

    def load(self, index: int) -> MeshItem:
        return simplified(self.dataset[index], self.vertices)


class Warped(MeshDataset):
    """A dataset and smoothly deformed copies of its meshes, drawn from (seed, copy, index) and nothing else.

    Copies have another geometry, which is computed once like that of any mesh: their number is finite, unlike that of
    random views. Copies of many resolutions teach a network that the resolution means nothing.

    Args:
        dataset: the meshes themselves.
        copies: of each mesh.
        strength: of the deformation; 1 stretches by some 20 %.
        seed: of the copies.
        source: the same meshes with all their vertices, of which copies are made; ``dataset`` if None.
        vertices: fewest and most vertices of a copy, drawn evenly on a logarithmic scale; those of its mesh if None.
    """

    def __init__(
        self,
        dataset: MeshDataset,
        copies: int,
        strength: float,
        seed: int = 0,
        *,
        source: MeshDataset | None = None,
        vertices: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.dataset, self.copies, self.strength, self.seed = dataset, copies, strength, seed
        self.source, self.vertices = dataset if source is None else source, vertices
        if len(self.source) != len(dataset):
            raise ValueError(
                f"source has {len(self.source)} meshes; expected those of dataset, {len(dataset)}"
            )
        self.class_names, self.template = dataset.class_names, dataset.template

    def __len__(self) -> int:
        return len(self.dataset) * (1 + self.copies)

    def name(self, index: int) -> str:
        copy, index = divmod(index, len(self.dataset))
        return f"{self.dataset.name(index)} copy {copy}" if copy else self.dataset.name(index)

    def load(self, index: int) -> MeshItem:
        copy, index = divmod(index, len(self.dataset))
        if not copy:
            return self.dataset[index]
        item = self.source[index]
        if self.vertices is not None:
            fewest, most = np.log(self.vertices)
            drawn = np.random.default_rng([self.seed, copy, index, 1]).uniform(fewest, most)
            item = simplified(item, round(float(np.exp(drawn))))
        mesh: TriangleMesh = item["mesh"]
        rng = np.random.default_rng([self.seed, copy, index])
        item["mesh"] = scaled_mesh(bend(mesh.points.numpy(), self.strength, rng), mesh.faces.numpy())
        return item
