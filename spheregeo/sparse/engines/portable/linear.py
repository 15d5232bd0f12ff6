"""The linear form by padded gathers and batched products, in chunks of rows that fit a memory budget.

Rows are cut into chunks; within one, rows are padded to the longest, features are gathered to (rows, T, M, B*C) and
one ``bmm`` with the coefficients (rows, K, T) contracts them. Runs wherever torch does.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spheregeo.sparse.engines.linear import LinearEngine, mix, unmix
from spheregeo.sparse.patterns import CSRPattern, Pattern, RingPattern

CHUNK_BYTES = 1 << 26


class PortableLinear(LinearEngine):
    """Chunked gather and ``bmm`` on any device and in any floating dtype."""

    def _chunks(self, pattern: Pattern, bytes_per_entry: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (target (n, M), source (n, T, M), value (n, T)) index blocks; value is -1 where padded."""
        assert isinstance(pattern, CSRPattern | RingPattern)
        columns = 1 if isinstance(pattern, CSRPattern) else pattern.columns
        lengths = pattern.indptr.diff()
        longest = int(lengths.max()) if len(lengths) else 0
        if longest == 0:
            return
        step = max(1, CHUNK_BYTES // max(1, longest * columns * bytes_per_entry))
        j = torch.arange(columns, device=lengths.device)
        for begin in range(0, len(lengths), step):
            rows = torch.arange(begin, min(begin + step, len(lengths)), device=lengths.device)
            width = int(lengths[rows].max())
            if width == 0:
                continue
            slot = torch.arange(width, device=rows.device)
            entry = pattern.indptr[rows, None] + slot  # (n, T)
            inside = slot < lengths[rows, None]
            entry = torch.where(
                inside, entry, pattern.indptr[rows, None].clamp_max(len(_entries(pattern)) - 1)
            )
            if isinstance(pattern, CSRPattern):
                value = pattern.start[rows, None] + slot
                source = pattern.indices[entry].long()[..., None]
                target = rows[:, None]
            else:
                value = entry
                ring = pattern.ring[entry].long()[..., None]
                turned = (j + pattern.shift[entry].long()[..., None]) % columns
                source = pattern.source_base[ring] + pattern.source_stride[ring] * turned
                target = pattern.target_base[rows, None] + pattern.target_stride[rows, None] * j
            yield target, source, torch.where(inside, value, -1)

    @staticmethod
    def _gather(v: Tensor, value: Tensor) -> Tensor:
        """Coefficients (n, K, T), zero where padded."""
        return (v[:, value.clamp_min(0)] * (value >= 0)).permute(1, 0, 2)

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        batch, channels, _ = x.shape
        out_channels = channels * v.shape[0] if w is None else w.shape[0]
        y = x.new_zeros(batch, out_channels, pattern.num_target)
        points_first = x.permute(2, 0, 1).reshape(x.shape[2], -1)  # (Q, B*C)
        for target, source, value in self._chunks(pattern, points_first.shape[1] * x.element_size()):
            z = self._contract(points_first, v, source, value)  # (n, K, M, B*C)
            z = z.view(*z.shape[:3], batch, channels).permute(3, 4, 1, 0, 2).flatten(3)
            y[..., target.reshape(-1)] = mix(z, w, groups)
        return y

    def _contract(self, points_first: Tensor, v: Tensor, source: Tensor, value: Tensor) -> Tensor:
        n, width, columns = source.shape
        gathered = points_first[source.reshape(-1)].view(n, width, -1)
        return torch.bmm(self._gather(v, value), gathered).view(n, v.shape[0], columns, -1)

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        batch, channels, _ = x.shape
        total = x.new_zeros(groups, g.shape[1] // groups, channels // groups, v.shape[0])
        points_first = x.permute(2, 0, 1).reshape(x.shape[2], -1)
        for target, source, value in self._chunks(pattern, points_first.shape[1] * x.element_size()):
            z = self._contract(points_first, v, source, value)
            z = z.view(-1, v.shape[0], z.shape[2], batch, groups, channels // groups)
            part = g[..., target].view(batch, groups, -1, *target.shape)
            total += torch.einsum("bgonm,nkmbgc->gock", part, z)
        return total.flatten(0, 1)

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        channels = x.shape[1]
        k = g.shape[1] // channels if w is None else w.shape[2]
        total = x.new_zeros(k, pattern.num_values)
        for target, source, value in self._chunks(pattern, x.shape[0] * channels * x.element_size()):
            u = unmix(g[..., target.reshape(-1)], w, groups, channels)
            u = u.view(*u.shape[:3], *target.shape)  # (B, C, K, n, M)
            terms = torch.einsum("bcknm,bcntm->knt", u, x[..., source])
            terms = terms * (value >= 0)
            total.index_add_(1, value.clamp_min(0).reshape(-1), terms.flatten(1))
        return total


def _entries(pattern: CSRPattern | RingPattern) -> Tensor:
    return pattern.indices if isinstance(pattern, CSRPattern) else pattern.ring
