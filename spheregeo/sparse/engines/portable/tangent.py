"""The tangent form by padded gathers and ``bmm``, anywhere torch runs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spheregeo.sparse.engines.tangent import TangentEngine, ends_of
from spheregeo.sparse.forms.orders import layout, width
from spheregeo.sparse.forms.tangent import Direction, TangentStructure

CHUNK_BYTES = 1 << 26


class PortableTangent(TangentEngine):
    """Complex arithmetic on padded rows."""

    def contract(
        self, structure: TangentStructure, rows: Direction, x: Tensor
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        table, rings = structure.table, structure.rings
        source, target = ends_of(structure, rows)
        number, top = rows.num_rows, target.max_order
        lengths = rows.indptr.diff()
        functions = rings * (2 * (top + source.max_order) + 1)
        per_pair = (functions + 2 * source.dim) * x.element_size()
        longest = int(lengths.max()) if number else 0
        step = max(1, CHUNK_BYTES // max(1, longest * per_pair))
        for first in range(0, number, step):
            last = min(first + step, number)
            wide = int(lengths[first:last].max())
            slot = torch.arange(wide, device=x.device)
            inside = slot < lengths[first:last, None]
            pair = torch.where(inside, rows.indptr[first:last, None] + slot, 0)  # (n, T)
            if rows.indices.numel() == 0:
                yield slice(first, last), x.new_zeros(last - first, layout(source, target, rings)[1][-1])
                continue
            column = torch.where(inside, rows.start[first:last, None] + slot, 0)
            if rows.order.numel():
                column = rows.order[column]
            entry = table[column].to(x.dtype) * inside[..., None]  # (n, T, K + 2)
            turn = torch.complex(entry[..., -2], entry[..., -1])
            values = _frequencies(entry[..., :functions], turn, rings, rows.adjoint).mT  # (n, K, T)
            near = x[rows.indices[pair].long()].masked_fill(~inside[..., None], 0)  # 0 * inf would not be 0
            parts: list[list[Tensor]] = [[] for _ in target.blocks]
            for m, start, count in source.blocks:
                used = rings * (2 * (top + m) + 1)
                fields = near[..., start : start + count * width(m)]
                if m:
                    z = torch.complex(fields[..., :count], fields[..., count:])
                    z = z * ((turn.conj() if rows.adjoint else turn) ** m)[..., None]
                    fields = torch.cat([z.real, z.imag], -1)
                sums = torch.bmm(values[:, :used], fields)
                for part, (n, _, _) in zip(parts, target.blocks, strict=True):
                    part.append(_contractions(sums, n, m, rings, count))
            yield slice(first, last), torch.cat([p for part in parts for p in part], 1)


def _frequencies(values: Tensor, turn: Tensor, rings: int, adjoint: bool) -> Tensor:
    """Coefficients (n, T, K), of frequency j turned by -j g where the map is the adjoint."""
    if not adjoint:
        return values
    out = [values[..., :rings]]
    for j in range(1, (values.shape[-1] // rings - 1) // 2 + 1):
        begin = rings * (2 * j - 1)
        c = torch.complex(values[..., begin : begin + rings], values[..., begin + rings : begin + 2 * rings])
        c = c * (turn.conj() ** j)[..., None]
        out += [c.real, c.imag]
    return torch.cat(out, -1)


def _contractions(sums: Tensor, n: int, m: int, rings: int, count: int) -> Tensor:
    """From sums (rows, K, C or 2C) of real coefficients times fields, the contractions of one pair of orders, flat."""

    def real(j: int) -> tuple[Tensor, Tensor]:
        begin = rings * (2 * j - 1)
        cos = sums[:, :rings] if j == 0 else sums[:, begin : begin + rings]
        sin = torch.zeros_like(cos) if j == 0 else sums[:, begin + rings : begin + 2 * rings]
        return cos, sin

    def combine(j: int) -> list[Tensor]:
        a, b = real(abs(j))
        b = b if j >= 0 else -b
        return [a[..., :count] - b[..., count:], a[..., count:] + b[..., :count]]

    if m == 0:
        out = [real(0)[0]] if n == 0 else list(real(n))
    else:
        out = combine(-m) if n == 0 else combine(n - m) + combine(-n - m)
    return torch.cat([p.flatten(1) for p in out], 1)
