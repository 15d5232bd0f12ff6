r"""Eigenpairs, gradients and divergences of surfaces as buffers that layers share: of one surface, or of a ragged batch.

Operators are those of the surface scaled to area 1, so that a network sees neither the size of a shape nor its units.
On sphere grids they come from the points' triangulation; on clouds from neighbours in space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.mesh import Laplacian, TriangleMesh, robust_laplacian
from spheregeo.mesh.operators import (
    cloud_laplacian,
    cloud_normals,
    edge_gradient,
    edge_patches,
    eigenbasis,
    nearest_patches,
    quadratic_fit,
    vector_calculus,
    whole_eigenspaces,
)
from spheregeo.mesh.shape import tangent_frames
from spheregeo.sparse import CSRPattern, MaxPlusMap, SparseMap

CLOUD_NEIGHBOURS = 30
FLAT = (
    1e-9  # Laplacian weight, relative to the largest, of an edge that only one of several triangulations has
)


@dataclass(frozen=True)
class OperatorSettings:
    """Which operators a network needs, the same for all surfaces that the network sees.

    Args:
        pairs: eigenpairs of the Laplacian; 0 for none.
        diffusion: whether to hold the Laplacian itself and the gradient by least squares over edges.
        hops: edges that the patches of quadratic fits reach; 0 for no quadratic fits.

    Example:
        >>> from spheregeo.nn.surface.operators import OperatorSettings
        >>> OperatorSettings(pairs=64, diffusion=True).hops
        0
    """

    pairs: int = 0
    diffusion: bool = False
    hops: int = 0


class _Surface(NamedTuple):
    """Arrays of a surface of area 1."""

    points: np.ndarray
    frames: np.ndarray
    areas: np.ndarray
    edges: np.ndarray
    faces: np.ndarray
    laplacian: Laplacian | None


def _surface_of(grid: Grid, spectral: bool) -> _Surface:
    unit = math.sqrt(float(grid.areas.sum()))
    points, frames = grid.points.numpy() / unit, grid.frames.numpy()
    areas = grid.areas.numpy() / unit**2
    if isinstance(grid, TriangleMesh):
        matrix = grid.laplacian("robust").matrix if spectral else None
        laplacian = None if matrix is None else Laplacian(matrix, areas)
        return _Surface(points, frames, areas, grid.edges.numpy(), grid.faces.numpy(), laplacian)
    if not grid.is_sphere:
        raise ValueError(f"grid is {grid!r}; expected a TriangleMesh or a sphere grid")
    from spheregeo.sampling.triangles import triangulation

    faces = triangulation(grid).faces.numpy()
    matrix = robust_laplacian(points, faces).matrix
    upper = matrix.tocoo()
    # points on one circle can be triangulated in several ways; the sides all of them share are those with a weight
    kept = (upper.row < upper.col) & (-upper.data > FLAT * np.abs(upper.data).max())
    edges = np.stack([upper.row[kept], upper.col[kept]], 1).astype(np.int64)
    return _Surface(points, frames, areas, edges, faces, Laplacian(matrix, areas))


def _sparse(matrix: csr_matrix, dtype: torch.dtype) -> SparseMap:
    indptr, indices = (
        torch.from_numpy(matrix.indptr.astype(np.int64)),
        torch.from_numpy(matrix.indices.astype(np.int32)),
    )
    pattern = CSRPattern.of(indptr, indices, matrix.shape[1])
    return SparseMap.from_pattern(pattern, torch.from_numpy(matrix.data), dtype=dtype)


def _largest(slope: SparseMap) -> MaxPlusMap:
    """Maxima over the neighbours that slopes are taken over, rows 2 p being those of p."""
    row, column, _ = slope.pattern.coo()
    first = row % 2 == 0
    sizes = torch.bincount(row[first] // 2, minlength=slope.num_source)
    indptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return MaxPlusMap(CSRPattern.of(indptr, column[first], slope.num_source), engine=slope.engine)


class SurfaceOperators(nn.Module):
    """Operators of a surface of area 1, or of several side by side; built by :meth:`of`, :meth:`of_points`, :meth:`concatenate`.

    Tensors are non-persistent buffers, kept by the value of grids, so that they are computed once for each surface.

    Args:
        areas: (P,) each point's share of its own surface's area.
        counts: points of each surface.
        faces: (F, 3) points of each face.
        edges: (E, 2) points of each edge.
        maps: sparse maps by name: "gradient", over edges, and "stiffness", the Laplacian; "slope" and "divergence", by quadratic
            fits, and "largest", over the same neighbours. Vectors are at places 2 p and 2 p + 1, their components at p.
        values: (S, k) eigenvalues of each of S surfaces.
        vectors: (P, k) eigenvectors, zero beyond those that a surface has.

    Example:
        >>> from spheregeo.grids import Icosahedral
        >>> from spheregeo.nn.surface.operators import OperatorSettings, SurfaceOperators
        >>> SurfaceOperators.of(Icosahedral(2), OperatorSettings(pairs=9)).vectors.shape
        torch.Size([162, 9])
    """

    areas: Tensor
    faces: Tensor
    edges: Tensor
    values: Tensor
    vectors: Tensor

    def __init__(
        self, areas: Tensor, counts: tuple[int, ...], faces: Tensor, edges: Tensor, maps: Mapping[str, Any],
        values: Tensor, vectors: Tensor,
    ) -> None:  # fmt: skip
        super().__init__()
        self.counts = counts
        self.maps = nn.ModuleDict(maps)
        for name, tensor in (
            ("areas", areas), ("faces", faces), ("edges", edges), ("values", values), ("vectors", vectors),
        ):  # fmt: skip
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def of(
        cls, grid: Grid, settings: OperatorSettings, dtype: torch.dtype = torch.float32
    ) -> SurfaceOperators:
        """The operators of a mesh or a sphere grid, kept by the grid's value.

        Raises: TypeError for what is no grid; ValueError for planes, settings out of range.
        """
        if not isinstance(grid, Grid):
            raise TypeError(f"grid is {type(grid).__name__}; expected a TriangleMesh or a sphere grid")
        check_least(pairs=(settings.pairs, 0), hops=(settings.hops, 0))

        def build() -> SurfaceOperators:
            surface = _surface_of(grid, bool(settings.pairs) or settings.diffusion)
            patches = [
                edge_patches(surface.points, surface.frames, surface.edges, h)
                for h in (1, settings.hops)
                if h
            ]
            return cls._assembled(surface, patches, settings, dtype)

        return geometry.get(("operators", grid, settings, dtype), build).shared()

    @classmethod
    def of_points(
        cls,
        points: Any,
        normals: Any = None,
        settings: OperatorSettings = OperatorSettings(pairs=64, diffusion=True),
        *,
        k: int = CLOUD_NEIGHBOURS,
        dtype: torch.dtype = torch.float32,
    ) -> SurfaceOperators:
        """The operators of a cloud of points on a surface that nobody knows; computed anew with every call.

        Args:
            points: (V, 3), four at least.
            normals: (V, 3); estimated up to their signs if None, which networks with ``oriented=False`` do not see.
            settings: which operators; any ``hops`` above 0 stand for the k nearest points.
            k: neighbours of each point.
            dtype: of the buffers.

        Raises: ValueError for too few points.
        """
        p = np.asarray(points, np.float64)
        n = cloud_normals(p, k) if normals is None else np.asarray(normals, np.float64)
        laplacian = cloud_laplacian(p, n, k)
        unit = math.sqrt(laplacian.mass.sum())
        p, areas, frames = p / unit, laplacian.mass / unit**2, tangent_frames(n)
        none = np.zeros((0, 3), np.int64)
        surface = _Surface(p, frames, areas, none[:, :2], none, Laplacian(laplacian.matrix, areas))
        near = nearest_patches(p, frames, k)
        return cls._assembled(surface, [near, near], settings, dtype)

    @classmethod
    def _assembled(
        cls, surface: _Surface, patches: Sequence[Any], settings: OperatorSettings, dtype: torch.dtype
    ) -> SurfaceOperators:
        maps: dict[str, Any] = {}
        count = len(surface.points)
        values, vectors = np.zeros((1, settings.pairs)), np.zeros((count, settings.pairs))
        if settings.diffusion:
            assert surface.laplacian is not None
            maps["gradient"] = _sparse(edge_gradient(patches[0]), dtype)
            maps["stiffness"] = _sparse(surface.laplacian.matrix, dtype)
        if settings.pairs:
            assert surface.laplacian is not None
            basis = whole_eigenspaces(eigenbasis(surface.laplacian, settings.pairs + 1), settings.pairs)
            found = len(basis.values)
            values[0, :found], vectors[:, :found] = basis.values, basis.vectors
        if settings.hops:
            calculus = vector_calculus(quadratic_fit(patches[-1]), surface.frames)
            maps["slope"], maps["divergence"] = (
                _sparse(calculus.gradient, dtype),
                _sparse(calculus.divergence, dtype),
            )
            maps["largest"] = _largest(maps["slope"])
        floats = (
            torch.from_numpy(np.ascontiguousarray(a)).to(dtype) for a in (surface.areas, values, vectors)
        )
        areas, values_, vectors_ = floats
        faces, edges = torch.from_numpy(surface.faces), torch.from_numpy(surface.edges)
        return cls(areas, (count,), faces, edges, maps, values_, vectors_)

    @classmethod
    def concatenate(cls, parts: Sequence[SurfaceOperators]) -> SurfaceOperators:
        """The operators of several surfaces side by side, points one after another: a ragged batch.

        Raises: ValueError for none, or operators of different settings.
        """
        if not parts:
            raise ValueError("parts is empty; expected the operators of at least one surface")
        if len(parts) == 1:
            return parts[0].shared()
        kinds = [(sorted(p.maps), p.vectors.shape[1]) for p in parts]
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(
                f"parts were built by different settings: {kinds[0]} and others; build them alike"
            )
        first = np.cumsum([0, *(sum(p.counts) for p in parts)])
        names = [name for name in parts[0].maps if name != "largest"]
        maps: dict[str, Any] = {name: SparseMap.concatenate([p.map(name) for p in parts]) for name in names}
        if "slope" in maps:
            maps["largest"] = _largest(maps["slope"])
        faces, edges = (
            torch.cat([getattr(p, name) + int(k) for p, k in zip(parts, first)])
            for name in ("faces", "edges")
        )
        areas, values, vectors = (
            torch.cat([getattr(p, n) for p in parts]) for n in ("areas", "values", "vectors")
        )
        return cls(areas, tuple(c for p in parts for c in p.counts), faces, edges, maps, values, vectors)

    def shared(self) -> SurfaceOperators:
        """The same tensors in a module of its own, which may be moved without moving this one."""
        maps = {name: m.shared() for name, m in self.maps.items()}  # type: ignore[operator]
        return SurfaceOperators(
            self.areas, self.counts, self.faces, self.edges, maps, self.values, self.vectors
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> SurfaceOperators:
        return memo.setdefault(id(self), self.shared())  # type: ignore[no-any-return]

    @property
    def num_points(self) -> int:
        """Points of all surfaces P."""
        return sum(self.counts)

    def map(self, name: str) -> SparseMap:
        """The sparse map of that name. Raises: ValueError where the settings left it out."""
        if name not in self.maps:
            raise ValueError(
                f"these operators hold {', '.join(self.maps) or 'no maps'}; expected {name!r} among them"
            )
        return self.maps[name]  # type: ignore[return-value]

    def check(self, x: Tensor, channels: int) -> None:
        """Raises: ValueError unless x is (B, channels, P)."""
        if x.ndim != 3 or tuple(x.shape[1:]) != (channels, self.num_points):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {channels}, {self.num_points}); were the operators built "
                "for other surfaces?"
            )

    def mean(self, x: Tensor) -> Tensor:
        """Area-weighted mean over each surface of a batch, or over the one surface of each sample.

        Shape: x (1, C, V_1 + V_2 + ...) -> (surfaces, C); with one surface (B, C, V) -> (B, C).
        Raises: ValueError for several samples on several surfaces.
        """
        areas = self.areas.to(x.dtype)
        if len(self.counts) == 1:
            return x @ areas
        if len(x) != 1:
            raise ValueError(f"x has {len(x)} samples on a batch of {len(self.counts)} surfaces; expected 1")
        return torch.stack(
            [(part @ a) for part, a in zip(x[0].split(self.counts, 1), areas.split(self.counts))]
        )

    def at(self, x: Tensor, elements: str) -> Tensor:
        """Means over the corners of "faces" or "edges" of values at the points, or these themselves for "vertices".

        Shape: (B, C, P) -> (B, C, F), (B, C, E) or (B, C, P). Raises: ValueError for other elements.
        """
        if elements == "vertices":
            return x
        if elements not in ("faces", "edges"):
            raise ValueError(f"elements is {elements!r}; expected 'vertices', 'edges' or 'faces'")
        corners: Tensor = getattr(self, elements)
        return x[..., corners.flatten()].unflatten(-1, corners.shape).mean(-1)

    def largest(self, x: Tensor) -> Tensor:
        """Largest value within each point's patch, itself included. Shape: (B, C, P) -> the same."""
        over: Any = self.map("largest")
        result: Tensor = over(x, x.new_zeros(over.num_values))
        return result

    def memory_bytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in self.buffers())
