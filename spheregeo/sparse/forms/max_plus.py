r"""Largest sums of a value and a coefficient, the contraction of the semiring (max, +): dilation, erosion, learned pooling.

    y_p = max_t ( x_q(p,t) + k_c(p,t) )             t*_p the first tap that attains it, −1 where none is above −∞

over shifts of planes (:class:`Stencil`) or the nonzeros of rows (:class:`MaxRows`). The form is linear in (x, k) once the taps t*
are known. So the gradients of y are g added up at q(p, t*) and c(p, t*), their own derivatives are values read at these places,
and each is the other's adjoint: gradients of every order keep the taps alone, two bytes a place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spheregeo.autograd import is_transformed, mapped
from spheregeo.constants import table
from spheregeo.sparse.patterns.base import Memo
from spheregeo.sparse.registry import WIDENED, pick


@dataclass(frozen=True)
class Stencil(Memo):
    """Taps at shifts (turn, down, right) of planes: the first axis is periodic, the others see −∞ outside.

    Shape: x (B, channels, turns, H, W), k (D, inputs, turns, T) -> (B, D, turns, H, W), in channels / inputs groups.
    """

    channels: int
    inputs: int
    shifts: tuple[tuple[int, int, int], ...]

    @property
    def sizes(self) -> list[int]:
        return [0, self.channels, self.inputs, *(s for shift in self.shifts for s in shift)]

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """Places above, below, to the left and to the right of a plane that taps reach."""
        down, right = [s[1] for s in self.shifts], [s[2] for s in self.shifts]
        return max(0, -min(down)), max(0, *down), max(0, -min(right)), max(0, *right)

    def given(self, g: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of x and k of a result's shape."""
        return (g.shape[0], self.channels, *g.shape[2:]), (
            g.shape[1],
            self.inputs,
            g.shape[2],
            len(self.shifts),
        )

    def result(self, x: Tensor, k: Tensor) -> tuple[int, ...]:
        return (x.shape[0], k.shape[0], *x.shape[2:])

    def candidates(self, x: Tensor, k: Tensor) -> Iterator[tuple[Tensor | int, Tensor]]:
        """Each tap's sums, in turn."""
        groups = self.channels // self.inputs
        top, bottom, left, right = self.margins
        height, width = x.shape[-2:]
        padded = F.pad(x, (left, right, top, bottom), value=float("-inf")).unflatten(1, (groups, self.inputs))
        coefficients = k.unflatten(0, (groups, -1))  # (groups, D / groups, inputs, turns, T)
        for c in range(self.inputs):
            for t, (turn, down, to_right) in enumerate(self.shifts):
                rows, columns = (
                    slice(top + down, top + down + height),
                    slice(left + to_right, left + to_right + width),
                )
                plane = padded[:, :, c, :, rows, columns].roll(-turn, 2)
                v = plane[:, :, None] + coefficients[:, :, c, :, t, None, None]
                yield c * len(self.shifts) + t, v.flatten(1, 2)

    def places(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        """Where the taps read, in a sample of x and in k, flat. Shape: two as ``taps``, any number where a tap is −1."""
        count, (turns, height, width) = len(self.shifts), taps.shape[2:]
        shift = table(self.shifts, taps, torch.int64)
        o, i, j = (torch.arange(n, device=taps.device) for n in (turns, height, width))
        d = torch.arange(taps.shape[1], device=taps.device).view(-1, 1, 1, 1)
        tap = taps.long().clamp_min(0)
        c, t = tap.div(count, rounding_mode="floor"), tap % count
        channel = d.div(taps.shape[1] * self.inputs // self.channels, rounding_mode="floor") * self.inputs + c
        turn = (o[:, None, None] + shift[:, 0][t]) % turns
        row = (i[:, None] + shift[:, 1][t]).clamp(0, height - 1)
        column = (j + shift[:, 2][t]).clamp(0, width - 1)
        source = ((channel * turns + turn) * height + row) * width + column
        return source, ((d * self.inputs + c) * turns + o[:, None, None]) * count + t


@dataclass(frozen=True)
class MaxRows(Memo):
    """Nonzeros of rows, each with its source point and its column of the table of coefficients.

    Shape: x (B, C, num_source), k (C, num_values), indptr (P + 1,), source and column (T,) -> (B, C, P).
    """

    indptr: Tensor
    source: Tensor
    column: Tensor
    num_source: int
    num_values: int

    @property
    def tensors(self) -> list[Tensor]:
        return [self.indptr, self.source, self.column]

    @property
    def sizes(self) -> list[int]:
        return [1, self.num_source, self.num_values]

    def given(self, g: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of x and k of a result's shape."""
        return (g.shape[0], g.shape[1], self.num_source), (g.shape[1], self.num_values)

    def result(self, x: Tensor, k: Tensor) -> tuple[int, ...]:
        return (*x.shape[:2], self.indptr.shape[0] - 1)

    def candidates(self, x: Tensor, k: Tensor) -> Iterator[tuple[Tensor | int, Tensor]]:
        """The sums of each row's first nonzero, of its second, and so on; −∞ where a row has no more."""
        counts = self.indptr.diff()
        for rank in range(int(counts.max()) if len(counts) else 0):
            tap = (self.indptr[:-1] + rank).clamp_max(max(len(self.source) - 1, 0))
            v = x.index_select(2, self.source[tap].long()) + k.index_select(1, self.column[tap].long())
            yield tap, torch.where(rank < counts, v, float("-inf"))

    def places(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        """Where the taps read, in a sample of x and in k, flat. Shape: two as ``taps``, any number where a tap is −1."""
        channel = torch.arange(taps.shape[1], device=taps.device)[:, None]
        if not len(self.source):
            return (torch.zeros_like(taps, dtype=torch.int64),) * 2
        tap = taps.long().clamp_min(0)
        return channel * self.num_source + self.source[tap], channel * self.num_values + self.column[tap]


def build(tensors: Sequence[Tensor], sizes: Sequence[int]) -> Stencil | MaxRows:
    """The structure from its tensors and sizes."""
    if sizes[0]:
        return MaxRows(tensors[0], tensors[1], tensors[2], sizes[1], sizes[2])
    flat = sizes[3:]
    return Stencil(sizes[1], sizes[2], tuple(zip(flat[::3], flat[1::3], flat[2::3], strict=True)))  # type: ignore[arg-type]


def tap_type(structure: Stencil | MaxRows) -> torch.dtype:
    """The type that taps are kept in."""
    if isinstance(structure, Stencil) and structure.inputs * len(structure.shifts) <= 32767:
        return torch.int16
    return torch.int32


def running(structure: Stencil | MaxRows, x: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The form by plain operations, tap after tap, which torch differentiates: y, and the taps that attain it."""
    y = x.new_full(structure.result(x, k), float("-inf"))
    taps = torch.full(y.shape, -1, dtype=tap_type(structure), device=x.device)
    for tap, v in structure.candidates(x, k):
        better = (v > y) | v.isnan()
        y = torch.where(better, v, y)
        taps = torch.where(better, tap if isinstance(tap, int) else tap.to(taps.dtype), taps)
    return y, taps


def contract(
    engine: str,
    structure: Stencil | MaxRows,
    parts: tuple[Sequence[Tensor], Sequence[int]],
    x: Tensor,
    k: Tensor,
) -> Tensor:
    """y by an engine, with gradients of every order; ``parts`` are the structure's tensors and sizes."""
    dtype = x.dtype
    compute = WIDENED.get(dtype, dtype)
    x, k = x.to(compute), k.to(compute)
    if is_transformed():
        return running(structure, x, k)[0].to(dtype)
    y: Tensor = max_plus(x, k, list(parts[0]), list(parts[1]), engine)[0]
    return y.to(dtype)


def select(structure: Stencil | MaxRows, x: Tensor, k: Tensor, taps: Tensor) -> Tensor:
    """x + k read at given taps, 0 where there is none: the form linear in (x, k)."""
    source, coefficient = structure.places(taps)
    at = source.expand_as(taps).flatten(1)
    read = x.flatten(1).gather(1, at).view(taps.shape) + k.flatten()[coefficient.expand_as(taps)]
    return torch.where(taps < 0, 0.0, read)


def _evaluate(
    name: str, engine: str, structure: Stencil | MaxRows, arguments: Sequence[Tensor]
) -> list[Tensor]:
    device = arguments[0].device
    prepared = [t.detach().contiguous() for t in arguments]
    with torch.autocast(device.type, enabled=False):
        return pick(engine, arguments[0], name)[0](structure, prepared, (0, 1))


@torch.library.custom_op("spheregeo::max_plus", mutates_args=())
def max_plus(
    x: Tensor, k: Tensor, tensors: list[Tensor], sizes: list[int], engine: str
) -> tuple[Tensor, Tensor]:
    """y and the taps that attain it."""
    y, taps = _evaluate("max_plus", engine, build(tensors, sizes), (x, k))
    return y, taps


@max_plus.register_fake
def _(x: Tensor, k: Tensor, tensors: list[Tensor], sizes: list[int], engine: str) -> tuple[Tensor, Tensor]:
    structure = build(tensors, sizes)
    shape = structure.result(x, k)
    return x.new_empty(shape), x.new_empty(shape, dtype=tap_type(structure))


@torch.library.custom_op("spheregeo::max_plus_gradients", mutates_args=())
def max_plus_gradients(
    g: Tensor, taps: Tensor, tensors: list[Tensor], sizes: list[int], engine: str
) -> tuple[Tensor, Tensor]:
    """Gradients of < g, y > to x and k."""
    dx, dk = _evaluate("max_plus_gradients", engine, build(tensors, sizes), (g, taps))
    return dx, dk


@max_plus_gradients.register_fake
def _(g: Tensor, taps: Tensor, tensors: list[Tensor], sizes: list[int], engine: str) -> tuple[Tensor, Tensor]:
    of_x, of_k = build(tensors, sizes).given(g)
    return g.new_empty(of_x), g.new_empty(of_k)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, _, tensors, ctx.sizes, ctx.engine = inputs
    ctx.save_for_backward(output[1], *tensors)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g: Tensor | None, _: Any) -> tuple[Any, ...]:
    taps, *tensors = ctx.saved_tensors
    rest = [None] * len(tensors), None, None
    if g is None:
        return None, None, *rest
    return *max_plus_gradients(g, taps, tensors, ctx.sizes, ctx.engine), *rest


def _save_again(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    g, taps, tensors, ctx.sizes, _ = inputs
    ctx.save_for_backward(taps, *tensors)
    ctx.shapes = build(tensors, ctx.sizes).given(g)
    ctx.set_materialize_grads(False)


def _differentiate_again(ctx: Any, of_x: Tensor | None, of_k: Tensor | None) -> tuple[Any, ...]:
    taps, *tensors = ctx.saved_tensors
    rest = None, [None] * len(tensors), None, None
    like = of_x if of_x is not None else of_k
    if like is None:
        return None, *rest
    of_x = like.new_zeros(ctx.shapes[0]) if of_x is None else of_x
    of_k = like.new_zeros(ctx.shapes[1]) if of_k is None else of_k
    return select(build(tensors, ctx.sizes), of_x, of_k, taps), *rest


max_plus.register_autograd(_differentiate, setup_context=_save)
max_plus.register_vmap(lambda info, in_dims, *args: mapped(max_plus, info, in_dims, *args))
max_plus_gradients.register_autograd(_differentiate_again, setup_context=_save_again)
max_plus_gradients.register_vmap(
    lambda info, in_dims, *args: mapped(max_plus_gradients, info, in_dims, *args)
)
