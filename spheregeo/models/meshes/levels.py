"""The geometry of a network on surfaces: one set of pairs within each level, and those between neighbouring levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spheregeo.nn.surface import GaugeGeometry

if TYPE_CHECKING:
    from spheregeo.grids import Grid


@dataclass(frozen=True)
class LevelSettings:
    """How levels are made, the same for all surfaces that a network sees.

    Args:
        depth: number of levels, the surface itself included.
        ratio: vertices of a level over those of the finer one, for meshes; other grids coarsen as they can.
        radius: of the filters on the finest level in units of √area, growing by 1/√ratio from level to level; or None for
        spacings: radius in spacings of each level (the coarser one between two); None for the layers' own default.
        num_rings: radial profiles.
        frequency: highest sum of input and output orders.
        up: whether the way back is wanted.
    """

    depth: int = 1
    ratio: float = 0.25
    radius: float | None = None
    spacings: float | None = None
    num_rings: int = 2
    frequency: int = 4
    up: bool = False

    def grids(self, grid: Grid) -> list[Grid]:
        """The grid and its coarser levels. Raises: ValueError where it has too few."""
        found = [grid]
        for level in range(1, self.depth):
            try:
                found.append(found[-1].coarsen() if grid.is_sphere else found[-1].coarsen(self.ratio))  # type: ignore[call-arg]
            except ValueError as error:
                raise ValueError(
                    f"depth is {self.depth} but {grid!r} can be coarsened {level - 1} times only ({error}); "
                    f"take depth <= {level}"
                ) from error
        return found

    def radii(self, grid: Grid) -> list[float | None]:
        """Radius of each level in the grid's units, None where spacings decide."""
        if self.radius is None:
            return [None] * self.depth
        unit = self.radius * math.sqrt(float(grid.areas.sum()))
        return [unit * self.ratio ** (-level / 2) for level in range(self.depth)]


class SurfaceLevels(nn.Module):
    """Geometries ``within`` each level, ``down`` from each to the next, and ``up`` again; of one surface or of a batch.

    Tensors are non-persistent buffers. Geometry is kept by the value of grids, so that it is computed once for each mesh.
    """

    def __init__(
        self, within: Sequence[GaugeGeometry], down: Sequence[GaugeGeometry], up: Sequence[GaugeGeometry]
    ) -> None:
        super().__init__()
        self.within, self.down, self.up = nn.ModuleList(within), nn.ModuleList(down), nn.ModuleList(up)

    @classmethod
    def of(cls, grid: Grid, settings: LevelSettings, dtype: torch.dtype = torch.float32) -> SurfaceLevels:
        """The levels of one grid. Raises: ValueError where it has too few."""
        grids, radii = settings.grids(grid), settings.radii(grid)

        def between(source: int, target: int) -> GaugeGeometry:
            return GaugeGeometry.of(
                grids[source], grids[target], radius=radii[max(source, target)], spacings=settings.spacings,
                num_rings=settings.num_rings, frequency=settings.frequency, dtype=dtype,
            )  # fmt: skip

        steps = range(settings.depth - 1)
        return cls(
            [between(i, i) for i in range(settings.depth)],
            [between(i, i + 1) for i in steps],
            [between(i + 1, i) for i in steps] if settings.up else [],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[SurfaceLevels]) -> SurfaceLevels:
        """Several surfaces side by side: a ragged batch. Raises: ValueError for none."""
        if len(parts) == 1:
            return parts[0]
        columns = ([getattr(part, name) for part in parts] for name in ("within", "down", "up"))
        return cls(*([GaugeGeometry.concatenate(list(g)) for g in zip(*column)] for column in columns))

    @property
    def counts(self) -> tuple[int, ...]:
        """Points of each surface on the finest level."""
        counts: tuple[int, ...] = self.within[0].counts  # type: ignore[assignment]
        return counts

    def share(self, level: int) -> Tensor:
        """Each point's share of its own surface's area, (P,)."""
        geometry: GaugeGeometry = self.within[level]  # type: ignore[assignment]
        batch = geometry.batch
        total = geometry.areas.new_zeros(len(geometry.counts)).index_add(0, batch, geometry.areas)
        return geometry.areas / total[batch]


def surface_mean(x: Tensor, levels: SurfaceLevels, level: int = 0) -> Tensor:
    """Area-weighted mean over each surface of a batch, or over the one surface of each sample.

    Shape: x (1, C, V_1 + V_2 + ...) -> (surfaces, C); with one surface (B, C, V) -> (B, C).
    """
    share = levels.share(level).to(x.dtype)
    geometry: GaugeGeometry = levels.within[level]  # type: ignore[assignment]
    counts = geometry.counts
    if len(counts) == 1:
        return x @ share
    if len(x) != 1:
        raise ValueError(f"x has {len(x)} samples on a batch of {len(counts)} surfaces; expected 1")
    batch = geometry.batch
    return x.new_zeros(len(counts), x.shape[1]).index_add(0, batch, (x[0] * share).T)
