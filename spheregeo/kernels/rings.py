r"""Isotropic piecewise-linear rings: hats in r, the plainest SO(3)-equivariant basis.

:math:`\psi_k = \max(1 - |t - t_k| / \delta, 0)` with :math:`\delta = 2 / (n + 1)`; centres :math:`t_k = k \delta` for odd n
(the first a full hat at the centre), :math:`(k + 1/2) \delta` for even n. n counts the rings met along a diameter,
as torch-harmonics counts them, so there are :math:`\lceil n / 2 \rceil` functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel, column

TIE = 1e-9  # points this close to the border of a hat's support count as inside; rounding must not decide


@dataclass(frozen=True)
class Rings(Kernel):
    """Hats in r at `num_rings` stations along a diameter: 3 gives a centre hat and one ring.

    Args:
        num_rings: stations of the hats along a diameter.

    Equivariance: SO(3), up to quadrature.
    Reference: torch-harmonics' "piecewise linear" basis with one angle.

    Example:
        >>> from spheregeo.kernels import Rings
        >>> Rings(3).num_functions
        2
    """

    num_rings: int

    def __post_init__(self) -> None:
        check_count("num_rings", self.num_rings, 1)

    @property
    def orders(self) -> tuple[int | None, ...]:
        return (0,) * len(ring_centres(self.num_rings))

    @property
    def radial_kinks(self) -> tuple[float, ...]:
        return tuple(c for c in ring_centres(self.num_rings) if 0 < c < 1)

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        return hat(t, ring_centres(self.num_rings), ring_spacing(self.num_rings))

    def support(self, r: Tensor, phi: Tensor, radius: float) -> Tensor:
        t, phi = self._check(r, phi, radius)
        return in_hat(t, ring_centres(self.num_rings), ring_spacing(self.num_rings)) & (t <= 1)


def ring_spacing(num_rings: int) -> float:
    """Half width of a hat as a fraction of the radius."""
    return 2 / (num_rings + 1)


def ring_centres(num_rings: int) -> list[float]:
    """Centres of the hats as fractions of the radius, inner first."""
    delta, half = ring_spacing(num_rings), num_rings // 2
    return [k * delta for k in range(half + 1)] if num_rings % 2 else [(k + 0.5) * delta for k in range(half)]


def hat(t: Tensor, centres: list[float], delta: float) -> Tensor:
    """Hats of half width `delta`: (len(centres), *t.shape)."""
    return (1 - (t - column(centres, t)).abs() / delta).clamp(min=0)


def in_hat(t: Tensor, centres: list[float], delta: float) -> Tensor:
    """Closed supports of the hats, as booleans."""
    return torch.abs(t - column(centres, t)) <= delta + TIE
