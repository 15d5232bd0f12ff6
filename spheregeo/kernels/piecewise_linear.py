r"""Piecewise-linear hats in ring and angle: directional, compact, a partition of unity for odd ring counts.

Products of the ring hats of `Rings` with hats of half width :math:`\delta_\phi = 2\pi / n_\phi` around
:math:`\phi_a = a \delta_\phi - \pi`. Odd ring counts have one isotropic hat at the centre; even ones have none, and their
inner hats continue through the centre to the other side: :math:`(t, \phi) \to (-t, \phi + \pi)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel, column
from spheregeo.kernels.rings import TIE, Rings, hat, in_hat, ring_centres, ring_spacing


@dataclass(frozen=True)
class PiecewiseLinear(Kernel):
    """Hats in ring x angle: (3, 3) gives a centre hat and three directions. Ring-major order.

    Args:
        num_rings: stations of the hats along a diameter.
        num_angles: directions of the hats of each ring.

    Equivariance: rotations about the axis of the frame field alone; one angle is `Rings`, hence SO(3).
    Reference: torch-harmonics' "piecewise linear" basis. For even `num_rings` the value at r = 0 depends on phi.

    Example:
        >>> from spheregeo.kernels import PiecewiseLinear
        >>> PiecewiseLinear(3, 3).num_functions
        4
    """

    num_rings: int
    num_angles: int

    def __post_init__(self) -> None:
        check_count("num_rings", self.num_rings, 1)
        check_count("num_angles", self.num_angles, 1)

    @property
    def orders(self) -> tuple[int | None, ...]:
        if self.num_angles == 1:
            return Rings(self.num_rings).orders
        centre: tuple[int | None, ...] = (0,) if self.num_rings % 2 else ()
        return centre + (None,) * (self.num_rings // 2 * self.num_angles)

    @property
    def radial_kinks(self) -> tuple[float, ...]:
        return Rings(self.num_rings).radial_kinks

    @property
    def angular_kinks(self) -> int:
        return 0 if self.num_angles == 1 else 2 * self.num_angles  # twice: inner hats continue at phi + pi

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        if self.num_angles == 1:
            return Rings(self.num_rings).on_disc(t, phi)
        delta, centres = ring_spacing(self.num_rings), ring_centres(self.num_rings)
        phi = torch.remainder(phi, 2 * math.pi)
        radial, angular = hat(t, centres, delta), self._angular(phi)  # (rings, *t.shape), (angles, *t.shape)
        if self.num_rings % 2:
            outer = (radial[1:, None] * angular[None]).flatten(0, 1)
            return torch.cat([radial[:1], outer])
        beyond = hat(-t, centres, delta)[:, None] * self._angular(phi - math.pi)[None]
        return (radial[:, None] * angular[None] + beyond).flatten(0, 1)

    def support(self, r: Tensor, phi: Tensor, radius: float) -> Tensor:
        """Closed support, (K, nnz) booleans.

        Points due south, east, north and west often lie on an angular hat's border, where rounding would decide:
        their angles are made exact first.
        """
        t, phi = self._check(r, phi, radius)
        if self.num_angles == 1:
            return Rings(self.num_rings).support(r, phi, radius)
        delta, centres = ring_spacing(self.num_rings), ring_centres(self.num_rings)
        phi = torch.remainder(phi, 2 * math.pi)
        quarter = torch.round(phi * (2 / math.pi))
        phi = torch.where(
            (phi - quarter * (math.pi / 2)).abs() < TIE, torch.remainder(quarter, 4) * (math.pi / 2), phi
        )
        width = 2 * math.pi / self.num_angles
        radial, angular = in_hat(t, centres, delta), self._distance(phi) <= width
        if self.num_rings % 2:
            inside = torch.cat([radial[:1], (radial[1:, None] & angular[None]).flatten(0, 1)])
        else:
            through = in_hat(-t, centres, delta)[:, None] & (self._distance(phi - math.pi) <= width)[None]
            inside = ((radial[:, None] & angular[None]) | through).flatten(0, 1)
        return inside & (t <= 1)

    def _distance(self, phi: Tensor) -> Tensor:
        """Distance on the circle from each hat's angle, phi in [-pi, 2 pi): (angles, *phi.shape)."""
        width = 2 * math.pi / self.num_angles
        gap = (phi - column([a * width - math.pi for a in range(self.num_angles)], phi)).abs()
        return torch.minimum(gap, (2 * math.pi - gap).abs())

    def _angular(self, phi: Tensor) -> Tensor:
        return (1 - self._distance(phi) / (2 * math.pi / self.num_angles)).clamp(min=0)
