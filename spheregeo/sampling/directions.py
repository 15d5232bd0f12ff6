"""Where a map is evaluated: the target's directions, in chunks, so that the largest grids need little memory.

Colatitude θ = atan2(√(x² + y²), z) keeps its digits at the poles, where arccos(z) loses half of them. A direction
within 1e-13 of a pole is given longitude 0: there longitude is rounding noise, and results must not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.grids import Grid, LatLon
from spheregeo.lazy import cached_property

CHUNK = 1 << 16  # directions worked on at once: temporaries of half a megabyte stay in the cache


@dataclass(frozen=True, eq=False)
class Directions:
    """Some directions by angles, and as unit vectors when asked for."""

    colatitude: Tensor  # (m,)
    longitude: Tensor  # (m,), any multiple of 2 pi added

    @cached_property
    def points(self) -> Tensor:
        sine = torch.sin(self.colatitude)
        x, y = sine * torch.cos(self.longitude), sine * torch.sin(self.longitude)
        return torch.stack([x, y, torch.cos(self.colatitude)], dim=-1)  # (m, 3)

    @staticmethod
    def of(points: Tensor) -> Directions:
        """Directions of unit vectors (m, 3), which are kept as they are."""
        x, y, z = points.unbind(-1)
        sine = torch.sqrt(x * x + y * y)
        longitude = torch.atan2(y, x).masked_fill_(sine < 1e-13, 0.0)
        made = Directions(torch.atan2(sine, z), longitude)
        made.__dict__["points"] = points
        return made


def check_sphere(grid: Grid, name: str) -> None:
    """Refuse what does not lie on the unit sphere."""
    if not grid.is_sphere:
        raise ValueError(
            f"{name} is {grid!s}, expected a grid on the sphere; planes are resampled by torch itself"
        )


def check_points(points: Tensor, name: str = "target") -> Tensor:
    """Unit vectors (M, 3) in float64 from a user's tensor."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{name} has shape {tuple(points.shape)}, expected a grid or points of shape (M, 3)")
    points = points.detach().to(device="cpu", dtype=torch.float64)
    norm = points.norm(dim=1, keepdim=True)
    if points.shape[0] and not bool(((norm - 1).abs() < 1e-4).all()):  # NaN fails this, too
        low, high = float(norm.min()), float(norm.max())
        raise ValueError(
            f"{name} has vectors of length {low:g} to {high:g}, expected unit vectors; divide by their norm"
        )
    return points / norm


def directions(
    target: Grid | Tensor, rotation: Tensor | None = None, chunk: int = CHUNK
) -> Iterator[Directions]:
    """Directions R⁻¹p of the target's points p in order, chunk by chunk; R is the identity if not given."""
    for part in _plain(target, chunk):
        # rows are points, so p @ R is R^T p = R^-1 p
        yield part if rotation is None else Directions.of(part.points @ rotation)


def _plain(target: Grid | Tensor, chunk: int) -> Iterator[Directions]:
    if isinstance(target, LatLon):  # by rows, from its angles: its points need not exist
        colatitudes, longitudes = target.colatitudes, target.longitudes
        rows = max(1, chunk // target.nlon)
        for i in range(0, target.nlat, rows):
            theta = colatitudes[i : i + rows]
            yield Directions(theta.repeat_interleave(target.nlon), longitudes.repeat(len(theta)))
        return
    points = target if isinstance(target, Tensor) else target.points
    for i in range(0, points.shape[0], chunk):
        yield Directions.of(points[i : i + chunk])
