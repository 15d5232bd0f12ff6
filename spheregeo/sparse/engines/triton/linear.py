"""The linear form by two kernels a direction: contract and mix, and the gradient of the weights.

The input's gradient is the first kernel on the transposed pattern, so that nothing is added by two programs. Gradients of
coefficients, which only maps with learned ones ask for, are the portable engine's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from spheregeo.sparse.engines.linear import Adjoint, LinearEngine
from spheregeo.sparse.engines.portable.linear import PortableLinear
from spheregeo.sparse.engines.triton.kernels.mix import csr_mix, ring_mix
from spheregeo.sparse.engines.triton.kernels.weights import csr_weights, ring_weights
from spheregeo.sparse.engines.triton.runtime import (
    LIMIT,
    Tiles,
    padded,
    parts,
    precision,
    remembered,
    tile,
    tiles,
    turns,
)
from spheregeo.sparse.forms.linear import LinearStructure
from spheregeo.sparse.patterns import CSRPattern, Pattern, RingPattern

MIX, DEPTHWISE, APART = range(3)
WINDOW = 1024  # rows within which a tile's rows are chosen of like length
PRODUCTS = {"low": "ieee", "ieee": "ieee", "tf32x3": "tf32x3", "tf32": "tf32"}


class Work(NamedTuple):
    """What a launch has beside its tensors: functions, passes, functions a pass, what is done with contractions, channels."""

    functions: int
    passes: int
    each: int
    mode: int
    groups: int
    inputs: int  # of one group
    outputs: int

    @property
    def columns(self) -> int:
        """Functions, padded."""
        return self.passes * self.each


class TritonLinear(LinearEngine):
    """Kernels for float32, bfloat16 and float16; sums are float32, low precision enters products as it is."""

    def __init__(self) -> None:
        self._portable = PortableLinear()

    def apply(self, pattern: Pattern, v: Tensor, w: Tensor | None, x: Tensor, groups: int) -> Tensor:
        return self._mix(pattern, self._table(pattern, v), v.shape[0], w, x, groups)

    def input_gradient(self, adjoint: Adjoint, v: Tensor, w: Tensor | None, g: Tensor, groups: int) -> Tensor:
        pattern, order = adjoint
        if w is None and v.shape[0] > 1:
            return super().input_gradient(adjoint, v, w, g, groups)
        if w is not None:
            per_group = w.shape[0] // groups
            turned = w.view(groups, per_group, w.shape[1], w.shape[2]).transpose(1, 2)
            w = turned.reshape(-1, per_group, w.shape[2])
        return self._mix(pattern, self._table(pattern, v, order), v.shape[0], w, g, groups)

    def weights_alone(self, structure: LinearStructure, v: Tensor, x: Tensor, g: Tensor) -> Tensor:
        return self.weight_gradient(structure.pattern, v, x, g, structure.groups)

    def weight_gradient(self, pattern: Pattern, v: Tensor, x: Tensor, g: Tensor, groups: int) -> Tensor:
        work = _work(v.shape[0], groups, x.shape[1] // groups, g.shape[1] // groups, True)
        table = self._table(pattern, v)
        run = self._csr_weights if isinstance(pattern, CSRPattern) else self._ring_weights
        total = run(pattern, table, work, x, g)  # type: ignore[arg-type]
        if work.mode == DEPTHWISE:
            return total.T[:, None, : work.functions]
        total = total[:, : work.functions]  # (groups, K, C, O)
        return total.permute(0, 3, 2, 1).flatten(0, 1)

    def value_gradient(self, pattern: Pattern, w: Tensor | None, x: Tensor, g: Tensor, groups: int) -> Tensor:
        return self._portable.value_gradient(pattern, w, x.float(), g.float(), groups)

    @staticmethod
    def _table(pattern: Pattern, v: Tensor, order: Tensor | None = None) -> Tensor:
        """Coefficients (T, functions), padded; of the transposed pattern its own, put in order once."""

        def make() -> Tensor:
            chosen = v if order is None else v.index_select(1, order)
            passes, each = turns(v.shape[0])
            return padded(chosen.T.float(), 1, passes * each).contiguous()

        return remembered(pattern.memo, "triton table", v, make)

    def _mix(
        self, pattern: Pattern, table: Tensor, functions: int, w: Tensor | None, x: Tensor, groups: int
    ) -> Tensor:
        outputs = x.shape[1] if w is None else w.shape[0]
        work = _work(functions, groups, x.shape[1] // groups, outputs // groups, w is not None)
        if isinstance(pattern, CSRPattern):
            return self._csr_mix(pattern, table, work, w, x)
        assert isinstance(pattern, RingPattern)
        return self._ring_mix(pattern, table, work, w, x)

    # Scattered rows: channels last.

    def _csr_mix(self, pattern: CSRPattern, table: Tensor, work: Work, w: Tensor | None, x: Tensor) -> Tensor:
        batch, channels, points = x.shape
        rows, outputs = pattern.num_target, work.groups * work.outputs
        near = x.transpose(1, 2).contiguous()
        if work.mode == APART:
            y = x.new_empty(batch, rows, work.functions, channels)
        else:
            y = x.new_empty(batch, rows, outputs)
        if rows and pattern.num_nonzeros == 0:
            return _apart(y.zero_(), work) if work.mode == APART else y.transpose(1, 2)
        wide = max(near.numel() // max(batch, 1), y.numel() // max(batch, 1), table.numel()) >= LIMIT
        kind = precision(x)
        own = tiles("csr_mix", kind, work.inputs, work.outputs)
        across = _blocks(work, own)
        csr_mix[(-(-rows // own.points), across, batch * work.groups)](
            near, table, _weights(w, work, x.dtype, False, table), y, *_rows(pattern), rows, points, work.inputs, work.outputs,
            work.groups, K=work.functions, PASSES=work.passes, N=work.each, MODE=work.mode, WIDE=wide,
            PRECISION=PRODUCTS[kind], BP=own.points, BC=own.channels, BO=own.outputs, num_warps=own.warps, num_stages=2,
        )  # fmt: skip
        return _apart(y, work) if work.mode == APART else y.transpose(1, 2)

    def _csr_weights(self, pattern: CSRPattern, table: Tensor, work: Work, x: Tensor, g: Tensor) -> Tensor:
        batch, _, points = x.shape
        rows = pattern.num_target
        near, there = x.transpose(1, 2).contiguous(), g.transpose(1, 2).contiguous()
        wide = max(near.numel() // batch, there.numel() // batch, table.numel()) >= LIMIT
        kind = precision(x)
        own = tiles("csr_weights", kind, work.inputs, work.outputs)
        sums, grid = _sums(work, -(-rows // own.points) * batch, own, table)
        csr_weights[grid](
            near, table, there, sums, *_rows(pattern), rows, points, work.inputs, work.outputs, work.groups, batch,
            PASSES=work.passes, N=work.each, MODE=work.mode, WIDE=wide, PRECISION=PRODUCTS[kind], BP=own.points,
            BC=own.channels, BO=own.outputs, num_warps=own.warps, num_stages=2,
        )  # fmt: skip
        return sums.sum(0)

    # Rings: longitude last.

    def _ring_mix(
        self, pattern: RingPattern, table: Tensor, work: Work, w: Tensor | None, x: Tensor
    ) -> Tensor:
        batch, channels, points = x.shape
        x, target = x.contiguous(), pattern.num_target
        outputs = channels * work.functions if work.mode == APART else work.groups * work.outputs
        rows = len(pattern.target_base)
        make = x.new_empty if rows * pattern.columns == target else x.new_zeros
        y = make(batch, outputs, target)
        kind = precision(x)
        own = tiles("ring_mix", kind, work.inputs, work.outputs)
        bj = tile(pattern.columns, own.points)
        across, along = _blocks(work, own), -(-pattern.columns // bj)
        wide = max(x.numel() // batch, y.numel() // batch, table.numel()) >= LIMIT
        ring_mix[(rows * along, across, batch * work.groups)](
            x, table, _weights(w, work, x.dtype, True, table), y, *_rings(pattern), pattern.columns, target, points, work.inputs,
            work.outputs, work.groups, K=work.functions, PASSES=work.passes, N=work.each, MODE=work.mode, WIDE=wide,
            PRECISION=PRODUCTS[kind], BJ=bj, BC=own.channels, BO=own.outputs, num_warps=own.warps, num_stages=2,
        )  # fmt: skip
        return y

    def _ring_weights(self, pattern: RingPattern, table: Tensor, work: Work, x: Tensor, g: Tensor) -> Tensor:
        batch, _, points = x.shape
        x, g = x.contiguous(), g.contiguous()
        kind = precision(x)
        own = tiles("ring_weights", kind, work.inputs, work.outputs)
        rows, bj = len(pattern.target_base), tile(pattern.columns, own.points)
        wide = max(x.numel() // batch, g.numel() // batch, table.numel()) >= LIMIT
        sums, grid = _sums(work, rows * -(-pattern.columns // bj) * batch, own, table)
        ring_weights[grid](
            x, table, g, sums, *_rings(pattern), rows, pattern.columns, g.shape[2], points, work.inputs, work.outputs,
            work.groups, batch, PASSES=work.passes, N=work.each, MODE=work.mode, WIDE=wide, PRECISION=PRODUCTS[kind],
            BJ=bj, BC=own.channels, BO=own.outputs, num_warps=own.warps, num_stages=2,
        )  # fmt: skip
        return sums.sum(0)


def _work(functions: int, groups: int, inputs: int, outputs: int, mixes: bool) -> Work:
    """Depthwise maps and those without weights count as one group, whose channels a program takes side by side."""
    passes, each = turns(functions)
    if not mixes:
        return Work(functions, passes, each, APART, 1, inputs * groups, inputs * groups)
    if inputs == outputs == 1:
        return Work(functions, passes, each, DEPTHWISE, 1, groups, groups)
    return Work(functions, passes, each, MIX, groups, inputs, outputs)


def _weights(w: Tensor | None, work: Work, dtype: torch.dtype, turned: bool, other: Tensor) -> Tensor:
    """(groups, functions, C, O), or (..., O, C) if turned; of depthwise maps (functions, C), in float32."""
    if w is None:
        return other  # read by none
    if work.mode == DEPTHWISE:
        return padded(w[:, 0].T, 0, work.columns).contiguous()
    apart = w.unflatten(0, (work.groups, -1))  # (groups, O, C, K)
    apart = apart.permute(0, 3, 1, 2) if turned else apart.permute(0, 3, 2, 1)
    return padded(apart, 1, work.columns).to(dtype).contiguous()


def _apart(y: Tensor, work: Work) -> Tensor:
    """(B, P, K, C) as the form has it, (B, C * K, P)."""
    return y.permute(0, 3, 2, 1).flatten(1, 2)


def _blocks(work: Work, own: Tiles) -> int:
    """Programs side by side: blocks of outputs where channels are mixed, else of channels."""
    return -(-work.outputs // own.outputs) if work.mode == MIX else -(-work.inputs // own.channels)


def _sums(work: Work, number: int, own: Tiles, like: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """Memory for partial sums, and the grid of programs that write them."""
    across = -(-work.inputs // own.channels) * work.passes
    outputs = work.groups * -(-work.outputs // own.outputs) if work.mode == MIX else 1
    shape: tuple[int, ...] = (work.columns, work.inputs)
    if work.mode == MIX:
        shape = (work.groups, *shape, work.outputs)
    each = 1
    for size in shape:
        each *= size
    number = parts(number, across * outputs, each, like.device)
    return like.new_empty(number, *shape), (number, across, outputs)


def _rows(pattern: CSRPattern) -> tuple[Tensor, ...]:
    """Rows in the order of work, made once: where each goes, its first entry, first column, entries; and the source points.

    Equivalent rows, which read the same coefficients, stay together; within some 1,000 rows those of like length follow one
    another, so that the longest row of a tile makes the others wait little.
    """
    kept: tuple[Tensor, ...] | None = pattern.memo.get("triton rows")
    if kept is None:
        with torch.inference_mode(False):
            order = pattern.members.long()
            length = pattern.indptr.diff()
            rank = torch.arange(len(order), device=order.device) // WINDOW
            key = rank * (pattern.num_source + 1) + length[order]
            order = order[torch.argsort(key, stable=True)]
            whole = torch.int32 if max(pattern.num_nonzeros, pattern.num_values) < LIMIT else torch.int64
            chosen = (
                order.int(),
                pattern.indptr[order].to(whole),
                pattern.start[order].to(whole),
                length[order].int(),
            )
            kept = pattern.memo["triton rows"] = (*(t.contiguous() for t in chosen), pattern.indices)
    return kept


def _rings(pattern: RingPattern) -> tuple[Tensor, ...]:
    """Rows' first entries, of each entry first point, step and shift, of each row first point and step; made once."""
    kept: tuple[Any, ...] | None = pattern.memo.get("triton rings")
    if kept is None:
        with torch.inference_mode(False):
            ring = pattern.ring.long()
            whole = torch.int32 if max(pattern.num_source, pattern.num_target) < LIMIT else torch.int64
            chosen = (pattern.indptr, pattern.source_base[ring], pattern.source_stride[ring], pattern.shift,
                      pattern.target_base, pattern.target_stride)  # fmt: skip
            kept = pattern.memo["triton rings"] = tuple(t.to(whole) for t in chosen)
    return kept
