"""The operator behind gauge-equivariant layers: a trilinear form in features, weights and the output's cotangent.

    F(x, w, g) = sum_p < g(p), sum_t sum_k  rho_out(theta_t) w_k rho_in(g_t - theta_t) x(q_t)  c_k(t) >

for planar-to-public type descriptions as in :mod:`spheregeo.sparse.orders`. Read backwards, pairs reversed, transports
negated and weights transposed, it is the same form: so one routine gives the output and the input's gradient, and the
derivative of any partial derivative is again a partial derivative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse.engines.tangent import Rows, contract
from spheregeo.sparse.orders import Orders, layout, lift, unlift

X, W, G = range(3)


class _Call:
    """The operator's arguments, unpacked: both directions of the map and both types."""

    def __init__(
        self,
        reference: Tensor,
        tensors: list[Tensor],
        source: list[int],
        target: list[int],
        rings: int,
        sizes: list[int],
        engine: str,
    ) -> None:
        table, *structure = tensors
        self.dtype = reference.dtype
        low = self.dtype in (torch.bfloat16, torch.float16)
        self.compute = torch.float32 if low else self.dtype
        self.table = table.to(self.compute)
        self.forward = Rows(False, *structure[:5])
        self.backward = Rows(True, *structure[5:])
        self.source, self.target = Orders.of(source), Orders.of(target)
        self.rings, self.engine, self.sizes = rings, engine, sizes

    def features(self, x: Tensor, orders: Orders) -> Tensor:
        """(B, C, N) to planar (B, N, C)."""
        return orders.planar(x.detach().to(self.compute).transpose(1, 2), 2)

    def weights(self, w: Tensor) -> Tensor:
        return self.source.planar(self.target.planar(w.detach().to(self.compute), 0), 1)

    def result(self, y: Tensor, orders: Orders) -> Tensor:
        """Planar (B, N, C) to (B, C, N), channels last in memory."""
        return orders.public(y, 2).to(self.dtype).transpose(1, 2)

    def result_weights(self, w: Tensor) -> Tensor:
        return self.target.public(self.source.public(w, 1), 0).to(self.dtype).contiguous()

    def run(
        self, rows: Rows, x: Tensor, w: Tensor | None, other: Tensor | None, sums: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """One contraction of x (B, N, C): mixed by w, and (``sums``) correlated with ``other`` (B, M, D), both planar.

        w is planar, (channels of the result, channels of x, R); so is the correlation.
        """
        source, target = (self.target, self.source) if rows.adjoint else (self.source, self.target)
        batch, number = x.shape[0], len(rows.indptr) - 1
        _, ends = layout(source, target, self.rings)
        begins = [0, *ends[:-1]]
        matrices = [] if w is None else lift(w, source, target)
        y = None if w is None else x.new_empty(batch, number, target.dim)
        spans = []
        for order, first, count in target.blocks:
            spans.append(slice(first, first + count * (2 if order else 1)))
        totals = (
            [x.new_zeros(e - b, s.stop - s.start) for b, e, s in zip(begins, ends, spans, strict=True)]
            if sums
            else []
        )
        for b in range(batch):
            parts = contract(self.engine, rows, self.table, x[b], source, target, self.rings)
            for where, z in parts:
                for i, span in enumerate(spans):
                    part = z[:, begins[i] : ends[i]]
                    if y is not None:
                        y[b, where, span] = part @ matrices[i]
                    if sums:
                        assert other is not None
                        totals[i].addmm_(part.T, other[b, where, span])
        return y, unlift(totals, source, target, self.rings) if sums else None

    def apply(self, x: Tensor, w: Tensor) -> Tensor:
        y, _ = self.run(self.forward, self.features(x, self.source), self.weights(w), None, False)
        assert y is not None
        return self.result(y, self.target)

    def gradients(self, x: Tensor | None, w: Tensor | None, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """dF/dx (if w is given) and dF/dw (if x is given)."""
        if w is None and self.source.dim <= self.target.dim:  # contract the narrower of the two
            assert x is not None
            _, gw = self.run(
                self.forward, self.features(x, self.source), None, self.features(g, self.target), True
            )
            assert gw is not None
            return None, self.result_weights(gw)
        weights = None if w is None else self.weights(w).transpose(0, 1)
        other = None if x is None else self.features(x, self.source)
        gx, gw = self.run(self.backward, self.features(g, self.target), weights, other, x is not None)
        return (
            None if gx is None else self.result(gx, self.source),
            None if gw is None else self.result_weights(gw.transpose(0, 1)),
        )


def _evaluate(
    x: Tensor | None,
    w: Tensor | None,
    g: Tensor | None,
    slot: int,
    tensors: list[Tensor],
    source: list[int],
    target: list[int],
    rings: int,
    sizes: list[int],
    engine: str,
) -> Tensor:
    """Partial derivative of F with respect to argument ``slot`` (0..2 for x, w, g), which is then None."""
    reference = x if x is not None else g
    assert reference is not None
    call = _Call(reference, tensors, source, target, rings, sizes, engine)
    with torch.autocast(reference.device.type, enabled=False):  # the precision is ours: see _Call.compute
        if slot == G:
            assert x is not None and w is not None
            return call.apply(x, w)
        assert g is not None
        gx, gw = call.gradients(x if slot == W else None, w if slot == X else None, g)
    out = gx if slot == X else gw
    assert out is not None
    return out


def _evaluate_gradients(
    x: Tensor,
    w: Tensor,
    g: Tensor,
    tensors: list[Tensor],
    source: list[int],
    target: list[int],
    rings: int,
    sizes: list[int],
    engine: str,
) -> tuple[Tensor, Tensor]:
    """dF/dx and dF/dw together: one contraction of g serves both."""
    with torch.autocast(x.device.type, enabled=False):
        gx, gw = _Call(x, tensors, source, target, rings, sizes, engine).gradients(x, w, g)
    assert gx is not None and gw is not None
    return gx, gw


tangent_form = torch.library.custom_op("spheregeo::tangent_form", _evaluate, mutates_args=())
tangent_gradients = torch.library.custom_op(
    "spheregeo::tangent_gradients", _evaluate_gradients, mutates_args=()
)


def _last(batch: int, channels: int, points: int, like: Tensor) -> Tensor:
    return like.new_empty(batch, points, channels).transpose(1, 2)


@tangent_form.register_fake
def _(x, w, g, slot, tensors, source, target, rings, sizes, engine):  # type: ignore[no-untyped-def]
    inputs, outputs = Orders.of(source).dim, Orders.of(target).dim
    if slot == G:
        return _last(x.shape[0], outputs, sizes[0], x)
    if slot == X:
        return _last(g.shape[0], inputs, sizes[1], g)
    return x.new_empty(outputs, inputs, rings)


@tangent_gradients.register_fake
def _(x, w, g, tensors, source, target, rings, sizes, engine):  # type: ignore[no-untyped-def]
    inputs, outputs = Orders.of(source).dim, Orders.of(target).dim
    return _last(x.shape[0], inputs, sizes[1], x), x.new_empty(outputs, inputs, rings)


def _save_form(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    arguments, ctx.slot, tensors, *rest = inputs[:3], inputs[3], inputs[4], *inputs[5:]
    ctx.has = [t is not None for t in arguments]
    ctx.save_for_backward(*[t for t in arguments if t is not None], *tensors)
    ctx.rest = tuple(rest)


def _differentiate_form(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    arguments: list[Tensor | None] = [saved.pop(0) if has else None for has in ctx.has]
    arguments[ctx.slot] = grad
    needed = [ctx.needs_input_grad[i] and ctx.has[i] for i in range(3)]
    out: list[Tensor | None] = [None] * 3
    if needed[X] and needed[W]:
        out[X], out[W] = tangent_gradients(*arguments, saved, *ctx.rest)
        needed[X] = needed[W] = False
    for i in range(3):
        if needed[i]:
            given = [None if j == i else t for j, t in enumerate(arguments)]
            out[i] = tangent_form(*given, i, saved, *ctx.rest)
    return (*out, None, [None] * len(saved), *([None] * len(ctx.rest)))


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *inputs[3])
    ctx.rest = tuple(inputs[4:])


def _differentiate_gradients(ctx: Any, grad_x: Tensor, grad_w: Tensor) -> tuple[Any, ...]:
    """The cotangents stand in for x and for w: differentiate F(grad_x, w, g) + F(x, grad_w, g)."""
    arguments, tensors = list(ctx.saved_tensors[:3]), list(ctx.saved_tensors[3:])
    out: list[Tensor | None] = [None] * 3
    for slot, grad in ((X, grad_x), (W, grad_w)):
        for i in range(3):
            if i != slot and ctx.needs_input_grad[i]:
                given = [None if j == i else grad if j == slot else t for j, t in enumerate(arguments)]
                term = tangent_form(*given, i, tensors, *ctx.rest)
                before = out[i]
                out[i] = term if before is None else before + term
    return (*out, [None] * len(tensors), *([None] * len(ctx.rest)))


tangent_form.register_autograd(_differentiate_form, setup_context=_save_form)
tangent_gradients.register_autograd(_differentiate_gradients, setup_context=_save_gradients)


class _Eager(torch.autograd.Function):
    """The same operator without the dispatcher: for plain first derivatives."""

    @staticmethod
    def forward(x: Tensor, w: Tensor, structure: tuple[Any, ...]) -> Tensor:
        return _evaluate(x, w, None, G, *structure)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, ctx.structure = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, w = ctx.saved_tensors
        needs_x, needs_w = ctx.needs_input_grad[:2]
        both, one = (
            (tangent_gradients, tangent_form) if torch.is_grad_enabled() else (_evaluate_gradients, _evaluate)
        )
        gx = gw = None
        if needs_x and needs_w:
            gx, gw = both(x, w, grad, *ctx.structure)
        elif needs_x:
            gx = one(None, w, grad, X, *ctx.structure)
        elif needs_w:
            gw = one(x, None, grad, W, *ctx.structure)
        return gx, gw, None


def apply_tangent_form(x: Tensor, w: Tensor, structure: tuple[Any, ...]) -> Tensor:
    """dF/dg, by the custom operator where a compiler is looking and directly where none is."""
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        result: Tensor = tangent_form(x, w, None, G, *structure)
        return result
    out: Tensor = _Eager.apply(x, w, structure)
    return out
