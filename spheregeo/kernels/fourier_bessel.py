r"""Fourier-Bessel functions: eigenfunctions of the Laplacian on the disc that vanish at the rim.

:math:`\psi = J_m(\alpha_{mn} t) \{\cos m\phi, \sin m\phi\} / \|\cdot\|` with :math:`\alpha_{mn}` the n-th positive zero of
:math:`J_m`, ordered by :math:`\alpha_{mn}`; the norm is :math:`\|\cdot\|^2 = \pi (1 + \delta_{m0}) J_{m+1}(\alpha_{mn})^2 / 2`
(Watson, Theory of Bessel Functions, 5.11).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel


@dataclass(frozen=True)
class FourierBessel(Kernel):
    """Eigenfunctions up to the `num_radial`-th zero of J_0 and angular order `max_order`; cosine before sine.

    Args:
        num_radial: number of zeros of J_0 up to which eigenfunctions are taken.
        max_order: highest angular order.

    Equivariance: order 0 SO(3), up to quadrature; others turn with the frame.
    Reference: torch-harmonics' "fourier-bessel" basis of kernel_shape (num_radial, max_order).

    Example:
        >>> from spheregeo.kernels import FourierBessel
        >>> max(FourierBessel(2, 1).orders)
        1
    """

    num_radial: int
    max_order: int

    def __post_init__(self) -> None:
        check_count("num_radial", self.num_radial, 1)
        check_count("max_order", self.max_order, 0)

    @property
    def orders(self) -> tuple[int | None, ...]:
        return tuple(m for _, m in _modes(self.num_radial, self.max_order))

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        from scipy.special import jv

        points, out = t.cpu().numpy(), []
        for alpha, m in _modes(self.num_radial, self.max_order):
            order = abs(m)
            norm = math.sqrt(math.pi * (2 if m == 0 else 1) / 2) * abs(float(jv(order + 1, alpha)))
            angular = torch.cos(m * phi) if m >= 0 else torch.sin(order * phi)
            out.append(torch.as_tensor(jv(order, alpha * points), device=t.device) * angular / norm)
        return torch.stack(out)


@lru_cache(maxsize=64)
def _modes(num_radial: int, max_order: int) -> tuple[tuple[float, int], ...]:
    """(alpha, m) with m < 0 for the sine, ascending in alpha."""
    from scipy.special import jn_zeros

    largest = float(jn_zeros(0, num_radial)[-1])
    modes = []
    for m in range(max_order + 1):
        for alpha in jn_zeros(m, num_radial).tolist():
            if alpha <= largest:
                modes += [(alpha, m), (alpha, -m)] if m else [(alpha, 0)]
    return tuple(sorted(modes, key=lambda mode: mode[0]))
