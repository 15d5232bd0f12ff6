"""The operator behind steerable convolutions: a form linear in each of source and pair features, weights and cotangent.

    Phi(x, y, w, v, g) = sum over pairs (j -> i), functions f, heads, channels c of
                         g_i[f, c]  W_ij[f, c]  sum_{m1, m2} C[f, m1, m2]  y_ij[m2]  x_j[m1, c]

with W = 1, W = w, or W = w v, linear in both. Each partial derivative is one of three loops, and the derivative of a partial
derivative is again one: gradients of every order (forces, and how they depend on the weights) run through the same compiled code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse.engines.coupling import Call, Tables, couple, couple_back, couple_pairs

X, Y, W, V, G = range(5)
COUNT = 5


def _call(tensors: list[Tensor], sizes: list[int]) -> Call:
    return Call(Tables(*tensors[:4]), *tensors[4:], *sizes)  # type: ignore[arg-type]


def _evaluate(
    x: Tensor | None,
    y: Tensor | None,
    w: Tensor | None,
    v: Tensor | None,
    g: Tensor | None,
    slot: int,
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> Tensor:
    """Partial derivative of Phi with respect to argument ``slot`` (0..4 for x, y, w, v, g), whose own value is not read."""
    call = _call(tensors, sizes)
    reference = y if slot in (X, G) else x
    assert reference is not None
    dtype = reference.dtype
    x, y, w, v, g = (_at_least_single(t, dtype) for t in (x, y, w, v, g))
    with torch.autocast(reference.device.type, enabled=False):
        if slot == G:
            assert x is not None and y is not None
            out = couple(call, x, y, w, v, engine)
        elif slot == X:
            assert y is not None and g is not None
            out = couple_back(call, y, w, v, g, engine)
        else:
            assert x is not None and g is not None
            wanted = (slot == Y, slot == W, slot == V)
            out = couple_pairs(call, x, y, w, v, g, engine, wanted)[slot - Y]
    return out.to(dtype)


def _at_least_single(t: Tensor | None, dtype: torch.dtype) -> Any:
    low = dtype in (torch.bfloat16, torch.float16)
    return None if t is None else t.detach().to(torch.float32 if low else dtype)


def _evaluate_pairs(
    x: Tensor,
    y: Tensor,
    w: Tensor,
    v: Tensor | None,
    g: Tensor,
    wanted: list[bool],
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Those of dPhi/dy, dPhi/dw, dPhi/dv that are wanted together, which share nearly all their work; the others empty.

    Each has the type of its argument.
    """
    types = [x.dtype if t is None or not want else t.dtype for t, want in zip((y, w, v), wanted, strict=True)]
    x, y, w, v, g = (_at_least_single(t, x.dtype) for t in (x, y, w, v, g))
    with torch.autocast(x.device.type, enabled=False):
        found = couple_pairs(_call(tensors, sizes), x, y, w, v, g, engine, tuple(wanted))  # type: ignore[arg-type]
    gy, gw, gv = (t.to(dtype) for t, dtype in zip(found, types, strict=True))
    return gy, gw, gv


coupling_form = torch.library.custom_op("spheregeo::coupling_form", _evaluate, mutates_args=())
coupling_pairs = torch.library.custom_op("spheregeo::coupling_pairs", _evaluate_pairs, mutates_args=())

NUM_TARGET, NUM_SOURCE, KIND, HEADS, WIDTH, DIM, INPUTS, OUTPUTS = range(8)  # what ``sizes`` holds


@coupling_form.register_fake
def _(x, y, w, v, g, slot, tensors, sizes, engine):  # type: ignore[no-untyped-def]
    reference = y if slot in (X, G) else x
    pairs = tensors[5].shape[0]
    if slot == G:
        return reference.new_empty(sizes[NUM_TARGET] * sizes[OUTPUTS] * sizes[HEADS])
    if slot == X:
        return reference.new_empty(sizes[NUM_SOURCE] * sizes[INPUTS])
    if slot == V:
        return reference.new_empty(w.shape[1], sizes[WIDTH])
    if slot == Y:
        return reference.new_empty(pairs, sizes[DIM])
    return reference.new_empty(pairs, sizes[WIDTH] if v is None else v.shape[0])


@coupling_pairs.register_fake
def _(x, y, w, v, g, wanted, tensors, sizes, engine):  # type: ignore[no-untyped-def]
    return tuple(
        t.new_empty(t.shape) if want and t is not None else x.new_empty(0)
        for t, want in zip((y, w, v), wanted, strict=True)
    )


def _save_form(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    arguments = inputs[:COUNT]
    ctx.slot, tensors, ctx.sizes, ctx.engine = inputs[COUNT:]
    ctx.has = [t is not None for t in arguments]
    ctx.save_for_backward(*[t for t in arguments if t is not None], *tensors)


def _partials(
    arguments: list[Tensor | None],
    slot: int,
    needed: list[bool],
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> list[Tensor | None]:
    """Gradients of Phi with respect to the arguments asked for; ``slot`` is not among them."""
    out: list[Tensor | None] = [None] * COUNT
    together = [needed[i] for i in (Y, W, V)]
    if sum(together) > 1:
        found = coupling_pairs(*arguments, together, tensors, sizes, engine)
        out[Y:G] = [t if want else None for t, want in zip(found, together, strict=True)]
    for i in range(COUNT):
        if needed[i] and out[i] is None:
            given = [None if j == i else t for j, t in enumerate(arguments)]
            out[i] = coupling_form(*given, i, tensors, sizes, engine)
    return out


def _saved(ctx: Any) -> tuple[list[Tensor | None], list[Tensor]]:
    """The arguments, None for those that were not given, and the tensors of the structure."""
    saved = list(ctx.saved_tensors)
    return [saved.pop(0) if has else None for has in ctx.has], saved


def _differentiate_form(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    arguments, tensors = _saved(ctx)
    arguments[ctx.slot] = grad.contiguous()
    needed = [ctx.needs_input_grad[i] and ctx.has[i] for i in range(COUNT)]
    out = _partials(arguments, ctx.slot, needed, tensors, ctx.sizes, ctx.engine)
    return (*out, None, [None] * len(tensors), None, None)


def _save_pairs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    arguments = inputs[:COUNT]
    ctx.wanted, tensors, ctx.sizes, ctx.engine = inputs[COUNT:]
    ctx.has = [t is not None for t in arguments]
    ctx.save_for_backward(*[t for t in arguments if t is not None], *tensors)


def _differentiate_pairs(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    """The cotangents stand in for y, w and v: differentiate Phi(x, grad_y, w, v, g) + Phi(x, y, grad_w, v, g) + ..."""
    arguments, tensors = _saved(ctx)
    out: list[Tensor | None] = [None] * COUNT
    for slot, grad, wanted in zip((Y, W, V), grads, ctx.wanted, strict=True):
        if not wanted:
            continue
        given = [grad.contiguous() if j == slot else t for j, t in enumerate(arguments)]
        needed = [bool(ctx.needs_input_grad[i]) and ctx.has[i] and i != slot for i in range(COUNT)]
        for i, term in enumerate(_partials(given, slot, needed, tensors, ctx.sizes, ctx.engine)):
            if term is not None:
                before = out[i]
                out[i] = term if before is None else before + term
    return (*out, None, [None] * len(tensors), None, None)


coupling_form.register_autograd(_differentiate_form, setup_context=_save_form)
coupling_pairs.register_autograd(_differentiate_pairs, setup_context=_save_pairs)
