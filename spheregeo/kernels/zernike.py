r"""Zernike polynomials: the polynomials of x and y on the disc, orthonormal there, without a window.

:math:`\psi_{nm} = R_n^{|m|}(t) \{\cos m\phi\ (m \ge 0), \sin m\phi\ (m < 0)\} / \sqrt{\pi (1 + \delta_{m0}) / (2 (n + 1))}`,
:math:`m = -n, -n + 2, \ldots, n` (Born & Wolf, Principles of Optics, 9.2).
A negative m makes the sine negative, as in torch-harmonics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel, harmonic


@dataclass(frozen=True)
class Zernike(Kernel):
    """All Zernike polynomials up to `degree`: (degree + 1)(degree + 2) / 2 functions, by degree and then order.

    Args:
        degree: highest degree of the polynomials.

    Equivariance: order 0 SO(3), up to quadrature; others turn with the frame. They do not vanish at the rim.
    Reference: torch-harmonics' "zernike" basis of kernel_shape degree + 1.

    Example:
        >>> from spheregeo.kernels import Zernike
        >>> Zernike(2).num_functions
        6
    """

    degree: int

    def __post_init__(self) -> None:
        check_count("degree", self.degree, 0)

    @property
    def orders(self) -> tuple[int | None, ...]:
        return tuple(2 * i - n for n in range(self.degree + 1) for i in range(n + 1))

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        out = []
        for n in range(self.degree + 1):
            for m in range(-n, n + 1, 2):
                norm = math.sqrt(math.pi * (2 if m == 0 else 1) / (2 * (n + 1)))
                out.append(radial(n, abs(m), t) * harmonic(m, phi) / norm)
        return torch.stack(out)


def radial(n: int, m: int, t: Tensor) -> Tensor:
    """R_n^m(t) for n - m even and not negative."""
    powers = [
        (-1) ** k * math.comb(n - k, k) * math.comb(n - 2 * k, (n - m) // 2 - k)
        for k in range((n - m) // 2 + 1)
    ]
    return torch.stack([c * t ** (n - 2 * k) for k, c in enumerate(powers)]).sum(0)
