r"""HEALPix: equal-area pixels on iso-latitude rings, in ring or nested order.

N = 12 nside² pixels of area 4π/N on 4 nside − 1 rings. Ring i = 1…: i < nside has 4i pixels at z = 1 − i²/(3 nside²),
first longitude π/(4i); nside ≤ i ≤ 3 nside has 4 nside at z = 4/3 − 2i/(3 nside), first longitude π/(4 nside) where
i + nside is even, else 0; the south mirrors the north. Eight rotations (four about z, times a half turn about x) permute
the pixels, and no other octahedral ones do.
Reference: Górski et al. 2005, ApJ 622. Pixel numbers and positions are healpy's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spheregeo.grids import _check
from spheregeo.grids.base import Grid, LatitudeRings, Symmetry, frames_from_angles
from spheregeo.grids.cache import by_value
from spheregeo.groups import dihedral

ORDERS = ("ring", "nested")


@dataclass(frozen=True)
class HEALPix(Grid):
    """Equal-area pixels on rings; any ``nside`` in ring order, powers of two in nested order.

    Args:
        nside: pixels along the side of each of the twelve faces.
        order: "ring" or "nested" numbering of the pixels.

    Shape: (12 nside²,).
    Raises: TypeError, ValueError for a bad nside or order.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> HEALPix(4).shape
        (192,)
    """

    nside: int
    order: str = "ring"

    def __post_init__(self) -> None:
        nside = _check.integer(self, "nside", 1)
        if self.order not in ORDERS:
            raise ValueError(f"HEALPix: order is {self.order!r}, expected 'ring' or 'nested'")
        if self.order == "nested" and nside & (nside - 1):
            raise ValueError(
                f"HEALPix: nested order needs nside to be a power of two, got {nside}; use order='ring'"
            )

    @property
    def shape(self) -> tuple[int]:
        """(12 nside²,)."""
        return (12 * self.nside**2,)

    @property
    def nested(self) -> bool:
        """Whether pixels are in nested order."""
        return self.order == "nested"

    @property
    def points(self) -> Tensor:
        """Pixel centres. Shape: (N, 3)."""
        return self._points()

    @by_value
    def _points(self) -> Tensor:
        import healpy

        points = np.empty((self.num_points, 3))
        block = 1 << 20  # healpy returns three separate arrays: in blocks they never double the memory
        for start in range(0, self.num_points, block):
            pixels = np.arange(start, min(start + block, self.num_points))
            for axis, values in enumerate(healpy.pix2vec(self.nside, pixels, nest=self.nested)):
                points[start : start + block, axis] = values
        return torch.from_numpy(points)

    @property
    def areas(self) -> Tensor:
        """4π/N each. Shape: (N,)."""
        return self._areas()

    @by_value
    def _areas(self) -> Tensor:
        return torch.from_numpy(np.full(self.num_points, 4 * np.pi / self.num_points))

    @by_value
    def _angles(self) -> tuple[Tensor, Tensor]:
        import healpy

        theta, phi = healpy.pix2ang(self.nside, np.arange(self.num_points), nest=self.nested)
        return torch.from_numpy(theta), torch.from_numpy(phi)

    @by_value
    def _frames(self) -> Tensor:
        theta, phi = (angle.numpy() for angle in self._angles())
        return torch.from_numpy(frames_from_angles(np.cos(theta), np.sin(theta), np.cos(phi), np.sin(phi)))

    # ---- rings and symmetry

    @property
    def rings(self) -> LatitudeRings | None:
        """The 4 nside − 1 rings in ring order; None in nested order."""
        return None if self.nested else self._rings()

    @by_value
    def _rings(self) -> LatitudeRings:
        n = self.nside
        i = np.arange(1, 4 * n)
        cap = np.minimum(i, 4 * n - i)  # distance from the nearer pole, in rings
        polar = cap < n
        z_polar = np.sign(2 * n - i) * (1 - cap**2 / (3 * n**2))
        z = np.where(polar, z_polar, 4 / 3 - 2 * i / (3 * n))
        # in the caps 1 - |z| = cap^2 / 3n^2 is known exactly, where arccos(z) would lose half the digits
        sin = np.where(polar, cap / n * np.sqrt((1 + np.abs(z)) / 3), np.sqrt((1 - z) * (1 + z)))
        length = 4 * np.minimum(cap, n)
        shifted = polar | ((i + n) % 2 == 0)
        phase = np.where(shifted, np.pi / length, 0.0)
        start = np.concatenate([[0], np.cumsum(length)[:-1]])
        return LatitudeRings(*(torch.from_numpy(a) for a in (np.arctan2(sin, z), length, start, phase)))

    @property
    def symmetry(self) -> Symmetry:
        """The eight rotations that permute the pixels."""
        return self._symmetry()

    @by_value
    def _symmetry(self) -> Symmetry:
        rings = replace(self, order="ring")._rings()
        length, start = rings.length.numpy(), rings.start.numpy()
        ring = np.repeat(np.arange(len(length)), length)
        column = np.arange(self.num_points) - start[ring]
        mirror = len(length) - 1 - ring
        # A half turn about x sends phi to -phi in the mirrored ring, which has the same length and phase.
        unshifted = (rings.phase.numpy() == 0)[ring]
        flipped = np.where(unshifted, (length[ring] - column) % length[ring], length[ring] - 1 - column)
        permutations = np.empty((8, self.num_points), dtype=np.int64)
        for flip, (row, first) in enumerate(((ring, column), (mirror, flipped))):
            for quarter in range(4):
                turned = (first + quarter * (length[row] // 4)) % length[row]
                permutations[4 * flip + quarter] = start[row] + turned
        if self.nested:
            import healpy

            to_ring = healpy.nest2ring(self.nside, np.arange(self.num_points))
            to_nested = healpy.ring2nest(self.nside, np.arange(self.num_points))
            permutations = to_nested[permutations[:, to_ring]]
        return Symmetry(dihedral(4), torch.from_numpy(permutations))

    # ---- hierarchy

    def coarsen(self) -> HEALPix:
        """Half the nside. Raises: ValueError for an odd nside."""
        if self.nside % 2:
            raise ValueError(f"{self!r} cannot be coarsened: nside is odd")
        return replace(self, nside=self.nside // 2)

    def refine(self) -> HEALPix:
        """Twice the nside."""
        return replace(self, nside=2 * self.nside)

    def parents(self) -> Tensor:
        """The pixel of half the nside that holds each pixel. Shape: (N,). Raises: ValueError for an odd nside."""
        coarse = self.coarsen()
        if self.nested:
            return torch.from_numpy(np.arange(self.num_points) // 4)
        import healpy

        x, y, face = healpy.pix2xyf(self.nside, np.arange(self.num_points))
        return torch.from_numpy(healpy.xyf2pix(coarse.nside, x // 2, y // 2, face))

    def children(self) -> Tensor:
        """The four pixels of twice the nside inside each pixel. Shape: (N, 4)."""
        if self.nested:
            return torch.from_numpy(np.arange(4 * self.num_points).reshape(-1, 4))
        import healpy

        x, y, face = (a[:, None] for a in healpy.pix2xyf(self.nside, np.arange(self.num_points)))
        dx, dy = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])  # nested order: x is the even bit
        fine = healpy.xyf2pix(2 * self.nside, 2 * x + dx, 2 * y + dy, np.broadcast_to(face, (len(face), 4)))
        return torch.from_numpy(np.ascontiguousarray(fine))
