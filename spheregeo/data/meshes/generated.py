"""Generated meshes: the default datasets of the mesh recipes, which need no download.

``Primitives`` are to be told apart: bent, stretched and remeshed bodies of ten classes, in any orientation. ``Creatures`` are
one asymmetric body with six limbs in many poses and builds, each with a meshing of its own; every vertex knows its place
on the creature at rest, which makes them a task of correspondence. A mesh depends on (seed, split, index) alone.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from spheregeo.data.common import SPLITS, check_split
from spheregeo.data.meshes.dataset import MeshDataset, MeshItem, Template, scaled_mesh
from spheregeo.data.meshes.shapes import SHAPE_CLASSES, bend, primitives, rotation
from spheregeo.data.meshes.triangulate import triangulate

__all__ = ["CreatureParts", "Creatures", "Primitives"]

Range = tuple[int, int]


def _check(count: int, vertices: Range, seed: int, deform: float) -> Range:
    if count < 1:
        raise ValueError(f"count is {count}; expected at least 1 mesh")
    if len(vertices) != 2 or not 100 <= vertices[0] <= vertices[1]:
        raise ValueError(
            f"vertices is {tuple(vertices)}; expected a range (fewest, most), fewest at least 100"
        )
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected an integer of at least 0")
    if deform < 0:
        raise ValueError(f"deform is {deform}; expected 0 (none) or more")
    return int(vertices[0]), int(vertices[1])


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))


class Primitives(MeshDataset):
    """Deformed primitives of ten classes: bowl, box, capsule, cone, cross, cylinder, dumbbell, knot, tetrahedron, torus.

    Args:
        count: number of meshes, the classes in turn.
        vertices: fewest and most vertices of a mesh, met within some 20 %.
        deform: strength of the smooth deformation; 1 stretches by some 20 %.
        seed: seed of shapes and meshings.
        split: train, val or test, whose meshes differ.

    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import Primitives
        >>> Primitives(3, vertices=(100, 120))[2]["label"]
        2
    """

    class_names = SHAPE_CLASSES

    def __init__(
        self,
        count: int,
        vertices: Range = (400, 700),
        deform: float = 1.0,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        super().__init__()
        self.vertices = _check(count, vertices, seed, deform)
        self.count, self.deform, self.seed, self.split = count, deform, seed, check_split(split)

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> MeshItem:
        rng = _generator(self.seed, 0, SPLITS.index(self.split), index)
        label = index % len(SHAPE_CLASSES)
        shape = primitives(rng)[SHAPE_CLASSES[label]]
        number = int(rng.integers(self.vertices[0], self.vertices[1] + 1))
        vertices, faces, _ = triangulate(shape.domain, shape.surface, number, rng)
        vertices = bend(vertices, self.deform, rng) @ rotation(rng)
        return {"mesh": scaled_mesh(vertices, faces), "label": label}


# Directions, lengths and narrowness of the limbs at rest; no plane maps the body to itself.
LIMBS = np.array(
    [
        # direction          length  narrowness
        [0.10, 0.00, 1.00, 0.55, 9.0],  # head
        [0.95, 0.25, 0.25, 1.00, 16.0],
        [-0.9, 0.35, 0.20, 0.70, 16.0],
        [0.45, 0.05, -0.9, 1.10, 14.0],
        [-0.45, 0.1, -0.9, 0.85, 14.0],
        [0.05, -1.0, -0.35, 0.6, 22.0],  # tail
    ]
)


def creature(lengths: np.ndarray, pose: np.ndarray, strength: float = 1.0):  # type: ignore[no-untyped-def]
    """Map of unit vectors to a creature with limbs of relative ``lengths`` (6,) turned by rotation vectors ``pose`` (6, 3)."""
    axis = LIMBS[:, :3] / np.linalg.norm(LIMBS[:, :3], axis=1, keepdims=True)

    def surface(u: np.ndarray) -> np.ndarray:
        near = np.exp(LIMBS[:, 4] * (u @ axis.T - 1))  # (n, 6), 1 at a limb's tip
        p = u * (0.45 + near @ (LIMBS[:, 3] * lengths))[:, None]
        for k in range(len(LIMBS)):
            along = np.clip(p @ axis[k] - 0.5, 0, None)[:, None]  # turn more and more towards the tip
            angle = strength * near[:, k : k + 1] ** 0.25 * along / (0.2 + along) * np.linalg.norm(pose[k])
            e = pose[k] / max(float(np.linalg.norm(pose[k])), 1e-12)
            p = (
                p * np.cos(angle)
                + np.cross(e, p) * np.sin(angle)
                + (p @ e)[:, None] * e * (1 - np.cos(angle))
            )
        return p

    return surface


class Creatures(MeshDataset):
    """Poses of one asymmetric creature, builds and meshings at random, each vertex with its place on a template.

    The template is the creature at rest; the target of a vertex is the template vertex nearest to the vertex's place at rest.

    Args:
        count: number of meshes.
        vertices: fewest and most vertices of a mesh.
        deform: strength of poses and builds; 1 turns limbs by some 35 degrees and lengthens them by some 10 %.
        template_vertices: vertices of the template.
        seed: seed of poses, builds and meshings.
        split: train, val or test, whose meshes differ.

    Shape: mesh with V vertices; target (V,) int64.
    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import Creatures
        >>> item = Creatures(1, vertices=(150, 200), template_vertices=150)[0]
        >>> len(item["target"]) == item["mesh"].num_points
        True
    """

    def __init__(
        self,
        count: int,
        vertices: Range = (500, 900),
        deform: float = 1.0,
        template_vertices: int = 500,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        super().__init__()
        self.vertices = _check(count, vertices, seed, deform)
        _check(1, (template_vertices, template_vertices), seed, deform)
        self.count, self.deform, self.seed, self.split = count, deform, seed, check_split(split)
        self._rest = creature(np.ones(len(LIMBS)), np.zeros((len(LIMBS), 3)))
        points, faces, _ = triangulate("sphere", self._rest, template_vertices, _generator(seed, 1))
        self._tree = cKDTree(points)
        self.template = Template(scaled_mesh(points, faces), torch.arange(len(points)))

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> MeshItem:
        vertices, faces, parameters = self._body(index)
        _, target = self._tree.query(self._rest(parameters))
        return {
            "mesh": scaled_mesh(vertices, faces),
            "target": torch.from_numpy(target.astype(np.int64)),
        }

    def _body(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices, faces, and the direction from which each vertex grew, a unit vector."""
        rng = _generator(self.seed, 2, SPLITS.index(self.split), index)
        lengths = np.exp(0.1 * self.deform * rng.standard_normal(len(LIMBS)))
        pose = 0.35 * self.deform * rng.standard_normal((len(LIMBS), 3))
        number = int(rng.integers(self.vertices[0], self.vertices[1] + 1))
        vertices, faces, parameters = triangulate("sphere", creature(lengths, pose), number, rng)
        return vertices @ rotation(rng), faces, parameters


PARTS = ("body", "head", "long arm", "short arm", "long leg", "short leg", "tail")
WITHIN = 0.3  # share of a limb's growth, 1 at its tip, from which a direction belongs to it


class CreatureParts(Creatures):
    """Poses of the creature with the part that each vertex or face belongs to: body, head, one of four limbs, or tail.

    Left and right limbs differ in length and in where they grow, so the shape alone says which is which.

    Args:
        count: number of meshes.
        vertices: fewest and most vertices of a mesh.
        deform: strength of poses and builds; 1 turns limbs by some 35 degrees and lengthens them by some 10 %.
        elements: "vertices" or "faces".
        seed: seed of poses, builds and meshings.
        split: train, val or test, whose meshes differ.

    Shape: mesh with V vertices and F faces; part (V,) or (F,) int64.
    Raises: ValueError for values out of range.

    Example:
        >>> from spheregeo.data import CreatureParts
        >>> item = CreatureParts(1, vertices=(150, 200), elements="faces")[0]
        >>> len(item["part"]) == item["mesh"].num_faces
        True
    """

    class_names = PARTS

    def __init__(
        self,
        count: int,
        vertices: Range = (500, 900),
        deform: float = 1.0,
        elements: str = "vertices",
        seed: int = 0,
        split: str = "train",
    ) -> None:
        if elements not in ("vertices", "faces"):
            raise ValueError(f"elements is {elements!r}; expected 'vertices' or 'faces'")
        super().__init__(count, vertices, deform, 100, seed, split)
        self.template = None
        self.elements = elements

    def load(self, index: int) -> MeshItem:
        vertices, faces, grown = self._body(index)
        if self.elements == "faces":
            grown = grown[faces].mean(1)
            grown /= np.linalg.norm(grown, axis=1, keepdims=True)
        axis = LIMBS[:, :3] / np.linalg.norm(LIMBS[:, :3], axis=1, keepdims=True)
        near = np.exp(LIMBS[:, 4] * (grown @ axis.T - 1))
        part = np.where(near.max(1) > WITHIN, near.argmax(1) + 1, 0)
        return {"mesh": scaled_mesh(vertices, faces), "part": torch.from_numpy(part.astype(np.int64))}
