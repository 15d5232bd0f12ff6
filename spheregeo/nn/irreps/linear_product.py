r"""The product behind ``IrrepsLinear``: y[:, m, v] = sum_u x[:, m, u] W[u, v] for each irrep, in blocks of rows.

Components are brought side by side, multiplied and put back a block of rows at a time: nothing as large as the features is
written but the result. The map P(x, W) is bilinear, and so is all that differentiation makes of it:

    dP/dx at g: P'(g, W), the map with input and output swapped;      dP/dW at g: Q(x, g), whose derivatives are P' and P.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from spheregeo.autograd import Function

BLOCK_BYTES = (
    1 << 21
)  # input and output rows done at a time: with their reordered copies they fit a core's cache


class Product(NamedTuple):
    """One irrep's part: where its stack begins among the stacks of input and output, and where its weights begin."""

    degree: int  # 2l + 1
    copies_in: int
    copies_out: int
    start_in: int
    start_out: int
    weights: int  # -1: the input lacks this irrep of the output, which is zero


class Plan(NamedTuple):
    """All products of a linear map, and of the adjoint, and whether stacks lie in memory in the order they are counted."""

    products: tuple[Product, ...]
    adjoint: tuple[Product, ...]
    dim_in: int
    dim_out: int
    ordered_in: bool
    ordered_out: bool
    numel: int

    def swapped(self) -> Plan:
        """The adjoint map's; its weights are transposed."""
        return Plan(
            self.adjoint,
            self.products,
            self.dim_out,
            self.dim_in,
            self.ordered_out,
            self.ordered_in,
            self.numel,
        )


class Tables(NamedTuple):
    """Which component of memory comes next in the order of stacks, and the inverse; of input and output."""

    take_in: Tensor
    put_in: Tensor
    take_out: Tensor
    put_out: Tensor

    def swapped(self) -> Tables:
        return Tables(self.take_out, self.put_out, self.take_in, self.put_in)


def _block_rows(x: Tensor, plan: Plan) -> int:
    if x.device.type != "cpu":
        return max(len(x), 1)
    return max(64, BLOCK_BYTES // (x.element_size() * (plan.dim_in + plan.dim_out)))


def _matrix(x: Tensor, start: int, degree: int, copies: int) -> Tensor:
    return x.narrow(1, start, degree * copies).reshape(-1, copies)


def _multiply(x: Tensor, w: Tensor, products: tuple[Product, ...], transposed: bool, out: Tensor) -> None:
    """Products of rows in the order of stacks."""
    for d, u, v, i, o, k in products:
        here = out.narrow(1, o, d * v)
        if k < 0:
            here.zero_()
            continue
        matrix = w.narrow(0, k, u * v)
        matrix = matrix.view(v, u).T if transposed else matrix.view(u, v)
        if d == 1:
            torch.mm(x.narrow(1, i, u), matrix, out=here)
        else:
            here.copy_((_matrix(x, i, d, u) @ matrix).view(-1, d * v))


def _weight_gradient(x: Tensor, g: Tensor, products: tuple[Product, ...], out: Tensor) -> None:
    """Adds the gradients of rows in the order of stacks."""
    for d, u, v, i, o, k in products:
        if k >= 0:
            out.narrow(0, k, u * v).view(u, v).addmm_(_matrix(x, i, d, u).T, _matrix(g, o, d, v))


def _take(x: Tensor, index: Tensor, ordered: bool) -> Tensor:
    return x if ordered else x.index_select(1, index)


class _Out:
    """Where results go: straight into the rows, or by way of a block in the order of stacks."""

    def __init__(self, like: Tensor, dim: int, ordered: bool, put: Tensor, rows: int) -> None:
        self.y, self.put = like.new_empty(len(like), dim), put
        self.buffer = None if ordered else like.new_empty(min(rows, len(like)), dim)

    def block(self, first: int, count: int) -> Tensor:
        return self.y[first : first + count] if self.buffer is None else self.buffer[:count]

    def done(self, first: int, block: Tensor) -> None:
        if self.buffer is not None:
            torch.index_select(block, 1, self.put, out=self.y[first : first + len(block)])


def _apply(
    x: Tensor, w: Tensor, bias: Tensor | None, bias_at: int, tables: Tables, plan: Plan, transposed: bool
) -> Tensor:
    rows = _block_rows(x, plan)
    result = _Out(x, plan.dim_out, plan.ordered_out, tables.put_out, rows)
    for first in range(0, len(x), rows):
        block = _take(x[first : first + rows], tables.take_in, plan.ordered_in)
        out = result.block(first, len(block))
        _multiply(block, w, plan.products, transposed, out)
        if bias is not None:
            out.narrow(1, bias_at, len(bias)).add_(bias)
        result.done(first, out)
    return result.y


def _gradients(
    x: Tensor, g: Tensor, w: Tensor | None, tables: Tables, plan: Plan, transposed: bool
) -> tuple[Tensor | None, Tensor]:
    """P'(g, W), where W is given, and Q(x, g): g is put in order once for both."""
    rows = _block_rows(x, plan)
    weights = x.new_zeros(plan.numel)
    result = None if w is None else _Out(x, plan.dim_in, plan.ordered_in, tables.put_in, rows)
    for first in range(0, len(x), rows):
        at = _take(g[first : first + rows], tables.take_out, plan.ordered_out)
        block = _take(x[first : first + rows], tables.take_in, plan.ordered_in)
        if transposed:
            _weight_gradient(at, block, plan.adjoint, weights)
        else:
            _weight_gradient(block, at, plan.products, weights)
        if result is not None and w is not None:
            out = result.block(first, len(at))
            _multiply(at, w, plan.adjoint, not transposed, out)
            result.done(first, out)
    return None if result is None else result.y, weights


class Mix(Function):
    """(x, W, bias, where the bias begins, ``Tables``, ``Plan``, transposed) -> y; the plan of a transposed map is swapped."""

    @staticmethod
    def forward(  # type: ignore[override]
        x: Tensor, w: Tensor, bias: Tensor | None, bias_at: int, plan: Plan, transposed: bool, *tables: Tensor
    ) -> Tensor:
        return _apply(x, w, bias, bias_at, Tables(*tables), plan, transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, bias, ctx.bias_at, ctx.plan, ctx.transposed, *tables = inputs
        ctx.biases = 0 if bias is None else len(bias)
        ctx.save_for_backward(x, w, *tables)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, w, *rest = ctx.saved_tensors
        tables, plan, transposed = Tables(*rest), ctx.plan, ctx.transposed
        need_x, need_w, need_bias = ctx.needs_input_grad[:3]
        dx = dw = db = None
        if need_w and not torch.is_grad_enabled():
            dx, dw = _gradients(x, g, w if need_x else None, tables, plan, transposed)
        else:
            if need_x:
                dx = Mix.apply(g, w, None, 0, plan.swapped(), not transposed, *tables.swapped())
            if need_w:
                dw = _Weights.apply(x, g, plan, transposed, *tables)
        if need_bias:
            at = tables.take_out.narrow(0, ctx.bias_at, ctx.biases)
            db = g.sum(0).index_select(0, at)
        return dx, dw, db, None, None, None, *[None] * 4


class _Weights(Function):
    """Q(x, g) of a map."""

    @staticmethod
    def forward(x: Tensor, g: Tensor, plan: Plan, transposed: bool, *tables: Tensor) -> Tensor:
        return _gradients(x, g, None, Tables(*tables), plan, transposed)[1]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, g, ctx.plan, ctx.transposed, *tables = inputs
        ctx.save_for_backward(x, g, *tables)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, g, *rest = ctx.saved_tensors
        tables, plan = Tables(*rest), ctx.plan
        dx = Mix.apply(g, v, None, 0, plan.swapped(), not ctx.transposed, *tables.swapped())
        dg = Mix.apply(x, v, None, 0, plan, ctx.transposed, *tables)
        return dx, dg, None, None, *[None] * 4
