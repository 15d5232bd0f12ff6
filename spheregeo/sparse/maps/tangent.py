"""``TangentMap``: a sparse linear map between tangent fields, gauge-equivariant for any weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.sparse.forms.orders import Orders
from spheregeo.sparse.forms.tangent import PARTS, TANGENT, Direction, G, TangentStructure
from spheregeo.sparse.maps.base import FixedMap
from spheregeo.sparse.multilinear import is_traced
from spheregeo.sparse.patterns import CSRPattern, Pattern

Terms = Sequence[tuple[int, int]]
BACK = tuple("back_" + part for part in PARTS)


class TangentMap(FixedMap):
    r"""Linear maps between fields of any orders, over pairs of points with a complex coefficient per frequency.

    y_n(p) = A sum_t c_{n-m}(t) z_t + B conj(sum_t c_{-n-m}(t) z_t), with z_t = e^{i m g_t} F_m(q_t) and c_{-j} = conj c_j;
    A and B come from real weights (O, I, R) given with the call, as in :mod:`spheregeo.sparse.forms.orders`. One map serves all
    layers whose orders add up to at most ``frequency``.

    Args:
        pattern: which pairs there are; rows may share coefficients, transports then included.
        coefficients: (R (2 J + 1), T): for frequencies j = 0, 1, ..., J the R cosine and (j > 0) R sine parts.
        transport: (T,) angle g by which a field at the source turns on its way into the target's frame.
        rings: R.
        dtype: of the coefficients kept.
        engine: as for :class:`~spheregeo.sparse.SparseMap`.

    Shape:
        ``map(x, weight, in_terms, out_terms)``: (B, I, Q), (O, I, R) -> (B, O, P).

    Equivariance: frames turned by any angles at any points: exact, to rounding, when coefficients and transports belong
        to the frames (c_j turns by -j alpha_p, g by -alpha_p + alpha_q).

    Raises:
        ValueError: sizes that disagree; orders beyond ``frequency``.
    """

    table: Tensor

    def __init__(
        self,
        pattern: Pattern,
        coefficients: Tensor,
        transport: Tensor,
        *,
        rings: int,
        dtype: torch.dtype | None = None,
        engine: str | None = None,
    ) -> None:
        super().__init__(engine)
        functions, columns = coefficients.shape
        if functions % rings or (functions // rings) % 2 == 0:
            raise ValueError(
                f"coefficients has shape {tuple(coefficients.shape)} for {rings} rings; expected rings * (2 J + 1) rows"
            )
        if columns != pattern.num_values or transport.shape != (columns,):
            raise ValueError(
                f"coefficients has {columns} columns and transport shape {tuple(transport.shape)}; the pattern has "
                f"{pattern.num_values} columns"
            )
        self.rings, self.frequency = rings, (functions // rings - 1) // 2
        self.num_target, self.num_source = pattern.num_target, pattern.num_source
        dtype = coefficients.dtype if dtype is None else dtype
        turn = transport.double()
        table = torch.empty(columns, functions + 2, dtype=dtype, device=coefficients.device)
        table[:, :functions] = coefficients.T
        table[:, functions], table[:, functions + 1] = torch.cos(turn), torch.sin(turn)
        self._set(table, *_directions(pattern))

    def _set(self, table: Tensor, *parts: Tensor) -> None:
        self._keep("table", table)
        for name, tensor in zip([*PARTS, *BACK], parts, strict=True):
            self._keep(name, tensor)

    @property
    def num_nonzeros(self) -> int:
        """Pairs of points."""
        return self._buffers["indices"].numel()  # type: ignore[union-attr]

    def _structure(self, in_terms: Terms, out_terms: Terms) -> TangentStructure:
        """Both directions of the map with the types on both sides, made once for each pair of types."""
        key = (tuple(in_terms), tuple(out_terms))
        found: TangentStructure | None = self._made.get(key)
        if found is None or found.table is not self._buffers["table"]:
            ahead, back = self._directions()
            fields, sizes = (Orders(key[0]), Orders(key[1])), (self.rings, self.num_source, self.num_target)
            found = self._made[key] = TangentStructure(self.table, ahead, back, *fields, *sizes)
        return found

    def _directions(self) -> tuple[Direction, Direction]:
        found: tuple[Direction, Direction] | None = self._made.get("directions")
        if found is None or found[0].indptr is not self._buffers["indptr"]:
            found = Direction(False, *self._given(PARTS)), Direction(True, *self._given(BACK))
            self._made["directions"] = found
        return found

    def forward(self, x: Tensor, weight: Tensor, in_terms: Terms, out_terms: Terms) -> Tensor:
        traced = is_traced(x)
        if traced:
            source, target = Orders(tuple(in_terms)), Orders(tuple(out_terms))
            inputs, outputs, frequency = source.dim, target.dim, source.max_order + target.max_order
        else:
            structure = self._structure(in_terms, out_terms)
            inputs, outputs, frequency = structure.measures
        if x.ndim != 3 or x.shape[1:] != (inputs, self.num_source):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {inputs}, {self.num_source}); was the geometry "
                "built for other points?"
            )
        if weight.shape != (outputs, inputs, self.rings):
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}; expected ({outputs}, {inputs}, {self.rings})"
            )
        if frequency > self.frequency:
            raise ValueError(
                f"orders of {in_terms} and {out_terms} add up to {frequency}, more than the map's frequency "
                f"{self.frequency}; build the geometry with frequency={frequency}"
            )
        if x.dtype == torch.float64 and self.table.dtype != torch.float64:
            raise TypeError(
                f"x is float64 but the coefficients are {self.table.dtype}; build the geometry with dtype=torch.float64"
            )
        arguments = (x, weight.to(x.dtype), None)
        if traced:
            ins, outs = source.flat, target.flat
            sizes = [self.num_target, self.num_source, self.rings, len(ins), *ins, *outs]
            tensors = self._given(("table", *PARTS, *BACK))
            return TANGENT.traced(self.engine, (tensors, sizes), arguments, (G,))[0]
        return TANGENT.direct(self.engine, structure, arguments, G)

    def extra_repr(self) -> str:
        return (
            f"{self.num_source} -> {self.num_target}, rings={self.rings}, frequency={self.frequency}, "
            f"pairs={self.num_nonzeros}, engine={self.engine!r}"
        )

    @classmethod
    def concatenate(cls, maps: Sequence[TangentMap]) -> TangentMap:
        """The block-diagonal map of several, points one after another.

        Raises: ValueError for no maps, or maps that differ in rings, frequency, dtype or engine.
        """
        if not maps:
            raise ValueError("maps is empty; expected at least one map")
        first = maps[0]
        kind = (first.rings, first.frequency, first.engine, first.table.dtype)
        for other in maps[1:]:
            found = (other.rings, other.frequency, other.engine, other.table.dtype)
            if found != kind:
                raise ValueError(
                    f"maps differ in (rings, frequency, engine, dtype): {found} after {kind}; build them alike"
                )
        if len(maps) == 1:
            return first.shared()
        joined = []
        for prefix in ("", "back_"):
            joined += _side_by_side(
                [[m.get_buffer(prefix + part) for part in PARTS] for m in maps], maps, prefix
            )
        twin = cls.__new__(cls)
        FixedMap.__init__(twin, first.engine)
        twin.rings, twin.frequency = first.rings, first.frequency
        twin.num_target, twin.num_source = sum(m.num_target for m in maps), sum(m.num_source for m in maps)
        twin._set(torch.cat([m.table for m in maps]), *joined)
        return twin


def _side_by_side(rows: list[list[Tensor]], maps: Sequence[TangentMap], prefix: str) -> list[Tensor]:
    """One direction of several maps as that of their block-diagonal sum."""
    shares = any(len(members) for _, _, _, members, _ in rows)
    out: list[list[Tensor]] = [[], [], [], [], []]
    pairs = partners = columns = before = stored = 0
    for (indptr, indices, start, members, order), map_ in zip(rows, maps, strict=True):
        number, size = len(indptr) - 1, len(map_.get_buffer("table"))
        if shares and not len(members):
            members = torch.arange(number, dtype=members.dtype, device=members.device)
        own = len(order) if len(order) else size
        parts = (
            indptr[min(pairs + before, 1) :] + pairs, indices + partners, start + stored, members + before, order + columns
        )  # fmt: skip
        for collected, part in zip(out, parts, strict=True):
            collected.append(part)
        pairs, before, stored, columns = pairs + len(indices), before + number, stored + own, columns + size
        partners += map_.num_target if prefix else map_.num_source
    return [torch.cat(parts) for parts in out]


def _directions(pattern: Pattern) -> list[Tensor]:
    """The parts of both directions: pairs by target, and again by source."""
    forward = pattern if isinstance(pattern, CSRPattern) else _as_rows(pattern)
    backward, order = forward.adjoint()
    none = torch.empty(0, dtype=torch.int32, device=order.device)
    parts: list[Tensor] = []
    for rows, columns in ((forward, none), (backward, order)):
        parts += [
            rows.indptr,
            rows.indices,
            rows.start,
            rows.members if rows.shares else none,
            columns.to(torch.int32),
        ]
    return parts


def _as_rows(pattern: Pattern) -> CSRPattern:
    """Compressed rows of a structured pattern; rows go on sharing their stretches of the table."""
    target, source, column = pattern.coo()
    order = torch.argsort(target, stable=True)
    counts = torch.bincount(target, minlength=pattern.num_target)
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    first = torch.zeros(pattern.num_target, dtype=torch.int64, device=target.device)
    full = counts > 0
    first[full] = column[order[indptr[:-1][full]]]
    return CSRPattern.of(indptr, source[order], pattern.num_source, first, pattern.num_values)
