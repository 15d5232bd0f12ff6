"""What a case consists of: labels, and for each library a function that builds the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from measure import Work
from spheregeo.grids import Grid
from spheregeo.kernels import Kernel


@dataclass(frozen=True)
class Configuration:
    """One line to measure. `small` is the same on a small grid, run first where memory is measured."""

    case: str
    grid: Grid
    kernel: Kernel
    radius: float
    channels: int
    builders: dict[str, Callable[[], Work]]
    small: Configuration | None = None
    check: Callable[[dict[str, Work]], None] | None = None
    batch: int = 1
    dtype: str = "float32"

    @property
    def pixels(self) -> int:
        return self.grid.num_points

    def labels(self) -> dict[str, str]:
        """Return the columns that tell this configuration from others."""
        return {
            "case": self.case,
            "grid": repr(self.grid),
            "kernel": repr(self.kernel),
            "channels": str(self.channels),
            "batch": str(self.batch),
            "dtype": self.dtype,
        }

    def count(self) -> int:
        """Return the number of pairs of points within the radius."""
        from cases.layers import count_pairs

        return count_pairs(self.grid, self.radius)


@dataclass(frozen=True)
class PointConfiguration:
    """One line to measure where there is no grid: `space` and `what` fill the columns grid and kernel."""

    case: str
    space: str
    what: str
    points: int
    channels: int
    builders: dict[str, Callable[[], Work]]
    small: PointConfiguration | None = None
    check: Callable[[dict[str, Work]], None] | None = None
    batch: int = 1
    dtype: str = "float32"

    @property
    def pixels(self) -> int:
        return self.points

    def labels(self) -> dict[str, str]:
        """Return the columns that tell this configuration from others."""
        return {
            "case": self.case,
            "grid": self.space,
            "kernel": self.what,
            "channels": str(self.channels),
            "batch": str(self.batch),
            "dtype": self.dtype,
        }

    def count(self) -> int:
        """Return the number of pairs of points, for layers on graphs; here none."""
        return 0
