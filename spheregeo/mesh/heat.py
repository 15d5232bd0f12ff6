r"""Heat methods: distances and transport over a whole surface, from two sparse factorisations that serve every source.

Distance: let heat flow for a short time, (A + t L) u = δ; its gradient points along geodesics, X = −∇u/|∇u|; the distance
is the function with that gradient, L φ = −div X. Transport: let a vector flow with the connection Laplacian; it arrives
turned as along the geodesic. Between several sources, magnitudes follow from two more scalar flows.
Within a few edges use the log map: heat errs by 1–3 % in distance.
Reference: Crane, Weischedel & Wardetzky 2013, "Geodesics in heat"; Sharp, Soliman & Crane 2019, "The vector heat method".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import SuperLU, splu

from spheregeo.lazy import cached_property
from spheregeo.mesh._arrays import cotangents, finite_mesh, vertex_indices
from spheregeo.mesh.connection import Transports, connection_laplacian
from spheregeo.mesh.laplacian import cotangent_laplacian
from spheregeo.mesh.transport import intrinsic_rings


class HeatMethod:
    """Distances and transports on one mesh; what does not depend on the source is factorised once, at the first use.

    Shape: vertices (V, 3), faces (F, 3), frames (V, 2, 3); ``transports`` are pairs of neighbours with transports, by default
    intrinsic ones. Units: ``time`` is an area, by default the squared mean edge.
    Equivariance: distances are invariant under rotations; transports follow the frames. Error on the unit icosphere of
    level 4 within distance 1, median: 1.4e-2 in distance, 2.4e-4 rad in transport, 2.0e-4 with the sphere's own transports.
    Raises: ValueError for faces without area or no oriented surface, or a ``time`` that is not positive.
    """

    def __init__(
        self,
        vertices: Any,
        faces: Any,
        frames: Any = None,
        *,
        transports: Transports | None = None,
        time: float | None = None,
    ) -> None:
        self.vertices, self.faces = finite_mesh(vertices, faces)
        self._rings = intrinsic_rings(self.vertices, self.faces, frames)
        self.transports: Transports = self._rings if transports is None else transports
        self.laplacian, self.mass = cotangent_laplacian(self.vertices, self.faces)
        if time is None:
            rows = self._rings.rows
            edges = np.linalg.norm(self.vertices[rows] - self.vertices[self._rings.indices], axis=1)
            time = float(edges.mean()) ** 2  # every edge twice
        if not (isinstance(time, (int, float)) and 0 < time < np.inf):
            raise ValueError(f"time is {time!r}; expected a positive area, such as the squared mean edge")
        self.time = time
        self.component = connected_components(self.laplacian, directed=False)[1]
        # vertices of no face have no area: heat stays where it is
        self._capacity = diags(np.where(self.mass > 0, self.mass, 1.0))

    # ---- factorisations

    @cached_property
    def _flow(self) -> SuperLU:
        return _factor(self._capacity + self.time * self.laplacian)

    @cached_property
    def _vector_flow(self) -> SuperLU:
        connection = connection_laplacian(self.laplacian, self.transports)
        return _factor(self._capacity + self.time * connection)

    @cached_property
    def _poisson(self) -> tuple[np.ndarray, SuperLU | None]:
        """Vertices other than the first of each component, and the factor of L on them, which is regular."""
        first = np.unique(self.component, return_index=True)[1]
        free = np.setdiff1d(np.arange(len(self.mass)), first)
        return free, _factor(self.laplacian[free][:, free]) if len(free) else None

    # ---- questions

    def distance(self, sources: Any) -> np.ndarray:
        """Distance of every vertex from each source; infinite in other components.

        Shape: sources (S,) -> (S, V).
        """
        who = vertex_indices(sources, len(self.mass), "sources")
        heat = self._flow.solve(self._impulse(who))
        cotangent = cotangents(self.vertices, self.faces)[0]
        free, poisson = self._poisson
        out = np.full((len(who), len(self.mass)), np.inf)
        for row, source in enumerate(who):
            divergence = self._divergence_of_direction(heat[:, row], cotangent)
            potential = np.zeros(len(self.mass))
            if poisson is not None:
                potential[free] = poisson.solve(-divergence[free])
            same = self.component == self.component[source]
            out[row, same] = np.maximum(potential[same] - potential[source], 0.0)
        return out

    def transport(self, sources: Any) -> np.ndarray:
        """Transport g from each source's frame into the frame of every vertex; NaN in other components.

        Shape: sources (S,) -> (S, V). Units: radians in (−π, π].
        """
        who = vertex_indices(sources, len(self.mass), "sources")
        arrived = self._vector_flow.solve(self._impulse(who).astype(np.complex128)).T
        same = self.component == self.component[who][:, None]
        return np.where(same, np.angle(arrived), np.nan)

    def extend(self, sources: Any, vectors: Any) -> np.ndarray:
        """Vector field that carries to every vertex the vector of its nearest source; zero in components without one.

        Shape: sources (S,), vectors (S,) complex, in the sources' frames -> (V,) complex.
        """
        who = vertex_indices(sources, len(self.mass), "sources")
        z = np.asarray(vectors, dtype=np.complex128)
        if z.shape != who.shape:
            raise ValueError(
                f"vectors has shape {z.shape}; expected {who.shape}, one complex number per source"
            )
        where = self._impulse(who)
        direction = self._vector_flow.solve(where @ z)
        size, presence = self._flow.solve(np.stack([where @ np.abs(z), where.sum(axis=1)], axis=1)).T
        length = np.abs(direction)
        reached = np.isin(self.component, self.component[who]) & (length > 0) & (presence > 0)
        field = np.zeros(len(self.mass), dtype=np.complex128)
        field[reached] = direction[reached] / length[reached] * size[reached] / presence[reached]
        return field

    # ---- steps

    def _impulse(self, sources: np.ndarray) -> np.ndarray:
        delta = np.zeros((len(self.mass), len(sources)))
        delta[sources, np.arange(len(sources))] = 1.0
        return delta

    def _divergence_of_direction(self, heat: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """Integrated divergence (V,) of −∇u/|∇u|, the unit field that points away from the source."""
        f = self.faces
        p = self.vertices[f]
        side = p[:, [1, 2, 0]] - p  # (F, 3, 3) from corner s to s + 1
        normal = np.cross(side[:, 0], side[:, 1])
        # heat falls over hundreds of orders of magnitude: its scale in each face does not matter
        u = heat[f]
        u = u / np.maximum(np.abs(u).max(axis=1, keepdims=True), np.finfo(float).tiny)
        gradient = np.einsum("fs,fsi->fi", u, np.cross(normal[:, None], side[:, [1, 2, 0]]))
        length = np.linalg.norm(gradient, axis=1, keepdims=True)
        away = -gradient / np.where(length > 0, length, 1.0)
        weighted = cotangent[:, [2, 0, 1]] * np.einsum("fsi,fi->fs", side, away) / 2  # flux along each side
        total = weighted - weighted[:, [2, 0, 1]]
        return np.bincount(f.reshape(-1), total.reshape(-1), len(self.mass))


def _factor(matrix: csr_matrix) -> SuperLU:
    """LU of a Hermitian positive definite matrix, in an order that keeps it sparse."""
    return splu(
        matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
