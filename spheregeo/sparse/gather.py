r"""``Gather``: a sparse map whose rows copy one source point each, for padding and reordering.

    y_j = x_{i_j} + sum over extras e with t_e = j of w_e x_{s_e},        y_j = 0 where i_j = -1

Rows are moved whole, channels last, so that a pass costs what memory does. The adjoint is of the same form (every
source point keeps the first row that copies it, and the others become extras), so one operator with the two tables
exchanged is its own derivative, to any order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# a table: the point that each row copies, rows without one, and rows, points and weights of the extras
_NAMES = ("index", "empty", "target", "source", "weight")
_TABLES = tuple(prefix + name for prefix in ("", "adjoint_") for name in _NAMES)


def _flat(rows: Tensor, batch: int, length: int) -> Tensor:
    """Row numbers in ``batch`` tables of ``length`` rows laid one after another."""
    if batch == 1:
        return rows
    starts = length * torch.arange(batch, device=rows.device)  # int64: the sum may exceed 31 bits
    return (starts[:, None] + rows).view(-1)


def _evaluate(x: Tensor, tables: list[Tensor]) -> Tensor:
    """(B, Q, C) -> (B, M, C) by the first five tables; the other five are the adjoint's."""
    index, empty, target, source, weight = tables[:5]
    batch, points, channels = x.shape
    if batch * points * channels == 0:
        return x.new_zeros(batch, len(index), channels)
    rows = x.reshape(batch * points, channels)
    y = rows.index_select(0, _flat(index, batch, points))
    if len(empty):
        y.index_fill_(0, _flat(empty, batch, len(index)), 0.0)
    if len(target):
        extra = rows.index_select(0, _flat(source, batch, points)).view(batch, -1, channels)
        extra = (extra * weight.to(x.dtype)[:, None]).view(-1, channels)
        y.index_add_(0, _flat(target, batch, len(index)), extra)
    return y.view(batch, len(index), channels)


gather = torch.library.custom_op("spheregeo::gather", _evaluate, mutates_args=())


@gather.register_fake
def _(x: Tensor, tables: list[Tensor]) -> Tensor:
    return x.new_empty(x.shape[0], tables[0].shape[0], x.shape[2])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1])


def _differentiate(ctx: Any, g: Tensor) -> tuple[Tensor, list[None]]:
    tables = ctx.saved_tensors
    return gather(g.contiguous(), [*tables[5:], *tables[:5]]), [None] * 10


gather.register_autograd(_differentiate, setup_context=_save)


class _Eager(torch.autograd.Function):
    """The same operator without the dispatcher, which costs as much as a small layer."""

    @staticmethod
    def forward(x: Tensor, *tables: Tensor) -> Tensor:
        return _evaluate(x, list(tables))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        tables = ctx.saved_tensors
        return _Eager.apply(g, *tables[5:], *tables[:5]), *[None] * 10


def _table(
    index: Tensor, target: Tensor, source: Tensor, weight: Tensor, rows: int, columns: int
) -> list[Tensor]:
    kind = torch.int32 if max(rows, columns) < 2**31 else torch.int64
    empty = (index < 0).nonzero()[:, 0]
    # rows that are written stay int64, which torch adds to three times as fast as by int32
    return [index.clamp_min(0).to(kind), empty, target, source.to(kind), weight]


class Gather(nn.Module):
    """Copies of source points, in any order and number, with a few weighted extras; exact adjoint, any derivative.

    A :class:`~spheregeo.sparse.SparseMap` does the same; this one is for maps that are all but a permutation, and costs
    a copy. Tables are non-persistent buffers, which copies of the module share.

    Args:
        index: (M,) source point of each row, -1 for none.
        num_source: Q.
        extras: (target rows, source points, weights), each (E,), added to the copies.

    Shape: (B, C, Q) -> (B, C, M), channels last in memory.
    Raises: ValueError for an index outside the source, or an input with another number of points.
    """

    def __init__(self, index: Any, num_source: int, extras: tuple[Any, Any, Any] | None = None) -> None:
        super().__init__()
        index = torch.as_tensor(index).long().reshape(-1)
        target, source, weight = map(torch.as_tensor, ([], [], []) if extras is None else extras)
        target, source, weight = target.long(), source.long(), weight.to(torch.get_default_dtype())
        for name, t, size in (
            ("index", index, num_source),
            ("source", source, num_source),
            ("target", target, len(index)),
        ):
            if len(t) and not (-1 * (name == "index") <= int(t.min()) and int(t.max()) < size):
                raise ValueError(
                    f"{name} runs from {int(t.min())} to {int(t.max())}; expected 0 to {size - 1}"
                )
        self.num_source, self.num_target = num_source, len(index)
        copies = (index >= 0).nonzero()[:, 0]
        first = torch.full((num_source,), -1).scatter_reduce_(
            0, index[copies], copies, "amin", include_self=False
        )
        again = copies[first[index[copies]] != copies]
        ahead = _table(index, target, source, weight, len(index), num_source)
        back = _table(
            first,
            torch.cat([index[again], source]),
            torch.cat([again, target]),
            torch.cat([weight.new_ones(len(again)), weight]),
            len(index),
            num_source,
        )
        for name, tensor in zip(_TABLES, [*ahead, *back], strict=True):
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self.num_source:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected (batch, channels, {self.num_source}); "
                "did you build the layer for another grid?"
            )
        tables = [self._buffers[name] for name in _TABLES]  # get_buffer takes longer than a small gather
        rows = x.transpose(1, 2).contiguous()
        y: Tensor
        if torch.compiler.is_compiling() or type(x) is not Tensor:
            y = gather(rows, tables)
        else:
            y = _Eager.apply(rows, *tables)
        return y.transpose(1, 2)  # (B, C, M), channels last in memory

    def shared(self) -> Gather:
        """A module of the caller's own over the same tables."""
        twin = Gather.__new__(Gather)
        nn.Module.__init__(twin)
        twin.num_source, twin.num_target = self.num_source, self.num_target
        for name, tensor in self._buffers.items():
            twin.register_buffer(name, tensor, persistent=False)
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> Gather:
        return memo.setdefault(id(self), self.shared())  # type: ignore[return-value]

    def memory_bytes(self) -> int:
        """Bytes held by the tables."""
        return sum(t.numel() * t.element_size() for t in self.buffers())

    def extra_repr(self) -> str:
        return f"{self.num_source} -> {self.num_target}"
