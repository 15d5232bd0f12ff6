"""The plain twin of ``SparseMap``: rows of like length are padded, gathered and multiplied, by ops that every runtime has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.sparse import BlockPattern, CSRPattern, Pattern, RingPattern, SparseMap


@dataclass(frozen=True)
class PaddedRows:
    """Rows padded to one length T, of M points each; source = base + stride · ((j + shift) mod M).

    ``base``, ``stride``, ``shift`` are (R, T), ``values`` (R, K, T), zero where padded, ``target`` (R · M,).
    """

    base: Tensor
    stride: Tensor
    shift: Tensor
    values: Tensor
    target: Tensor
    columns: int


def padded_rows(pattern: Pattern, values: Tensor, first: int = 0, offset: int = 0) -> Iterator[PaddedRows]:
    """Yield the rows of a pattern with entries, those of like length together.

    Args:
        pattern: of compressed rows, of rings, or a sum of such.
        values: table of coefficients, (K, columns of the table).
        first: added to the targets.
        offset: added to the sources.

    Raises: ValueError for another kind of pattern.
    """
    if isinstance(pattern, BlockPattern):
        for block in pattern.blocks:
            stretch = values[:, block.values]
            yield from padded_rows(
                block.pattern, stretch, first + block.target.start, offset + block.source.start
            )
        return
    if not isinstance(pattern, CSRPattern | RingPattern):
        raise ValueError(f"a pattern of kind {pattern.kind!r} has no plain twin")
    lengths = pattern.indptr.diff()
    rings = pattern if isinstance(pattern, RingPattern) else None
    columns = rings.columns if rings is not None else 1
    j = torch.arange(columns)
    size = lengths.clamp_min(1).log2().ceil().long()  # rows of 5 to 8 entries are one bucket, and so on
    for bucket in size.unique().tolist():
        rows = ((size == bucket) & (lengths > 0)).nonzero()[:, 0]
        if not len(rows):
            continue
        slot = torch.arange(int(lengths[rows].max()))
        inside = slot < lengths[rows, None]
        entry = torch.where(inside, pattern.indptr[rows, None] + slot, pattern.indptr[rows, None])  # (R, T)
        if rings is not None:
            ring = rings.ring[entry].long()
            base, stride = rings.source_base[ring], rings.source_stride[ring]
            shift, value = rings.shift[entry].long(), entry
            target = rings.target_base[rows, None] + rings.target_stride[rows, None] * j
        else:
            assert isinstance(pattern, CSRPattern)
            base = pattern.indices[entry].long()
            stride, shift = torch.zeros_like(base), torch.zeros_like(base)
            value = torch.where(inside, pattern.start[rows, None] + slot, pattern.start[rows, None])
            target = rows[:, None]
        kept = (values[:, value] * inside).permute(1, 0, 2).contiguous()  # (R, K, T)
        yield PaddedRows(base + offset, stride, shift, kept, (target + first).reshape(-1), columns)


class PlainSparseMap(nn.Module):
    """What :class:`spheregeo.sparse.SparseMap` computes, by gathers and matrix products alone.

    Args:
        map: the map; its coefficients are copied.

    Shape: as for the map.

    Example:
        >>> from spheregeo.grids import HEALPix
        >>> from spheregeo.nn import Pool
        >>> map, x = Pool(HEALPix(2)).map, torch.randn(1, 3, 48)
        >>> torch.allclose(PlainSparseMap(map)(x), map(x), atol=1e-6)
        True
    """

    def __init__(self, map: SparseMap) -> None:
        super().__init__()
        self.num_source, self.num_target, self.num_components = (
            map.num_source,
            map.num_target,
            map.num_components,
        )
        found = list(padded_rows(map.pattern, map.values))
        self.columns = [rows.columns for rows in found]
        for k, rows in enumerate(found):
            for name in ("base", "stride", "shift", "values"):
                self.register_buffer(f"{name}{k}", getattr(rows, name), persistent=False)
        # The rows' points one after another, and a row of zeros for targets without entries: who adds up to each target.
        targets = torch.cat([rows.target for rows in found]) if found else torch.empty(0, dtype=torch.long)
        counts = torch.bincount(targets, minlength=self.num_target)
        order = torch.argsort(targets, stable=True)
        most = max(1, int(counts.max()) if len(counts) else 1)
        before = counts.cumsum(0) - counts
        for k in range(most):
            at = torch.full((self.num_target,), len(targets))
            has = counts > k
            at[has] = order[before[has] + k]
            self.register_buffer(f"at{k}", at, persistent=False)
        self.most = most

    def _functions(self, x: Tensor) -> list[Tensor]:
        """x (B, C, Q) to (points of the rows, B, C, K), bucket by bucket."""
        batch, channels, _ = x.shape
        rows = x.permute(2, 0, 1).flatten(1)  # (Q, B C)
        found = []
        for k, columns in enumerate(self.columns):
            base, stride, shift, values = (
                self.get_buffer(f"{n}{k}") for n in ("base", "stride", "shift", "values")
            )
            index = base[..., None]
            if columns > 1:
                index = index + stride[..., None] * ((torch.arange(columns) + shift[..., None]) % columns)
            near = rows.index_select(0, index.flatten()).view(*base.shape, -1)  # (R, T, M B C)
            z = torch.matmul(values.to(x.dtype), near)  # (R, K, M B C)
            z = z.view(base.shape[0], self.num_components, columns, batch, channels)
            found.append(z.permute(0, 2, 3, 4, 1).flatten(0, 1))
        return found

    def _gathered(self, parts: list[Tensor], x: Tensor) -> Tensor:
        """(points of the rows, B, O) to (B, O, P)."""
        empty = x.new_zeros(1, *parts[0].shape[1:]) if parts else x.new_zeros(1, x.shape[0], x.shape[1])
        rows = torch.cat([*parts, empty])
        total = rows.index_select(0, self.get_buffer("at0"))
        for k in range(1, self.most):
            total = total + rows.index_select(0, self.get_buffer(f"at{k}"))
        return total.permute(1, 2, 0)

    def forward(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        if values is not None:
            raise ValueError("values are given with the call; the plain twin has those of the map alone")
        flat = x if x.ndim == 3 else x.reshape(1, -1, self.num_source)
        y = self._gathered([z.flatten(2) for z in self._functions(flat)], flat)  # (B, C K, P)
        k = self.num_components
        return y.reshape(*x.shape[:-1], *((k,) if k > 1 else ()), self.num_target)

    def mix(self, x: Tensor, weight: Tensor, groups: int = 1, values: Tensor | None = None) -> Tensor:
        """Contract and mix channels: (B, C, Q), (O, C / groups, K) -> (B, O, P)."""
        if values is not None:
            raise ValueError("values are given with the call; the plain twin has those of the map alone")
        weight = weight.to(x.dtype)
        if groups == 1:
            matrix = weight.flatten(1).T  # (C K, O)
            return self._gathered([torch.matmul(z.flatten(2), matrix) for z in self._functions(x)], x)
        each = weight.view(
            groups, -1, weight.shape[1] * weight.shape[2]
        ).mT  # (groups, C K / groups, O / groups)
        return self._gathered([self._grouped(z, each, groups) for z in self._functions(x)], x)

    @staticmethod
    def _grouped(z: Tensor, each: Tensor, groups: int) -> Tensor:
        points, batch = z.shape[:2]
        parts = z.reshape(points, batch, groups, 1, -1)
        mixed: Any = torch.matmul(parts, each)  # (points, B, groups, 1, O / groups)
        return mixed.flatten(2)
