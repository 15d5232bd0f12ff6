"""The operator behind :class:`~spheregeo.sparse.RowMaps`: a form linear in features, coefficients and cotangent.

    Phi(x, k, g) = sum over rows r, functions f, channels c of  g_r[f, c]  sum_m k_r[f, m]  x_{i(r)}[m, c]

Each partial derivative is one of three loops, and so is every derivative of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

X, K, G = range(3)
POINTS, INPUTS, OUTPUTS, WIDTH = range(4)  # what ``sizes`` holds
BLOCKS, FUNCTIONS, INDEX, INDPTR, ORDER = range(5)  # what ``tensors`` holds


def _evaluate(
    x: Tensor | None,
    k: Tensor | None,
    g: Tensor | None,
    slot: int,
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> Tensor:
    """Partial derivative of Phi with respect to argument ``slot``, whose own value is not read."""
    given = [t.detach() for t in (x, k, g) if t is not None]
    dtype = given[0].dtype
    low = dtype in (torch.bfloat16, torch.float16)
    first, second = (t.to(torch.float32 if low else dtype).contiguous() for t in given)
    with torch.autocast(first.device.type, enabled=False):
        size = _size(slot, tensors, sizes)
        out = first.new_empty(size) if slot == G else first.new_zeros(size)
        if _compiled(first, engine):
            _by_kernels(slot, first, second, out, tensors, sizes)
        else:
            _by_torch(slot, first, second, out, tensors, sizes)
    return out.to(dtype)


def _size(slot: int, tensors: list[Tensor], sizes: list[int]) -> tuple[int, ...]:
    rows = tensors[INDEX].shape[0]
    shapes = ((sizes[POINTS] * sizes[INPUTS],), (rows, sizes[WIDTH]), (rows * sizes[OUTPUTS],))
    return shapes[slot]


def _compiled(x: Tensor, engine: str) -> bool:
    if (
        engine not in ("auto", "cpu")
        or x.device.type != "cpu"
        or x.dtype not in (torch.float32, torch.float64)
    ):
        return False
    from spheregeo.sparse.engines import cpu

    return not cpu.forked()


def _by_kernels(
    slot: int, a: Tensor, b: Tensor, out: Tensor, tensors: list[Tensor], sizes: list[int]
) -> None:
    """The two arguments that are given, in order, and where the third one's derivative goes."""
    from spheregeo.sparse.engines import cpu, kernels

    blocks, functions, index, indptr, order = (cpu.array(t) for t in tensors)
    points = sizes[POINTS]
    with cpu.threads():
        if slot == G:
            kernels.rows_apply(a.numpy(), b.numpy(), index, blocks, functions, points, out.numpy())
        elif slot == X:
            kernels.rows_adjoint(b.numpy(), a.numpy(), indptr, order, blocks, functions, points, out.numpy())
        else:
            kernels.rows_coefficients(a.numpy(), b.numpy(), index, blocks, functions, points, out.numpy())


def _parts(
    x: Tensor, k: Tensor, z: Tensor, tensors: list[Tensor], points: int
) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
    """Of each block views of the source (N, d, C), of coefficients (R, F, d), and of each function's rows (R, C)."""
    rows = tensors[INDEX].shape[0]
    functions = tensors[FUNCTIONS].tolist()
    for column, d, n, first, last, at in tensors[BLOCKS].tolist():
        source = x[points * column : points * (column + d * n)].view(points, d, n)
        matrix = k[:, at : at + (last - first) * d].unflatten(1, (last - first, d))
        groups = []
        for base, width, component, columns, place in functions[first:last]:
            group = z[rows * base : rows * (base + width)].view(rows, width)
            groups.append(group.narrow(1, component * columns + place, n))
        yield source, matrix, groups


def _by_torch(slot: int, a: Tensor, b: Tensor, out: Tensor, tensors: list[Tensor], sizes: list[int]) -> None:
    arguments = [a, b]
    arguments.insert(slot, out)
    first, second, third = arguments
    index = tensors[INDEX]
    for x, k, z in _parts(first, second, third, tensors, sizes[POINTS]):
        if slot == G:
            for goal, part in zip(z, (k @ x[index]).unbind(1), strict=True):
                goal.copy_(part)
        elif slot == X:
            x.index_add_(0, index, k.mT @ torch.stack(z, 1))
        else:
            k.copy_(torch.stack(z, 1) @ x[index].mT)


row_form = torch.library.custom_op("spheregeo::row_form", _evaluate, mutates_args=())


@row_form.register_fake
def _(x, k, g, slot, tensors, sizes, engine):  # type: ignore[no-untyped-def]
    like = k if slot in (X, G) else x
    return like.new_empty(_size(slot, tensors, sizes))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    arguments, ctx.slot, tensors, ctx.sizes, ctx.engine = inputs[:3], *inputs[3:]
    ctx.has = [t is not None for t in arguments]
    ctx.save_for_backward(*[t for t in arguments if t is not None], *tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    arguments: list[Tensor | None] = [saved.pop(0) if has else None for has in ctx.has]
    arguments[ctx.slot] = grad.contiguous()
    out: list[Tensor | None] = [None] * 3
    for i in range(3):
        if i != ctx.slot and ctx.needs_input_grad[i]:
            given = [None if j == i else t for j, t in enumerate(arguments)]
            out[i] = row_form(*given, i, saved, ctx.sizes, ctx.engine)
    return (*out, None, [None] * len(saved), None, None)


row_form.register_autograd(_differentiate, setup_context=_save)
