"""The grid of Euler angles on which functions on SO(3) are sampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.groups import euler_matrix
from spheregeo.harmonics import fejer1


@dataclass(frozen=True)
class SO3Grid:
    """Rotations R = R_z(α) R_y(β) R_z(γ) at equidistant angles, with weights that integrate over SO(3).

    Args:
        bandwidth: b; there are 2b angles β_k = (k + ½)π/2b and 2b angles α_j = πj/b. Products of two functions of degrees
            below b are integrated exactly.
        num_gamma: number of angles γ_j = 2πj/num_gamma; 2b where zero. Functions whose orders |n| stay below num_gamma/2
            need no more.

    Shape: (2b, 2b, num_gamma), axes β, α, γ.
    Units: radians; the weights sum to 8π², the volume of SO(3).
    Raises: ValueError for sizes that are not positive integers.

    Example:
        >>> from spheregeo.spectral import SO3Grid
        >>> SO3Grid(4).shape
        (8, 8, 8)
    """

    bandwidth: int
    num_gamma: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", check_count("bandwidth", self.bandwidth))
        count = check_count("num_gamma", self.num_gamma, 0) or 2 * self.bandwidth
        object.__setattr__(self, "num_gamma", count)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(2b, 2b, num_gamma)."""
        return 2 * self.bandwidth, 2 * self.bandwidth, self.num_gamma

    @property
    def beta(self) -> Tensor:
        """Angles β. Shape: (2b,) float64."""
        return fejer1(2 * self.bandwidth)[0]

    @property
    def alpha(self) -> Tensor:
        """Angles α. Shape: (2b,) float64."""
        return torch.arange(2 * self.bandwidth, dtype=torch.float64) * (math.pi / self.bandwidth)

    @property
    def gamma(self) -> Tensor:
        """Angles γ. Shape: (num_gamma,) float64."""
        return torch.arange(self.num_gamma, dtype=torch.float64) * (2 * math.pi / self.num_gamma)

    @property
    def weights(self) -> Tensor:
        """Weight of every angle β; all rotations with that β have it, and all together sum to 8π². Shape: (2b,) float64."""
        return (
            fejer1(2 * self.bandwidth)[1]
            * (2 * math.pi / (2 * self.bandwidth))
            * (2 * math.pi / self.num_gamma)
        )

    @property
    def rotations(self) -> Tensor:
        """All rotations as matrices. Shape: (2b, 2b, num_gamma, 3, 3) float64."""
        return euler_matrix(self.alpha[None, :, None], self.beta[:, None, None], self.gamma[None, None])
