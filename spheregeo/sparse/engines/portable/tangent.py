"""The tangent form by gathers of rows of similar length and ``bmm``, anywhere torch runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spheregeo.constants import made_of
from spheregeo.sparse.engines.portable.plans import RowPlan, budget, host, moved
from spheregeo.sparse.engines.tangent import TangentEngine, ends_of
from spheregeo.sparse.forms.orders import layout
from spheregeo.sparse.forms.orders import width as width_of
from spheregeo.sparse.forms.tangent import Direction, TangentStructure


class PortableTangent(TangentEngine):
    """Complex arithmetic on rows in classes of one padded length."""

    def contract(
        self, structure: TangentStructure, rows: Direction, x: Tensor
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        table, rings = structure.table, structure.rings
        source, target = ends_of(structure, rows)
        top = target.max_order
        functions = rings * (2 * (top + source.max_order) + 1)
        plan = made_of(rows.tensors, ("portable", table.shape[0]), lambda: _Plan.of(rows))
        width = (functions + 2 * source.dim) * x.element_size()
        for classes in plan.rows.chunks(width, 0, budget(x)):
            for c in classes:
                entries = slice(c.start, c.start + (c.last - c.first) * c.length)
                if not plan.near.shape[0]:
                    yield (
                        plan.order[c.first : c.last],
                        x.new_zeros(c.last - c.first, layout(source, target, rings)[1][-1]),
                    )
                    continue
                there = plan.there[entries]
                entry = table.index_select(0, plan.column[entries]).to(x.dtype) * there
                entry = entry.unflatten(0, (-1, c.length))  # (n, T, K + 2)
                turn = torch.complex(entry[..., -2], entry[..., -1])
                values = _frequencies(entry[..., :functions], turn, rings, rows.adjoint).mT  # (n, K, T)
                near = x.index_select(0, plan.near[entries])
                near = near.masked_fill(~there, 0).unflatten(0, (-1, c.length))  # 0 * inf would not be 0
                parts: list[list[Tensor]] = [[] for _ in target.blocks]
                for m, start, count in source.blocks:
                    used = rings * (2 * (top + m) + 1)
                    fields = near[..., start : start + count * width_of(m)]
                    if m:
                        z = torch.complex(fields[..., :count], fields[..., count:])
                        z = z * ((turn.conj() if rows.adjoint else turn) ** m)[..., None]
                        fields = torch.cat([z.real, z.imag], -1)
                    sums = torch.bmm(values[:, :used], fields)
                    for part, (n, _, _) in zip(parts, target.blocks, strict=True):
                        part.append(_contractions(sums, n, m, rings, count))
                yield plan.order[c.first : c.last], torch.cat([p for part in parts for p in part], 1)


@dataclass(frozen=True)
class _Plan:
    """A direction's rows in classes of similar length: ``near``, ``column`` and ``there`` are each entry's source, row of the
    table, and whether there is one (E, 1); ``order`` are the rows as they stand.
    """

    rows: RowPlan
    near: Tensor
    column: Tensor
    there: Tensor
    order: Tensor

    @classmethod
    def of(cls, direction: Direction) -> _Plan:
        like, indices = direction.indptr, host(direction.indices)
        indptr = host(like)
        rows = RowPlan.of(indptr)
        lengths = np.concatenate(
            [np.zeros(0, np.int64), *(np.full(c.last - c.first, c.length) for c in rows.classes)]
        )
        of_entry = np.repeat(rows.order, lengths)
        column = host(direction.start)[of_entry] + rows.entry - indptr[of_entry]
        column = np.where(rows.blank, 0, column)
        if direction.order.numel():
            column = host(direction.order)[column]
        near = indices[rows.entry] if len(indices) else indices
        there = torch.from_numpy(~rows.blank)[:, None].to(like.device)
        return cls(rows, moved(near, like), moved(column, like), there, moved(rows.order, like))


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
