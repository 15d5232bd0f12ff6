"""Gauge-equivariant convolution on a mesh of 6890 vertices of degree 6, beside the two edge-wise orders of work.

16 channels of orders 0, 1 and 2, two radial profiles, one-ring neighbourhoods. The peers are the layer as it is usually
written: carry each neighbour's fields into the edge's frame, mix channels there, turn the result back, and sum; "edges"
multiplies features by weights (one product a profile), "matrices" makes each edge's kernel matrix first, in chunks of edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cases.configuration import Configuration
from cases.layers import work
from measure import Work
from spheregeo.groups import FieldType
from spheregeo.kernels import PolarKernel, Rings
from spheregeo.mesh import TriangleMesh
from spheregeo.nn import GaugeConv, GaugeGeometry
from spheregeo.sampling import Neighborhood, surface_neighbors

CHANNELS, ORDER, RINGS, CHUNK = 16, 2, 4, 4096  # Rings(4) has two profiles


class OnMesh(Configuration):
    """A configuration that counts vertices and their neighbours."""

    def count(self) -> int:
        assert isinstance(self.grid, TriangleMesh)
        return len(near(self.grid)[0].indices)


@cache
def torus(rows: int, columns: int) -> TriangleMesh:
    """A torus of rows * columns vertices, each with six neighbours."""
    i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    u, v = 2 * math.pi * i.double() / rows, 2 * math.pi * j.double() / columns
    ring = 2 + torch.cos(v)
    points = torch.stack([ring * torch.cos(u), ring * torch.sin(u), torch.sin(v)], -1).reshape(-1, 3)
    down, right = (i + 1) % rows, (j + 1) % columns
    a, b, c, d = i * columns + j, down * columns + j, down * columns + right, i * columns + right
    faces = torch.cat([torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([a, c, d], -1).reshape(-1, 3)])
    return TriangleMesh(points, faces)


@cache
def near(mesh: TriangleMesh) -> tuple[Neighborhood, float]:
    found = surface_neighbors(mesh, rings=1)
    return found, 1.01 * float(found.distance.max())


def ours(mesh: TriangleMesh, kind: FieldType) -> Callable[[], Work]:
    def build() -> Work:
        pairs, radius = near(mesh)
        kernel = PolarKernel(Rings(RINGS), 2 * kind.max_order, smooth=False)
        geometry = GaugeGeometry.from_neighborhood(pairs, mesh.areas, radius, kernel=kernel)
        layer = GaugeConv(kind, kind, kernel=Rings(RINGS), bias=False, self_interaction=False)
        return work(lambda x: layer(x, geometry), [layer.weight], (1, kind.dim, mesh.num_points))

    return build


def edgewise(mesh: TriangleMesh, kind: FieldType, matrices: bool) -> Callable[[], Work]:
    def build() -> Work:
        pairs, radius = near(mesh)
        rows, columns = pairs.rows, pairs.indices
        profiles = (Rings(RINGS)(pairs.distance, pairs.angle, radius) * mesh.areas[columns]).float()
        into, back = (pairs.transport - pairs.angle).float(), pairs.angle.float()
        weight = torch.randn(kind.dim, kind.dim, len(profiles)).requires_grad_()

        def products(x: Tensor) -> Tensor:
            z = kind.transport(x[0][:, columns], into)  # (I, E)
            mixed: Any = sum(weight[..., k] @ (profiles[k] * z) for k in range(len(profiles)))
            y = kind.transport(mixed, back)
            return y.new_zeros(kind.dim, mesh.num_points).index_add(1, rows, y)[None]

        def kernels(x: Tensor) -> Tensor:
            out = x.new_zeros(mesh.num_points, kind.dim)
            for begin in range(0, len(rows), CHUNK):
                part = slice(begin, begin + CHUNK)
                mixed = torch.einsum("ke,oik->eoi", profiles[:, part], weight)
                matrix = kind.representation(back[part]) @ mixed @ kind.representation(into[part])
                y = torch.bmm(matrix, x[0].T[columns[part]][..., None])[..., 0]
                out = out.index_add(0, rows[part], y)
            return out.T[None]

        return work(kernels if matrices else products, [weight], (1, kind.dim, mesh.num_points))

    return build


def configuration(rows: int, columns: int, small: Configuration | None) -> Configuration:
    mesh, kind = torus(rows, columns), FieldType.full(CHANNELS, ORDER)
    builders = {
        "spheregeo": ours(mesh, kind),
        "edges": edgewise(mesh, kind, matrices=False),
        "matrices": edgewise(mesh, kind, matrices=True),
    }
    kernel = PolarKernel(Rings(RINGS), 2 * ORDER, smooth=False)
    return OnMesh("gauge", mesh, kernel, near(mesh)[1], kind.dim, builders, small)


def cases() -> list[Configuration]:
    return [configuration(130, 53, configuration(13, 10, None))]
