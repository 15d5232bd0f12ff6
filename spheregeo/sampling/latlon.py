"""Stencils on lat-lon grids: bilinear in (colatitude, longitude), and the nearest point, both in closed form.

*Over the poles.* A grid without pole rows is continued by its own first and last row: seen from the row at
colatitude θ₀, going north over the pole one meets the same row again, at colatitude −θ₀ and longitude φ + π. So the
interpolant is continuous on every great circle over a pole and needs no made-up pole value (at the pole itself, opposite
pairs of columns give values that differ in second order). *Nearest.* On the meridian at longitude
distance Δφ, cos d = sinθ sinθ' cosΔφ + cosθ cosθ' = C cos(θ' − θ*) with θ* = atan2(sinθ cosΔφ, cosθ): the nearest
point lies on the nearest meridian, in the ring nearest to θ*.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.grids import LatitudeRings, LatLon
from spheregeo.sampling.directions import Directions

TIE = 1e-9  # fraction of a cell within which two candidates count as equally near


def bracket(rings: LatitudeRings, ring: Tensor, longitude: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns left and right of a longitude on given rings, and the fraction of the way to the right one."""
    length = rings.length[ring]
    u = (longitude - rings.phase[ring]) * (
        length.to(torch.float64) / (2 * torch.pi)
    )  # integers would divide in float32
    left = torch.floor(u)
    fraction = u - left
    left = left.to(torch.int64).remainder_(length)
    right = left + 1
    return left, torch.where(right == length, 0, right), fraction


def nearest_column(rings: LatitudeRings, ring: Tensor, longitude: Tensor) -> Tensor:
    """Column nearest to a longitude on given rings; of two equally near, the one with the lower index."""
    left, right, fraction = bracket(rings, ring, longitude)
    tie = (fraction - 0.5).abs() <= TIE
    return torch.where(tie, torch.minimum(left, right), torch.where(fraction > 0.5, right, left))


class BilinearLatLon:
    """Four points and weights per direction: (m, 4) flat indices, (m, 4) weights."""

    def __init__(self, source: LatLon) -> None:
        self.rings = source.rings
        colatitude = self.rings.colatitude
        last = len(colatitude) - 1
        above = colatitude[:1] > 1e-12  # False where the first row is the pole itself
        below = colatitude[-1:] < torch.pi - 1e-12
        row = torch.arange(last + 1)
        self.knots = torch.cat([-colatitude[:1][above], colatitude, (2 * torch.pi - colatitude[-1:])[below]])
        self.row = torch.cat([row[:1][above], row, row[-1:][below]])  # ring whose values stand at each knot
        turned = torch.zeros(len(self.knots), dtype=torch.float64)
        turned[0] = torch.pi * float(above)
        turned[-1] = torch.pi * float(below)
        self.turn = turned  # added to the longitude at each knot

    def __call__(self, at: Directions) -> tuple[Tensor, Tensor]:
        upper = torch.bucketize(at.colatitude, self.knots, right=True).sub_(1).clamp_(0, len(self.knots) - 2)
        step = self.knots[1:] - self.knots[:-1]
        t = (at.colatitude - self.knots[upper]) / step[upper]  # (m,) 0 at the upper, 1 at the lower ring
        indices, weights = [], []
        for knot, share in ((upper, 1 - t), (upper + 1, t)):
            ring = self.row[knot]
            left, right, f = bracket(self.rings, ring, at.longitude + self.turn[knot])
            start = self.rings.start[ring]
            indices += [start + left, start + right]
            weights += [share * (1 - f), share * f]
        return torch.stack(indices, dim=1), torch.stack(weights, dim=1)


class NearestLatLon:
    """The nearest point of a lat-lon grid; of equally near points the one with the lowest index."""

    def __init__(self, source: LatLon) -> None:
        self.rings = source.rings

    def __call__(self, at: Directions) -> tuple[Tensor, Tensor]:
        rings = self.rings
        column = nearest_column(rings, torch.zeros_like(at.colatitude, dtype=torch.int64), at.longitude)
        distance = at.longitude - rings.phase[0] - column * (2 * torch.pi / int(rings.length[0]))
        best = torch.atan2(torch.sin(at.colatitude) * torch.cos(distance), torch.cos(at.colatitude))
        lower = torch.bucketize(best, rings.colatitude).clamp_(1, max(len(rings.colatitude) - 1, 1))
        lower = lower.clamp_(max=len(rings.colatitude) - 1)
        upper = (lower - 1).clamp_(min=0)
        gap = (rings.colatitude[lower] - best) - (best - rings.colatitude[upper])
        ring = torch.where(gap < -TIE * (rings.colatitude[lower] - rings.colatitude[upper]), lower, upper)
        index = rings.start[ring] + column
        return index[:, None], torch.ones_like(at.colatitude)[:, None]
