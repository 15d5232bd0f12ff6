r"""The regular nonlinearity: sample each channel's function of direction, act on the samples, project back.

    y = F f(sqrt N F^T x) / sqrt N,    rows of F: 1/sqrt N, sqrt(2/N) cos(n 2 pi j/N), sqrt(2/N) sin(n 2 pi j/N)

The factors sqrt N keep samples of the size of x whatever N is. The gauge error is aliasing and falls with N, see
``activations``; N is chosen for a tolerance. Samples exist for a block of points at a time, forward and backward alike:
the backward pass computes them anew, so a layer keeps its input alone.
Reference: Cohen, Weiler, Kicanaoglu & Welling 2019, arXiv:1902.04615; Franzen & Wand 2021, arXiv:2109.06861;
de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.autograd import Function, is_watched
from spheregeo.groups import FieldType, check_field
from spheregeo.nn.activations import (
    Activation,
    activation,
    activation_name,
    samples_for,
    sampling_matrices,
)
from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.surface.norm import RegularBatchNorm
from spheregeo.nn.surface.stacks import stacks

BLOCK = 400_000  # samples at a time on a CPU: they stay in its cache


class RegularNonlinearity(ExactBuffers):
    """Pointwise activation of the functions of direction that fields of orders 0 … M describe together.

    Channel i is the function made of the i-th field of every order that has one: ``"16x0 + 16x1 + 16x2"`` is 16 functions of
    orders 0, 1, 2; ``"16x0 + 8x1"`` is 8 of orders 0, 1, and 8 scalars, on which the activation acts as it is.

    Args:
        field_type: of input and output, such as ``"16x0 + 8x1"``: 16 scalars and 8 vector fields.
        act: a name or a pointwise function; a module with parameters is trained.
        tolerance: greatest measured gauge error, by which the number of samples is chosen.
        amplitude: standard deviation per component of the normal fields for which the error is measured.
        samples: number of directions, in place of the one that ``tolerance`` chooses.
        batch_norm: whether to put a :class:`RegularBatchNorm` in front, which also sets the amplitude.

    Shape: (B, dim, *points) -> the same, in the strides of the input where channels come first or last.
    Equivariance: SO(2) gauge, approximate, and reflections of the frame, exact. Measured relative RMS error at the defaults
        (SiLU, unit fields): 4.4e-4 for orders ≤ 1 (11 samples), 5.8e-4 for orders ≤ 2 (21), 5.3e-4 for orders ≤ 3 (33). It
        grows with the fields: with 21 samples 3.4e-3 at twice that size, 5.9e-3 at three times, 9.2e-3 at ten, where it is
        near ReLU's 8.4e-3. ReLU's does not depend on size and wants 75 samples for orders ≤ 2. Exact where all
        fields have order 0, and for polynomials of degree d from (d + 1) M + 1 samples.
    Raises: ValueError for odd scalars, fewer than 2M + 1 samples (the identity itself would change), a tolerance out of
    reach, or input of another type.
    Reference: de Haan, Weiler, Cohen & Welling 2021, arXiv:2003.05425.

    Example:
        >>> import torch
        >>> from spheregeo.nn import RegularNonlinearity
        >>> RegularNonlinearity("2x0 + 1x1")(torch.randn(2, 4, 192)).shape
        torch.Size([2, 4, 192])
    """

    index: Tensor
    inverse: Tensor

    def __init__(
        self,
        field_type: str | FieldType,
        act: str | Activation = "silu",
        *,
        tolerance: float = 1e-3,
        amplitude: float = 1.0,
        samples: int | None = None,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.field_type = FieldType.of(field_type)
        if samples is not None and samples < 2 * self.field_type.max_order + 1:
            raise ValueError(
                f"samples is {samples}; expected at least {2 * self.field_type.max_order + 1} = 2M + 1 for orders up to "
                f"M = {self.field_type.max_order}, below which even the identity is not kept"
            )
        self.act_name = activation_name(act)
        self.act = activation(act)
        self._plain = isinstance(act, nn.Module) and any(True for _ in act.parameters())
        self.tolerance, self.amplitude = tolerance, amplitude
        # a stack is a set of channels with the same orders, and so with the same matrices
        self._stacks: list[tuple[int, tuple[int, ...], int]] = []
        order: list[int] = []
        for orders, members in stacks(self.field_type):
            chosen = samples
            if orders == (0,):
                chosen = 1
            elif chosen is None:
                chosen = samples_for(act, orders, tolerance, amplitude=amplitude)
            self._stacks.append((len(members), orders, chosen))
            order += [channel for member in members for channel in member]
        index = torch.tensor(order)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("inverse", torch.argsort(index), persistent=False)
        for i, (_, orders, chosen) in enumerate(self._stacks):
            for name, matrix in zip(("to", "back"), sampling_matrices(orders, chosen), strict=True):
                self.keep(f"{name}{i}", matrix)
        self.norm = RegularBatchNorm(self.field_type) if batch_norm else None

    @property
    def samples(self) -> int:
        """Largest number of samples that a channel has."""
        return max(chosen for _, _, chosen in self._stacks)

    def forward(self, x: Tensor, areas: Tensor | None = None) -> Tensor:
        """``areas`` weight the points of the batch norm inside, where there is one. Shape: (P,) or (B, P)."""
        check_field(x, self.field_type)
        if self.norm is not None:
            x = self.norm(x, areas)
        dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        groups = []
        for i, (width, _, _) in enumerate(self._stacks):
            to, back = self._matrices(i)
            groups.append((width * to.shape[1], to.to(dtype), back.to(dtype)))
        with torch.autocast(x.device.type, enabled=False):
            flat = x.flatten(2).to(dtype)
            if self._plain or is_watched():
                y = _sampled(flat, self.act, self.index, self.inverse, groups)
            else:
                y = _Sampled.apply(flat, self.act, self.index, self.inverse, groups)
        return y.to(x.dtype).view(x.shape)

    def _matrices(self, i: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"to{i}"), self.get_buffer(f"back{i}")

    def extra_repr(self) -> str:
        counts = ", ".join(str(samples) for _, _, samples in self._stacks)
        return f"'{self.field_type}', {self.act_name}, samples={counts}"


Groups = list[tuple[int, Tensor, Tensor]]  # rows of the stack, coefficients to samples, and back


def _act(rows: Tensor, act: Activation, groups: Groups) -> Tensor:
    """One block: (rows sorted by stack, points) -> the same."""
    out, start = [], 0
    for count, to, back in groups:
        part = rows[start : start + count]
        start += count
        if len(to) == 1:
            out.append(act(part))
        else:
            samples = act(to @ part.unflatten(0, (-1, to.shape[1])))
            out.append((back @ samples).flatten(0, 1))
    return out[0] if len(out) == 1 else torch.cat(out)


def _sampled(x: Tensor, act: Activation, index: Tensor, inverse: Tensor, groups: Groups) -> Tensor:
    """All at once, by differentiable operations. Shape: (B, dim, P) -> the same."""
    rows = x.movedim(1, 0).index_select(0, index).flatten(1)
    y = _act(rows, act, groups).index_select(0, inverse)
    y = y.unflatten(1, (x.shape[0], x.shape[2])).movedim(0, 1)
    return y.transpose(1, 2).contiguous().transpose(1, 2) if _channels_last(x) else y.contiguous()


def _channels_last(x: Tensor) -> bool:
    return x.transpose(1, 2).is_contiguous()


def _rows(x: Tensor) -> list[Tensor]:
    """Views (points, dim) of (B, dim, P): one where the channel comes last in memory, else one for each sample."""
    if _channels_last(x):
        return [x.transpose(1, 2).reshape(-1, x.shape[1])]
    return [sample.T for sample in x]


def _in_blocks(act: Callable[..., Tensor], width: int, out: Tensor, *tensors: Tensor) -> Tensor:
    """Write act(blocks of the tensors (dim, points)) into ``out``, all (B, dim, P) of like layout."""
    length = max(64, BLOCK // width) if out.device.type == "cpu" else max(64, 64 * BLOCK // width)
    for into, *rows in zip(*map(_rows, (out, *tensors)), strict=True):
        for start in range(0, len(into), length):
            block = slice(start, start + length)
            into[block] = act(*(r[block].T.contiguous() for r in rows)).T
    return out


class _Sampled(Function):
    """The same a block of points at a time; keeps x alone."""

    @staticmethod
    def forward(x: Tensor, act: Activation, index: Tensor, inverse: Tensor, groups: Groups) -> Tensor:  # type: ignore[override]
        x = x if _channels_last(x) else x.contiguous()

        def run(rows: Tensor) -> Tensor:
            return _act(rows[index], act, groups)[inverse]

        return _in_blocks(run, _width(groups), torch.empty_like(x), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.act, ctx.index, ctx.inverse, ctx.groups = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated again
            y = _sampled(x, ctx.act, ctx.index, ctx.inverse, ctx.groups)
            (dx,) = torch.autograd.grad(y, x, g, create_graph=True)
            return dx, None, None, None, None
        last = _channels_last(x)
        x = x if last else x.contiguous()
        g = g.transpose(1, 2).contiguous().transpose(1, 2) if last else g.contiguous()

        def run(rows: Tensor, g: Tensor) -> Tensor:
            out, start = [], 0
            rows, g = rows[ctx.index], g[ctx.index]
            for count, to, back in ctx.groups:
                part, at = rows[start : start + count], g[start : start + count]
                start += count
                if len(to) > 1:
                    part = to @ part.unflatten(0, (-1, to.shape[1]))
                    at = back.T @ at.unflatten(0, (-1, to.shape[1]))
                with torch.enable_grad():
                    part = part.detach().requires_grad_()
                    (d,) = torch.autograd.grad(ctx.act(part), part, at)
                out.append((to.T @ d).flatten(0, 1) if len(to) > 1 else d)
            return (out[0] if len(out) == 1 else torch.cat(out))[ctx.inverse]

        with torch.autocast(x.device.type, enabled=False):
            return _in_blocks(run, _width(ctx.groups), torch.empty_like(x), x, g), None, None, None, None


def _width(groups: Groups) -> int:
    """Samples at one point."""
    return sum(count // to.shape[1] * len(to) for count, to, _ in groups)
