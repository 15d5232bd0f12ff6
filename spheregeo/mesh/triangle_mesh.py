r"""Triangle meshes as grids: vertices are the points, each standing for a third of its faces' area.

A vertex p has the unit normal n_p and the tangent frame (e_1, e_2) with e_1 × e_2 = n_p; which tangent direction e_1 takes must
not matter to any layer. Faces are counter-clockwise from outside. Vertices are never merged or renumbered, so values per
vertex keep their places; a seam (two vertices at the same place) stays a border.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.grids.cache import by_value, geometry
from spheregeo.mesh import shape as shapes
from spheregeo.mesh._given import given_frames, given_normals
from spheregeo.mesh.check import as_arrays, examine
from spheregeo.mesh.decimation import Decimation, decimate
from spheregeo.mesh.heat import HeatMethod
from spheregeo.mesh.laplacian import Laplacian, cotangent_laplacian, robust_laplacian
from spheregeo.mesh.topology import Edges, adjacency, components, edges_of

FRAMES = ("axis", "first", "random")


@dataclass(frozen=True, init=False, eq=False, repr=False)
class TriangleMesh(Grid):
    """A surface of triangles. Frozen; equal when vertices, faces, normals and frames are, to the bit.

    Its ``repr`` is short and names that value's hash. Open borders, several components and seams are welcome. Refused are
    degenerate and doubled faces, edges of three or more faces, inconsistent orientation, vertices of no face and NaN:
    ``check`` lists them, ``repair`` mends them.

    Args:
        vertices: positions; kept in float64.
        faces: three indices each, counter-clockwise from outside.
        normals: vertex normals are means of the faces' weighted by "angle", "area" or "uniform"; or unit vectors.
        frames: the first axis is the projection of the coordinate "axis" least aligned with the normal, of the edge to the
            "first" neighbour (the one of least index), or "random"; or frames (e_1, e_2) themselves.
        seed: of random frames.

    Shape: vertices (V, 3); faces (F, 3); normals (V, 3) and frames (V, 2, 3) where given. A field is (batch, channel, V).
    Units: the mesh's own.
    Equivariance: turning the vertices turns normals, areas and "first" frames along; "axis" frames change gauge.
    Raises: ValueError, TypeError for bad arrays, faults of the mesh and unknown choices.
    """

    is_sphere = False

    _vertices: Tensor
    _faces: Tensor
    _normals: Tensor | str
    _given_frames: Tensor | str
    _seed: int
    _digest: str

    def __init__(
        self, vertices: Any, faces: Any, *, normals: Any = "angle", frames: Any = "axis", seed: int = 0
    ) -> None:
        try:
            points, triangles = as_arrays(vertices, faces)
        except (TypeError, ValueError) as error:
            raise type(error)(f"TriangleMesh: {error}") from error
        edges = edges_of(triangles, len(points))
        faults = examine(points, triangles, edges).faults
        if faults:
            raise ValueError(
                f"TriangleMesh: {'; '.join(faults)}; spheregeo.mesh.repair(vertices, faces) returns a sound mesh"
            )
        self._fill(points, triangles, normals, frames, seed)
        geometry.get(("TriangleMesh._edges", self), lambda: edges)

    def _fill(self, points: np.ndarray, faces: np.ndarray, normals: Any, frames: Any, seed: int) -> None:
        """Set all fields; vertices and faces are sound."""
        if isinstance(normals, str):
            if normals not in shapes.WEIGHTS:
                raise ValueError(f"normals is {normals!r}; expected one of {shapes.WEIGHTS} or a tensor")
        else:
            normals = given_normals(normals, len(points))
        if isinstance(frames, str):
            if frames not in FRAMES:
                raise ValueError(f"frames is {frames!r}; expected one of {FRAMES} or a tensor")
        else:
            at = normals
            if isinstance(at, str):
                at = torch.from_numpy(shapes.vertex_normals(points, faces, at))
            frames = given_frames(frames, at)
        digest = hashlib.sha256(f"{len(points)} {len(faces)}".encode())
        digest.update(points.data)
        digest.update(faces.data)
        for choice in (normals, frames):
            digest.update(choice.encode() if isinstance(choice, str) else choice.numpy().tobytes())
        if isinstance(frames, str) and frames == "random":
            digest.update(str(int(seed)).encode())
        for name, value in (
            ("_vertices", torch.from_numpy(points)),
            ("_faces", torch.from_numpy(faces)),
            ("_normals", normals),
            ("_given_frames", frames),
            ("_seed", int(seed)),
            ("_digest", digest.hexdigest()),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def _sound(
        cls, points: np.ndarray, faces: np.ndarray, normals: Any, frames: Any, seed: int = 0
    ) -> TriangleMesh:
        """A mesh whose vertices and faces are known to be sound."""
        mesh = cls.__new__(cls)
        mesh._fill(points, faces, normals, frames, seed)
        return mesh

    def with_frames(self, frames: Any, seed: int = 0) -> TriangleMesh:
        """The same surface with other frames: "axis", "first", "random" or a tensor (V, 2, 3)."""
        return self._sound(self._vertices.numpy(), self._faces.numpy(), self._normals, frames, seed)

    # ---- value

    @property
    def digest(self) -> str:
        """SHA-256 of all that the mesh is made of."""
        return self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TriangleMesh) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return (
            f"TriangleMesh({self.num_points} vertices, {len(self._faces)} faces, sha256 {self._digest[:8]})"
        )

    # ---- grid

    @property
    def shape(self) -> tuple[int]:
        """(V,)."""
        return (len(self._vertices),)

    @property
    def points(self) -> Tensor:
        """Vertices. Shape: (V, 3)."""
        return self._vertices

    @property
    def faces(self) -> Tensor:
        """Vertices of each face, counter-clockwise from outside. Shape: (F, 3) int64."""
        return self._faces

    @property
    def areas(self) -> Tensor:
        """Barycentric areas: a third of each adjacent face. Shape: (V,). Units: lengths squared; the sum is the surface's."""
        return self._areas()

    @by_value
    def _areas(self) -> Tensor:
        return torch.from_numpy(shapes.vertex_areas(*self._arrays))

    @property
    def normals(self) -> Tensor:
        """Outward unit normals of the vertices. Shape: (V, 3)."""
        return self._normals if isinstance(self._normals, Tensor) else self._vertex_normals()

    @by_value
    def _vertex_normals(self) -> Tensor:
        assert isinstance(self._normals, str)
        return torch.from_numpy(shapes.vertex_normals(*self._arrays, self._normals))

    @property
    def frames(self) -> Tensor:
        """Right-handed tangent frames (e_1, e_2), e_1 × e_2 = n. Shape: (V, 2, 3)."""
        return self._given_frames if isinstance(self._given_frames, Tensor) else self._frames()

    @by_value
    def _frames(self) -> Tensor:
        normals = self.normals.numpy()
        if self._given_frames == "first":
            indptr, indices = self.adjacency
            first = indices[indptr[:-1]].numpy()
            points = self._vertices.numpy()
            return torch.from_numpy(shapes.tangent_frames(normals, points[first] - points))
        frames = shapes.tangent_frames(normals)
        if self._given_frames == "random":
            angle = np.random.default_rng(self._seed).uniform(0, 2 * np.pi, len(normals))
            frames = shapes.turn(frames, angle)
        return torch.from_numpy(frames)

    @property
    def spacing(self) -> float:
        """Median length of the edges."""
        return self._spacing()

    @by_value
    def _spacing(self) -> float:
        return float(np.median(self.edge_lengths.numpy()))

    @property
    def colatitude(self) -> Tensor:
        """None on a mesh. Raises: AttributeError."""
        raise AttributeError("a TriangleMesh has no colatitude; its coordinates are points")

    @property
    def longitude(self) -> Tensor:
        """None on a mesh. Raises: AttributeError."""
        raise AttributeError("a TriangleMesh has no longitude; its coordinates are points")

    # ---- faces

    @property
    def num_faces(self) -> int:
        """Number of faces F."""
        return len(self._faces)

    @property
    def face_normals(self) -> Tensor:
        """Unit normals of the faces. Shape: (F, 3)."""
        return torch.from_numpy(shapes.unit(shapes.face_vectors(*self._arrays)))

    @property
    def face_areas(self) -> Tensor:
        """Areas of the faces. Shape: (F,)."""
        return torch.from_numpy(np.linalg.norm(shapes.face_vectors(*self._arrays), axis=1) / 2)

    @property
    def corner_angles(self) -> Tensor:
        """Angle of each face at each of its vertices. Shape: (F, 3). Units: radians."""
        return torch.from_numpy(shapes.corner_angles(*self._arrays))

    @property
    def area(self) -> float:
        """Area of the whole surface."""
        return float(self.areas.sum())

    # ---- edges and what is connected to what

    @property
    def edges(self) -> Tensor:
        """Each undirected edge once, lower vertex first, in order. Shape: (E, 2) int64."""
        return torch.from_numpy(self._edges().vertices)

    @by_value
    def _edges(self) -> Edges:
        return edges_of(self._faces.numpy(), self.num_points)

    @property
    def edge_lengths(self) -> Tensor:
        """Length of each edge. Shape: (E,)."""
        start, stop = self.edges.unbind(1)
        return (self._vertices[stop] - self._vertices[start]).norm(dim=1)

    @property
    def adjacency(self) -> tuple[Tensor, Tensor]:
        """Neighbours of each vertex as compressed rows (indptr (V + 1,), indices (2E,)); symmetric on open borders too."""
        return self._adjacency()

    @by_value
    def _adjacency(self) -> tuple[Tensor, Tensor]:
        indptr, indices = adjacency(self._edges().vertices, self.num_points)
        return torch.from_numpy(indptr), torch.from_numpy(indices)

    @property
    def border(self) -> Tensor:
        """Whether a vertex lies on an open border. Shape: (V,) bool."""
        edges = self._edges()
        mask = torch.zeros(self.num_points, dtype=torch.bool)
        mask[torch.from_numpy(edges.vertices[edges.border]).reshape(-1)] = True
        return mask

    @property
    def num_components(self) -> int:
        """Number of connected parts."""
        return self._components()[0]

    @property
    def components(self) -> Tensor:
        """Connected part of each vertex, counted from 0. Shape: (V,) int64."""
        return self._components()[1]

    @by_value
    def _components(self) -> tuple[int, Tensor]:
        count, label = components(self._edges().vertices, self.num_points)
        return count, torch.from_numpy(label)

    @property
    def euler_characteristic(self) -> int:
        """χ = V − E + F: 2 for a sphere, 0 for a torus, 1 for a disc; summed over components."""
        return self.num_points - len(self._edges().vertices) + self.num_faces

    # ---- hierarchy

    def coarsen(self, ratio: float = 0.25) -> TriangleMesh:
        """A mesh of about ``ratio`` times the vertices, by edge collapse (:func:`spheregeo.mesh.decimate`).

        Normals and frames are made as this mesh's were; where they were given, by angle and axis.
        Raises: ValueError for a ratio outside (0, 1].
        """

        def build() -> TriangleMesh:
            normals = self._normals if isinstance(self._normals, str) else "angle"
            frames = self._given_frames if isinstance(self._given_frames, str) else "axis"
            coarse = self._decimation(ratio)
            return TriangleMesh(
                coarse.vertices, coarse.faces, normals=normals, frames=frames, seed=self._seed
            )

        return geometry.get(("TriangleMesh.coarsen", self, ratio), build)

    def parents(self, ratio: float = 0.25) -> Tensor:
        """Vertex of ``coarsen(ratio)`` that each vertex went into; the vertices of one form a connected patch. Shape: (V,)."""
        return torch.from_numpy(self._decimation(ratio).parents)

    def _decimation(self, ratio: float) -> Decimation:
        return geometry.get(("TriangleMesh._decimation", self, ratio), lambda: decimate(*self._arrays, ratio))

    # ---- analysis

    def laplacian(self, kind: str = "cotangent") -> Laplacian:
        """Stiffness matrix (V, V) and areas (V,): "cotangent", or "robust" with no negative weight.

        Raises: ValueError for another kind.
        """
        if kind not in ("cotangent", "robust"):
            raise ValueError(f"kind is {kind!r}; expected 'cotangent' or 'robust'")
        return (cotangent_laplacian if kind == "cotangent" else robust_laplacian)(*self._arrays)

    def heat(self) -> HeatMethod:
        """Distances and transports over the whole surface; keep it, as it factorises its matrices once."""
        return HeatMethod(*self._arrays, self.frames.numpy())

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self._vertices.numpy(), self._faces.numpy()
