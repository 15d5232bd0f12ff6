r"""Circular harmonics: radial profiles times cos and sin of m phi, the basis of steerable and gauge filters.

:math:`\psi = c\, \cos^2(\pi t / 2)\, t^{|m|} P_j(2 t^2 - 1) \{\cos m\phi, \sin m\phi\}` with Legendre polynomials
:math:`P_j`. The factor :math:`t^{|m|}` makes the filter smooth at the centre, where :math:`e^{im\phi}` is undefined
(methods: sphere, 7.2); c gives unit L2 norm on the flat unit disc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel, hann


@dataclass(frozen=True)
class CircularHarmonics(Kernel):
    """`num_rings` radial profiles for each of the orders 0, +1, -1, ..., +max_order, -max_order (order-major).

    Args:
        num_rings: number of radial profiles.
        max_order: highest angular order.

    Equivariance: order 0 SO(3), up to quadrature; an order-m pair turns with the frame by m times its angle.

    Example:
        >>> from spheregeo.kernels import CircularHarmonics
        >>> CircularHarmonics(2, 1).num_functions
        6
    """

    num_rings: int
    max_order: int

    def __post_init__(self) -> None:
        check_count("num_rings", self.num_rings, 1)
        check_count("max_order", self.max_order, 0)

    @property
    def orders(self) -> tuple[int | None, ...]:
        signed = [0] + [sign * m for m in range(1, self.max_order + 1) for sign in (1, -1)]
        return tuple(m for m in signed for _ in range(self.num_rings))

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        window, out = hann(t), []
        for m in range(self.max_order + 1):
            norms = _norms(self.num_rings, m)
            radial = torch.stack([window * t**m * p for p in legendre(2 * t**2 - 1, self.num_rings)])
            radial = radial / torch.tensor(norms, dtype=t.dtype, device=t.device).reshape(-1, *[1] * t.dim())
            out.append(radial * torch.cos(m * phi))
            if m:
                out.append(radial * torch.sin(m * phi))  # order -m in `orders`
        return torch.cat(out)


def legendre(x: Tensor, count: int) -> list[Tensor]:
    """Legendre polynomials of degree 0 ... count - 1, by the three-term recurrence."""
    values = [torch.ones_like(x), x]
    for n in range(1, count - 1):
        values.append(((2 * n + 1) * x * values[n] - n * values[n - 1]) / (n + 1))
    return values[:count]


@lru_cache(maxsize=64)
def _norms(count: int, m: int) -> list[float]:
    """L2 norms of window * t^m * P_j * cos(m phi) on the unit disc, by Gauss-Legendre in t."""
    nodes, weights = np.polynomial.legendre.leggauss(2 * count + m + 32)
    t, w = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    angular = 2 * math.pi if m == 0 else math.pi
    return [
        math.sqrt(angular * float((w * t * (hann(t) * t**m * p) ** 2).sum()))
        for p in legendre(2 * t**2 - 1, count)
    ]
