"""Barycentric stencils on triangulated spheres: the icosahedral faces, or the spherical Delaunay triangulation.

The convex hull of points on a sphere is their spherical Delaunay triangulation (Brown 1979). In the triangle (a, b, c)
seen from the centre under the direction p, the weights are ∝ det(p, b, c), det(p, c, a), det(p, a, b), made to sum to 1:
exact for constants, second order for smooth functions. The triangle is found by a walk, all directions at once,
that starts at the nearest vertex and crosses the edge that p lies farthest behind; on Delaunay triangulations it ends.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError, cKDTree
from torch import Tensor

from spheregeo.grids import Grid, Icosahedral
from spheregeo.sampling.directions import Directions

INSIDE = -1e-9  # weights from here up count as inside: rounding on an edge is some 1e-16 / spacing
STEPS = 200  # the walk takes 1 to 3; more only on very uneven points


def cross_edges(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Normals (..., 3, 3) of the planes through the centre and each edge, opposite to a, b and c, free of cancellation."""
    # det(p, b, c) = (p - b) . (b x (c - b)): small factors both, for the normal is orthogonal to the corner
    edges = [torch.linalg.cross(u, v - u) for u, v in ((b, c), (c, a), (a, b))]
    return torch.stack(edges, dim=-2)


@functools.lru_cache(maxsize=16)
def tree(grid: Grid) -> cKDTree:
    """KD-tree of a grid's points, shared by value."""
    return cKDTree(grid.points.numpy())


class NearestInTree:
    """The nearest point of any grid by KD-tree; of equally near points the one with the lowest index."""

    def __init__(self, source: Grid) -> None:
        self.tree = tree(source)
        self.k = min(6, source.num_points)  # a tie has at most as many members as faces meet: 3, rarely 6

    def __call__(self, at: Directions) -> tuple[Tensor, Tensor]:
        distance, index = self.tree.query(at.points.numpy(), k=self.k, workers=torch.get_num_threads())
        distance, index = distance.reshape(len(index), self.k), index.reshape(len(index), self.k)
        tied = distance <= distance[:, :1] * (1 + 1e-9) + 1e-14
        lowest = np.where(tied, index, np.iinfo(np.int64).max).min(1)
        return torch.from_numpy(lowest)[:, None], torch.ones(len(lowest), 1, dtype=torch.float64)


class Triangulation:
    """Faces (F, 3) counter-clockwise from outside, the face across each edge, and one face at each vertex."""

    def __init__(self, points: Tensor, faces: Tensor) -> None:
        a, b, c = (points[faces[:, k]] for k in range(3))
        # by differences from a, so that the sign is right for the smallest triangles
        volume = (a * torch.linalg.cross(b - a, c - a)).sum(-1)
        self.points, self.faces, self.volume = (
            points,
            faces,
            volume,
        )  # volume <= 0: a hull face seen from behind
        self.normals = cross_edges(a, b, c)  # (F, 3, 3)
        self.across = _across(faces)
        self.vertices = torch.unique(faces)
        # a face at each vertex: one seen from the front where there is one, for the last to be written stays
        self.start = torch.full((len(points),), -1, dtype=torch.int64)
        for front in (False, True):
            those = ((volume > 0) == front).nonzero()[:, 0]
            for k in range(3):
                self.start[faces[those, k]] = those
        self.tree = cKDTree(points[self.vertices].numpy())

    def __call__(self, at: Directions) -> tuple[Tensor, Tensor]:
        p = at.points
        _, near = self.tree.query(p.numpy(), workers=torch.get_num_threads())
        vertex = self.vertices[torch.from_numpy(np.asarray(near, dtype=np.int64))]
        face, w = self._walk(p, self.start[vertex])
        lost = face < 0
        index = self.faces[face.clamp(min=0)]
        # outside all triangles (points that leave a hemisphere empty): the nearest point
        index[lost] = vertex[lost, None]
        w[lost] = w.new_tensor([1.0, 0.0, 0.0])
        return index, w

    def _weights(self, p: Tensor, face: Tensor) -> Tensor:
        origin = self.points[self.faces[face][:, [1, 2, 0]]]  # (m, 3, 3)
        w = ((p[:, None] - origin) * self.normals[face]).sum(-1)
        return w / self.volume[face].abs().clamp(min=1e-300)[:, None]

    def _walk(self, p: Tensor, face: Tensor) -> tuple[Tensor, Tensor]:
        face = face.clone()
        result = torch.zeros(len(p), 3, dtype=torch.float64)
        active = torch.arange(len(p))
        for _ in range(STEPS):
            here = face[active]
            w = self._weights(p[active], here)
            least, edge = w.min(1)
            hidden = self.volume[here] <= 1e-15
            inside = (least >= INSIDE) & ~hidden
            result[active[inside]] = w[inside] / w[inside].sum(1, keepdim=True)
            face[active[hidden]] = -1
            going = ~inside & ~hidden
            active, here, edge = active[going], here[going], edge[going]
            if not len(active):
                return face, result
            face[active] = self.across[here, edge]
        for i in active.tolist():  # a walk that turned in circles: look at every face
            w = self._weights(p[i : i + 1].expand(len(self.faces), 3), torch.arange(len(self.faces)))
            least = torch.where(self.volume > 1e-15, w.min(1).values, -torch.inf)
            found = int(least.argmax())
            face[i] = found if least[found] >= INSIDE else -1
            result[i] = w[found] / w[found].sum()
        return face, result


def _across(faces: Tensor) -> Tensor:
    """(F, 3) the face on the other side of the edge opposite to each corner."""
    edges = torch.cat([faces[:, [1, 2]], faces[:, [2, 0]], faces[:, [0, 1]]]).sort(dim=1).values
    key = edges[:, 0] * (int(faces.max()) + 1) + edges[:, 1]
    order = torch.argsort(key, stable=True)
    first, second = order[0::2], order[1::2]
    if len(order) % 2 or not torch.equal(key[first], key[second]):
        raise ValueError("source's triangulation is not closed: an edge does not have two faces")
    other = torch.empty_like(order)
    other[first], other[second] = second, first
    return (other % len(faces)).reshape(3, -1).T.contiguous()


@functools.lru_cache(maxsize=16)
def triangulation(grid: Grid) -> Triangulation:
    """A grid's faces where it has them, else the Delaunay triangulation of its points; shared by value."""
    points = grid.points
    if isinstance(grid, Icosahedral):
        faces, outward = grid.faces.to(torch.int64), points[grid.faces[:, 0]]
    else:
        try:
            hull = ConvexHull(points.numpy())
        except (QhullError, ValueError) as error:
            raise ValueError(
                f"source {grid!s} has no triangulation: its {grid.num_points} points must not lie in one plane; "
                "use method='nearest'"
            ) from error
        faces = torch.from_numpy(hull.simplices.astype(np.int64))
        outward = torch.from_numpy(hull.equations[:, :3].copy())
    a, b, c = (points[faces[:, k]] for k in range(3))
    turned = (torch.linalg.cross(b - a, c - a) * outward).sum(-1) < 0
    return Triangulation(points, torch.where(turned[:, None], faces[:, [0, 2, 1]], faces))
