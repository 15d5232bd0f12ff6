"""Stencils on HEALPix: barycentric in the triangles between neighbouring rings, and the nearest pixel centre.

Ring i of a cap has 4i pixels at longitudes (k + 1/2) π/2i, the belt's rings 4 nside, alternately shifted by half a
pixel (Górski et al. 2005, eqs. 4-9). So between two rings, longitudes alternate, and each step from a pixel to the next
one spans a triangle with the pixel between them on the other ring. Only at the four meridians where quadrants meet do two
pixels of the wider ring follow each other; the quadrangle there, and the one over the pole, takes the mean of its two
triangulations. The result is continuous, second order everywhere (bilinear interpolation along rings, as
healpy.get_interp_val has it, is first order at the poles, where a ring has 4 pixels), and symmetric under all of the
grid's symmetries. The south is the north's mirror image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import HEALPix
from spheregeo.sampling.directions import Directions
from spheregeo.sampling.latlon import TIE, nearest_column
from spheregeo.sampling.triangles import INSIDE

Vector = tuple[Tensor, Tensor, Tensor]  # x, y and z apart: three times as fast as (m, 3)


class _Rings:
    def __init__(self, source: HEALPix) -> None:
        rings = HEALPix(source.nside, order="ring").rings
        if rings is None:
            raise ValueError(f"source {source!r} has no rings in its ring order")
        self.rings, self.nside, self.nested = rings, source.nside, source.nested
        self.step = (
            2 * torch.pi / rings.length.to(torch.float64)
        )  # between pixels; integers would divide in float32

    def ordered(self, index: Tensor) -> Tensor:
        if not self.nested:
            return index
        import healpy

        return torch.from_numpy(healpy.ring2nest(self.nside, index.numpy()))


class NearestHEALPix(_Rings):
    """The nearest pixel centre, which need not be the containing pixel's; of equally near ones the lowest in ring order."""

    def __call__(self, at: Directions) -> tuple[Tensor, Tensor]:
        rings = self.rings
        below = torch.bucketize(at.colatitude, rings.colatitude, right=True)  # first ring to the south
        best = torch.full_like(at.colatitude, torch.inf)
        index = torch.zeros_like(below)
        # rings are at least 0.66 / nside apart and no direction is farther than 0.71 / nside from a centre
        for step in (-2, -1, 0, 1):
            ring = (below + step).clamp_(0, len(rings.colatitude) - 1)
            column = nearest_column(rings, ring, at.longitude)
            theta = rings.colatitude[ring]
            half = (at.longitude - rings.phase[ring]) / 2 - column * self.step[ring] / 2
            squared = torch.sin((at.colatitude - theta) / 2) ** 2
            squared += torch.sin(at.colatitude) * torch.sin(theta) * torch.sin(half) ** 2
            nearer = squared < best * (1 - TIE)
            index = torch.where(nearer, rings.start[ring] + column, index)
            best = torch.where(nearer, squared, best)
        return self.ordered(index)[:, None], torch.ones_like(best)[:, None]


class LinearHEALPix(_Rings):
    """Up to four pixels and weights per direction: (m, 4) flat indices, (m, 4) weights."""

    def __call__(self, at: Directions) -> tuple[Tensor, Tensor]:
        south = at.colatitude > torch.pi / 2
        x, y, z = (axis.contiguous() for axis in at.points.unbind(1))
        p = (x, y, torch.where(south, -z, z))
        theta = torch.where(south, torch.pi - at.colatitude, at.colatitude)
        equator = 2 * self.nside - 1
        strip = torch.bucketize(theta, self.rings.colatitude[: equator + 1], right=True).clamp_(max=equator)
        index, w = self._strip(p, at.longitude, south, strip)
        # the arc between two pixels of a ring runs north of the ring: what lies between belongs to the next strip
        outside = ((w.amin(1) < INSIDE) & (strip < equator)).nonzero()[:, 0]
        if len(outside):
            redo = (t[outside] for t in (at.longitude, south, strip + 1))
            index[outside], w[outside] = self._strip(_take(p, outside), *redo)
        return self.ordered(index), w

    def _strip(self, p: Vector, longitude: Tensor, south: Tensor, strip: Tensor) -> tuple[Tensor, Tensor]:
        """Stencil between ring strip - 1 and ring strip, counted from the nearer pole; strip 0 is the polar cap."""
        rings = self.rings
        m = len(longitude)
        index = torch.zeros(m, 4, dtype=torch.int64)
        w = torch.zeros(m, 4, dtype=torch.float64)

        sine, cosine = torch.sin(rings.colatitude), torch.cos(rings.colatitude)

        def corner(rows: Tensor, ring: Tensor, column: Tensor) -> tuple[Tensor, Vector]:
            """Flat index and (mirrored) position of a pixel given by ring and unwrapped column."""
            real = torch.where(south[rows], len(rings.colatitude) - 1 - ring, ring)
            phi = rings.phase[ring] + column * self.step[ring]
            s = sine[ring]
            position = (s * torch.cos(phi), s * torch.sin(phi), cosine[ring])
            return rings.start[real] + column.to(torch.int64).remainder(rings.length[ring]), position

        cap = (strip == 0).nonzero()[:, 0]
        if len(cap):
            ring = torch.zeros_like(cap)
            corners = [corner(cap, ring, torch.full_like(cap, k).double()) for k in range(4)]
            index[cap] = torch.stack([c[0] for c in corners], dim=1)
            w[cap] = _quadrangle(_take(p, cap), *(c[1] for c in corners))

        rows = (strip > 0).nonzero()[:, 0]
        if not len(rows):
            return index, w
        q, phi, a, b = _take(p, rows), longitude[rows], strip[rows] - 1, strip[rows]
        step_a, step_b = self.step[a], self.step[b]
        west = torch.floor((phi - rings.phase[a]) / step_a)  # poleward pixel to the west, column not wrapped
        phi_west = rings.phase[a] + west * step_a
        first = torch.ceil((phi_west - rings.phase[b]) / step_b)  # first equatorward pixel east of it
        phi_first = rings.phase[b] + first * step_b
        two = phi_first + step_b < phi_west + step_a
        last = first + two
        left = phi < phi_first
        right = phi > phi_first + step_b * two
        aw, ae, bf = corner(rows, a, west), corner(rows, a, west + 1), corner(rows, b, first)
        w[rows, :3] = barycentric(q, aw[1], bf[1], ae[1])
        index[rows, :3] = torch.stack([aw[0], bf[0], ae[0]], dim=1)
        index[rows, 3] = index[rows, 0]
        quad = two.nonzero()[:, 0]
        if len(quad):
            bl = corner(rows[quad], b[quad], last[quad])
            w[rows[quad]] = _quadrangle(
                _take(q, quad), _take(aw[1], quad), _take(bf[1], quad), bl[1], _take(ae[1], quad)
            )
            index[rows[quad]] = torch.stack([aw[0][quad], bf[0][quad], bl[0], ae[0][quad]], dim=1)
        # the triangle that stands on the wider ring, west or east of the one above
        side = (left | right).nonzero()[:, 0]
        if len(side):
            rows_s, east = rows[side], right[side]
            top = torch.where(east, ae[0][side], aw[0][side])
            west_at, east_at = _take(aw[1], side), _take(ae[1], side)
            x, y, z = (torch.where(east, e, w) for e, w in zip(east_at, west_at))
            column = torch.where(east, last[side], first[side] - 1)
            bw, be = corner(rows_s, b[side], column), corner(rows_s, b[side], column + 1)
            weights = barycentric(_take(q, side), (x, y, z), bw[1], be[1])
            better = weights.amin(1) > w[rows_s].amin(1)
            take = rows_s[better]
            w[take, :3], w[take, 3] = weights[better], 0.0
            index[take] = torch.stack([top, bw[0], be[0], top], dim=1)[better]
        return index, w


def _take(v: Vector, rows: Tensor) -> Vector:
    return v[0][rows], v[1][rows], v[2][rows]


def _determinant(p: Vector, b: Vector, c: Vector) -> Tensor:
    """det(p, b, c) = (p - b) . (b x (c - b)), small factors both."""
    (px, py, pz), (bx, by, bz), (cx, cy, cz) = p, b, c
    ex, ey, ez = cx - bx, cy - by, cz - bz
    return (px - bx) * (by * ez - bz * ey) + (py - by) * (bz * ex - bx * ez) + (pz - bz) * (bx * ey - by * ex)


def barycentric(p: Vector, a: Vector, b: Vector, c: Vector) -> Tensor:
    """Weights (m, 3) of the triangle's corners at the direction p; they sum to 1, negative ones say p is outside."""
    w = torch.stack([_determinant(p, b, c), _determinant(p, c, a), _determinant(p, a, b)], dim=1)
    return w / w.sum(1, keepdim=True)


def _quadrangle(p: Vector, a: Vector, b: Vector, c: Vector, d: Vector) -> Tensor:
    """Weights (m, 4): the mean over the two diagonals of the barycentric weights in the triangle that p lies in."""
    corners = (a, b, c, d)
    total = torch.zeros(len(p[0]), 4, dtype=torch.float64)
    for pair in (((0, 1, 2), (0, 2, 3)), ((0, 1, 3), (1, 2, 3))):
        w = torch.zeros(2, len(p[0]), 4, dtype=torch.float64)
        for k, triangle in enumerate(pair):
            w[k][:, list(triangle)] = barycentric(p, *(corners[i] for i in triangle))
        total += torch.where((w[0].amin(1) >= w[1].amin(1))[:, None], w[0], w[1])
    return total / 2
