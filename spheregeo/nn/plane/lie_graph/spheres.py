"""Graphs on grids of the sphere: points with directions, which are samples of SO(3), and points alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array, diags_array
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.groups import to_quaternion
from spheregeo.groups.lie import quaternion_log
from spheregeo.nn.plane.lie_graph.base import LieGraph, check_metric, weighted_norm
from spheregeo.sampling import interpolation_map
from spheregeo.sampling.fields import turn_between


@dataclass(frozen=True)
class _SphereGraph(LieGraph):
    """What both graphs on the sphere share."""

    grid: Grid

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.grid, Grid) or not self.grid.is_sphere:
            raise ValueError(f"grid is {self.grid!r}; expected a grid on the sphere")

    @property
    def orientations(self) -> int:
        return 1

    @property
    def period(self) -> float:
        """Angle after which orientations repeat, in radians."""
        return 2 * torch.pi

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(self.grid.shape)

    def coarsen(self) -> Self:
        return replace(self, grid=self.grid.coarsen())

    def _matrix(self, down: bool) -> csr_array:
        """Weighted means of coarse vertices, or of fine ones, whose directions go with their frames.

        A direction between two orientations of the source's frame is shared between them.
        """
        fine, coarse = self.grid, self.grid.coarsen()
        target, source = (coarse, fine) if down else (fine, coarse)
        if down:
            to, of, weight = (
                fine.parents(),
                torch.arange(fine.num_points),
                torch.ones(fine.num_points).double(),
            )
        else:
            between = interpolation_map(coarse, fine, "linear")
            to, of, entry = between.pattern.coo()
            weight = between.values[0, entry]
        n = self.orientations
        turn = turn_between(source.frames[of], target.frames[to]) * (n / self.period)
        at = torch.arange(n)[:, None] + turn  # of the target's directions in the source's frames, in steps
        low = (at + 1e-9).floor()
        share = (at - low).clamp(0, 1)
        rows = (torch.arange(n)[:, None] * target.num_points + to).flatten()
        columns = [((low.long() + k).remainder(n) * source.num_points + of).flatten() for k in (0, 1)]
        entries = torch.cat([((1 - share) * weight).flatten(), (share * weight).flatten()])
        shape = n * target.num_points, n * source.num_points
        matrix = coo_array(
            (entries.numpy(), (rows.repeat(2).numpy(), torch.cat(columns).numpy())), shape=shape
        ).tocsr()
        matrix.eliminate_zeros()
        return csr_array(diags_array(1 / matrix.sum(1)) @ matrix)

    def pooling(self) -> csr_array:
        return self._matrix(True)

    def unpooling(self) -> csr_array:
        return self._matrix(False)


@dataclass(frozen=True)
class S2Graph(_SphereGraph):
    """Points of a spherical grid joined to the nearest ones along great circles: the isotropic graph.

    Args:
        grid: any grid on the sphere.
        neighbors: how many nearest points each point is joined to; ties are all taken.

    Units: radians.
    Equivariance: the grid's rotations permute the graph.
    Raises: ValueError for a grid that is not on the sphere.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn.plane.lie_graph import S2Graph
        >>> S2Graph(HEALPix(2), neighbors=8).num_vertices
        48
    """

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        points = self.grid.points.numpy()
        chord = np.sqrt(((points[a] - points[b]) ** 2).sum(-1))
        length: np.ndarray = 2 * np.arcsin(np.minimum(1, chord / 2))
        return length

    def embedding(self) -> np.ndarray:
        return self.grid.points.numpy()


@dataclass(frozen=True)
class SO3Graph(_SphereGraph):
    """Points of a spherical grid with directions, joined by the anisotropic left-invariant distance of SO(3).

    A vertex is the rotation R that carries the north pole to its point and the x-axis to its direction, which stands at the angle
    γ_i = 2π i/n from the grid's frame, counted from south towards east. A step along the main axis costs its angle, one along the
    other axis ``anisotropy`` times as much, and a turn by one radian ``turn`` spacings of the grid.

    Args:
        grid: any grid on the sphere.
        directions: number n of orientations over each point.
        main: which steps are cheap: "along" the direction, or "across" it.
        anisotropy: cost of a step off the main axis, 1 or more.
        turn: cost of a turn by one radian, in spacings of the grid.
        directed: whether a direction and its opposite differ; if not, the n orientations are γ_i = π i/n, and a vertex stands
            for both.
        neighbors: how many nearest vertices each vertex is joined to; ties are all taken.

    Units: radians.
    Equivariance: rotations that permute the grid, and its frames up to multiples of 2π/n (π/n if not ``directed``), permute
        the graph: all of HEALPix for even n.
    Raises: ValueError for a grid that is not on the sphere, a main axis or costs that do not fit.
    Reference: Aguettaz, Bekkers & Defferrard 2021, arXiv:2111.12139, section 4.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn.plane.lie_graph import SO3Graph
        >>> SO3Graph(HEALPix(2), 6, main="along", anisotropy=4.0).num_vertices
        288
    """

    directions: int = 6
    main: str = "along"
    anisotropy: float = 4.0
    turn: float = 2.0
    directed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_metric(self.main, self.anisotropy, self.turn, self.directions)

    @property
    def orientations(self) -> int:
        return self.directions

    @property
    def period(self) -> float:
        return 2 * torch.pi if self.directed else torch.pi

    def elements(self) -> Tensor:
        """The vertices as rotations (V, 3, 3), in float64; columns are direction, across, point."""
        frames, points = self.grid.frames, self.grid.points
        angle = torch.arange(self.directions, dtype=torch.float64)[:, None, None] * (
            self.period / self.directions
        )
        south, east = frames[:, 0], frames[:, 1]
        along = angle.cos() * south + angle.sin() * east
        across = angle.cos() * east - angle.sin() * south
        return torch.stack([along, across, points.expand_as(along)], -1).flatten(0, 1)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        q = to_quaternion(self.elements())
        g, h = q[torch.from_numpy(a)], q[torch.from_numpy(b)]
        relative = _relative(g, h)
        length = self._length(relative)
        if not self.directed:  # times a half turn about the pole, the quaternion (0, 0, 0, 1)
            w, x, y, z = relative.unbind(-1)
            length = torch.minimum(length, self._length(torch.stack([-z, y, -x, w], -1)))
        return length.numpy()

    def _length(self, relative: Tensor) -> Tensor:
        main, other = (1, 0) if self.main == "along" else (0, 1)  # turning about y moves the pole along x
        return weighted_norm(quaternion_log(relative), main, other, self._anisotropy, self._turn)

    @property
    def _anisotropy(self) -> float:
        return self.anisotropy

    @property
    def _turn(self) -> float:
        return self.turn * self.grid.spacing

    def embedding(self) -> np.ndarray:
        """Points and directions, scaled so that no motion is faster in them than its length."""
        rotations = self.elements()
        along, across, points = rotations.unbind(-1)
        if self.directed:
            parts, speed = torch.cat([along, across], 1), 2.0  # turning by one radian moves them by sqrt(2)
            tilt = 1.0
        else:
            tensor = along[:, :, None] * along[:, None] - across[:, :, None] * across[:, None]
            parts, speed, tilt = tensor.flatten(1), 8.0, 2.0
        share = min(self._turn**2 / speed, 1 / tilt)
        return torch.cat([max(0.0, 1 - tilt * share) ** 0.5 * points, share**0.5 * parts], 1).numpy()


def _relative(g: Tensor, h: Tensor) -> Tensor:
    """Quaternions of g⁻¹ h."""
    g, h = torch.broadcast_tensors(g, h)
    a, b, c, d = g.unbind(-1)
    w, x, y, z = h.unbind(-1)
    return torch.stack(
        [
            a * w + b * x + c * y + d * z,
            a * x - b * w - c * z + d * y,
            a * y - c * w - d * x + b * z,
            a * z - d * w - b * y + c * x,
        ],
        -1,
    )
