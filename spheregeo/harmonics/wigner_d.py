r"""Wigner's functions d^l_mn(β) by the recurrence in l at fixed orders, to degree 1024 and more, complex convention.

d^l_mn(β) = ⟨m|exp(−iβJ_y)|n⟩, so that d^1_{01} = + sin β/√2. At fixed m ≥ |n| the recurrence starts at l = m,

    d^m_mn = (−1)^{m−n} √C(2m, m+n) cos(β/2)^{m+n} sin(β/2)^{m−n},
    l √(((l+1)² − m²)((l+1)² − n²)) d^{l+1} = (2l+1)(l(l+1) cos β − mn) d^l − (l+1) √((l² − m²)(l² − n²)) d^{l−1},

and other orders follow from d_mn = (−1)^{m−n} d_nm = (−1)^{m−n} d_{−m,−n} = d_{−n,−m}. Starts below 2^−900 are carried with an
exponent of their own, for d^l_mn may be large at high l where its start underflows: from l ≈ 960 on.
Matrices of rotations in the real bases are those of :mod:`spheregeo.harmonics.wigner`.
Reference: Varshalovich, Moskalev & Khersonskii 1988, §4.3 and 4.8; Kostelec & Rockmore 2008.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.harmonics.wigner_forms import packed_size

STEP = 900  # bits of an exponent that starts carry


def wigner_d(beta: Tensor, lmax: int) -> Tensor:
    """Wigner's functions d^l_mn(β) of all degrees up to and including ``lmax``, one matrix after the other.

    Args:
        beta: angles about the y axis.
        lmax: largest degree.

    Shape: (...) -> (..., Σ(2l + 1)²) float64; :func:`unpack_wigner` gives the matrices (2l + 1, 2l + 1), rows m and columns n
        from −l to l.
    Units: radians.
    Equivariance: d(β₁ + β₂) = d(β₁) d(β₂), to 1e-12 for l ≤ 128.
    Raises: ValueError for a negative lmax or angles that are not floating numbers.
    Reference: complex convention, D^l_mn(α, β, γ) = e^{−imα} d^l_mn(β) e^{−inγ}; s2fft and Varshalovich et al. have the same.
    """
    lmax = check_count("lmax", lmax, 0)
    if not beta.is_floating_point():
        raise ValueError(f"beta has dtype {beta.dtype}; expected floating")
    flat = beta.detach().to("cpu", torch.float64).reshape(-1)
    out = flat.new_empty(len(flat), packed_size(lmax))
    for m in range(lmax + 1):
        values = wigner_d_order(flat, m, lmax)  # (2m + 1, lmax − m + 1, β)
        n = torch.arange(-m, m + 1)
        sign = (1.0 - 2.0 * ((m - n) % 2))[:, None]
        for degree in range(m, lmax + 1):
            begin, size = packed_size(degree - 1), 2 * degree + 1
            row, other = (m + degree) * size, (degree - m) * size
            d = values[:, degree - m]  # (n, β)
            out[:, begin + row + n + degree] = d.T
            out[:, begin + other - n + degree] = (sign * d).T
            out[:, begin + (n + degree) * size + degree + m] = (sign * d).T
            out[:, begin + (degree - n) * size + degree - m] = d.T
    return out.reshape(*beta.shape, -1).to(beta.device)


def wigner_d_order(beta: Tensor, m: int, lmax: int, nmax: int | None = None) -> Tensor:
    """The functions d^l_mn(β) of one order m ≥ 0, for l = m … lmax and all |n| ≤ min(m, nmax).

    Args:
        beta: angles (K,) between 0 and π, float64.
        m: order.
        lmax: largest degree.
        nmax: largest |n|; m where absent.

    Shape: (2 min(m, nmax) + 1, lmax − m + 1, K) float64.
    """
    top = m if nmax is None else min(m, nmax)
    return wigner_d_rows(beta, m, np.arange(-top, top + 1), lmax)


def wigner_d_rows(beta: Tensor, m: int, orders: np.ndarray, lmax: int) -> Tensor:
    """The functions d^l_mn(β) of one order m ≥ 0 and any n with |n| ≤ m. Shape: (K,), (J,) -> (J, lmax − m + 1, K) float64."""
    n, angle = orders.astype(np.float64)[:, None], beta.numpy()
    current, exponent = _starts(n, angle, m)
    cosine, before = np.cos(angle), np.zeros_like(current)
    out = np.empty((len(n), lmax - m + 1, len(angle)))
    scaled = bool(exponent.any())
    for degree in range(m, lmax + 1):
        out[:, degree - m] = np.where(exponent == 0, current, 0.0) if scaled else current
        if degree == lmax:
            break
        if degree == 0:
            before, current = current, np.broadcast_to(cosine, current.shape).copy()
            continue
        after = (degree + 1.0) ** 2
        root = 1 / (degree * np.sqrt((after - m * m) * (after - n * n)))
        drag = (degree + 1) * np.sqrt((degree**2 - m * m) * (degree**2 - n * n)) * root
        slope = (2 * degree + 1) * degree * (degree + 1) * root
        shift = (2 * degree + 1) * m * n * root
        before, current = current, (slope * cosine - shift) * current - drag * before
        if scaled:
            grown = (exponent > 0) & (np.abs(current) > 1)
            if grown.any():
                current[grown] *= 2.0**-STEP
                before[grown] *= 2.0**-STEP
                exponent[grown] -= 1
                scaled = bool(exponent.any())
    return torch.from_numpy(out)


def _starts(n: np.ndarray, angle: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """d^m_mn · 2^(900 e), and e: (n, K) each."""
    from scipy.special import gammaln

    half_cosine, half_sine = np.abs(np.cos(angle / 2)), np.abs(np.sin(angle / 2))
    sign = (1 - 2 * ((m - n) % 2)) * np.where(np.sin(angle / 2) < 0, 1 - 2 * ((m - n) % 2), 1)
    sign = sign * np.where(np.cos(angle / 2) < 0, 1 - 2 * ((m + n) % 2), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = (m + n) * np.log2(half_cosine) + (m - n) * np.log2(half_sine)
    # 0 · log 0 is 0, the power 0 of 0 being 1
    log = np.where(np.isnan(log), 0.0, log)
    log = log + (gammaln(2 * m + 1) - gammaln(m + n + 1) - gammaln(m - n + 1)) / (2 * np.log(2))
    exponent = np.where(np.isfinite(log), np.maximum(np.floor(-log / STEP), 0), 0).astype(np.int64)
    if m < 400:  # powers as they are: the logarithm of a large power has lost digits
        value = np.sqrt(_binomials(m, n)) * half_cosine ** (m + n) * half_sine ** (m - n)
        value = np.where(exponent == 0, value, np.exp2(log + STEP * exponent))
    else:
        value = np.exp2(log + STEP * exponent)
    return sign * value, exponent


def _binomials(m: int, n: np.ndarray) -> np.ndarray:
    return np.array([float(math.comb(2 * m, m + int(k))) for k in n[:, 0]])[:, None]
