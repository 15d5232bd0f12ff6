r"""Fibonacci spiral: nearly even points at any number N.

z_i = 1 − (2i + 1)/N, φ_i = iπ(3 − √5). Equal weights integrate better here than Voronoi areas do.
Reference: Swinbank & Purser 2006, QJRMS 132; González 2010, Math. Geosci. 42.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import _check
from spheregeo.grids.base import Grid
from spheregeo.grids.cache import by_value


@dataclass(frozen=True)
class Fibonacci(Grid):
    """``n`` points on a golden spiral from north to south, of equal area 4π/n.

    Args:
        n: number of points.

    Shape: (n,).
    Raises: TypeError, ValueError for n that is not a positive integer.

    Example:
        >>> from spheregeo.grids import Fibonacci
        >>> Fibonacci(100).shape
        (100,)
    """

    n: int

    def __post_init__(self) -> None:
        _check.integer(self, "n", 1)

    @property
    def shape(self) -> tuple[int]:
        """(n,)."""
        return (self.n,)

    @property
    def points(self) -> Tensor:
        """Unit vectors, north to south. Shape: (n, 3)."""
        return self._points()

    @by_value
    def _points(self) -> Tensor:
        i = np.arange(self.n)
        z = 1 - (2 * i + 1) / self.n
        # (1 − z)(1 + z) of the integers themselves: no cancellation near the poles
        radius = np.sqrt((2 * i + 1.0) * (2 * self.n - 2 * i - 1.0)) / self.n
        turns = np.mod(i * ((3 - math.sqrt(5)) / 2), 1.0)
        return torch.from_numpy(
            np.stack([radius * np.cos(2 * np.pi * turns), radius * np.sin(2 * np.pi * turns), z], -1)
        )

    @property
    def areas(self) -> Tensor:
        """4π/n each. Shape: (n,)."""
        return self._areas()

    @by_value
    def _areas(self) -> Tensor:
        return torch.from_numpy(np.full(self.n, 4 * np.pi / self.n))

    def coarsen(self) -> Fibonacci:
        """A quarter of the points; not a subset of these. Raises: ValueError unless n is a multiple of 4."""
        if self.n % 4:
            raise ValueError(f"{self!r} cannot be coarsened: n is not a multiple of 4")
        return replace(self, n=self.n // 4)

    def refine(self) -> Fibonacci:
        """Four times the points; these are not among them."""
        return replace(self, n=4 * self.n)
