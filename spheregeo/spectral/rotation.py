r"""Rotation of fields through coefficients of real harmonics: degree l by D^l(R), without a matrix for each rotation.

With Y^l = D^l of the quarter turn about y and Z(α) that of a turn about z, which only mixes orders ±m,

    D^l(R_z(α) R_y(β) R_z(γ)) = Z(α − π/2) Y^lᵀ Z(β) Y^l Z(γ + π/2),

so that all rotations share Y^l: of order l³ numbers in all, kept to degree 128 and computed by blocks of degrees beyond. They
are those of the complex convention, Δ^l_mn = d^l_mn(π/2) for m, n ≥ 0: with 1/√2 for each order that is zero, Y^l_mn is
2(−1)^l Δ^l_mn where l + m + n is even and zero elsewhere, and Y^l_{−m,−n} is −2(−1)^l Δ^l_mn where it is odd.
Reference: Risbo 1996, "Fourier transform summation of Legendre series and D-functions", J. Geodesy 70; Pinchon & Hoggan 2007.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spheregeo.autograd import mapped
from spheregeo.checks import check_tensor
from spheregeo.grids import Grid
from spheregeo.grids.cache import geometry
from spheregeo.groups import euler_angles, rotation_matrix
from spheregeo.harmonics.wigner_d import STEP
from spheregeo.spectral.sht import SHT, InverseSHT
from spheregeo.spectral.stages.quadrature import resolved_degree

KEPT_DEGREE = 128  # Δ of all degrees up to here are kept once they were needed, 17 MB in float64
ITERATIONS = 6  # of the analysis of fields on HEALPix: errors of 1e-6 at 2 nside
BLOCK = 1 << 22  # numbers of Δ at once beyond


def rotate_coefficients(
    coefficients: Tensor, rotation: Tensor | Sequence[float] | Sequence[Sequence[float]]
) -> Tensor:
    """Coefficients of the rotated field (R f)(x) = f(R⁻¹ x): those of degree l times D^l(R).

    Args:
        coefficients: of real harmonics, of fields or of gradients and curls of tangent fields of any order, which turn alike.
        rotation: matrices (..., 3, 3) or unit quaternions (..., 4) in the order (w, x, y, z); leading axes broadcast with those
            of the coefficients.

    Shape: (..., (lmax + 1)²) -> the same, leading axes broadcast. Differentiable in the coefficients, not in the rotation.
    Equivariance: exact; error 2e-15 lmax at most in float64.
    Raises: TypeError, ValueError for coefficients that are no floating tensor of such a size, and for no rotations.
    Reference: ``healpy.rotate_alm(alm, psi, theta, phi)`` for R = R_z(phi) R_y(theta) R_z(psi).

    Example:
        >>> import torch
        >>> from spheregeo.groups import random_rotations
        >>> from spheregeo.spectral import rotate_coefficients
        >>> rotate_coefficients(torch.randn(8, 3, 25), random_rotations(8)[:, None]).shape
        torch.Size([8, 3, 25])
    """
    if isinstance(coefficients, Tensor) and coefficients.is_complex():
        real, imaginary = (
            rotate_coefficients(part, rotation) for part in (coefficients.real, coefficients.imag)
        )
        return torch.complex(real, imaginary)
    check_tensor(coefficients, "coefficients")
    size = coefficients.shape[-1] if coefficients.ndim else 0
    lmax = math.isqrt(size) - 1
    if size < 1 or (lmax + 1) ** 2 != size:
        raise ValueError(f"coefficients has shape {tuple(coefficients.shape)}; expected (..., (lmax + 1)²)")
    matrices = rotation_matrix(rotation)
    try:
        shape = torch.broadcast_shapes(coefficients.shape[:-1], matrices.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"rotation has leading axes {tuple(matrices.shape[:-2])}, which do not broadcast with those of coefficients, "
            f"{tuple(coefficients.shape[:-1])}"
        ) from None
    angles = torch.stack(euler_angles(matrices), -1).expand(*shape, 3).reshape(-1, 3)
    if matrices.ndim == 2:
        angles = angles[:1]
    dtype = torch.float64 if coefficients.dtype == torch.float64 else torch.float32
    flat = coefficients.to(dtype).expand(*shape, size).reshape(-1, size)
    with torch.autocast(coefficients.device.type, enabled=False):
        out: Tensor = turn_coefficients(flat, angles.to(coefficients.device))
    return out.reshape(*shape, size).to(coefficients.dtype)


def rotate_field(
    x: Tensor,
    grid: Grid,
    rotation: Tensor | Sequence[float] | Sequence[Sequence[float]],
    lmax: int | None = None,
    spin: int = 0,
) -> Tensor:
    """The field (R f)(p) = f(R⁻¹ p) by analysis, rotation of coefficients and synthesis; what lies above ``lmax`` is lost.

    Args:
        x: scalar field, or for spin s ≠ 0 a tangent field of order s: pairs (cos, sin) in frames (south, east), turned with
            their frames.
        grid: the grid x is on.
        rotation: matrices (..., 3, 3) or unit quaternions (..., 4) in the order (w, x, y, z); leading axes broadcast with those
            of x (with those before the pair, for tangent fields).
        lmax: largest degree; :func:`resolved_degree` of the grid where absent.
        spin: order of the tangent field; 0 for scalars.

    Shape: (..., *grid.shape), or (..., 2, *grid.shape) for spin s ≠ 0 -> the same. Differentiable in x.
    Equivariance: exact for fields of degrees to ``lmax`` where the grid's analysis is exact; on HEALPix 1e-6 of the largest
        value at 2 nside.
    Raises: ValueError for shapes that do not fit, no rotations, or an ``lmax`` that the grid does not determine.

    Example:
        >>> import torch
        >>> from spheregeo.grids import GaussLegendre
        >>> from spheregeo.groups import random_rotations
        >>> from spheregeo.spectral import rotate_field
        >>> rotate_field(torch.randn(3, 9, 18), GaussLegendre(9, 18), random_rotations(3)).shape
        torch.Size([3, 9, 18])
    """
    lmax = max(resolved_degree(grid), spin) if lmax is None else lmax
    coefficients = SHT(grid, lmax, spin, iterations=ITERATIONS)(x)
    matrices = rotation_matrix(rotation)
    if spin and matrices.ndim > 2:
        matrices = matrices.unsqueeze(-3)
    turned: Tensor = InverseSHT(grid, lmax, spin)(rotate_coefficients(coefficients, matrices))
    return turned


def _turned(coefficients: Tensor, angles: Tensor) -> Tensor:
    """(B, (lmax + 1)²) and Euler angles (B or 1, 3) -> (B, (lmax + 1)²)."""
    lmax = math.isqrt(coefficients.shape[1]) - 1
    source, out = coefficients.T.contiguous(), coefficients.new_empty(coefficients.shape[::-1])
    orders = torch.arange(lmax + 1, device=angles.device)[:, None]
    first, middle, last = (
        (turns.cos().to(source), turns.sin().to(source))  # (m, B or 1) each
        for turns in (
            orders * (angles[:, 2] + math.pi / 2),
            orders * angles[:, 1],
            orders * (angles[:, 0] - math.pi / 2),
        )
    )
    for start, delta in _blocks(lmax):
        delta = delta.to(source)
        count, side = delta.shape[:2]
        m = torch.arange(side, device=source.device)
        degree = torch.arange(start, start + count, device=source.device)[:, None]
        inside, centre = m <= degree, degree * (degree + 1)
        positive, negative = (centre + m)[inside], (centre - m)[inside]
        even = ((degree + m) % 2 == 0)[..., None]  # l + m
        sign = torch.where(degree % 2 == 0, 1.0, -1.0)[..., None].to(source)
        x = source.new_zeros(2, count, side, source.shape[1])  # cosine and sine, l, m, B
        x[0, inside], x[1, inside] = source[positive], source[negative]
        x = _about_z(x, first, side)
        x = _about_y(x, delta, even, sign)
        x = _about_z(x, middle, side)
        x = _about_y(x, delta.mT, even, sign)
        x = _about_z(x, last, side)
        out[negative] = x[1, inside]
        out[positive] = x[0, inside]  # last: the order 0 has a cosine alone
    return out.T.contiguous()


def _about_z(x: Tensor, turns: tuple[Tensor, Tensor], side: int) -> Tensor:
    """Orders (2, l, m, B), turned by angles whose cosines and sines of multiples (m, B or 1) are given."""
    cosine, sine = (t[:side] for t in turns)
    return torch.stack([cosine * x[0] - sine * x[1], sine * x[0] + cosine * x[1]])


def _about_y(x: Tensor, delta: Tensor, even: Tensor, sign: Tensor) -> Tensor:
    """Y^l x, or its transpose for transposed Δ: cosines need l + m + n even, sines odd. Shape: (2, l, m, B) -> the same."""
    fields = x.shape[3]
    columns = torch.cat([x[0] * even, x[0] * ~even, x[1] * even, x[1] * ~even], -1)  # l + n even or odd
    y = (delta @ columns).unflatten(-1, (4, fields)).unbind(2)
    # as l + m + n and l + n have m between them: cosines of even m come from even l + n
    m_even = (torch.arange(x.shape[2], device=x.device) % 2 == 0)[:, None]
    cosine = torch.where(m_even, y[0], y[1])
    sine = torch.where(m_even, y[3], y[2])
    return torch.stack([sign * cosine, -sign * sine])


def _blocks(lmax: int) -> Iterator[tuple[int, Tensor]]:
    """First degree and 2 Δ^l_mn, 1/√2 for each zero order included, of block after block of degrees. Shape: (l, m, n) float64."""
    if lmax <= KEPT_DEGREE:
        top = 1 << (lmax - 1).bit_length() if lmax > 1 else 1  # few different tables
        table = geometry.get(("quarter turns", top), lambda: _stacked(list(quarter_turns(top))))
        yield 0, table[: lmax + 1, : lmax + 1, : lmax + 1]
        return
    block: list[np.ndarray] = []
    start = 0
    for degree, delta in enumerate(quarter_turns(lmax)):
        block.append(delta)
        if len(block) * (degree + 1) ** 2 > BLOCK or degree == lmax:
            yield start, _stacked(block)
            start, block = degree + 1, []


def _stacked(block: list[np.ndarray]) -> Tensor:
    side = len(block[-1])
    out = np.zeros((len(block), side, side))
    for target, delta in zip(out, block, strict=True):
        target[: len(delta), : len(delta)] = delta
        target *= 2
        target[0] *= math.sqrt(0.5)
        target[:, 0] *= math.sqrt(0.5)
    return torch.from_numpy(out)


def quarter_turns(lmax: int) -> Iterator[np.ndarray]:
    """Yield d^l_mn(π/2), 0 ≤ m, n ≤ l, for l = 0 … lmax by the recurrence in l.

    Starts at l = max(m, n) that would underflow are carried with an exponent of their own, as in
    :mod:`spheregeo.harmonics.wigner_d`.
    """
    from scipy.special import gammaln

    current = before = np.ones((1, 1))
    exponent = np.zeros((lmax + 1, lmax + 1), dtype=np.int16)
    for degree in range(lmax + 1):
        scaled = degree >= STEP
        yield np.where(exponent[: degree + 1, : degree + 1] == 0, current, 0.0) if scaled else current
        top = degree + 1
        m = np.arange(top)
        after = np.zeros((top + 1, top + 1))
        if degree:
            root = 1 / np.sqrt(top**2 - m * m)
            slope, drag = m * root, np.sqrt(degree**2 - m[:-1] * m[:-1]) * root[:-1]
            inner = after[:top, :top]
            np.multiply(current, (-(2 * degree + 1) / degree * slope)[:, None], out=inner)
            inner *= slope
            inner[:-1, :-1] -= before * (top / degree * drag)[:, None] * drag
        n = np.arange(top + 1)
        log = (gammaln(2 * top + 1) - gammaln(top + n + 1) - gammaln(top - n + 1)) / (2 * math.log(2)) - top
        bits = np.maximum(np.floor(-log / STEP), 0).astype(np.int16)
        after[:, top] = np.exp2(log + STEP * bits)
        after[top] = (1.0 - 2 * ((top - n) % 2)) * after[:, top]
        if top >= STEP and top <= lmax:
            exponent[: top + 1, top] = exponent[top, : top + 1] = bits
            held = exponent[: top + 1, : top + 1]
            grown = (held > 0) & (np.abs(after) > 1)
            after[grown] *= 2.0**-STEP
            current[grown[:top, :top]] *= 2.0**-STEP
            held[grown] -= 1
        before, current = current, after


turn_coefficients = torch.library.custom_op("spheregeo::turn_coefficients", _turned, mutates_args=())


@turn_coefficients.register_fake
def _(coefficients: Tensor, angles: Tensor) -> Tensor:
    return torch.empty_like(coefficients)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    alpha, beta, gamma = ctx.saved_tensors[0].unbind(-1)
    inverse = torch.stack([math.pi - gamma, beta, -math.pi - alpha], -1)
    return turn_coefficients(grad.contiguous(), inverse), None


turn_coefficients.register_autograd(_backward, setup_context=_remember)
turn_coefficients.register_vmap(lambda info, dims, *args: mapped(turn_coefficients, info, dims, *args))
