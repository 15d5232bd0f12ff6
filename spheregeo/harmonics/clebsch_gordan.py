r"""Clebsch–Gordan coefficients and generators of SO(3) in e3nn's real basis.

The complex coefficients are one small product of integer matrices a triple: with J = l1 + l2 − l3,
⟨l1 m1 l2 m2|l3 m3⟩ ∝ Σ_k (−1)^k (J over k) (2 l1 − J over l1 − m1 − k) (2 l2 − J over l2 + m2 − k) / √((2 l1 over l1 − m1)
(2 l2 over l2 − m2) (2 l3 over l3 − m3)), and the sum factors through k. It is exact in float64 up to l1 + l2 + l3 = 52 and done
with Python's integers beyond. A unitary change to the real basis m = −l…l follows.
Reference: Varshalovich, Moskalev & Khersonskii 1988, Quantum Theory of Angular Momentum, §8.2.1.
"""

from __future__ import annotations

import math
import operator
from functools import cache

import numpy as np
import torch
from torch import Tensor

EXACT_SUM = 52  # the integer sums are below 2^(l1 + l2 + l3), so that many bits must fit the mantissa


def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
    """Coefficients C with C_{abc} = D^{l1}_{ai} D^{l2}_{bj} D^{l3}_{ck} C_{ijk} for every rotation, ‖C‖ = 1.

    Shape: (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) float64 on the CPU, a copy of a cached tensor; entries zero by symmetry are exactly 0.
    Equivariance: an invariant of l1 ⊗ l2 ⊗ l3, to 1e-14 up to l = 6. Equal to e3nn's ``wigner_3j`` in size and sign (1e-15).
    Raises: ValueError for a negative degree or one outside |l1 − l2| … l1 + l2.
    """
    return torch.from_numpy(_real(*_degrees("clebsch_gordan", l1, l2, l3)).copy())


def clebsch_gordan_entries(l1: int, l2: int, l3: int) -> tuple[Tensor, Tensor]:
    """The nonzero entries of :func:`clebsch_gordan`, in row-major order.

    Shape: indices (n, 3) int64, each counted from 0 (m = −l), and values (n,) float64.
    Raises: ValueError as :func:`clebsch_gordan`.
    """
    dense = _real(*_degrees("clebsch_gordan_entries", l1, l2, l3))
    indices = np.argwhere(dense)
    return torch.from_numpy(indices), torch.from_numpy(dense[tuple(indices.T)])


def rotation_generators(degree: int) -> Tensor:
    """Matrices 𝒳_k with D^l(rotation by the vector ω) = exp(Σ_k ω_k 𝒳_k), k = x, y, z.

    Shape: (3, 2l + 1, 2l + 1) float64, antisymmetric; for l = 1 (𝒳_k)_{ab} = −ε_{kab}, so that 𝒳_k v = e_k × v.
    Raises: ValueError for a negative degree.
    """
    degree = operator.index(degree)
    if degree < 0:
        raise ValueError(f"rotation_generators: degree is {degree}; expected zero or more")
    return torch.from_numpy(_generators(degree).copy())


def _degrees(name: str, l1: int, l2: int, l3: int) -> tuple[int, int, int]:
    l1, l2, l3 = operator.index(l1), operator.index(l2), operator.index(l3)
    if min(l1, l2, l3) < 0:
        raise ValueError(f"{name}: degrees are {(l1, l2, l3)}; expected zero or more")
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"{name}: l3 is {l3}; expected {abs(l1 - l2)} to {l1 + l2} for l1 = {l1}, l2 = {l2}")
    return l1, l2, l3


@cache
def _binomials(n: int, top: int, exact: bool) -> np.ndarray:
    """(n over k) for k = −top … top, zero outside 0 … n."""
    row = [math.comb(n, k) if 0 <= k <= n else 0 for k in range(-top, top + 1)]
    return np.array(row, dtype=object if exact else np.float64)


def _complex(l1: int, l2: int, l3: int) -> np.ndarray:
    """⟨l1 m1 l2 m2|l3 m1 + m2⟩ up to one positive factor; (2 l1 + 1, 2 l2 + 1), zero where |m1 + m2| > l3."""
    total, common = l1 + l2 + l3, l1 + l2 - l3
    exact = total > EXACT_SUM
    m1, m2 = np.arange(-l1, l1 + 1), np.arange(-l2, l2 + 1)
    k = np.arange(common + 1)
    top = 2 * total
    left = _binomials(2 * l1 - common, top, exact)[top + l1 - m1[:, None] - k]
    right = _binomials(2 * l2 - common, top, exact)[top + l2 + m2[:, None] - k]
    signs = 1 - 2 * (k % 2)
    sums = left @ (right * (signs * _binomials(common, top, exact)[top + k])).T

    def weight(degree: int, m: np.ndarray) -> np.ndarray:
        return np.array([float(math.comb(2 * degree, degree - i)) if abs(i) <= degree else np.inf for i in m])

    m3 = (m1[:, None] + m2).ravel()
    scale = np.sqrt(np.outer(weight(l1, m1), weight(l2, m2)) * weight(l3, m3).reshape(sums.shape))
    return (sums / scale).astype(np.float64)


@cache
def _to_real(degree: int) -> np.ndarray:
    """Columns: the real basis vectors m = −l … l in the complex ones, with (−i)^l so that real coefficients result."""
    q = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    q[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        q[degree - m, [degree + m, degree - m]] = np.array([1, -1j]) / math.sqrt(2)
        q[degree + m, [degree + m, degree - m]] = np.array([sign, 1j * sign]) / math.sqrt(2)
    return (-1j) ** degree * q


@cache
def _real(l1: int, l2: int, l3: int) -> np.ndarray:
    n1, n2, n3 = 2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1
    m1, m2, m3 = (np.arange(-degree, degree + 1) for degree in (l1, l2, l3))
    third = m1[:, None] + m2
    at = np.nonzero(abs(third) <= l3)
    dense = np.zeros((n1, n2, n3), dtype=np.complex128)
    dense[*at, l3 + third[at]] = _complex(l1, l2, l3)[at]
    dense = (_to_real(l1).T @ dense.reshape(n1, -1)).reshape(n1, n2, n3)
    dense = _to_real(l2).T @ dense @ _to_real(l3).conj()
    # what symmetry forbids is rounding: the orders must add up, and reflections fix the number of sines
    a, b, c = abs(m1)[:, None, None], abs(m2)[:, None], abs(m3)
    sines = (m1 < 0)[:, None, None] ^ (m2 < 0)[:, None] ^ (m3 < 0)
    allowed = ((a + b == c) | (abs(a - b) == c)) & (sines == bool((l1 + l2 + l3) % 2))
    real: np.ndarray = np.where(allowed, dense.real, 0.0)
    return real / np.linalg.norm(real)


@cache
def _generators(degree: int) -> np.ndarray:
    """The coupling l ⊗ 1 → l is the only equivariant one, so the generators are it, times what Σ 𝒳_k² = −l(l + 1) asks."""
    if degree == 0:
        return np.zeros((3, 1, 1))
    size = math.sqrt(degree * (degree + 1) * (2 * degree + 1))
    return np.ascontiguousarray(size * _real(degree, 1, degree).transpose(1, 0, 2))
