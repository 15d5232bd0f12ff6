"""From feature maps of images to the half of a sphere that the camera sees."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spheregeo.checks import check_tensor
from spheregeo.grids import Grid
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.statistics import working_dtype

TAPER = math.radians(75)  # from the view axis, where the weight begins to fall to 0 at 90 degrees


class SphereProjection(ExactBuffers):
    """Features of points on a sphere, seen from far away along the z axis, from a feature map of the image.

    A point (x, y, z) with z > 0 has the mean of the map round (x, y) in a Gaussian window, times a weight that falls linearly
    from 1 at 75 degrees from the view axis to 0 at 90; points behind have zero.

    Args:
        points: a grid of the sphere, or unit vectors (P, 3), such as the vertices of an icosahedron.
        width: standard deviation of the window, in half sides of the map; learned.
        coverage: radius of the sphere's outline, in half sides of the map.

    Shape: (B, C, H, W) -> (B, C, P), x to the right, y up.
    Equivariance: turns of the map by 90° about its centre are those of the points about z, exact where they permute the points.
    Raises: ValueError for points that are no unit vectors, and for another number of axes.
    Reference: Klee, Biza, Platt & Walters 2023, arXiv:2302.13926, section 4.1.

    Example:
        >>> import torch
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import SphereProjection
        >>> SphereProjection(HEALPix(2))(torch.randn(1, 4, 7, 7)).shape
        torch.Size([1, 4, 48])
    """

    place: Tensor
    taper: Tensor
    seen: Tensor

    def __init__(self, points: Grid | Tensor, *, width: float = 0.2, coverage: float = 0.9) -> None:
        super().__init__()
        given = points.points if isinstance(points, Grid) else torch.as_tensor(points, dtype=torch.float64)
        if given.ndim != 2 or given.shape[1] != 3 or not bool(((given.norm(dim=1) - 1).abs() < 1e-6).all()):
            raise ValueError(
                f"points have shape {tuple(given.shape)}; expected unit vectors (P, 3), or a grid"
            )
        if not width > 0 or not 0 < coverage <= 1:
            raise ValueError(
                f"width is {width} and coverage {coverage}; expected width > 0, 0 < coverage <= 1"
            )
        self.num_points, self.coverage = len(given), coverage
        angle = torch.atan2(given[:, :2].norm(dim=1), given[:, 2])
        taper = ((math.pi / 2 - angle) / (math.pi / 2 - TAPER)).clamp(0, 1)
        seen = (taper > 1e-9).nonzero()[:, 0]
        self.register_buffer("seen", seen, persistent=False)
        self.keep("place", coverage * given[seen, :2])
        self.keep("taper", taper[seen])
        self.log_width = nn.Parameter(torch.tensor(math.log(width)))

    def windows(self, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the weights of the pixels at the points that are seen. Shape: -> (seen points, height, width)."""
        place = self.place.to(dtype)
        rate = torch.exp(-2 * self.log_width.to(dtype)) / 2

        def along(count: int, at: Tensor) -> Tensor:
            pixels = (2 * torch.arange(count, dtype=dtype, device=at.device) + 1) / count - 1
            return torch.softmax(-rate * (at[:, None] - pixels).square(), 1)

        rows, columns = along(height, -place[:, 1]), along(width, place[:, 0])
        return self.taper.to(dtype)[:, None, None] * rows[:, :, None] * columns[:, None, :]

    def forward(self, x: Tensor) -> Tensor:
        check_tensor(x)
        if x.ndim != 4:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, C, H, W)")
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            windows = self.windows(x.shape[2], x.shape[3], dtype).flatten(1)
            found = x.to(dtype).flatten(2) @ windows.T
            y = found.new_zeros(*found.shape[:2], self.num_points).index_copy(2, self.seen, found)
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_points} points, coverage={self.coverage}"
