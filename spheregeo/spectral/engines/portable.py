"""The Legendre stage in plain torch, on any device: batched matrix products with a table, or with functions made on the way.

Orders are taken in groups. In a group degrees count from the lowest of each order, j = l − max(m, n), so that Λ(π − θ) = ±Λ(θ)
by the parity of j for all orders alike: with n = 0 the rings of one hemisphere meet even j and odd j apart. Where the packed
functions of all groups fit ``BUDGET`` they are kept as a table, made in float64 and cast; elsewhere a group's functions are
made sixteen degrees at a time, used and forgotten: O(lmax · rings) memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.grids.cache import geometry
from spheregeo.spectral.legendre import Legendre, blocks, lowest

BUDGET = 128 << 20  # bytes of a table
GROUPS = 12  # of orders, in a table
STREAMED = 64  # orders at a time without a table


@dataclass(frozen=True, eq=False)
class Group:
    """Orders first ≤ m < stop, padded to a common number of degrees per parity.

    ``table`` holds functions (parities, M, J, rings), None where they are made on the way.
    """

    orders: Tensor
    degrees: int
    table: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """Groups of orders, and where packed coefficients stand in their padded parities.

    ``padded`` (P,) names the packed coefficient of each padded place, T for none; ``packed`` (T,) the place of each
    coefficient, P for those that have no function.
    """

    groups: list[Group]
    padded: Tensor
    packed: Tensor


def synthesis(structure: Legendre, a: Tensor) -> Tensor:
    """Ring values of coefficients. Shape: (T, K) -> (M, R, K)."""
    layout = _layout(structure, a)
    rings, columns = structure.num_rings, a.shape[1]
    padded = torch.cat([a, a.new_zeros(1, columns)])[layout.padded]
    out = a.new_empty(structure.lmax + 1, rings, columns)
    north, place = _north(structure), 0
    for group in layout.groups:
        m = len(group.orders)
        values = a.new_zeros(2 if _folds(structure) else 1, m, north, columns)
        sizes = _parities(structure, group)
        parts = []
        for size in sizes:
            parts.append(padded[place : place + m * size].view(m, size, columns))
            place += m * size
        for parity, start, functions in _functions(structure, group, a):
            values[parity].baddbmm_(functions.mT, parts[parity][:, start : start + functions.shape[1]])
        view = out[int(group.orders[0]) : int(group.orders[0]) + m]
        if _folds(structure):
            even, odd = values
            view[:, :north] = even + odd
            view[:, north:] = (even - odd)[:, : rings - north].flip(1)
        else:
            view.copy_(values[0])
    return out


def analysis(structure: Legendre, values: Tensor) -> Tensor:
    """Sums over rings, the transpose of synthesis. Shape: (M, R, K) -> (T, K)."""
    layout = _layout(structure, values)
    rings, columns = structure.num_rings, values.shape[2]
    north, place = _north(structure), 0
    padded = values.new_zeros(len(layout.padded) + 1, columns)
    for group in layout.groups:
        m = len(group.orders)
        view = values[int(group.orders[0]) : int(group.orders[0]) + m]
        if _folds(structure):
            folded = view[:, :north].expand(2, m, north, columns).clone()
            south = view[:, north:].flip(1)
            folded[0, :, : rings - north] += south
            folded[1, :, : rings - north] -= south
        else:
            folded = view[None]
        parts = []
        for size in _parities(structure, group):
            parts.append(padded[place : place + m * size].view(m, size, columns))
            place += m * size
        for parity, start, functions in _functions(structure, group, values):
            stop = start + functions.shape[1]
            parts[parity][:, start:stop] = torch.bmm(functions, folded[parity])
    return padded[layout.packed]


def _folds(structure: Legendre) -> bool:
    return structure.spin == 0


def _north(structure: Legendre) -> int:
    """Rings whose functions are made: the northern ones and the equator where the south mirrors them, else all."""
    return (structure.num_rings + 1) // 2 if _folds(structure) else structure.num_rings


def _parities(structure: Legendre, group: Group) -> tuple[int, ...]:
    """Number of degrees of each parity."""
    n = group.degrees
    return ((n + 1) // 2, n // 2) if _folds(structure) else (n,)


def _functions(structure: Legendre, group: Group, like: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """(parity, first degree of this parity, functions (M, J, R))."""
    if group.table is not None:
        yield from ((parity, 0, table) for parity, table in enumerate(group.table))
        return
    tiny = 1e-30 if like.dtype == torch.float32 else 0.0
    for first, values, scale in blocks(structure, group.orders, slice(_north(structure)), group.degrees):
        made = (values * scale[:, :, None]).to(like.dtype)
        if tiny:  # subnormal numbers are slow
            made.masked_fill_(made.abs() < tiny, 0.0)
        if _folds(structure):
            for parity in (0, 1):
                if len(part := made[parity::2]):
                    yield parity, first // 2, part.transpose(0, 1)
        else:
            yield 0, first, made.transpose(0, 1)


def _layout(structure: Legendre, like: Tensor) -> Layout:
    key = ("portable", structure.key, like.dtype, like.device)
    return geometry.get(key, lambda: _prepare(structure, like))


def _prepare(structure: Legendre, like: Tensor) -> Layout:
    lmax, spin, device = structure.lmax, structure.spin, like.device
    count = lmax + 1
    bytes_ = structure.size * _north(structure) * like.element_size()
    kept = bytes_ * (1 + 1 / GROUPS) <= BUDGET
    width = -(-count // GROUPS) if kept else STREAMED
    width = max(width, 8)
    groups, padded, place = [], [], 0
    packed = torch.full((structure.size,), -1)
    for first in range(0, count, width):
        orders = torch.arange(first, min(first + width, count))
        low = lowest(orders, spin)
        degrees = max(lmax + 1 - int(low[0]), 0)
        group = Group(orders.to(device), degrees)
        starts = (0, 1) if _folds(structure) else (0,)
        for start, size in zip(starts, _parities(structure, group), strict=True):
            l = low[:, None] + start + len(starts) * torch.arange(size)
            t = orders[:, None] * (2 * lmax + 1 - orders[:, None]) // 2 + l
            inside = l <= lmax
            places = (place + torch.arange(t.numel())).view_as(t)
            packed[t[inside]] = places[inside]
            padded.append(torch.where(inside, t, structure.size).reshape(-1))
            place += t.numel()
        groups.append(group)
    packed[packed < 0] = place
    if kept:
        groups = [_with_table(structure, group, like) for group in groups]
    return Layout(groups, torch.cat(padded).to(device), packed.to(device))


def _with_table(structure: Legendre, group: Group, like: Tensor) -> Group:
    sizes = _parities(structure, group)
    tables = tuple(like.new_empty(len(group.orders), size, _north(structure)) for size in sizes)
    for parity, start, functions in _functions(structure, group, like):
        tables[parity][:, start : start + functions.shape[1]] = functions
    return Group(group.orders, group.degrees, tables)
