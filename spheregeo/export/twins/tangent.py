"""The plain twin of ``TangentMap``: complex numbers as pairs of real ones, by gathers and matrix products alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spheregeo.sparse import TangentMap
from spheregeo.sparse.forms.orders import Orders, lift, width

Terms = Sequence[tuple[int, int]]


def planar_channels(terms: Terms) -> list[int]:
    """Public channel of each planar one, as :attr:`spheregeo.sparse.forms.orders.Orders.permutation` has it, in plain numbers.

    Args:
        terms: (multiplicity, order) of the fields, one after another.

    Example:
        >>> planar_channels([(1, 1), (2, 0)])
        [2, 3, 0, 1]
    """
    fields: dict[int, list[int]] = {}
    channel = 0
    for count, order in terms:
        step = width(order)
        fields.setdefault(order, []).extend(range(channel, channel + count * step, step))
        channel += count * step
    return [c + part for order in sorted(fields) for part in range(width(order)) for c in fields[order]]


def _taken(x: Tensor, channels: list[int], dim: int) -> Tensor:
    if channels == sorted(channels):
        return x
    return x.index_select(dim, torch.tensor(channels))


class PlainTangentMap(nn.Module):
    """What :class:`spheregeo.sparse.TangentMap` computes, by ops that every runtime has.

    Args:
        map: the map; its table is copied.

    Shape: as for the map.
    """

    def __init__(self, map: TangentMap) -> None:
        super().__init__()
        self.rings, self.frequency = map.rings, map.frequency
        self.num_source, self.num_target, self.num_nonzeros = map.num_source, map.num_target, map.num_nonzeros
        table, functions = map.table, map.rings * (2 * map.frequency + 1)
        turn = torch.atan2(table[:, functions + 1].double(), table[:, functions].double())
        waves = [
            wave(m * turn).to(table)[:, None]
            for m in range(1, map.frequency + 1)
            for wave in (torch.cos, torch.sin)
        ]
        self.functions = functions
        # One more row, of zeros, for places where a row is shorter than the longest of its bucket.
        full = torch.cat([table[:, :functions], *waves], 1)
        self.register_buffer("table", torch.cat([full, torch.zeros_like(full[:1])]), persistent=False)
        indptr, indices, start = (map.get_buffer(name) for name in ("indptr", "indices", "start"))
        lengths = indptr.diff()
        size = lengths.clamp_min(1).log2().ceil().long()
        places, self.buckets = [], 0
        for bucket in size.unique().tolist():
            rows = (size == bucket).nonzero()[:, 0]
            slot = torch.arange(max(1, int(lengths[rows].max())))
            inside = slot < lengths[rows, None]
            pair = torch.where(inside, indptr[rows, None] + slot, 0)
            near = indices[pair].long() if len(indices) else torch.zeros_like(pair)
            column = torch.where(inside, start[rows, None] + slot, len(table))
            self.register_buffer(f"near{self.buckets}", torch.where(inside, near, 0), persistent=False)
            self.register_buffer(f"column{self.buckets}", column, persistent=False)
            places.append(rows)
            self.buckets += 1
        self.register_buffer("at", torch.argsort(torch.cat(places)), persistent=False)

    def forward(self, x: Tensor, weight: Tensor, in_terms: Terms, out_terms: Terms) -> Tensor:
        source, target = Orders(tuple(in_terms)), Orders(tuple(out_terms))
        batch = x.shape[0]
        inward, outward = planar_channels(in_terms), planar_channels(out_terms)
        weight = _taken(_taken(weight.to(x.dtype), outward, 0), inward, 1)
        matrices = lift(weight, source, target)
        points = _taken(x.permute(2, 0, 1), inward, 2)  # (Q, B, C)
        rows = []
        for k in range(self.buckets):
            near, column = self.get_buffer(f"near{k}"), self.get_buffer(f"column{k}")
            entry = (
                self.get_buffer("table")
                .to(x.dtype)
                .index_select(0, column.flatten())
                .unflatten(0, column.shape)
            )
            fields = points.index_select(0, near.flatten()).view(*near.shape, batch, source.dim)
            made = self._contractions(entry, fields, source, target)
            rows.append(torch.cat([part @ matrix for part, matrix in zip(made, matrices, strict=True)], 1))
        y = torch.cat([r.unflatten(0, (-1, batch)) for r in rows]).index_select(0, self.get_buffer("at"))
        back = sorted(range(len(outward)), key=outward.__getitem__)
        return _taken(y, back, 2).permute(1, 2, 0)

    def _contractions(self, entry: Tensor, fields: Tensor, source: Orders, target: Orders) -> list[Tensor]:
        """What each output order's matrix is applied to, (rows · B, contractions)."""
        top = target.max_order
        values = entry[..., : self.functions].mT  # (n, K, T)
        parts: list[list[Tensor]] = [[] for _ in target.blocks]
        for m, start, count in source.blocks:
            used = self.rings * (2 * (top + m) + 1)
            z = fields[..., start : start + count * width(m)]
            if m:
                at = self.functions + 2 * (m - 1)
                c, s = entry[..., at, None, None], entry[..., at + 1, None, None]
                re, im = z[..., :count], z[..., count:]
                z = torch.cat([re * c - im * s, re * s + im * c], -1)
            n, _, batch, channels = z.shape
            sums = torch.matmul(values[:, :used], z.flatten(2)).view(n, used, batch, channels)
            sums = sums.permute(0, 2, 1, 3).flatten(0, 1)  # (n B, K, channels)
            for part, (order, _, _) in zip(parts, target.blocks, strict=True):
                part.append(self._pair(sums, order, m, count))
        return [torch.cat(part, 1) for part in parts]

    def _pair(self, sums: Tensor, n: int, m: int, count: int) -> Tensor:
        """From sums of real coefficients times fields, the contractions of a pair of orders, flat."""
        rings = self.rings

        def frequency(j: int) -> tuple[Tensor, Tensor]:
            if j == 0:
                return sums[:, :rings], torch.zeros_like(sums[:, :rings])
            begin = rings * (2 * abs(j) - 1)
            cos, sin = sums[:, begin : begin + rings], sums[:, begin + rings : begin + 2 * rings]
            return cos, sin if j > 0 else -sin

        def times(j: int) -> list[Tensor]:
            a, b = frequency(j)
            return [a[..., :count] - b[..., count:], a[..., count:] + b[..., :count]]

        if m == 0:
            out = [frequency(0)[0]] if n == 0 else list(frequency(n))
        else:
            out = times(-m) if n == 0 else times(n - m) + times(-n - m)
        return torch.cat([part.flatten(1) for part in out], 1)
