"""The operator behind steerable convolutions: a form linear in each of source features, pair features, weights and cotangent.

    Phi(x, y, w, g) = sum over pairs (j -> i), functions f, heads, channels c of
                      g_i[f, c]  w_ij[f, c]  sum_{m1, m2} C[f, m1, m2]  y_ij[m2]  x_j[m1, c]

Each partial derivative is one of three loops, and the derivative of a partial derivative is again one: gradients of every order
(forces, and how they depend on the weights) run through the same compiled code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spheregeo.sparse.engines.coupling import Call, Tables, couple, couple_back, couple_pairs

X, Y, W, G = range(4)


def _call(tensors: list[Tensor], sizes: list[int]) -> Call:
    return Call(Tables(*tensors[:4]), *tensors[4:], *sizes)  # type: ignore[arg-type]


def _evaluate(
    x: Tensor | None,
    y: Tensor | None,
    w: Tensor | None,
    g: Tensor | None,
    slot: int,
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> Tensor:
    """Partial derivative of Phi with respect to argument ``slot`` (0..3 for x, y, w, g), whose own value is not read."""
    call = _call(tensors, sizes)
    reference = y if slot in (X, G) else x
    assert reference is not None
    dtype = reference.dtype
    low = dtype in (torch.bfloat16, torch.float16)
    x, y, w, g = (None if t is None else t.detach().to(torch.float32 if low else dtype) for t in (x, y, w, g))
    with torch.autocast(reference.device.type, enabled=False):
        if slot == G:
            assert x is not None and y is not None
            out = couple(call, x, y, w, engine)
        elif slot == X:
            assert y is not None and g is not None
            out = couple_back(call, y, w, g, engine)
        else:
            assert x is not None and g is not None
            out = couple_pairs(call, x, y, w, g, engine, (slot == Y, slot == W))[slot - Y]
    return out.to(dtype)


def _evaluate_pairs(
    x: Tensor, y: Tensor, w: Tensor, g: Tensor, tensors: list[Tensor], sizes: list[int], engine: str
) -> tuple[Tensor, Tensor]:
    """dPhi/dy and dPhi/dw together, which share nearly all their work."""
    dtype = x.dtype
    low = dtype in (torch.bfloat16, torch.float16)
    x, y, w, g = (t.detach().to(torch.float32 if low else dtype) for t in (x, y, w, g))
    with torch.autocast(x.device.type, enabled=False):
        gy, gw = couple_pairs(_call(tensors, sizes), x, y, w, g, engine, (True, True))
    return gy.to(dtype), gw.to(dtype)


coupling_form = torch.library.custom_op("spheregeo::coupling_form", _evaluate, mutates_args=())
coupling_pairs = torch.library.custom_op("spheregeo::coupling_pairs", _evaluate_pairs, mutates_args=())

NUM_TARGET, NUM_SOURCE, KIND, HEADS, WIDTH, DIM, INPUTS, OUTPUTS = range(8)  # what ``sizes`` holds


@coupling_form.register_fake
def _(x, y, w, g, slot, tensors, sizes, engine):  # type: ignore[no-untyped-def]
    reference = y if slot in (X, G) else x
    pairs = tensors[5].shape[0]
    if slot == G:
        return reference.new_empty(sizes[NUM_TARGET] * sizes[OUTPUTS] * sizes[HEADS])
    if slot == X:
        return reference.new_empty(sizes[NUM_SOURCE] * sizes[INPUTS])
    return reference.new_empty(pairs, sizes[DIM] if slot == Y else sizes[WIDTH])


@coupling_pairs.register_fake
def _(x, y, w, g, tensors, sizes, engine):  # type: ignore[no-untyped-def]
    return torch.empty_like(y), torch.empty_like(w)


def _save_form(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    arguments, ctx.slot, tensors, ctx.sizes, ctx.engine = (
        inputs[:4],
        inputs[4],
        inputs[5],
        inputs[6],
        inputs[7],
    )
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
    out: list[Tensor | None] = [None] * 4
    if needed[Y] and needed[W]:
        out[Y], out[W] = coupling_pairs(*arguments, tensors, sizes, engine)
    for i in range(4):
        if needed[i] and out[i] is None:
            given = [None if j == i else t for j, t in enumerate(arguments)]
            out[i] = coupling_form(*given, i, tensors, sizes, engine)
    return out


def _differentiate_form(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    arguments: list[Tensor | None] = [saved.pop(0) if has else None for has in ctx.has]
    arguments[ctx.slot] = grad.contiguous()
    needed = [ctx.needs_input_grad[i] and ctx.has[i] for i in range(4)]
    out = _partials(arguments, ctx.slot, needed, saved, ctx.sizes, ctx.engine)
    return (*out, None, [None] * len(saved), None, None)


def _save_pairs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:4], *inputs[4])
    ctx.sizes, ctx.engine = inputs[5], inputs[6]


def _differentiate_pairs(ctx: Any, grad_y: Tensor, grad_w: Tensor) -> tuple[Any, ...]:
    """The cotangents stand in for y and for w: differentiate Phi(x, grad_y, w, g) + Phi(x, y, grad_w, g)."""
    arguments, tensors = list(ctx.saved_tensors[:4]), list(ctx.saved_tensors[4:])
    out: list[Tensor | None] = [None] * 4
    for slot, grad in ((Y, grad_y), (W, grad_w)):
        given: list[Tensor | None] = [grad.contiguous() if j == slot else t for j, t in enumerate(arguments)]
        needed = [bool(ctx.needs_input_grad[i]) and i != slot for i in range(4)]
        for i, term in enumerate(_partials(given, slot, needed, tensors, ctx.sizes, ctx.engine)):
            if term is not None:
                before = out[i]
                out[i] = term if before is None else before + term
    return (*out, [None] * len(tensors), None, None)


coupling_form.register_autograd(_differentiate_form, setup_context=_save_form)
coupling_pairs.register_autograd(_differentiate_pairs, setup_context=_save_pairs)
