"""``TangentMap``: a sparse linear map between tangent fields, gauge-equivariant for any weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spheregeo.sparse.engines import check_engine
from spheregeo.sparse.orders import Orders
from spheregeo.sparse.pattern import CSRPattern, Pattern
from spheregeo.sparse.tangent_form import apply_tangent_form

Terms = Sequence[tuple[int, int]]
PARTS = ("indptr", "indices", "start", "members", "order")  # of each direction, see engines.tangent.Rows


class TangentMap(nn.Module):
    r"""Linear maps between fields of any orders, over pairs of points with a complex coefficient per frequency.

    y_n(p) = A sum_t c_{n-m}(t) z_t + B conj(sum_t c_{-n-m}(t) z_t), with z_t = e^{i m g_t} F_m(q_t) and c_{-j} = conj c_j;
    A and B come from real weights (O, I, R) given with the call, as in :mod:`spheregeo.sparse.orders`. One map serves all
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
        super().__init__()
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
        self.engine = check_engine(engine)
        self.sizes = [pattern.num_target, pattern.num_source]
        dtype = coefficients.dtype if dtype is None else dtype
        turn = transport.double()
        table = torch.empty(columns, functions + 2, dtype=dtype, device=coefficients.device)
        table[:, :functions] = coefficients.T
        table[:, functions], table[:, functions + 1] = torch.cos(turn), torch.sin(turn)
        self._set(table, *_directions(pattern))

    def _set(self, table: Tensor, *structure: Tensor) -> None:
        self.register_buffer("table", table, persistent=False)
        for name, tensor in zip([*PARTS, *("back_" + part for part in PARTS)], structure, strict=True):
            self.register_buffer(name, tensor, persistent=False)

    @property
    def num_target(self) -> int:
        return self.sizes[0]

    @property
    def num_source(self) -> int:
        return self.sizes[1]

    @property
    def num_nonzeros(self) -> int:
        """Pairs of points."""
        return self._buffers["indices"].numel()  # type: ignore[union-attr]

    def memory_bytes(self) -> int:
        """Bytes held by pairs, their reverse and coefficients."""
        return sum(t.numel() * t.element_size() for t in self.buffers())

    def forward(self, x: Tensor, weight: Tensor, in_terms: Terms, out_terms: Terms) -> Tensor:
        source, target = Orders(tuple(in_terms)), Orders(tuple(out_terms))
        if x.ndim != 3 or x.shape[1:] != (source.dim, self.num_source):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, {source.dim}, {self.num_source}); was the geometry "
                "built for other points?"
            )
        if weight.shape != (target.dim, source.dim, self.rings):
            raise ValueError(
                f"weight has shape {tuple(weight.shape)}; expected ({target.dim}, {source.dim}, {self.rings})"
            )
        if source.max_order + target.max_order > self.frequency:
            raise ValueError(
                f"orders {source.max_order} and {target.max_order} add up to more than the map's frequency "
                f"{self.frequency}; build the geometry with frequency={source.max_order + target.max_order}"
            )
        if x.dtype == torch.float64 and self.table.dtype != torch.float64:
            raise TypeError(
                f"x is float64 but the coefficients are {self.table.dtype}; build the geometry with dtype=torch.float64"
            )
        tensors = [t for t in self._buffers.values() if t is not None]
        structure = (tensors, source.flat, target.flat, self.rings, self.sizes, self.engine)
        return apply_tangent_form(x, weight.to(x.dtype), structure)

    def extra_repr(self) -> str:
        return (
            f"{self.num_source} -> {self.num_target}, rings={self.rings}, frequency={self.frequency}, "
            f"pairs={self.num_nonzeros}, engine={self.engine!r}"
        )

    def shared(self, engine: str | None = None) -> TangentMap:
        """A map over the same tensors, not copied until one of them is moved or converted."""
        twin = TangentMap.__new__(TangentMap)
        nn.Module.__init__(twin)
        twin.rings, twin.frequency, twin.sizes = self.rings, self.frequency, self.sizes
        twin.engine = self.engine if engine is None else check_engine(engine)
        twin._set(*(t for t in self._buffers.values() if t is not None))
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> TangentMap:
        return memo.setdefault(id(self), self.shared())  # type: ignore[return-value]

    @classmethod
    def concatenate(cls, maps: Sequence[TangentMap]) -> TangentMap:
        """The block-diagonal map of several, points one after another.

        Raises: ValueError for no maps, or maps that differ in rings, frequency, dtype or engine.
        """
        if not maps:
            raise ValueError("maps is empty; expected at least one map")
        first = maps[0]
        kind = (first.rings, first.frequency, first.engine, first._buffers["table"].dtype)  # type: ignore[union-attr]
        for other in maps[1:]:
            found = (other.rings, other.frequency, other.engine, other._buffers["table"].dtype)  # type: ignore[union-attr]
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
        nn.Module.__init__(twin)
        twin.rings, twin.frequency, twin.engine = first.rings, first.frequency, first.engine
        twin.sizes = [sum(m.num_target for m in maps), sum(m.num_source for m in maps)]
        twin._set(torch.cat([m._buffers["table"] for m in maps]), *joined)  # type: ignore[misc]
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
