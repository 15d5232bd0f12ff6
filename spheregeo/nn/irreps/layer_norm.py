r"""Layer norm of irreps features: root mean squares over the copies of a point, which rotations and inversion leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn
from torch.nn import functional

from spheregeo.autograd import is_watched
from spheregeo.nn.irreps.copies import PerCopy
from spheregeo.nn.irreps.layout import (
    EVEN,
    as_irreps,
    check_features,
    check_layout,
    copy_of,
    distinct_irreps,
    is_scalar,
)
from spheregeo.nn.irreps.stacks import Features, Stacks, check_stacks, terms_of
from spheregeo.nn.statistics import working_dtype


class _Piece(NamedTuple):
    """Columns of one irrep side by side."""

    start: int
    stop: int
    group: int  # which root mean square they are divided by
    size: int  # what their squares are divided by in it
    centred: bool


class _Normalise(torch.autograd.Function):
    """Fused forward and backward of ``IrrepsLayerNorm.plain``; saves the input, and one or a few numbers per row."""

    @staticmethod
    def forward(  # type: ignore[override]
        x: Tensor, weight: Tensor | None, bias: Tensor | None, layer: IrrepsLayerNorm
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        mean, squares = x.new_zeros(len(x), 1), x.new_zeros(layer.num_groups, len(x), 1)
        for p in layer.pieces:
            if p.centred:
                mean += x[:, p.start : p.stop].sum(1, keepdim=True)
        mean /= max(layer.num_centred, 1)
        for p in layer.pieces:
            part = x[:, p.start : p.stop]
            part = torch.sub(part, mean, out=y[:, p.start : p.stop]) if p.centred else part
            squares[p.group] += torch.linalg.vector_norm(part, dim=1, keepdim=True).square_() / p.size
        scale = squares.add_(layer.eps).rsqrt_()
        for p in layer.pieces:
            source = y if p.centred else x
            torch.mul(source[:, p.start : p.stop], scale[p.group], out=y[:, p.start : p.stop])
        if weight is not None:
            y.mul_(weight) if bias is None else torch.addcmul(bias, y, weight, out=y)
        return y, mean, scale

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, bias, ctx.layer = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, weight, bias, *output[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, bias, mean, scale = ctx.saved_tensors
        layer: IrrepsLayerNorm = ctx.layer
        if torch.is_grad_enabled():  # differentiated again
            # views: hooks of the arguments are not for the derivatives that are taken here
            own: list[Any] = [None if t is None else t.view_as(t) for t in (x, weight, bias)]
            x, weight, bias = own
            asked = [t for t, want in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if want]
            found = iter(torch.autograd.grad(layer.plain(x, weight, bias), asked, g, create_graph=True))
            return *[next(found) if want else None for want in ctx.needs_input_grad[:3]], None
        product = g * x  # g times the centred input
        for p in layer.pieces:
            if p.centred:
                here = slice(p.start, p.stop)
                product[:, here].addcmul_(g[:, here], mean, value=-1)
        d_weight = d_bias = None
        if weight is not None and ctx.needs_input_grad[1]:
            sums = scale[..., 0] @ product  # (groups, dim)
            d_weight = torch.cat([sums[p.group, p.start : p.stop] for p in layer.pieces])
        if bias is not None and ctx.needs_input_grad[2]:
            d_bias = g.sum(0)
        if not ctx.needs_input_grad[0]:
            return None, d_weight, d_bias, None
        dx = g.clone() if weight is None else g * weight
        along = torch.zeros_like(scale)
        for p in layer.pieces:
            part = product[:, p.start : p.stop]
            w = None if weight is None else weight[p.start : p.stop]
            along[p.group] += part.sum(1, keepdim=True) if w is None else (part @ w)[:, None]
        along.mul_(scale.pow(3))
        for p in layer.pieces:
            here, share = slice(p.start, p.stop), along[p.group] / p.size
            part = dx[:, here].mul_(scale[p.group])
            part.addcmul_(x[:, here], share, value=-1)
            if p.centred:
                part.addcmul_(mean, share)
        if layer.num_centred:
            total = torch.zeros_like(mean)
            for p in layer.pieces:
                if p.centred:
                    total += dx[:, p.start : p.stop].sum(1, keepdim=True)
            for p in layer.pieces:
                if p.centred:
                    dx[:, p.start : p.stop] -= total / layer.num_centred
        return dx, d_weight, d_bias, None


class IrrepsLayerNorm(nn.Module):
    """Layer norm of each point by itself; it makes no use of the batch.

    Args:
        irreps: of the features.
        share: which components share one root mean square. "each": all copies of one irrep. "separable": even scalars one, and
            everything else another, in which each irrep counts alike whatever its number of copies and components. "all":
            everything, scalars included, likewise balanced, and nothing is centred (root-mean-square norm). In the first
            two, even scalars lose their mean over the copies, so a single one becomes its bias.
        eps: added to mean squares.
        affine: whether each copy has a learned scale and each even scalar a learned shift.
        layout: how the components of rows lie in memory, "mul_ir" (e3nn's) or "ir_mul"; of no meaning for stacks.

    Shape: (..., irreps.dim), or stacks -> the same.
    Equivariance: O(3), exact (relative error 6e-16 measured in float64, 1e-7 in float32).
    Raises: ValueError for another ``share``, features of other irreps, or eps that is not positive.
    Reference: Ba, Kiros & Hinton 2016, arXiv:1607.06450; Liao & Smidt 2022, arXiv:2206.11990 ("each"); Liao, Wood, Das & Smidt
    2023, arXiv:2306.12059 ("separable").

    Example:
        >>> norm = IrrepsLayerNorm("8x0e + 4x1o", share="separable")
        >>> norm(torch.randn(10, 20)).shape
        torch.Size([10, 20])
    """

    column: Tensor
    scalars: Tensor

    def __init__(
        self,
        irreps: str | Irreps,
        *,
        share: str = "each",
        eps: float = 1e-5,
        affine: bool = True,
        layout: str = "mul_ir",
    ) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected a small positive number")
        if share not in ("each", "separable", "all"):
            raise ValueError(f"share is {share!r}; expected 'each', 'separable' or 'all'")
        self.irreps, self.layout, self.share, self.eps = as_irreps(irreps), check_layout(layout), share, eps
        self.dim, scalar = self.irreps.dim, is_scalar(self.irreps)
        every = distinct_irreps(self.irreps)
        of = torch.cat([torch.full((mul * ir.dim,), every.index(ir)) for mul, ir in self.irreps])
        groups: list[list[int]] = [[i] for i in range(len(every))]
        if share == "all":
            groups = [list(range(len(every)))]
        elif share == "separable":
            groups = [[i for i, ir in enumerate(every) if (ir == EVEN) == even] for even in (True, False)]
            groups = [group for group in groups if group]
        group_of = {i: g for g, group in enumerate(groups) for i in group}
        self.num_groups = len(groups)
        self._terms, self.per_copy = terms_of(self.irreps), PerCopy(self.irreps)
        sizes = [len(groups[group_of[i]]) * int((of == i).sum()) for i in range(len(every))]
        # of each stack: its group, and what its squares are divided by
        self._stacks = [(group_of[i], size) for i, size in enumerate(sizes)]
        centred = scalar if share != "all" else torch.zeros_like(scalar)
        self.num_centred = int(centred.sum())
        self.pieces: list[_Piece] = []
        start = 0
        for mul, ir in self.irreps:
            i, stop = every.index(ir), start + mul * ir.dim
            count = len(groups[group_of[i]]) * int((of == i).sum())
            before = self.pieces[-1] if self.pieces else None
            if before is not None and (before.group, before.size) == (group_of[i], count):
                if before.centred == bool(centred[start]):
                    start = self.pieces.pop().start
            self.pieces.append(_Piece(start, stop, group_of[i], count, bool(centred[start])))
            start = stop
        self.register_buffer("column", copy_of(self.irreps, layout), persistent=False)
        self.register_buffer("scalars", scalar.nonzero()[:, 0], persistent=False)
        self.weight = nn.Parameter(torch.ones(self.irreps.num_irreps)) if affine else None
        scalars, self._even = int(scalar.sum()), every.index(EVEN) if EVEN in every else -1
        # the stack that torch's own layer norm takes: even scalars that share their mean square with nothing else
        self._lone = self._even if share != "all" else -1
        self.bias = nn.Parameter(torch.zeros(scalars)) if affine and scalars else None

    def forward(self, x: Features) -> Features:
        if isinstance(x, Stacks):
            check_stacks(x, self._terms)
            return self._of_stacks(x)
        check_features(x, self.irreps)
        dtype = working_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, self.dim).to(dtype)
            weight = bias = None
            if self.weight is not None:
                weight = self.weight.to(dtype).index_select(0, self.column)
            if self.bias is not None:
                bias = rows.new_zeros(self.dim).index_copy(0, self.scalars, self.bias.to(dtype))
            if is_watched():
                y = self.plain(rows, weight, bias)
            else:
                y = _Normalise.apply(rows, weight, bias, self)[0]
        return y.to(x.dtype).reshape(x.shape)

    def _of_stacks(self, x: Stacks) -> Stacks:
        given = x.parts[0].dtype
        dtype = working_dtype(x.parts[0])
        with torch.autocast(x.parts[0].device.type, enabled=False):
            parts = [part if part.dtype is dtype else part.to(dtype) for part in x.parts]
            weights: Sequence[Tensor | None] = [None] * len(parts)
            if self.weight is not None:
                weights = self.per_copy.split(self.weight.to(dtype))
            bias = None if self.bias is None else self.bias.to(dtype)
            out, scales = list(parts), self._scales(parts)
            for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
                if i == self._lone:
                    out[i] = functional.layer_norm(part, part.shape[-1:], weight, bias, self.eps)
                    continue
                scale = scales[self._stacks[i][0]]
                if i == self._even and self.num_centred:
                    part = part - part.mean(-1, keepdim=True)
                out[i] = part * (scale if weight is None else scale * weight)
                if i == self._even and bias is not None:
                    out[i] = out[i] + bias
        return Stacks.of([part if part.dtype is given else part.to(given) for part in out], self._terms)

    def _scales(self, parts: Sequence[Tensor]) -> dict[int, Tensor]:
        """One over the root mean squares of the groups, but of even scalars that are a group by themselves; (..., 1, 1) each."""
        squares: dict[int, tuple[Tensor, int]] = {}  # a group's sum of squares, in units of one over a size
        for i, ((group, size), part) in enumerate(zip(self._stacks, parts, strict=True)):
            if i == self._lone:
                continue
            centred = i == self._even and self.num_centred
            part = part - part.mean(-1, keepdim=True) if centred else part
            own = part.square().sum((-2, -1), keepdim=True)
            if group in squares:
                before, unit = squares[group]
                squares[group] = torch.add(before, own, alpha=unit / size), unit
            else:
                squares[group] = own, size
        return {group: torch.rsqrt(total / size + self.eps) for group, (total, size) in squares.items()}

    def plain(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """The norm in differentiable pieces; weight and bias have an entry for each component. Shape: (rows, dim) -> the same."""
        parts = list(x.split([piece.stop - piece.start for piece in self.pieces], 1))
        if self.num_centred:
            total = sum(
                part.sum(1, keepdim=True) for part, p in zip(parts, self.pieces, strict=True) if p.centred
            )
            mean = total / self.num_centred
            parts = [part - mean if p.centred else part for part, p in zip(parts, self.pieces, strict=True)]
        squares: list[Any] = [0.0] * self.num_groups
        for part, p in zip(parts, self.pieces, strict=True):
            squares[p.group] = squares[p.group] + part.square().sum(1, keepdim=True) / p.size
        scales = [torch.rsqrt(square + self.eps) for square in squares]
        y = torch.cat([part * scales[p.group] for part, p in zip(parts, self.pieces, strict=True)], 1)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias

    def extra_repr(self) -> str:
        return f"'{self.irreps}', share={self.share!r}, eps={self.eps}, affine={self.weight is not None}"
