"""The stages of the Fourier transform on SO(3), and the pair of operators they make: synthesis and its transpose.

Either operator's derivative is the other, so derivatives of any order are exact.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from spheregeo.autograd import Function
from spheregeo.constants import on
from spheregeo.spectral.so3.tables import block_offsets, functions, kinds, mixing_of

AT_ONCE = 1 << 24  # bytes of spectra


def _synthesis(coefficients: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    """(B, coefficients) -> (B, 2b, 2b, num_gamma)."""
    side = 2 * bandwidth
    out = coefficients.new_empty(len(coefficients), side, side, num_gamma)
    size = _few(bandwidth, num_gamma, coefficients)
    for start in range(0, len(coefficients), size):
        few = coefficients[start : start + size]
        out[start : start + size] = _synthesis_of_few(few, lmax, nmax, bandwidth, num_gamma)
    return out


def _few(bandwidth: int, num_gamma: int, like: Tensor) -> int:
    """As many fields at once as processors hold near at hand: one spectrum is permuted from orders first to fields first."""
    spectrum = 4 * bandwidth * bandwidth * (num_gamma // 2 + 1) * 2 * like.element_size()
    return max(1, AT_ONCE // spectrum) if like.device.type == "cpu" else max(1, len(like))


def _synthesis_of_few(coefficients: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    fields, side = len(coefficients), 2 * bandwidth
    mix = mixing_of(lmax, nmax, coefficients)
    rows = coefficients.T.contiguous()  # (coefficients, B)
    mixed = mix.weights[0, :, None] * rows[mix.index[0]] + mix.weights[1, :, None] * rows[mix.index[1]]
    mixed = mixed.view(-1, 2 * fields)  # (m, n, l), (real and imaginary, B)
    spectrum = rows.new_zeros(side, num_gamma // 2 + 1, side, 2 * fields)  # (m, n, β, ...)
    for mu, both in enumerate(kinds(lmax, nmax)):
        table = functions(mu, lmax, nmax, bandwidth, rows)  # (j, β, l)
        for kind in both:
            if kind is None:
                continue
            part = mixed[kind.rows].view(len(kind.m), -1, 2 * fields)
            j = kind.first_j + (len(table) - 1) // 2
            spectrum[on(kind.m, rows) % side, on(kind.n, rows)] = table[j : j + len(part)] @ part
    spectrum = spectrum.view(*spectrum.shape[:3], 2, fields).permute(4, 2, 0, 1, 3).contiguous()
    return torch.fft.irfft2(torch.view_as_complex(spectrum), (side, num_gamma), norm="forward")


def _projection(x: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    """(B, 2b, 2b, num_gamma) -> (B, coefficients), the transpose of :func:`_synthesis`."""
    out = x.new_empty(len(x), int(block_offsets(lmax, nmax)[-1]))
    size = _few(bandwidth, num_gamma, x)
    for start in range(0, len(x), size):
        out[start : start + size] = _projection_of_few(
            x[start : start + size], lmax, nmax, bandwidth, num_gamma
        )
    return out


def _projection_of_few(x: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    fields, side = len(x), 2 * bandwidth
    mix = mixing_of(lmax, nmax, x)
    spectrum = torch.view_as_real(torch.fft.rfft2(x))  # (B, β, m, n, 2)
    spectrum = spectrum.permute(2, 3, 1, 4, 0).reshape(side, num_gamma // 2 + 1, side, 2 * fields)
    scale = x.new_full((num_gamma // 2 + 1,), 2.0)
    scale[0] = 1
    parts = []
    for mu, both in enumerate(kinds(lmax, nmax)):
        table = functions(mu, lmax, nmax, bandwidth, x)  # (j, β, l)
        for kind in both:
            if kind is None:
                continue
            j = kind.first_j + (len(table) - 1) // 2
            n = on(kind.n, x)
            part = spectrum[on(kind.m, x) % side, n] * scale[n, None, None]
            parts.append((table[j : j + len(part)].mT @ part).flatten(0, 1))
    mixed = torch.cat(parts).view(-1, fields)  # (m, n, l, real and imaginary), B
    out = mix.back_weights[0, :, None] * mixed[mix.back_index[0]]
    out += mix.back_weights[1, :, None] * mixed[mix.back_index[1]]
    return out.T


so3_synthesis = torch.library.custom_op("spheregeo::so3_synthesis", _synthesis, mutates_args=())
so3_projection = torch.library.custom_op("spheregeo::so3_projection", _projection, mutates_args=())


@so3_synthesis.register_fake
def _(coefficients: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    return coefficients.new_empty(coefficients.shape[0], 2 * bandwidth, 2 * bandwidth, num_gamma)


@so3_projection.register_fake
def _(x: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    return x.new_empty(x.shape[0], int(block_offsets(lmax, nmax)[-1]))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.sizes = inputs[1:]


so3_synthesis.register_autograd(
    lambda ctx, grad: (so3_projection(grad.contiguous(), *ctx.sizes), None, None, None, None),
    setup_context=_remember,
)
so3_projection.register_autograd(
    lambda ctx, grad: (so3_synthesis(grad.contiguous(), *ctx.sizes), None, None, None, None),
    setup_context=_remember,
)


class _Eager(Function):
    """Either operator for eager code and transforms of ``torch.func``, which have no rule for custom operators' derivatives."""

    @staticmethod
    def forward(fields: Tensor, forward: bool, *sizes: int) -> Tensor:
        return (_synthesis if forward else _projection)(fields, *sizes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.forward_, *ctx.sizes = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (_Eager.apply(grad.contiguous(), not ctx.forward_, *ctx.sizes), *[None] * 5)

    @staticmethod
    def vmap(info: Any, in_dims: Any, fields: Tensor, *rest: Any) -> tuple[Tensor, int]:
        fields = fields.movedim(in_dims[0], 0)
        return _Eager.apply(fields.flatten(0, 1), *rest).unflatten(0, fields.shape[:2]), 0


def synthesise(coefficients: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    """Functions on the grid of rotations from their coefficients.

    Args:
        coefficients: one row a function.
        lmax, nmax: largest degree and order |n|.
        bandwidth, num_gamma: of the grid.

    Shape: (B, coefficients) -> (B, 2 bandwidth, 2 bandwidth, num_gamma).
    """
    run = so3_synthesis if torch.compiler.is_compiling() else partial(_transform, True)
    result: Tensor = run(coefficients, lmax, nmax, bandwidth, num_gamma)
    return result


def project(x: Tensor, lmax: int, nmax: int, bandwidth: int, num_gamma: int) -> Tensor:
    """The transpose of :func:`synthesise`: sums over rotations, without weights.

    Args:
        x: functions on the grid of rotations.
        lmax, nmax: largest degree and order |n|.
        bandwidth, num_gamma: of the grid.

    Shape: (B, 2 bandwidth, 2 bandwidth, num_gamma) -> (B, coefficients).
    """
    run = so3_projection if torch.compiler.is_compiling() else partial(_transform, False)
    result: Tensor = run(x, lmax, nmax, bandwidth, num_gamma)
    return result


def _transform(forward: bool, fields: Tensor, *sizes: int) -> Tensor:
    result: Tensor = _Eager.apply(fields, forward, *sizes)
    return result
