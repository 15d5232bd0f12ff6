r"""Gaussian rings: smooth isotropic profiles, evenly spaced in r.

:math:`\psi_j = e^{-(t - t_j)^2 / 2 \sigma^2} \cos^2(\pi t / 2)`, :math:`t_j = j / n`, :math:`\sigma = 1 / (2 n)`:
neighbours cross at :math:`e^{-1/2}` of their height. The window takes every function smoothly to zero at the rim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel, column, hann


@dataclass(frozen=True)
class GaussianRings(Kernel):
    """Gaussians in r at `num_rings` distances, the first at the centre, under a Hann window.

    Args:
        num_rings: number of distances, the centre included.

    Equivariance: SO(3), up to quadrature.

    Example:
        >>> from spheregeo.kernels import GaussianRings
        >>> GaussianRings(3).num_functions
        3
    """

    num_rings: int

    def __post_init__(self) -> None:
        check_count("num_rings", self.num_rings, 1)

    @property
    def orders(self) -> tuple[int | None, ...]:
        return (0,) * self.num_rings

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        centres = column([j / self.num_rings for j in range(self.num_rings)], t)
        return torch.exp(-2 * (self.num_rings * (t - centres)) ** 2) * hann(t)
