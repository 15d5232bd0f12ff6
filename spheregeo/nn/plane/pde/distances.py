r"""Distances of SE(2) from the unit for left-invariant metrics: estimates in closed form.

A metric has positive weights w = (w₁, w₂, w₃): a unit of length forwards, sideways and of angle costs w₁, w₂ and w₃. With
the half-angle coordinates b and the logarithm c of an element g,

    log            ρ² = Σ (w_i c_i)²
    half-angle     ρ² = Σ (w_i b_i)², exact for w₁ = w₂
    combined       max(l, min(ρ_half-angle, ρ_sr)),  ρ_sr⁴ = N² + (ν w₁ w₃ b₂)²,  N = (w₁ b₁)² + (w₃ θ)²
    accurate       max(l, ρ_ic),  ρ_ic² = min_{0 ≤ f ≤ 1} (w₂ f b₂)² + √(N² + (ν w₁ w₃ (1 − f) b₂)²)

with the lower bound l² = min(w₁, w₂)² |x|² + (w₃ θ)²: sideways motion is paid for in part directly (f) and in part by turning,
going and turning back. ρ_sr is that second part alone, the limit of w₂ → ∞. The dearer of the two directions counts as sideways.
ρ(g⁻¹) = ρ(g) for all of them.
Reference: Bellaard, Bon, Pai, Smets & Duits 2023, arXiv:2210.00935, for the half-angle and the combined estimates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spheregeo.groups.lie import se2_half_angle, se2_log

NU = 6.6  # best fit to geodesics; small loops need from √24 (nearly straight) to 4π (pure sideways motion)
SHARES = 33  # values of f that are tried
KINDS = ("accurate", "combined", "half-angle", "log", "lower")


def _root(square: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def se2_distance_squared(g: Tensor, weights: Tensor, kind: str = "accurate", nu: float = NU) -> Tensor:
    """Squared distances of motions of the plane from the unit, for a left-invariant metric.

    Args:
        g: motions (x, y, θ).
        weights: positive costs (w₁, w₂, w₃) of a unit forwards, sideways and of angle.
        kind: "accurate", "combined", "half-angle", "log", or "lower" for the lower bound; see the head of the module.
        nu: the constant ν.

    Shape: g (..., 3), weights (..., 3), broadcast -> (...).
    Units: θ in radians; w₁ and w₂ per unit of x.
    Equivariance: ρ(g⁻¹) = ρ(g), to rounding. Mean error against geodesics of length .8 to 3: at most 2.9 % of the distance up to
        w₂/w₁ = 50 for "accurate"; at w₂/w₁ = 8 it is 120 % for "log" and 107 % for "half-angle".
    Raises: ValueError for an unknown kind.
    """
    if kind == "log":
        return (weights * se2_log(g)).square().sum(-1)
    return half_angle_distance_squared(se2_half_angle(g), weights, kind, nu)


def half_angle_distance_squared(b: Tensor, weights: Tensor, kind: str, nu: float = NU) -> Tensor:
    """Squared distances from half-angle coordinates (b₁, b₂, θ), of whose signs they see nothing.

    Args:
        b: half-angle coordinates.
        weights, kind, nu: as of :func:`se2_distance_squared`, but for the kind "log".

    Shape: b (..., 3), weights (..., 3), broadcast -> (...).
    Raises: ValueError for an unknown kind.
    """
    if kind not in KINDS or kind == "log":
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    b1, b2, angle = b.unbind(-1)
    w1, w2, w3 = weights.unbind(-1)
    if kind == "half-angle":
        return (w1 * b1).square() + (w2 * b2).square() + (w3 * angle).square()
    lower = torch.minimum(w1, w2).square() * (b1 * b1 + b2 * b2) + (w3 * angle).square()
    if kind == "lower":
        return lower
    swapped = w2 < w1
    w1, w2 = torch.where(swapped, w2, w1), torch.where(swapped, w1, w2)
    b1, b2 = torch.where(swapped, b2, b1), torch.where(swapped, b1, b2)
    cheap, turned = (w1 * b1).square() + (w3 * angle).square(), (nu * w1 * w3 * b2).square()
    if kind == "combined":
        riemannian = cheap + (w2 * b2).square()
        return torch.maximum(lower, torch.minimum(riemannian, _root(cheap.square() + turned)))
    with torch.no_grad():  # at the best f the derivative by f is zero or f is at an end
        f = torch.linspace(0, 1, SHARES, dtype=cheap.dtype, device=cheap.device)
        mixed = (w2 * b2).square()[..., None] * f.square()
        mixed = mixed + (cheap.square()[..., None] + turned[..., None] * (1 - f).square()).sqrt()
        share = f[mixed.argmin(-1)]
    estimate = (w2 * share * b2).square() + _root(cheap.square() + (1 - share).square() * turned)
    return torch.maximum(lower, estimate)


def se2_distance(g: Tensor, weights: Tensor, kind: str = "accurate", nu: float = NU) -> Tensor:
    """Distances of motions of the plane from the unit, for a left-invariant metric; see :func:`se2_distance_squared`.

    Args:
        g, weights, kind, nu: as of :func:`se2_distance_squared`.

    Shape: g (..., 3), weights (..., 3), broadcast -> (...).
    Raises: ValueError for an unknown kind.

    Example:
        >>> se2_distance(torch.tensor([3.0, 4.0, 0.0]), torch.ones(3))
        tensor(5.)
    """
    return _root(se2_distance_squared(g, weights, kind, nu))
