r"""Windows over degrees that cut a spectrum into bands of growing degree: squares of all bands sum to 1 at every degree.

Needlets: with f(t) = exp(−1/(1 − t²)) and ψ(u) = ∫_{−1}^u f / ∫_{−1}^1 f, the smooth step φ(x) is 1 up to x = 1/B, falls as
ψ(1 − 2B/(B − 1)·(x − 1/B)) and is 0 from x = 1. Band j has b_j(l)² = φ(l/B^{j+1}) − φ(l/B^j), so it holds degrees between B^{j−1}
and B^{j+1}, and neighbouring bands alone overlap. Framelets: one low pass and two high passes a level, whose squares add up to
the low pass of the next finer level.
Reference: Narcowich, Petrushev & Ward 2006, SIAM J. Math. Anal. 38; Wang & Zhuang 2020, ACHA 48 (framelets).
"""

from __future__ import annotations

import math
import operator

import numpy as np
import torch
from torch import Tensor

_NODES = 200  # Gauss–Legendre nodes of the step's integral, which leave 1e-16


def needlet_windows(lmax: int, B: float = 2.0, lowest: int = 0) -> Tensor:
    """Windows of needlets: row 0 holds what lies below the first detail band, each further row one band.

    Args:
        lmax: largest degree.
        B: dilation above 1; band j lives on degrees between B^{j−1} and B^{j+1}.
        lowest: j of the first detail band; row 0 is then the smooth low pass φ(l/B^lowest)^½, degree 0 alone for 0.

    Shape: (1 + number of bands, lmax + 1) float64, without bands that hold no whole degree; Σ over rows of squares is 1.
    Raises: ValueError for lmax or lowest below 0, or B that is not a finite number above 1.
    Reference: Narcowich, Petrushev & Ward 2006.

    Example:
        >>> needlet_windows(4).square()[:, :4]
        tensor([[1.0000, 0.0000, 0.0000, 0.0000],
                [0.0000, 1.0000, 0.0000, 0.0000],
                [0.0000, 0.0000, 1.0000, 0.5000],
                [0.0000, 0.0000, 0.0000, 0.5000]], dtype=torch.float64)
    """
    lmax, lowest = _whole("lmax", lmax), _whole("lowest", lowest)
    if not (math.isfinite(B) and B > 1):
        raise ValueError(f"B is {B}; expected a finite dilation above 1, such as 2.0")
    degrees = np.arange(lmax + 1.0)
    steps = [_step(degrees / B**lowest, B)]
    scale = lowest
    while steps[-1].min() < 1:
        scale += 1
        steps.append(_step(degrees / B**scale, B))
    squares = np.stack([steps[0], *np.diff(steps, axis=0).clip(min=0)])
    return _rows(squares)


def framelet_windows(lmax: int, lowest: int = 0) -> Tensor:
    """Windows of framelets: row 0 is the low pass α(l/2^lowest), then two high passes for each level, coarse to fine.

    Args:
        lmax: largest degree.
        lowest: level of the low pass, which holds degrees below 2^{lowest−1}.

    Shape: (1 + number of high passes, lmax + 1) float64, without those that hold no whole degree; Σ over rows of squares is 1.
    Raises: ValueError for lmax or lowest below 0.
    Reference: Wang & Zhuang 2020, with ν(t) = t⁴(35 − 84t + 70t² − 20t³).

    Example:
        >>> framelet_windows(8).shape
        torch.Size([7, 9])
    """
    lmax, lowest = _whole("lmax", lmax), _whole("lowest", lowest)
    degrees = np.arange(lmax + 1.0)
    rows = [_low(degrees / 2**lowest)]
    level = lowest
    while 2.0 ** (level - 2) < lmax:
        rows += _high(degrees / 2**level)
        level += 1
    return _rows(np.stack(rows) ** 2)


def needlet_profile(window: Tensor, angle: Tensor) -> Tensor:
    """A needlet's values at angles from its centre: Σ_l b(l) (2l + 1)/4π P_l(cos angle).

    Args:
        window: b(l), one row of a table of windows.
        angle: distances from the centre.

    Shape: window (lmax + 1,), angle (...) -> (...) float64. Units: radians.
    Equivariance: a function of the distance alone.

    Example:
        >>> needlet_profile(needlet_windows(8)[3], torch.tensor([0.0, 1.0, 2.0]))
        tensor([ 3.0799, -0.0866,  0.0839], dtype=torch.float64)
    """
    window, x = window.double(), angle.double().cos()
    before, now = torch.zeros_like(x), torch.ones_like(x)
    total = torch.zeros_like(x)
    for degree, b in enumerate(window.tolist()):
        total = total + b * (2 * degree + 1) / (4 * math.pi) * now
        before, now = now, ((2 * degree + 1) * x * now - degree * before) / (degree + 1)
    return total


def _whole(name: str, value: int) -> int:
    value = operator.index(value)
    if value < 0:
        raise ValueError(f"{name} is {value}; expected 0 or more")
    return value


def _rows(squares: np.ndarray) -> Tensor:
    """Roots of the squares: of the first row and of those that are not empty."""
    kept = np.concatenate([squares[:1], squares[1:][squares[1:].max(1) > 0]])
    return torch.from_numpy(np.sqrt(kept))


def _step(x: np.ndarray, B: float) -> np.ndarray:
    """φ(x): 1 up to 1/B, 0 from 1, smooth between."""
    u = 1 - 2 * B / (B - 1) * (x - 1 / B)
    found: np.ndarray = np.where(x <= 1 / B, 1.0, np.where(x >= 1, 0.0, _bump_integral(u.clip(-1, 1))))
    return found


def _bump_integral(u: np.ndarray) -> np.ndarray:
    """ψ(u), the share of ∫ exp(−1/(1 − t²)) that lies below u; ψ(u) + ψ(−u) = 1."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    ends = np.append(-np.abs(u), 0.0)  # the lower half: the upper one follows by symmetry
    half = (1 + ends) / 2
    t = -1 + half[:, None] * (nodes + 1)
    inside = np.maximum(1 - t * t, 1e-300)
    below = half * (np.exp(-1 / inside) @ weights)
    share = below[:-1] / (2 * below[-1])
    return np.where(u > 0, 1 - share, share)


def _ramp(t: np.ndarray) -> np.ndarray:
    """πν(t)/2 for t in [0, 1]: ν rises from 0 to 1 with ν(t) + ν(1 − t) = 1 and three vanishing derivatives at both ends."""
    t = t.clip(0, 1)
    found: np.ndarray = np.pi / 2 * t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
    return found


def _low(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0.5, 0.0, np.cos(_ramp(4 * x - 1)))


def _high(x: np.ndarray) -> list[np.ndarray]:
    """The two high passes; their squares and that of the low pass sum to the low pass squared at x/2."""
    fall = _ramp(2 * x - 1)
    first = np.where(x < 0.5, np.sin(_ramp(4 * x - 1)), np.cos(fall) ** 2)
    second = np.where(x < 0.5, 0.0, np.cos(fall) * np.sin(fall))
    return [np.where(x >= 1, 0.0, first), np.where(x >= 1, 0.0, second)]


__all__ = ["framelet_windows", "needlet_profile", "needlet_windows"]
