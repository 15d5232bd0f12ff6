"""The one operator of the sparse backend: a four-linear form and its partial derivatives.

    F(x, w, v, g) = sum_{b,o,p} g[b,o,p] sum_{c,k} w[o,c,k] sum_{t in row p} v[k,t] x[b,c,q_t]

is linear in features x (B, C, Q), weights w (O, C/groups, K), coefficients v (K, T) and output cotangent g (B, O, P).
The layer's output is dF/dg, the gradients are dF/dx, dF/dw and dF/dv; each is again linear in what is left, so the
derivative of any of them is one of the same four. One custom operator with a ``slot`` argument therefore
differentiates to every order. Without w the K functions are returned unmixed: g is (B, C*K, P), c slowest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse.engines import get_engine
from spheregeo.sparse.pattern import KINDS, Pattern

X, W, V, G = range(4)
_NAMES = "xwvg"


@torch.library.custom_op("spheregeo::form", mutates_args=())
def form(
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
) -> Tensor:
    """Partial derivative of F with respect to argument ``slot`` (0..3 for x, w, v, g)."""
    build = KINDS[kind].build
    reference = next(t for t in (x, g, w) if t is not None)
    compute = torch.float32 if reference.dtype in (torch.bfloat16, torch.float16) else reference.dtype
    x, w, v, g = (t if t is None else t.detach().to(compute) for t in (x, w, v, g))
    run = get_engine(engine, reference.device, kind)
    if slot == G:
        assert x is not None and v is not None
        out = run.apply(build(pattern, sizes), v, w, x, groups)
    elif slot == X:
        assert g is not None and v is not None
        out = _apply_adjoint(run, build(adjoint, adjoint_sizes), v[:, order], w, g, groups)
    elif slot == W:
        assert x is not None and v is not None and g is not None
        out = run.weight_gradient(build(pattern, sizes), v, x, g, groups)
    else:
        assert x is not None and g is not None
        out = run.value_gradient(build(pattern, sizes), w, x, g, groups)
    out = out.to(reference.dtype)
    return _layout(out, kind) if slot in (X, G) else out.contiguous()


def _layout(out: Tensor, kind: str) -> Tensor:
    """Features leave scattered maps with channels last in memory and ring maps with longitude last, like they enter."""
    return out.transpose(1, 2).contiguous().transpose(1, 2) if kind == "csr" else out.contiguous()


def _apply_adjoint(run: Any, pattern: Pattern, v: Tensor, w: Tensor | None, g: Tensor, groups: int) -> Tensor:
    """dF/dx: the transposed map on g, with the weights of inputs and outputs exchanged."""
    if w is not None:
        out_per_group = w.shape[0] // groups
        turned = w.view(groups, out_per_group, w.shape[1], w.shape[2]).transpose(1, 2)
        return run.apply(pattern, v, turned.reshape(-1, out_per_group, w.shape[2]), g, groups)
    k = v.shape[0]
    if k == 1:
        return run.apply(pattern, v, None, g, groups)
    channels = g.shape[1] // k
    weight = torch.eye(k, dtype=v.dtype, device=v.device).expand(channels, k, k).contiguous()
    return run.apply(pattern, v, weight, g, channels)


@form.register_fake
def _(x, w, v, g, slot, groups, pattern, adjoint, order, sizes, adjoint_sizes, kind, engine):  # type: ignore[no-untyped-def]
    if slot == G:
        out = w.shape[0] if w is not None else x.shape[1] * v.shape[0]
        return _layout(x.new_empty((x.shape[0], out, sizes[0])), kind)
    if slot == X:
        channels = w.shape[1] * groups if w is not None else g.shape[1] // v.shape[0]
        return _layout(g.new_empty((g.shape[0], channels, sizes[1])), kind)
    if slot == W:
        return x.new_empty((g.shape[1], x.shape[1] // groups, v.shape[0]))
    k = w.shape[2] if w is not None else g.shape[1] // x.shape[1]
    return x.new_empty((k, sizes[2]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, v, g, slot, groups, pattern, adjoint, order, sizes, adjoint_sizes, kind, engine = inputs
    ctx.has = [t is not None for t in (x, w, v, g)]
    ctx.save_for_backward(*[t for t in (x, w, v, g) if t is not None], order, *pattern, *adjoint)
    ctx.rest = (slot, groups, len(pattern), sizes, adjoint_sizes, kind, engine)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    slot, groups, n, sizes, adjoint_sizes, kind, engine = ctx.rest
    saved = list(ctx.saved_tensors)
    arguments: list[Tensor | None] = [saved.pop(0) if has else None for has in ctx.has]
    order, pattern, adjoint = saved[0], saved[1 : 1 + n], saved[1 + n :]
    needed = [ctx.needs_input_grad[i] and ctx.has[i] for i in range(4)]
    arguments[slot] = grad
    gradients: list[Tensor | None] = [None] * 4
    for i in range(4):
        if needed[i]:
            rest = [None if j == i else t for j, t in enumerate(arguments)]
            gradients[i] = form(
                *rest, i, groups, pattern, adjoint, order, sizes, adjoint_sizes, kind, engine
            )
    return (*gradients, None, None, [None] * n, [None] * (len(saved) - 1 - n), None, None, None, None, None)


form.register_autograd(_backward, setup_context=_save)
