"""Meshes of different sizes as one: vertices one after another, connected only within each.

A layer on the joint mesh does what it does on each: neighbourhoods follow edges, so meshes may lie in the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spheregeo.mesh.triangle_mesh import TriangleMesh


@dataclass(frozen=True)
class MeshBatch:
    """One mesh made of several, and how many vertices each of them has.

    Attributes:
        mesh: all vertices, mesh by mesh, with the normals and frames they had.
        counts: vertices of each mesh.
    """

    mesh: TriangleMesh
    counts: tuple[int, ...]

    @property
    def batch(self) -> Tensor:
        """Mesh of each vertex. Shape: (V,) int64."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))

    def split(self, x: Tensor) -> list[Tensor]:
        """A field on the joint mesh as one on each mesh. Shape: (..., V) -> (..., V_i) each.

        Raises: ValueError where x does not fit.
        """
        if x.shape[-1] != self.mesh.num_points:
            raise ValueError(
                f"x has {x.shape[-1]} points on its last axis; expected {self.mesh.num_points}, those of {self.mesh}"
            )
        return list(x.split(self.counts, dim=-1))


def concatenate(meshes: Sequence[TriangleMesh]) -> MeshBatch:
    """Several meshes as one of several components. Raises: ValueError for none, TypeError for what is no mesh."""
    meshes = list(meshes)
    if not meshes:
        raise ValueError("meshes is empty; expected at least one TriangleMesh")
    for i, mesh in enumerate(meshes):
        if not isinstance(mesh, TriangleMesh):
            raise TypeError(f"meshes[{i}] is of type {type(mesh).__name__}; expected a TriangleMesh")
    counts = tuple(mesh.num_points for mesh in meshes)
    first = np.cumsum((0, *counts))
    joint = TriangleMesh._sound(
        torch.cat([mesh.points for mesh in meshes]).numpy(),
        np.concatenate([mesh.faces.numpy() + start for mesh, start in zip(meshes, first)]),
        torch.cat([mesh.normals for mesh in meshes]),
        torch.cat([mesh.frames for mesh in meshes]),
    )
    return MeshBatch(joint, counts)
