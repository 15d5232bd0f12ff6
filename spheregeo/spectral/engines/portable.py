"""The Legendre stage in plain torch, on any device: batched matrix products with a table, or with functions made on the way.

Orders are taken in groups. In a group degrees count from the lowest of each order, j = l − max(m, n), so that Λ(π − θ) = ±Λ(θ)
by the parity of j for all orders alike: with n = 0 the rings of one hemisphere meet even j and odd j apart. Rings near the poles
where all functions of a group vanish are left out. Where the functions of all groups fit ``BUDGET`` they are kept as a table,
made in float64 and cast; elsewhere a group's functions are made sixteen degrees at a time, used and forgotten: O(lmax · rings)
memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.grids.cache import geometry, nbytes
from spheregeo.spectral.legendre import Chunk, Legendre, blocks, chunk, lowest

BUDGET = 128 << 20  # bytes of a table
GROUPS = 24  # of orders, in a table
STREAMED = 1 << 14  # functions of one degree that are made at a time without a table
FEW = 8  # columns up to which products have them as rows: products with two columns are slow


@dataclass(frozen=True, eq=False)
class Group:
    """Orders first ≤ m < stop, padded to a common number of degrees.

    ``places`` (J, M) names the packed coefficient of each function, T for none. ``table`` holds functions (M, J, rings) for each
    parity of degrees; None where they are made on the way.
    """

    first: int
    stop: int
    places: tuple[Tensor, ...]
    rings: tuple[int, int]
    chunk: Chunk | None
    table: tuple[Tensor, ...] | None


@dataclass(frozen=True, eq=False)
class Layout:
    """Groups of orders, and the number of packed coefficients that have no function."""

    groups: list[Group]


def synthesis(structure: Legendre, a: Tensor) -> Tensor:
    """Ring values of coefficients. Shape: (T, K) -> (M, R, K)."""
    rings, columns, north = structure.num_rings, a.shape[1], _north(structure)
    groups = _groups(structure, a)
    out = a.new_empty(structure.lmax + 1, rings, columns)
    padded = torch.cat([a, a.new_zeros(1, columns)])
    if groups[0].table is None and columns <= FEW:
        padded = padded.double()  # with few columns the product costs less than a cast of functions
    for group in groups:
        m, (lo, hi) = group.stop - group.first, group.rings
        parts = [padded[place] for place in group.places]  # (M, J, K)
        if columns <= FEW:
            parts = [part.mT for part in parts]
            values = padded.new_zeros(len(parts), m, columns, hi - lo)
        else:
            values = a.new_zeros(len(parts), m, hi - lo, columns)
        for parity, j, r, stop, functions, scale in _functions(group, padded.dtype):
            window = slice(r - lo, stop - lo)
            if columns <= FEW:
                part = parts[parity][..., j : j + functions.shape[1]]
                part = part if scale is None else part * scale[:, None]
                values[parity, :, :, window] += torch.bmm(part, functions)
            else:
                part = parts[parity][:, j : j + functions.shape[1]]
                part = part if scale is None else part * scale[..., None]
                values[parity, :, window] += torch.bmm(functions.mT, part)
        made = values.mT if columns <= FEW else values
        view = out[group.first : group.stop]
        view[:, :lo] = 0
        view[:, rings - lo :] = 0
        if len(parts) == 2:
            even, odd = made
            view[:, lo:hi] = even + odd
            view[:, north : rings - lo] = (even - odd)[:, : rings - north - lo].flip(1)
        else:
            view[:, hi:] = 0
            view[:, lo:hi] = made[0]
    return out


def analysis(structure: Legendre, values: Tensor) -> Tensor:
    """Sums over rings, the transpose of synthesis. Shape: (M, R, K) -> (T, K)."""
    rings, columns, north = structure.num_rings, values.shape[2], _north(structure)
    out = values.new_zeros(structure.size + 1, columns)
    groups = _groups(structure, values)
    wide = torch.float64 if groups[0].table is None and columns <= FEW else values.dtype
    for group in groups:
        m, (lo, hi) = group.stop - group.first, group.rings
        view = values[group.first : group.stop]
        folded = view[None, :, lo:hi]
        if len(group.places) == 2:
            south = view[:, north : rings - lo].flip(1)
            folded = folded.expand(2, m, hi - lo, columns).clone()
            folded[0, :, : rings - north - lo] += south
            folded[1, :, : rings - north - lo] -= south
        if columns <= FEW:
            folded = folded.mT.to(wide).contiguous()
        parts = [folded.new_zeros(*place.shape, columns) for place in group.places]
        for parity, j, r, stop, functions, scale in _functions(group, wide):
            window, into = slice(r - lo, stop - lo), slice(j, j + functions.shape[1])
            if columns <= FEW:
                part = torch.bmm(folded[parity, :, :, window], functions.mT).mT
            else:
                part = torch.bmm(functions, folded[parity, :, window])
            parts[parity][:, into] = part if scale is None else part * scale[..., None]
        for place, part in zip(group.places, parts, strict=True):
            out[place] = part.to(out.dtype)
    return out[:-1]


def kept_bytes(structure: Legendre, like: Tensor) -> int:
    """Bytes of the table, or of what functions are made from."""
    return nbytes(_groups(structure, like))


def _north(structure: Legendre) -> int:
    """Rings whose functions are made: the northern ones and the equator where the south mirrors them, else all."""
    return structure.num_rings if structure.spin else (structure.num_rings + 1) // 2


def _functions(
    group: Group, dtype: torch.dtype
) -> Iterator[tuple[int, int, int, int, Tensor, Tensor | None]]:
    """(parity, first degree of this parity, first and last ring, functions (M, J, R), factors (M, J) that they lack)."""
    if group.table is not None:
        yield from ((parity, 0, *group.rings, table, None) for parity, table in enumerate(group.table))
        return
    assert group.chunk is not None
    scales = group.chunk.scale.to(dtype).T
    parities = len(group.places)
    for first, lo, hi, values in blocks(group.chunk):
        made = values.to(dtype).transpose(0, 1)
        for parity in range(parities):
            if (part := made[:, parity::parities]).shape[1]:
                scale = scales[:, first + parity : first + made.shape[1] : parities]
                yield parity, first // parities, lo, hi, part, scale


def _groups(structure: Legendre, like: Tensor) -> list[Group]:
    key = ("portable", structure.key, like.dtype, like.device)
    return geometry.get(key, lambda: Layout(_prepare(structure, like))).groups


def _prepare(structure: Legendre, like: Tensor) -> list[Group]:
    count, north = structure.lmax + 1, _north(structure)
    # three quarters of a triangle of functions are not zero by nearness to a pole
    kept = 0.8 * structure.size * north * like.element_size() <= BUDGET
    width = max(-(-count // GROUPS) if kept else STREAMED // north, 8)
    return [_group(structure, m, min(m + width, count), like, kept) for m in range(0, count, width)]


def _group(structure: Legendre, first: int, stop: int, like: Tensor, kept: bool) -> Group:
    lmax, spin = structure.lmax, structure.spin
    orders = torch.arange(first, stop)
    made = chunk(structure, orders, _north(structure))
    parities = 1 if spin else 2
    places = []
    for parity in range(parities):
        l = lowest(orders, spin)[:, None] + torch.arange(parity, made.degrees, parities)
        t = orders[:, None] * (2 * lmax + 1 - orders[:, None]) // 2 + l
        places.append(torch.where(l <= lmax, t, structure.size).to(like.device))
    group = Group(first, stop, tuple(places), made.rings, made, None)
    if not kept:
        return group
    lo, hi = made.rings
    table = tuple(like.new_zeros(*place.shape, hi - lo) for place in places)
    for parity, j, r, end, functions, scale in _functions(group, torch.float64):
        assert scale is not None
        part = (functions * scale[..., None]).to(like.dtype)
        table[parity][:, j : j + functions.shape[1], r - lo : end - lo] = part
    return Group(first, stop, tuple(places), made.rings, None, table)
