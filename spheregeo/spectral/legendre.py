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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spheregeo.lazy import cached_property

STEP = 512 * math.log(2)  # natural logarithm of the unit of exponents
TINY = 1e-30  # functions that have not grown beyond this are zero
BLOCK = 16  # degrees between two normalisations: functions grow by 1e23 at most on the way (lmax 4096)


@dataclass(eq=False)
class Legendre:
    """Degrees, orders and rings of a Legendre stage.

    Args:
        lmax: largest degree.
        colatitude: (R,) colatitudes of the rings, mirror-symmetric, north first.
        spin: n of the functions, zero or more.
    """

    lmax: int
    colatitude: Tensor
    spin: int = 0

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


@dataclass(frozen=True, eq=False)
class Chunk:
    """Functions of some orders on some rings, ready to be made degree after degree: seeds and coefficients of the recurrence.

    Args:
        orders: (M,) orders in ascending order.
        rings: first and last (exclusive) of the rings; on the others all functions are below ``TINY``.
        twice: (R,) 2 cos θ.
        seed: (M, R) mantissas at the lowest degree of each order.
        exponent: (M, R) their exponents; None where all are zero.
        scale: (J, M) factors that turn Q into functions; zero beyond lmax.
        step: (J, M) these factors before degrees beyond lmax were put to zero.
        gamma: (J, M) coefficients of the degree before last.
        delta: (J, M) twice the shifts of cos θ; None for spin 0.
        windows: for each block of degrees, rings between the first and last of these hold a function above ``TINY``, and rings
            between the second and third hold no other: (R_0, R_1, R_2, R_3) counted from the first of ``rings``.
    """

    orders: Tensor
    rings: tuple[int, int]
    twice: Tensor
    seed: Tensor
    exponent: Tensor | None
    scale: Tensor
    step: Tensor
    gamma: Tensor
    delta: Tensor | None
    windows: tuple[tuple[int, int, int, int], ...] = ()

    @property
    def degrees(self) -> int:
        """How many degrees there are, from the lowest of each order."""
        return len(self.scale)


def chunk(structure: Legendre, orders: Tensor, rings: int) -> Chunk:
    """Prepare functions of consecutive orders, up to degree lmax, on the first rings."""
    spin, theta = structure.spin, structure.colatitude[:rings]
    orders = orders.to(theta.device)
    seed, exponent = seeds(orders, theta, spin)
    low = lowest(orders, spin)
    count = max(structure.lmax + 1 - int(low[0]), 0)
    a, delta, b = coefficients(orders, spin, 0, max(count - 1, 0))
    # in a block the scale is the product of a/2 since the degree before it, where it is 1, as at the degree before that
    ones = a.new_ones(min(count, 1), len(orders))
    full = torch.cat([ones, a / 2, a.new_ones(-count % BLOCK, len(orders))])
    full = full.unflatten(0, (-1, BLOCK)).cumprod(1)
    before = torch.cat([full.new_ones(len(full), 2, len(orders)), full], 1)[:, :BLOCK]
    gamma = torch.cat([0 * ones, b]) * (before / full).flatten(0, 1)[:count]
    step = full.flatten(0, 1)[:count]
    inside = low + torch.arange(count, device=theta.device)[:, None] <= structure.lmax
    made = Chunk(
        orders,
        (0, rings),
        2 * torch.cos(theta),
        seed,
        exponent if (exponent < 0).any() else None,
        step * inside,
        step,
        gamma,
        2 * torch.cat([0 * ones, delta]) if spin else None,
    )
    return _narrowed(made)


def _narrowed(made: Chunk) -> Chunk:
    """The chunk with its windows, without rings where nothing ever happens."""
    reach = [(live.any(0), live.all(0)) for _, _, live in _recur(made)]
    some = torch.stack([any_ for any_, _ in reach]).any(0) if reach else made.twice < -2
    first, last = _span(some)
    windows = []
    for any_, all_ in reach:
        lo, hi = _span(any_[first:last])
        inner, outer = _span(all_[first:last])
        inner, outer = (inner, outer) if all_[first + inner : first + outer].all() and outer else (hi, hi)
        windows.append((lo, inner, outer, hi))
    exponent = None if made.exponent is None else made.exponent[:, first:last].contiguous()
    return replace(
        made,
        rings=(first, last),
        twice=made.twice[first:last].contiguous(),
        seed=made.seed[:, first:last].contiguous(),
        exponent=exponent if exponent is not None and (exponent < 0).any() else None,
        windows=tuple(windows),
    )


def _span(mask: Tensor) -> tuple[int, int]:
    """First and last (exclusive) true entry; (0, 0) for none."""
    places = torch.nonzero(mask)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def blocks(made: Chunk) -> Iterator[tuple[int, int, int, Tensor]]:
    """Functions of a chunk, ``BLOCK`` degrees at a time.

    Yields: (j, r, r', Q) with Λ_{low+j+i, m}(θ_ρ) = Q[i, m, ρ − r] scale[j + i, m] for rings r ≤ ρ < r' of the structure; on
        other rings functions are below ``TINY``. Q is valid until the next step.

    Shape: Q (≤ BLOCK, M, r' − r), float64.
    """
    start = made.rings[0]
    for (first, values, _), (lo, _, _, hi) in zip(_recur(made), made.windows, strict=True):
        if hi > lo:
            yield first, start + lo, start + hi, values[..., lo:hi]


def _recur(made: Chunk) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(j, Q, where functions are above ``TINY``) block after block; zeros elsewhere. Without windows all rings are looked at."""
    rings = made.seed.shape[1]
    exponent = None if made.exponent is None else made.exponent.clone()
    live = torch.ones_like(made.seed, dtype=torch.bool)
    buffer = made.seed.new_empty(min(BLOCK, made.degrees) + 2, *made.seed.shape)
    shrink = torch.tensor(2.0**-512, dtype=buffer.dtype)
    rows, gamma = buffer.unbind(0), made.gamma[..., None].unbind(0)
    delta = None if made.delta is None else made.delta[..., None].unbind(0)
    for number, first in enumerate(range(0, made.degrees, BLOCK)):
        count = min(BLOCK, made.degrees - first)
        for i in range(count):
            out, p, j = rows[i + 2], rows[i + 1], first + i
            if not j:
                out.copy_(made.seed)
                p.zero_()
                continue
            torch.mul(p, made.twice, out=out)
            if delta is not None:
                out.addcmul_(p, delta[j], value=-1)
            if j > 1:
                out.addcmul_(rows[i], gamma[j], value=-1)
        end = first + count
        if count > 1:
            torch.mul(buffer[count], made.step[end - 2, :, None], out=buffer[0])
        else:
            buffer[0].copy_(buffer[1])
        torch.mul(buffer[count + 1], made.step[end - 1, :, None], out=buffer[1])
        # exponents are looked at in every second block: functions grow by less than 2^256/TINY meanwhile
        lo, inner, outer, hi = made.windows[number] if made.windows else (0, rings, rings, rings)
        look = exponent is not None and number % 2 == 1
        for zone in (slice(0 if look else lo, inner), slice(outer, rings if look else hi)):
            if zone.stop <= zone.start:
                continue
            size = torch.maximum(buffer[0, :, zone].abs(), buffer[1, :, zone].abs())
            alive = live[:, zone]
            torch.gt(size, TINY, out=alive)
            if exponent is not None:
                low = exponent[:, zone]
                alive &= low == 0
                if look:
                    grown = (size > 2.0**256) & (low < 0)
                    low += grown
                    buffer[:2, :, zone] *= torch.where(grown, shrink, 1.0)
        for zone in (slice(lo, inner), slice(outer, hi)):
            buffer[2 : count + 2, :, zone] *= live[:, zone]
        yield first, buffer[2 : count + 2], live
