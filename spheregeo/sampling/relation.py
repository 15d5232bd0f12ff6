r"""Which source points each target point sees, found and stored once per symmetry class of the two grids.

If a rotation g permutes both grids, then q is a neighbour of p exactly when gq is one of gp, at the same distance; and
if g turns about the z axis, at the same angle in the (south, east) frames too. So neighbours are searched for one
representative p of each orbit, coefficients are computed for its pairs alone, and the other rows refer to them:

* two lat-lon grids: turns by one common column; a :class:`~spheregeo.sparse.RingPattern` stores nothing else;
* two HEALPix grids in ring order: turns of the equatorial belt by one pixel, of the polar caps by a quarter;
* two icosahedral (or nested HEALPix) grids: all their rotations for isotropic kernels, those about z for directional ones;
* any other pair: every target point represents itself.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.grids.healpix import HEALPix
from spheregeo.grids.latlon import LatLon
from spheregeo.sampling.neighbors import TIE, Neighborhood, check_radius, neighbors_of
from spheregeo.sparse import Block, BlockPattern, CSRPattern, Pattern, RingPattern

_FEWEST_COLUMNS = 8  # below this many common columns, rings of M points save nothing


@dataclass(frozen=True, eq=False)
class Relation:
    """Neighborhoods of representative target points and the pattern that copies them to all target points.

    ``representatives`` (R,) are target indices, each standing for ``multiplicity`` (R,) target points; column i of a
    coefficient table for ``pattern`` belongs to pair i of ``neighborhood``. Distance and angle hold for all pairs that a
    representative stands for; so does transport if the relation was made with ``transport=True``.
    """

    representatives: Tensor
    multiplicity: Tensor
    neighborhood: Neighborhood
    pattern: Pattern


def relation(
    source: Grid, target: Grid, radius: float, *, isotropic: bool = False, transport: bool = False
) -> Relation:
    """Neighbour pairs of two grids, one representative per symmetry class; cached by value.

    Args:
        radius: geodesic cutoff in radians.
        isotropic: coefficients will depend on the distance alone, so all rotations count, not only those about z.
        transport: transports must hold for all pairs too. Where a grid without rings has a point at a pole, whose frame
            stays behind when the grid is turned, rows that see it stand for themselves.

    Raises:
        ValueError: a radius outside (0, pi], or a grid that is not a sphere.
    """
    radius = check_radius(radius)
    for name, grid in (("source", source), ("target", target)):
        if not grid.is_sphere:
            raise ValueError(f"{name} is {grid!r}, which is not a sphere; expected a spherical grid")
    if isotropic and transport:
        raise ValueError("isotropic and transport are both True; rotations not about z turn the frames")
    key = ("relation", source, target, radius, isotropic, transport)
    return geometry.get(key, lambda: _build(source, target, radius, isotropic, transport))


def _build(source: Grid, target: Grid, radius: float, isotropic: bool, transport: bool) -> Relation:
    if isinstance(source, LatLon) and isinstance(target, LatLon):
        columns = math.gcd(source.nlon, target.nlon)
        if columns >= _FEWEST_COLUMNS:
            return _rings(source, target, radius, columns)
    if isinstance(source, HEALPix) and isinstance(target, HEALPix) and source.rings and target.rings:
        return _belt_and_caps(source, target, radius)
    if type(source) is type(target) and source.symmetry is not None and target.symmetry is not None:
        return _orbits(source, target, radius, isotropic, transport)
    rows = torch.arange(target.num_points)
    found = neighbors_of(source, target, rows, radius)
    pattern = CSRPattern.of(found.indptr, found.indices, source.num_points)
    return Relation(rows, torch.ones_like(rows), found, pattern)


def _rings(source: LatLon, target: LatLon, radius: float, columns: int) -> Relation:
    """Lat-lon pair: rows of s*M points are s interleaved rings of M, and one point of each represents it."""
    step_in, step_out = source.nlon // columns, target.nlon // columns
    rows = (torch.arange(target.nlat)[:, None] * target.nlon + torch.arange(step_out)).reshape(-1)
    found = neighbors_of(source, target, rows, radius)
    row, column = found.indices // source.nlon, found.indices % source.nlon
    pattern = RingPattern(
        indptr=found.indptr,
        ring=(row * step_in + column % step_in).to(torch.int32),
        shift=(column // step_in).to(torch.int32),
        source_base=(torch.arange(source.nlat)[:, None] * source.nlon + torch.arange(step_in)).reshape(-1),
        source_stride=torch.full((source.nlat * step_in,), step_in),
        target_base=rows,
        target_stride=torch.full((len(rows),), step_out),
        columns=columns,
        num_source=source.num_points,
        num_target=target.num_points,
    )
    return Relation(rows, torch.full_like(rows, columns), found, pattern)


def _belt_and_caps(source: HEALPix, target: HEALPix, radius: float) -> Relation:
    """HEALPix pair in ring order: rows that see nothing but full rings are circulant, the others repeat every quarter."""
    rings, lines = target.rings, source.rings
    assert rings is not None and lines is not None
    reach = radius * (1 + 2 * TIE)
    full = lines.colatitude[lines.length == 4 * source.nside]
    inside = (
        (rings.length == 4 * target.nside)
        & (rings.colatitude - reach > full[0])
        & (rings.colatitude + reach < full[-1])
    )
    belt = inside.nonzero()[:, 0]
    if len(belt) < 2:
        return _orbits(source, target, radius, isotropic=False)
    edges = [0, int(belt[0]), int(belt[-1]) + 1, len(rings.start)]
    columns = math.gcd(4 * source.nside, 4 * target.nside)
    step_in, step_out = 4 * source.nside // columns, 4 * target.nside // columns
    rows, repeats = [], []
    for part, (first, last) in enumerate(itertools.pairwise(edges)):
        count = torch.full((last - first,), step_out) if part == 1 else rings.length[first:last] // 4
        ring = torch.repeat_interleave(torch.arange(first, last), count)
        rows.append(rings.start[ring] + torch.arange(len(ring)) - (count.cumsum(0) - count)[ring - first])
        repeats.append(torch.full_like(ring, columns if part == 1 else 4))
    found = neighbors_of(source, target, torch.cat(rows), radius)
    ends = found.indptr[[0, *itertools.accumulate(len(part) for part in rows)]]
    if bool((ends.diff() == 0).any()):  # a radius so small that a whole part of the sphere sees nothing
        return _orbits(source, target, radius, isotropic=False)
    line = torch.searchsorted(lines.start, found.indices, right=True) - 1
    column = found.indices - lines.start[line]
    blocks, row0 = [], 0
    for part, (first, last) in enumerate(itertools.pairwise(edges)):
        pairs = slice(int(found.indptr[row0]), int(found.indptr[row0 + len(rows[part])]))
        indptr = found.indptr[row0 : row0 + len(rows[part]) + 1] - pairs.start
        row0 += len(rows[part])
        low, high = int(line[pairs].min()), int(line[pairs].max()) + 1
        t0, s0 = int(rings.start[first]), int(lines.start[low])
        t1, s1 = (
            int(rings.start[last - 1] + rings.length[last - 1]),
            int(lines.start[high - 1] + lines.length[high - 1]),
        )
        pattern: CSRPattern | RingPattern
        if part == 1:
            pattern = RingPattern(
                indptr=indptr,
                ring=((line[pairs] - low) * step_in + column[pairs] % step_in).to(torch.int32),
                shift=(column[pairs] // step_in).to(torch.int32),
                source_base=(
                    torch.arange(high - low)[:, None] * 4 * source.nside + torch.arange(step_in)
                ).reshape(-1),
                source_stride=torch.full(((high - low) * step_in,), step_in),
                target_base=rows[1] - t0,
                target_stride=torch.full((len(rows[1]),), step_out),
                columns=columns,
                num_source=s1 - s0,
                num_target=t1 - t0,
            )
        else:
            quarter = (
                rings.length[first:last] // 4,
                lines.length[line[pairs]] // 4,
                lines.length[line[pairs]],
            )
            pattern = _quarters(indptr, column[pairs], lines.start[line[pairs]] - s0, *quarter, s1 - s0)
        blocks.append(Block(pattern, slice(t0, t1), slice(s0, s1), pairs))
    return Relation(
        torch.cat(rows),
        torch.cat(repeats),
        found,
        BlockPattern(tuple(blocks), source.num_points, target.num_points),
    )


def _quarters(
    indptr: Tensor, column: Tensor, start: Tensor, rows: Tensor, turn: Tensor, length: Tensor, num_source: int
) -> CSRPattern:
    """Rows of a cap from those of its first quarter: ring i's ``rows[i]`` representatives, turned four times.

    ``column``, ``start``, ``turn`` and ``length`` (pairs,) describe each pair's source: position on its ring, the
    ring's first point, a quarter of its length and its length.
    """
    first = rows.cumsum(0) - rows  # first representative of each ring
    ring = torch.repeat_interleave(torch.arange(len(rows)), 4 * rows)
    position = torch.arange(len(ring)) - 4 * first[ring]
    representative = first[ring] + position % rows[ring]
    counts = indptr.diff()[representative]
    pointer = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    indices = torch.empty(int(pointer[-1]), dtype=torch.int32)
    block = 1 << 20
    for p0 in range(0, len(ring), block):  # in blocks: int64 temporaries stay small
        p1 = min(p0 + block, len(ring))
        row = torch.repeat_interleave(torch.arange(p0, p1), counts[p0:p1])
        a, b = int(pointer[p0]), int(pointer[p1])
        pair = indptr[representative[row]] + torch.arange(a, b) - pointer[row]
        turned = (column[pair] + (position[row] // rows[ring[row]]) * turn[pair]) % length[pair]
        indices[a:b] = (start[pair] + turned).to(torch.int32)
    return CSRPattern.of(pointer, indices, num_source, indptr[:-1][representative], int(indptr[-1]))


def _orbits(source: Grid, target: Grid, radius: float, isotropic: bool, transport: bool = False) -> Relation:
    """Grids with listed rotations: search for one point of each orbit, carry its neighbours along by permutation."""
    assert source.symmetry is not None and target.symmetry is not None
    rotations, carry_target = target.symmetry.rotations, target.symmetry.permutations
    carry_source = source.symmetry.permutations
    if not torch.allclose(rotations, source.symmetry.rotations, atol=1e-9):
        raise ValueError(
            f"{source!r} and {target!r} list different rotations; expected the same in the same order"
        )
    if not isotropic:
        about_z = rotations[:, 2, 2] > 1 - 1e-9
        carry_target, carry_source = carry_target[about_z], carry_source[about_z]
    least = carry_target.min(0).values  # smallest index in each point's orbit
    if transport:
        least = _apart(source, target, least, (carry_source == carry_source[0]).all(0), radius)
    rows = torch.unique(least)
    position = torch.full((target.num_points,), -1)
    position[rows] = torch.arange(len(rows))
    element = torch.full((target.num_points,), -1)
    for g in range(len(carry_target) - 1, -1, -1):
        element[carry_target[g, rows]] = g
    found = neighbors_of(source, target, rows, radius)
    orbit = position[least]
    counts = found.indptr.diff()[orbit]
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    start = found.indptr[:-1][orbit]
    indices = torch.empty(int(indptr[-1]), dtype=torch.int32)
    block = 1 << 20
    for p0 in range(0, target.num_points, block):  # in blocks: int64 temporaries stay small
        p1 = min(p0 + block, target.num_points)
        row = torch.repeat_interleave(torch.arange(p0, p1), counts[p0:p1])
        pair = start[row] + torch.arange(int(indptr[p0]), int(indptr[p1])) - indptr[row]
        indices[int(indptr[p0]) : int(indptr[p1])] = carry_source[element[row], found.indices[pair]].to(
            torch.int32
        )
    pattern = CSRPattern.of(indptr, indices, source.num_points, start, len(found.indices))
    return Relation(rows, torch.bincount(orbit, minlength=len(rows)), found, pattern)


def _apart(source: Grid, target: Grid, least: Tensor, poles: Tensor, radius: float) -> Tensor:
    """``least`` with the rows that are poles or see one (``poles`` (Q,) marks the source's) standing for themselves."""
    alone = target.points[:, 2].abs() > 1 - 1e-15
    for pole in source.points[poles]:
        alone = alone | ((target.points - pole).norm(dim=1) <= 2 * math.sin(radius / 2) + 1e-9)
    return torch.where(alone, torch.arange(len(least)), least)
