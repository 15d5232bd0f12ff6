"""The one operator of the sparse backend: a four-linear form and its partial derivatives.

    F(x, w, v, g) = sum_{b,o,p} g[b,o,p] sum_{c,k} w[o,c,k] sum_{t in row p} v[k,t] x[b,c,q_t]

is linear in features x (B, C, Q), weights w (O, C/groups, K), coefficients v (K, T) and output cotangent g (B, O, P).
The layer's output is dF/dg, the gradients are dF/dx, dF/dw and dF/dv; each is again linear in what is left, so the
derivative of any of them is one of the same four. One custom operator with a ``slot`` argument therefore
differentiates to every order; ``gradients`` is two of its slots at once, because they share a contraction.
Without w the K functions are returned unmixed: g is (B, C*K, P), c slowest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse import spectral
from spheregeo.sparse.blocks import BlockEngine
from spheregeo.sparse.engines import get_engine
from spheregeo.sparse.pattern import KINDS

X, W, V, G = range(4)


class _Call:
    """Arguments common to both operators, in the types the engines want."""

    def __init__(
        self,
        tensors: tuple[Tensor | None, ...],
        pattern: list[Tensor],
        adjoint: list[Tensor],
        order: Tensor,
        sizes: list[int],
        adjoint_sizes: list[int],
        kind: str,
        engine: str,
        spectra: list[Tensor],
        bands: list[int],
    ) -> None:
        reference = next(t for t in tensors if t is not None)
        self.dtype, self.kind = reference.dtype, kind
        low = self.dtype in (torch.bfloat16, torch.float16)
        self.value_dtype = (
            torch.float32 if low else self.dtype
        )  # coefficients stay in float32 beside low precision
        compute = self.value_dtype
        self.tensors = [t if t is None else t.detach().to(compute) for t in tensors]
        self.pattern = KINDS[kind].build(pattern, sizes)
        self.adjoint = (KINDS[kind].build(adjoint, adjoint_sizes), order)
        run = get_engine(engine, reference.device)
        self.run = BlockEngine(run) if kind == "blocks" else run  # type: ignore[arg-type]
        self.bands = spectral.restore([spectra[0].to(compute), *spectra[1:]] if spectra else [], bands)

    def features(self, out: Tensor) -> Tensor:
        return _layout(out.to(self.dtype), self.kind)


def _layout(out: Tensor, kind: str) -> Tensor:
    """Features leave scattered maps with channels last in memory and ring maps with longitude last, as they enter."""
    return out.transpose(1, 2).contiguous().transpose(1, 2) if kind == "csr" else out.contiguous()


def _evaluate(
    x: Tensor | None,
    w: Tensor | None,
    v: Tensor | None,
    g: Tensor | None,
    slot: int,
    groups: int,
    pattern: list[Tensor],
    adjoint: list[Tensor],
    order: Tensor,
    sizes: list[int],
    adjoint_sizes: list[int],
    kind: str,
    engine: str,
    spectra: list[Tensor],
    bands: list[int],
) -> Tensor:
    """Partial derivative of F with respect to argument ``slot`` (0..3 for x, w, v, g), which is then None.

    ``spectra`` and ``bands`` add rows that are done by FFT, see :mod:`spheregeo.sparse.spectral`; the pattern lacks them.
    """
    call = _Call((x, g, w, v), pattern, adjoint, order, sizes, adjoint_sizes, kind, engine, spectra, bands)
    x, g, w, v = call.tensors
    run = call.run
    if slot == G:
        assert x is not None and v is not None
        out = run.apply(call.pattern, v, w, x, groups)
        if w is not None:
            spectral.add_apply(run, call.bands, w, x, out)
        return call.features(out)
    if slot == X:
        assert g is not None and v is not None
        out = run.input_gradient(call.adjoint, v, w, g, groups)
        if w is not None:
            spectral.add_gradients(run, call.bands, w, None, g, out, None)
        return call.features(out)
    assert x is not None and g is not None
    if slot == W:
        assert v is not None
        empty = x.new_empty(g.shape[1], x.shape[1] // groups, v.shape[0])
        out = run.gradients(call.pattern, call.adjoint, v, empty, x, g, groups, False)[1]
        spectral.add_gradients(run, call.bands, empty, x, g, None, out)
    else:
        out = run.value_gradient(call.pattern, w, x, g, groups)
    return out.to(call.dtype if slot == W else call.value_dtype).contiguous()


form = torch.library.custom_op("spheregeo::form", _evaluate, mutates_args=())


@form.register_fake
def _(x, w, v, g, slot, groups, pattern, adjoint, order, sizes, adjoint_sizes, kind, engine, spectra, bands):  # type: ignore[no-untyped-def]
    if slot == G:
        out = w.shape[0] if w is not None else x.shape[1] * v.shape[0]
        return _layout(x.new_empty((x.shape[0], out, sizes[0])), kind)
    if slot == X:
        channels = w.shape[1] * groups if w is not None else g.shape[1] // v.shape[0]
        return _layout(g.new_empty((g.shape[0], channels, sizes[1])), kind)
    if slot == W:
        return x.new_empty((g.shape[1], x.shape[1] // groups, v.shape[0]))
    k = w.shape[2] if w is not None else g.shape[1] // x.shape[1]
    low = x.dtype in (torch.bfloat16, torch.float16)
    return x.new_empty((k, sizes[2]), dtype=torch.float32 if low else x.dtype)


def _evaluate_gradients(
    x: Tensor,
    w: Tensor,
    v: Tensor,
    g: Tensor,
    groups: int,
    pattern: list[Tensor],
    adjoint: list[Tensor],
    order: Tensor,
    sizes: list[int],
    adjoint_sizes: list[int],
    kind: str,
    engine: str,
    spectra: list[Tensor],
    bands: list[int],
) -> tuple[Tensor, Tensor]:
    """dF/dx and dF/dw together: one contraction of g serves both."""
    call = _Call((x, g, w, v), pattern, adjoint, order, sizes, adjoint_sizes, kind, engine, spectra, bands)
    cx, cg, cw, cv = call.tensors
    assert cx is not None and cg is not None and cw is not None and cv is not None
    gx, gw = call.run.gradients(call.pattern, call.adjoint, cv, cw, cx, cg, groups, True)
    assert gx is not None
    spectral.add_gradients(call.run, call.bands, cw, cx, cg, gx, gw)
    return call.features(gx), gw.to(call.dtype).contiguous()


gradients = torch.library.custom_op("spheregeo::gradients", _evaluate_gradients, mutates_args=())


@gradients.register_fake
def _(x, w, v, g, groups, pattern, adjoint, order, sizes, adjoint_sizes, kind, engine, spectra, bands):  # type: ignore[no-untyped-def]
    return _layout(torch.empty_like(x, memory_format=torch.contiguous_format), kind), w.new_empty(
        w.shape, dtype=x.dtype
    )


class _Structure:
    """What both operators keep for their derivatives: saved tensors in order, and how to call ``form`` again."""

    def __init__(self, groups, pattern, adjoint, order, sizes, adjoint_sizes, kind, engine, spectra, bands):  # type: ignore[no-untyped-def]
        self.tensors = [order, *pattern, *adjoint, *spectra]
        self.rest = (groups, len(pattern), len(spectra), sizes, adjoint_sizes, kind, engine, bands)

    @staticmethod
    def restore(tensors: list[Tensor], rest: tuple[Any, ...]) -> tuple[Any, ...]:
        groups, n, n_spectra, sizes, adjoint_sizes, kind, engine, bands = rest
        order, pattern, tail = tensors[0], list(tensors[1 : 1 + n]), list(tensors[1 + n :])
        adjoint, spectra = tail[: len(tail) - n_spectra], tail[len(tail) - n_spectra :]
        return groups, pattern, adjoint, order, sizes, adjoint_sizes, kind, engine, spectra, bands

    @staticmethod
    def no_gradients(structure: tuple[Any, ...]) -> tuple[Any, ...]:
        """None for every structural argument, in the shape autograd expects: lists for lists, [] for an empty one."""
        is_list = [isinstance(a, list) and (not a or isinstance(a[0], Tensor)) for a in structure]
        return tuple(
            [None] * len(a) if listed else None for a, listed in zip(structure, is_list, strict=True)
        )


def _save_form(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    arguments, slot, structure = inputs[:4], inputs[4], _Structure(*inputs[5:])
    ctx.has = [t is not None for t in arguments]
    ctx.save_for_backward(*[t for t in arguments if t is not None], *structure.tensors)
    ctx.slot, ctx.rest = slot, structure.rest


def _differentiate_form(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    arguments: list[Tensor | None] = [saved.pop(0) if has else None for has in ctx.has]
    structure = _Structure.restore(saved, ctx.rest)
    needed = [ctx.needs_input_grad[i] and ctx.has[i] for i in range(4)]
    arguments[ctx.slot] = grad
    out: list[Tensor | None] = [None] * 4
    if needed[X] and needed[W] and arguments[V] is not None:
        out[X], out[W] = gradients(*arguments, *structure)
        needed[X] = needed[W] = False
    for i in range(4):
        if needed[i]:
            given = [None if j == i else t for j, t in enumerate(arguments)]
            out[i] = form(*given, i, *structure)
    return (*out, None, *_Structure.no_gradients(structure))


def _save_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    structure = _Structure(*inputs[4:])
    ctx.save_for_backward(*inputs[:4], *structure.tensors)
    ctx.rest = structure.rest


def _differentiate_gradients(ctx: Any, grad_x: Tensor, grad_w: Tensor) -> tuple[Any, ...]:
    """The cotangents stand in for x and for w: differentiate F(grad_x, w, v, g) + F(x, grad_w, v, g)."""
    saved = list(ctx.saved_tensors)
    arguments, structure = saved[:4], _Structure.restore(saved[4:], ctx.rest)
    out: list[Tensor | None] = [None] * 4
    for slot, grad in ((X, grad_x), (W, grad_w)):
        for i in range(4):
            if i != slot and ctx.needs_input_grad[i]:
                given = [None if j == i else grad if j == slot else t for j, t in enumerate(arguments)]
                term = form(*given, i, *structure)
                before = out[i]
                out[i] = term if before is None else before + term
    return (*out, *_Structure.no_gradients(structure))


form.register_autograd(_differentiate_form, setup_context=_save_form)
gradients.register_autograd(_differentiate_gradients, setup_context=_save_gradients)


class _Eager(torch.autograd.Function):
    """The same operator without the dispatcher, which costs as much as a small layer: for plain first derivatives."""

    @staticmethod
    def forward(x: Tensor, w: Tensor | None, v: Tensor, structure: tuple[Any, ...]) -> Tensor:
        return _evaluate(x, w, v, None, G, *structure)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, v, ctx.structure = inputs
        ctx.save_for_backward(x, w, v)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, w, v = ctx.saved_tensors
        needs_x, needs_w, needs_v = ctx.needs_input_grad[:3]
        both, one = (gradients, form) if torch.is_grad_enabled() else (_evaluate_gradients, _evaluate)
        gx = gw = gv = None
        if needs_x and needs_w:
            gx, gw = both(x, w, v, grad, *ctx.structure)
        elif needs_x:
            gx = one(None, w, v, grad, X, *ctx.structure)
        elif needs_w:
            gw = one(x, None, v, grad, W, *ctx.structure)
        if needs_v:
            gv = one(x, w, None, grad, V, *ctx.structure)
        return gx, gw, gv, None


def apply_form(x: Tensor, w: Tensor | None, v: Tensor, structure: tuple[Any, ...]) -> Tensor:
    """dF/dg, by the custom operator where a compiler is looking and directly where none is."""
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return form(x, w, v, None, G, *structure)
    return _Eager.apply(x, w, v, structure)
