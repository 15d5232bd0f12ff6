r"""Quadrature rules in colatitude: nodes θ_k north to south and weights with Σ w_k f(θ_k) ≈ ∫_0^π f(θ) sin θ dθ.

Every rule is interpolatory in x = cos θ, so exact for polynomials below degree n (Gauss–Legendre: 2n), and its weights
are one fast cosine or sine transform of the moments ∫ cos(2jθ) sin θ dθ = −2/(4j² − 1).
Reference: Fejér 1933; Clenshaw & Curtis 1960; Waldvogel 2006, "Fast construction of the Fejér and Clenshaw–Curtis
quadrature rules", BIT 46; Golub & Welsch 1969.
"""

from __future__ import annotations

import operator

import numpy as np
import torch
from torch import Tensor


def fejer1(n: int) -> tuple[Tensor, Tensor]:
    """Fejér's first rule: cell centres θ_k = (k + ½)π/n, exact below degree n.

    Shape: two (n,) float64 tensors, colatitudes and weights. Units: radians; weights sum to 2.
    Raises: ValueError for n < 1.
    """
    from scipy.fft import dct

    n = _order("fejer1", n, 1)
    weights = dct(_moments(n), type=3) / n * 2
    return _rule((np.arange(n) + 0.5) * np.pi / n, weights)


def fejer2(n: int) -> tuple[Tensor, Tensor]:
    """Fejér's second rule: interior nodes θ_k = kπ/(n + 1), k = 1…n, exact below degree n.

    Shape: two (n,) float64 tensors, colatitudes and weights. Units: radians; weights sum to 2.
    Raises: ValueError for n < 1.
    """
    from scipy.fft import dst

    n = _order("fejer2", n, 1)
    theta = np.arange(1, n + 1) * np.pi / (n + 1)
    odd = np.zeros(n)
    odd[::2] = 1 / np.arange(1, n + 1, 2)
    return _rule(theta, 2 * np.sin(theta) / (n + 1) * dst(odd, type=1))


def clenshaw_curtis(n: int) -> tuple[Tensor, Tensor]:
    """Clenshaw–Curtis rule with both poles: θ_k = kπ/(n − 1), exact below degree n.

    Shape: two (n,) float64 tensors, colatitudes and weights. Units: radians; weights sum to 2.
    Raises: ValueError for n < 2.
    """
    from scipy.fft import dct

    n = _order("clenshaw_curtis", n, 2)
    weights = dct(_moments(n), type=1) * 2 / (n - 1)
    weights[[0, -1]] /= 2
    return _rule(np.arange(n) * np.pi / (n - 1), weights)


def gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    """Gauss–Legendre rule: cos θ_k are the roots of P_n, exact below degree 2n.

    Shape: two (n,) float64 tensors, colatitudes and weights. Units: radians; weights sum to 2.
    Raises: ValueError for n < 1.
    """
    from scipy.special import roots_legendre

    n = _order("gauss_legendre", n, 1)
    x, _ = roots_legendre(n)
    theta = np.arccos(x[::-1])[: (n + 1) // 2]  # the northern half; the south mirrors it
    for _ in range(
        2
    ):  # scipy's polar weights are off by 1e-9 (n = 512) to 1e-7 (2048): polish in the angle itself
        value, slope = _legendre(n, theta)
        theta = theta - value / slope
    weights = 2 / _legendre(n, theta)[1] ** 2
    south = slice(n // 2 - 1, None, -1) if n > 1 else slice(0)
    return _rule(np.concatenate([theta, np.pi - theta[south]]), np.concatenate([weights, weights[south]]))


def _legendre(n: int, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P_n(cos θ) and its derivative in θ, by the recurrence for differences P_k − P_{k−1}: no cancellation near θ = 0."""
    drop = 2 * np.sin(theta / 2) ** 2  # 1 − cos θ
    value, difference = np.ones_like(theta), np.zeros_like(theta)
    for k in range(n):
        difference = (k * difference - (2 * k + 1) * drop * value) / (k + 1)
        value = value + difference
    return value, n * (difference - drop * value) / np.sin(theta)


def _order(name: str, n: int, minimum: int) -> int:
    n = operator.index(n)
    if n < minimum:
        raise ValueError(f"{name}: n is {n}, expected at least {minimum} nodes")
    return n


def _moments(n: int) -> np.ndarray:
    """Half the moments ∫ cos(jθ) sin θ dθ for j < n: −1/(j² − 1) at even j, zero at odd."""
    moments = np.zeros(n)
    even = np.arange(0, n, 2)
    moments[::2] = -1.0 / (even.astype(np.float64) ** 2 - 1)
    return moments


def _rule(theta: np.ndarray, weights: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mirror-symmetric to the bit, so that north and south cancel exactly where they should."""
    theta = (theta + (np.pi - theta[::-1])) / 2
    return torch.from_numpy(theta), torch.from_numpy((weights + weights[::-1]) / 2)
