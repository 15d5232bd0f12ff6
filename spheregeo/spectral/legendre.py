r"""The Legendre stage of harmonic transforms: for each order m ≥ 0 a real linear map between degrees and rings.

With n = spin, Λ^n_lm(θ) = (−1)^m √((2l+1)/4π) d^l_{mn}(θ) (n = 0: the associated Legendre functions of real orthonormal
harmonics, without Condon–Shortley phase) the stage is

    synthesis    F[m, r, k] = Σ_{l = m}^{lmax} Λ_lm(θ_r) a[t(l, m), k]
    analysis     a[t(l, m), k] = Σ_r Λ_lm(θ_r) F[m, r, k]           (the transpose: no weights)

Coefficients are packed order by order, t(l, m) = m (2 lmax + 1 − m)/2 + l; those below degree |n| meet zero functions. Columns
k are whatever the caller likes: real and imaginary parts, channels. Rings are mirror-symmetric, north first: θ_{R−1−r} = π −
θ_r. With n = 0 then Λ_lm(π − θ) = (−1)^{l+m} Λ_lm(θ), which halves the work; with n ≠ 0 Λ^{−n}_lm(θ) = (−1)^{l+m} Λ^n_lm(π −
θ), so that callers have both signs of a spin from one stage.

Functions follow by columns: with j = l − max(m, n), from j = 0 for all orders at once. Seeds underflow beyond lmax ≈ 1900, so
mantissas carry exponents in steps of 2^512 until they are large enough.
Reference: Prézeau & Reinecke 2010, "Algorithm for the evaluation of reduced Wigner matrices".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

STEP = 512 * math.log(2)  # natural logarithm of the unit of exponents
BLOCK = 16  # degrees between two normalisations: functions grow by 1e23 at most on the way (lmax 4096)


@dataclass(eq=False)
class Legendre:
    """Degrees, orders and rings of a Legendre stage.

    Args:
        lmax: largest degree.
        colatitude: (R,) colatitudes of the rings, mirror-symmetric, north first.
        spin: n of the functions, zero or more.
        memo: small things that engines prepare from this structure and keep; large ones belong into the
            bounded cache of geometry, under ``key``.
    """

    lmax: int
    colatitude: Tensor
    spin: int = 0
    memo: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> tuple[int, int, str]:
        """What names the structure's functions."""
        theta = self.colatitude.cpu().numpy().tobytes()
        return self.lmax, self.spin, hashlib.blake2b(theta, digest_size=16).hexdigest()

    @property
    def size(self) -> int:
        """Number of packed coefficients, (lmax + 1)(lmax + 2)/2."""
        return (self.lmax + 1) * (self.lmax + 2) // 2

    @property
    def num_rings(self) -> int:
        """Number of rings R."""
        return len(self.colatitude)


def triangle(lmax: int) -> tuple[Tensor, Tensor]:
    """Degree and order of each packed coefficient. Shape: two (T,) int64."""
    orders = torch.arange(lmax + 1)
    m = orders.repeat_interleave(lmax + 1 - orders)
    return torch.arange(len(m)) - m * (2 * lmax + 1 - m) // 2, m


def lowest(orders: Tensor, spin: int) -> Tensor:
    """The lowest degree at which each order has functions, max(m, spin)."""
    return orders.clamp(min=spin)


def seeds(orders: Tensor, colatitude: Tensor, spin: int) -> tuple[Tensor, Tensor]:
    """Λ at the lowest degree of each order: mantissas of size e^±177 and exponents k ≤ 0 in units of 2^512. Shape: two (M, R)."""
    sine, half = torch.sin(colatitude), torch.cos(colatitude / 2)
    sine = torch.where((colatitude == 0) | (colatitude == math.pi), 0.0, sine)
    m = orders.to(torch.float64)[:, None]
    top = int(orders.max()) + 1
    # m >= spin: ½ ln[C(2m, m+n) 4^(n−m) (2m+1)/4π], by ratios, where differences of log Γ would lose digits
    k = torch.arange(spin + 1, max(top, spin + 1), dtype=torch.float64)
    ratio = (k + 2 * spin**2) / (2 * (k * k - spin**2))
    size = torch.cat([torch.zeros(spin + 1), torch.log1p(ratio).cumsum(0)]).to(colatitude)
    size = 0.5 * (size + math.log((2 * spin + 1) / (4 * math.pi)))
    log = size[orders.clamp(min=spin).to(size.device)][:, None] + 2 * spin * torch.log(half)
    log = log + torch.xlogy((m - spin).clamp(min=0), sine)
    sign = torch.full_like(m, (-1.0) ** spin)
    for i, order in enumerate(orders.tolist()):
        if order < spin:  # d^n_{mn} = √C(2n, n+m) c^{n+m} s^{n−m}
            level = 0.5 * math.log(math.comb(2 * spin, spin + order) * (2 * spin + 1) / (4 * math.pi))
            log[i] = level + (spin + order) * torch.log(half)
            log[i] += torch.xlogy(torch.tensor(float(spin - order)), torch.sin(colatitude / 2))
            sign[i] = (-1.0) ** order
    exponent = torch.nan_to_num(torch.round(log / STEP), neginf=-1e6)
    return sign * torch.exp(log - exponent * STEP), exponent


def coefficients(orders: Tensor, spin: int, first: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """a, δ, b of p_{j+1} = a (x − δ) p_j − b p_{j−1}, degrees l = max(m, spin) + j from j = first. Shape: three (count, M)."""
    m, n = orders.to(torch.float64), float(spin)
    low = lowest(orders, spin).to(torch.float64)
    l = low + torch.arange(first, first + count, dtype=torch.float64, device=orders.device)[:, None]
    safe = l.clamp(min=1)
    up = torch.sqrt(((l + 1) ** 2 - m * m) * ((l + 1) ** 2 - n * n))
    a = torch.sqrt((2 * l + 3) * (2 * l + 1)) * (l + 1) / up
    down = torch.sqrt(((l * l - m * m) * (l * l - n * n)).clamp(min=0))
    b = torch.sqrt((2 * l + 3) / (2 * l - 1).clamp(min=1)) * (l + 1) * down / (safe * up)
    return a, m * n / (safe * (safe + 1)), b


def blocks(
    structure: Legendre, orders: Tensor, rings: slice, degrees: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Functions of some orders on some rings, ``BLOCK`` degrees at a time.

    Args:
        structure: lmax, spin and colatitudes.
        orders: (M,) orders in ascending order.
        rings: which rings.
        degrees: how many degrees to go up, from the lowest of each order.

    Yields: (j, Q, s) with Λ_{low+j+i, m}(θ_r) = Q[i, m, r] s[i, m], s zero beyond lmax. Q is valid until the next step.

    Shape: Q (≤ BLOCK, M, R), s (≤ BLOCK, M), float64.
    """
    theta = structure.colatitude[rings]
    x = torch.cos(theta)
    spin = structure.spin
    last, exponent = seeds(orders, theta, spin)
    before = torch.zeros_like(last)
    scaled = bool((exponent < 0).any())
    room = (structure.lmax - lowest(orders, spin)).to(torch.float64)
    buffer = x.new_empty(min(BLOCK, degrees) + 2, len(orders), len(x))
    for first in range(0, degrees, BLOCK):
        count = min(BLOCK, degrees - first)
        # degrees first … first + count − 1 from the two before them, whose own scale is 1
        scale = x.new_ones(count + 2, len(orders))
        buffer[0], buffer[1] = before, last
        start = 0
        if first == 0:
            buffer[2] = last
            start = 1
        if count > start:
            a, delta, b = coefficients(orders, spin, first + start - 1, count - start)
            for i in range(start, count):
                p, q, out = buffer[i + 1], buffer[i], buffer[i + 2]
                row = i - start
                scale[i + 2] = scale[i + 1] * a[row] / 2
                gamma = b[row] * scale[i] / scale[i + 2]
                torch.mul(p, 2 * x, out=out)
                if spin:
                    out.addcmul_(p, (2 * delta[row])[:, None], value=-1)
                if first + i > 1:
                    out.addcmul_(q, gamma[:, None], value=-1)
        last = buffer[count + 1] * scale[count + 1, :, None]
        before = buffer[count] * scale[count, :, None] if first + count > 1 else torch.zeros_like(last)
        values = buffer[2 : count + 2]
        if scaled:  # functions whose exponent is still negative are below 1e-77: nothing
            values.mul_(exponent == 0)
            size = torch.maximum(last.abs(), before.abs())
            grown = (size > 2.0**256) & (exponent < 0)
            if grown.any():
                last, before = (torch.where(grown, p * 2.0**-512, p) for p in (last, before))
                exponent = exponent + grown
            scaled = bool((exponent < 0).any())
        degree = torch.arange(first, first + count, device=x.device, dtype=torch.float64)[:, None]
        yield first, values, scale[2:] * (degree <= room)
