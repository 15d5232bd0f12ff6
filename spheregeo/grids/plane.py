r"""The image plane as a grid: square pixels, so that planar layers share the spheres' sampling and backend.

Pixel (i, j) is centred at ((j + ½) s, −(i + ½) s, 0) with s the pixel size: x to the right, y up, row 0 on top. Its
frame is e_θ = (0, −1, 0), down the rows ("south"), and e_φ = (1, 0, 0), along the columns ("east"), with e_θ × e_φ = z.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import _check
from spheregeo.grids.base import Grid, block_children, block_parents
from spheregeo.grids.cache import by_value


@dataclass(frozen=True)
class Plane(Grid):
    """``height`` × ``width`` square pixels in the plane z = 0. Not a sphere: it has no colatitude or longitude.

    Args:
        height: number of rows.
        width: number of columns.
        pixel: side of a pixel, in pixels of the finest level.

    Shape: (height, width).
    Units: pixels of the finest level; ``pixel`` is this grid's pixel side (1 unless set, doubled by ``coarsen``).
    Raises: TypeError, ValueError for sizes that are not positive integers.

    Example:
        >>> from spheregeo.grids import Plane
        >>> Plane(4, 6).coarsen().shape
        (2, 3)
    """

    is_sphere = False

    height: int
    width: int
    pixel: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        _check.integer(self, "height", 1)
        _check.integer(self, "width", 1)
        _check.number(self, "pixel", positive=True)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def points(self) -> Tensor:
        """Pixel centres in the plane z = 0, row by row. Shape: (N, 3)."""
        return self._points()

    @by_value
    def _points(self) -> Tensor:
        points = np.zeros((self.height, self.width, 3))
        points[..., 0] = (np.arange(self.width) + 0.5) * self.pixel
        points[..., 1] = -(np.arange(self.height)[:, None] + 0.5) * self.pixel
        return torch.from_numpy(points.reshape(-1, 3))

    @property
    def areas(self) -> Tensor:
        """The square of the pixel size. Shape: (N,)."""
        return self._areas()

    @by_value
    def _areas(self) -> Tensor:
        return torch.from_numpy(np.full(self.num_points, self.pixel**2))

    @by_value
    def _frames(self) -> Tensor:
        frame = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
        return frame.repeat(self.num_points, 1, 1)

    @property
    def normals(self) -> Tensor:
        """+z everywhere. Shape: (N, 3)."""
        return self._normals()

    @by_value
    def _normals(self) -> Tensor:
        return torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).repeat(self.num_points, 1)

    @property
    def colatitude(self) -> Tensor:
        """None on a plane. Raises: AttributeError."""
        raise AttributeError("a Plane has no colatitude; its coordinates are points[:, :2]")

    @property
    def longitude(self) -> Tensor:
        """None on a plane. Raises: AttributeError."""
        raise AttributeError("a Plane has no longitude; its coordinates are points[:, :2]")

    @property
    def spacing(self) -> float:
        """The pixel size."""
        return self.pixel

    def coarsen(self) -> Plane:
        """Blocks of 2×2 pixels. Raises: ValueError for odd sizes."""
        if self.height % 2 or self.width % 2:
            raise ValueError(f"{self!r} cannot be coarsened: height and width must be even")
        return Plane(self.height // 2, self.width // 2, pixel=2 * self.pixel)

    def refine(self) -> Plane:
        """Each pixel in four."""
        return replace(self, height=2 * self.height, width=2 * self.width, pixel=self.pixel / 2)

    def parents(self) -> Tensor:
        """Index of each pixel's 2×2 block. Shape: (N,). Raises: ValueError for odd sizes."""
        self.coarsen()
        return block_parents(self.height, self.width)

    def children(self) -> Tensor:
        """The four pixels inside each pixel one level down. Shape: (N, 4)."""
        return block_children(self.height, self.width)
