r"""The kernel of dilation and erosion, a function of the distance alone: for SE(2), the plane and the sphere.

u_t = ± ‖∇u‖^{2α} for ½ < α ≤ 1 is solved by the (max, +) and (min, +) convolutions with

    k_t(d) = (2α − 1) (2α)^{−2α/(2α−1)} d^{2α/(2α−1)} t^{−1/(2α−1)},     k_s □ k_t = k_{s+t},

d the distance of the metric; the time is absorbed in the metric, w t^{−1/(2α)}. As α → ½ the kernel becomes flat: 0 for d ≤ t and
∞ beyond, which is max-pooling over the ball of the metric; α = 1 is quadratic. Reference: Smets, Portegies, Bekkers & Duits 2022,
arXiv:2001.09046; Bellaard, Bon, Pai, Smets & Duits 2023, arXiv:2210.00935.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLAT = 80.0  # kernels end at e^80, which float32 holds and no feature reaches


def morphological_kernel(squared_distance: Tensor, alpha: float, time: float = 1.0) -> Tensor:
    """The kernel k_t(d) of dilation and erosion, from squared distances; see the head of the module.

    Args:
        squared_distance: d².
        alpha: above ½ and at most 1.
        time: t.

    Shape: (...) -> (...). Values end at e^80.
    Raises: ValueError for alpha or time outside their range.

    Example:
        >>> morphological_kernel(torch.tensor([0.0, 1.0, 4.0]), 1.0)
        tensor([0.0000, 0.2500, 1.0000])
    """
    check_alpha(alpha)
    if not time > 0:
        raise ValueError(f"time is {time}; expected a positive number")
    power = 2 * alpha / (2 * alpha - 1)
    scale = math.log(2 * alpha - 1) - power * math.log(2 * alpha) - math.log(time) / (2 * alpha - 1)
    beyond = squared_distance > 0
    log = torch.where(beyond, squared_distance, 1.0).log() * (power / 2) + scale
    return torch.where(beyond, log.clamp_max(FLAT).exp(), 0.0)


def check_alpha(alpha: float) -> float:
    """Raises: ValueError unless ½ < alpha ≤ 1."""
    if not 0.5 < alpha <= 1:
        raise ValueError(
            f"alpha is {alpha}; expected a number above 0.5 (flat kernels) and at most 1 (quadratic ones)"
        )
    return float(alpha)


def working(x: Tensor, weight: Tensor) -> torch.dtype:
    """The type that kernels are computed in: float64 for float64 features or weights, else float32."""
    return torch.float64 if torch.float64 in (x.dtype, weight.dtype) else torch.float32
