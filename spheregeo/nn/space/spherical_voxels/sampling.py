r"""From points to spherical voxels and back, as sparse maps.

A voxel is a point ω of a grid on the sphere and a shell of radius (h + 1)/H. A point at distance r in direction u has the weight

    w = max(0, 1 − angle(u, ω)/window) · max(0, 1 − |r H − (h + 1)|)

in it, a hat in angle and radius: no seam in longitude, nothing special at the poles, and continuous under rotations. A voxel's
value is the density-aware mean Σ w f / (Σ w + s). On the way back a point takes the trilinear interpolation in colatitude,
longitude (which is periodic; beyond a pole the row goes on on the other side) and radius, 0 at the centre.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least, check_tensor
from spheregeo.grids import Equiangular
from spheregeo.nn.statistics import working_dtype
from spheregeo.sampling import radius_between

CORNERS = 8


class PointMaps(NamedTuple):
    """The sparse maps between the points of a batch of clouds and their spherical voxels. A pytree of tensors.

    Attributes:
        voxel, point, weight: (E,) nonzeros of the map from points to voxels, numbered cloud after cloud, shell after shell.
        corner: (P, 8) voxels about each point.
        share: (P, 8) shares of their values in that of the point.

    Example:
        >>> maps = SphericalVoxels(4, 3).maps(torch.tensor([[0.0, 0.0, 0.9], [0.5, 0.0, 0.0]]))
        >>> maps.corner.shape
        torch.Size([2, 8])
    """

    voxel: Tensor
    point: Tensor
    weight: Tensor
    corner: Tensor
    share: Tensor


class SphericalVoxels(nn.Module):
    """Values of points in spherical voxels, a density-aware mean of those near by, and values at points from those of voxels.

    Args:
        bandwidth: b; the grid on each shell is ``Equiangular(2b, 2b)``.
        shells: number H of shells, at radii 1/H, 2/H, ..., 1.
        window: angle at which a point's weight ends; two cells, π/b, if None.
        softness: number s of points whose weight counts half; the mean is 0 far from all points.

    Shape: ``voxels(f, maps, clouds)``: f (P, C) -> (clouds, C, H, 2b, 2b); ``to_points(x, maps)``: back to (P, C).
    Units: positions in radii of the cloud, about its centre; points beyond the last shell count as on it. Radians.
    Equivariance: a rotation of the points turns the values on the shells. Turns by whole columns about the polar axis are exact
        (1e-14); for others the grid's samples are those of the turned function, and what is interpolated from them differs by the
        square of degree times spacing. Not to translations: centre the cloud.
    Raises: ValueError for sizes below 1, a window outside (0, π], other shapes.
    Reference: You, Lou, Liu, Tai, Ma, Lu & Wang 2020, arXiv:1811.09361, sections 3.1 and 3.3; hats in place of bins, of
        the angle in place of both coordinates.

    Example:
        >>> voxels = SphericalVoxels(4, 3)
        >>> maps = voxels.maps(torch.randn(20, 3))
        >>> x = voxels(torch.ones(20, 2), maps, 1)
        >>> x.shape, voxels.to_points(x, maps).shape
        (torch.Size([1, 2, 3, 8, 8]), torch.Size([20, 2]))
    """

    def __init__(
        self, bandwidth: int, shells: int, window: float | None = None, softness: float = 1.0
    ) -> None:
        super().__init__()
        check_least(bandwidth=(bandwidth, 1), shells=(shells, 1))
        self.grid = Equiangular(2 * bandwidth, 2 * bandwidth)
        self.bandwidth, self.shells, self.softness = bandwidth, shells, softness
        self.window = math.pi / bandwidth if window is None else float(window)
        if not 0 < self.window <= math.pi:
            raise ValueError(f"window is {window}; expected an angle in (0, π]")
        if not softness > 0:
            raise ValueError(f"softness is {softness}; expected a positive number of points")

    @torch.no_grad()
    def maps(self, positions: Tensor, batch: Tensor | None = None) -> PointMaps:
        """The maps of clouds, in the type of the positions; no gradient goes to them.

        Args:
            positions: points about their cloud's centre, (P, 3).
            batch: the cloud of each point, (P,); one cloud if None.
        """
        points = positions.detach().double()
        cloud = torch.zeros(len(points), dtype=torch.int64, device=points.device) if batch is None else batch
        radius = points.norm(dim=1)
        pole = points.new_tensor([0.0, 0.0, 1.0])
        unit = torch.where(radius[:, None] > 0, points / radius.clamp_min(1e-300)[:, None], pole)
        height = radius.clamp_max(1.0) * self.shells  # 1 on the first shell
        n = self.grid.num_points
        nodes = self.grid.points.to(unit)
        point, node = radius_between(unit, nodes, 2 * math.sin(self.window / 2))
        gap = 2 * ((unit[point] - nodes[node]).norm(dim=1) / 2).clamp_max(1.0).asin()
        hat = (1 - gap / self.window).clamp_min(0)
        below = height.floor().long()  # shell below, counted from 1
        parts = []
        for shell in (below, below + 1):
            along = (1 - (height - shell).abs()).clamp_min(0)
            parts.append((shell[point] - 1, hat * along[point]))
        shell, weight = (torch.cat([part[k] for part in parts]) for k in (0, 1))
        point, node = point.repeat(2), node.repeat(2)
        kept = (weight > 0) & (shell >= 0) & (shell < self.shells)
        shell, weight, point, node = shell[kept], weight[kept], point[kept], node[kept]
        voxel = (cloud[point] * self.shells + shell) * n + node
        corner, share = self._corners(unit, height, below)
        corner = corner + (cloud * self.shells * n)[:, None]
        return PointMaps(voxel, point, weight.to(positions.dtype), corner, share.to(positions.dtype))

    def _corners(self, unit: Tensor, height: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """Voxels about each point, and their shares. Shape: (P, 8) each."""
        rows, columns = self.grid.shape
        u = torch.atan2(unit[:, :2].norm(dim=1), unit[:, 2]) * rows / math.pi - 0.5  # rows are cells' centres
        v = torch.atan2(unit[:, 1], unit[:, 0]) * columns / (2 * math.pi)  # columns begin at longitude 0
        corner, share = [], []
        for row in (u.floor(), u.floor() + 1):
            over = (row < 0) | (row >= rows)  # beyond a pole: the same row on the other side
            at = row.clamp(0, rows - 1).long()
            for column in (v.floor(), v.floor() + 1):
                round_ = (column.long() + over * (columns // 2)) % columns
                for shell in (below, below + 1):
                    weight = (1 - (u - row).abs()) * (1 - (v - column).abs()) * (1 - (height - shell).abs())
                    inside = (shell >= 1) & (shell <= self.shells)
                    place = (shell.clamp(1, self.shells) - 1) * rows * columns
                    corner.append(place + at * columns + round_)
                    share.append(weight * inside)
        return torch.stack(corner, 1), torch.stack(share, 1)

    def forward(self, f: Tensor, maps: PointMaps, clouds: int) -> Tensor:
        check_tensor(f, "f")
        wide = f.to(working_dtype(f))
        weight = maps.weight.to(wide.dtype)
        size = clouds * self.shells * self.grid.num_points
        both = torch.cat([torch.ones_like(wide[:, :1]), wide], 1)
        total = wide.new_zeros(size, both.shape[1])
        total = total.index_add(0, maps.voxel, weight[:, None] * both.index_select(0, maps.point))
        mean = total[:, 1:] / (total[:, :1] + self.softness)
        return mean.view(clouds, self.shells, *self.grid.shape, f.shape[1]).movedim(-1, 1).to(f.dtype)

    def to_points(self, x: Tensor, maps: PointMaps) -> Tensor:
        """Values at the points from those of the voxels. Shape: (clouds, C, H, 2b, 2b) -> (P, C)."""
        if x.ndim != 5 or x.shape[2:] != (self.shells, *self.grid.shape):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (clouds, C, {self.shells}, {self.grid.shape[0]}, {self.grid.shape[1]})"
            )
        rows = x.movedim(1, -1).reshape(-1, x.shape[1])
        found = rows.index_select(0, maps.corner.flatten()).view(-1, CORNERS, x.shape[1])
        return (found * maps.share.to(x.dtype)[:, :, None]).sum(1)

    def extra_repr(self) -> str:
        return f"{self.bandwidth}, {self.shells}, window={self.window:.4g}, softness={self.softness:g}"
