r"""Softmax over the nonzeros of each row, with scores from queries and keys: the form behind ``AttentionMap``.

    s_pth = < Q_ph, K_qh > + a_t + sum_j u_tj bias_h,i(tj)            q the source of nonzero t of row p
    Y_ph  = sum_t softmax_t(s_pth) V_qh                               L_ph = log sum_t exp s_pth

This form is not linear in its arguments, so it is no :class:`~spheregeo.sparse.multilinear.Multilinear`; its gradients need the
scores, which are computed again from L. Nothing of a size nonzeros x heads is kept, nor made for more than a block of rows.
Gradients of gradients go by the plain formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spheregeo.autograd import is_transformed, mapped
from spheregeo.sparse.forms.linear import LINEAR, LinearStructure
from spheregeo.sparse.patterns import Pattern
from spheregeo.sparse.patterns.base import Memo
from spheregeo.sparse.registry import WIDENED, pick


@dataclass(frozen=True)
class AttentionStructure(Memo):
    """Rows with their adjoint (``linear``, whose groups are the heads) and what the scores take from a nonzero.

    Shape: offset a (T,), index i (T, J) int32 and share u (T, J) for the T columns of the pattern's table.
    """

    linear: LinearStructure
    offset: Tensor
    index: Tensor
    share: Tensor

    @property
    def pattern(self) -> Pattern:
        return self.linear.pattern

    @property
    def heads(self) -> int:
        return self.linear.groups

    @property
    def tensors(self) -> list[Tensor]:
        return [self.offset, self.index, self.share, *self.linear.tensors]

    @property
    def sizes(self) -> list[int]:
        return self.linear.sizes

    @classmethod
    def build(cls, tensors: Sequence[Tensor], sizes: Sequence[int]) -> AttentionStructure:
        """Inverse of ``tensors`` and ``sizes``."""
        offset, index, share, *rest = tensors
        return cls(LINEAR.build(rest, sizes), offset, index, share)


def bias_of(structure: AttentionStructure, bias: Tensor | None, column: Tensor) -> Tensor:
    """What the scores take from nonzeros beside queries and keys: (n,) table columns -> (n, heads)."""
    scores = structure.offset[column][:, None]
    if bias is None:
        return scores.expand(-1, structure.heads)
    share = structure.share[column].to(bias.dtype)  # (n, J)
    taken = bias.T[structure.index[column].long()]  # (n, J, heads)
    return scores.to(bias.dtype) + (share[:, :, None] * taken).sum(1)


def plain(
    structure: AttentionStructure, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The form in plain operations, which torch differentiates to any order; memory nonzeros times channels."""
    heads = structure.heads
    target, source, column = structure.pattern.coo()
    at_q, at_k = (t.index_select(1, i).unflatten(2, (heads, -1)) for t, i in ((q, target), (k, source)))
    s = (at_q * at_k).sum(-1) + bias_of(structure, bias, column).to(q.dtype)  # (B, n, heads)
    shape = (q.shape[0], structure.pattern.num_target, heads)
    where = target[None, :, None].expand(s.shape)
    top = s.detach().new_full(shape, float("-inf")).scatter_reduce(1, where, s.detach(), "amax")
    top = torch.where(top.isinf(), 0.0, top)
    e = (s - top.index_select(1, target)).exp()
    total = s.new_zeros(shape).index_add(1, target, e)
    p = e / total.index_select(1, target)
    weighted = p[..., None] * v.index_select(1, source).unflatten(2, (heads, -1))  # (B, n, heads, D / heads)
    y = v.new_zeros(*shape, v.shape[2] // heads).index_add(1, target, weighted)
    return y.flatten(2), total.log() + top


def attend(
    engine: str,
    structure: tuple[Sequence[Tensor], Sequence[int]],
    arguments: tuple[Tensor, Tensor, Tensor, Tensor | None],
) -> Tensor:
    """Y by an engine, with gradients; the structure comes as tensors and sizes."""
    q, k, v, bias = arguments
    dtype = q.dtype
    compute = WIDENED.get(dtype, dtype)
    q, k, v = (t.to(compute) for t in (q, k, v))
    bias = None if bias is None else bias.to(compute)
    if is_transformed():
        return plain(AttentionStructure.build(*structure), q, k, v, bias)[0].to(dtype)
    y: Tensor = attention(q, k, v, bias, list(structure[0]), list(structure[1]), engine)[0]
    return y.to(dtype)


def _evaluate(
    name: str, engine: str, structure: AttentionStructure, arguments: Sequence[Any], wanted: Any
) -> Any:
    device = arguments[0].device
    prepared = [None if t is None else t.detach().contiguous() for t in arguments]
    with torch.autocast(device.type, enabled=False):
        return pick(engine, arguments[0], name)[0](structure, prepared, wanted)


@torch.library.custom_op("spheregeo::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> tuple[Tensor, Tensor]:
    """Y (B, P, D) and L (B, P, heads) of q (B, P, C), k (B, Q, C), v (B, Q, D) and bias (heads, K)."""
    structure = AttentionStructure.build(tensors, sizes)
    y, total = _evaluate("attention", engine, structure, (q, k, v, bias), ())
    return y, total


@attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> tuple[Tensor, Tensor]:
    return q.new_empty(*q.shape[:2], v.shape[2]), q.new_empty(*q.shape[:2], sizes[0])


@torch.library.custom_op("spheregeo::attention_gradients", mutates_args=())
def attention_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    y: Tensor,
    total: Tensor,
    g: Tensor,
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> list[Tensor]:
    """Gradients of < g, Y > to q, k, v and, where there is one, bias."""
    wanted = (0, 1, 2) if bias is None else (0, 1, 2, 3)
    delta = (g * y).unflatten(2, (sizes[0], -1)).sum(-1)
    arguments = (q, k, v, bias, total, delta, g)
    return _evaluate(
        "attention_gradients", engine, AttentionStructure.build(tensors, sizes), arguments, wanted
    )  # type: ignore[no-any-return]


@attention_gradients.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    y: Tensor,
    total: Tensor,
    g: Tensor,
    tensors: list[Tensor],
    sizes: list[int],
    engine: str,
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t in (q, k, v, bias) if t is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, tensors, ctx.sizes, ctx.engine = inputs
    ctx.save_for_backward(q, k, v, bias, *output, *tensors)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g: Tensor | None, _: Any) -> tuple[Any, ...]:
    q, k, v, bias, y, total, *tensors = ctx.saved_tensors
    rest = ([None] * len(tensors), None, None)
    if g is None:
        return (None, None, None, None, *rest)
    found = attention_gradients(q, k, v, bias, y, total, g, tensors, ctx.sizes, ctx.engine)
    return (*found, *([None] if bias is None else []), *rest)


def _save_again(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    q, k, v, bias, _, _, g, tensors, ctx.sizes, _ = inputs
    ctx.save_for_backward(q, k, v, bias, g, *tensors)
    ctx.set_materialize_grads(False)


def _differentiate_again(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    """Derivatives of the gradients, by the plain formula: Y and L count as functions of the other arguments."""
    q, k, v, bias, g, *tensors = ctx.saved_tensors
    structure = AttentionStructure.build(tensors, ctx.sizes)
    with torch.enable_grad():
        given = [t.detach().requires_grad_() for t in (q, k, v, bias, g) if t is not None]
        first = [*given[:3], None if bias is None else given[3]]
        y = plain(structure, *first)[0]  # type: ignore[arg-type]
        inner = torch.autograd.grad(y, given[:-1], given[-1], create_graph=True)
        pairs = [(a, b) for a, b in zip(inner, grads, strict=True) if b is not None]
        outer = torch.autograd.grad([a for a, _ in pairs], given, [b for _, b in pairs], allow_unused=True)
    found = [*outer[:3], None if bias is None else outer[3], None, None, outer[-1]]
    return (*found, [None] * len(tensors), None, None)


attention.register_autograd(_differentiate, setup_context=_save)
attention.register_vmap(lambda info, in_dims, *args: mapped(attention, info, in_dims, *args))
attention_gradients.register_autograd(_differentiate_again, setup_context=_save_again)
attention_gradients.register_vmap(
    lambda info, in_dims, *args: mapped(attention_gradients, info, in_dims, *args)
)
