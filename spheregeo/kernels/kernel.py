r"""A kernel is a set of K fixed functions on a disc around a point, in geodesic polar coordinates.

A convolution's filter is the learned mixture :math:`\kappa(r, \phi) = \sum_k W_k \psi_k(r / \theta_c, \phi)` with
:math:`\psi_k = 0` beyond the radius :math:`\theta_c` (Ocampo, Price & McEwen 2023, arXiv:2209.13603).
The angle :math:`\phi` runs from the frame's first vector (south, on a sphere) towards its second (east).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Kernel(ABC):
    """Base of all filter bases: a frozen dataclass that says its orders and evaluates itself on the unit disc.

    Equivariance: functions of order 0 are isotropic (SO(3), up to quadrature); all others depend on the frame.

    Example:
        >>> from spheregeo.kernels import Rings
        >>> Rings(3).num_functions
        2
    """

    @property
    @abstractmethod
    def orders(self) -> tuple[int | None, ...]:
        """Angular order of each function: as cos(m phi) for m >= 0, +-sin(m phi) for m < 0, None where mixed."""

    @abstractmethod
    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        """Values (K, *t.shape) at t = r / radius; need not vanish for t > 1."""

    @property
    def num_functions(self) -> int:
        """K."""
        return len(self.orders)

    @property
    def isotropic(self) -> bool:
        """Whether no function depends on the angle."""
        return all(order == 0 for order in self.orders)

    @property
    def radial_kinks(self) -> tuple[float, ...]:
        """Values of t in (0, 1) at which some function is not smooth; quadrature is split there."""
        return ()

    @property
    def angular_kinks(self) -> int:
        """Number n such that all angular kinks are at multiples of 2 pi / n; 0 where functions are smooth in phi."""
        return 0

    def __call__(self, r: Tensor, phi: Tensor, radius: float) -> Tensor:
        """All K functions at polar coordinates (r, phi), zero for r > radius.

        Shape: r, phi (nnz,) -> (K, nnz) float64.
        Units: radians (or, on meshes and planes, the units of `radius`).
        Raises: ValueError for shapes that differ or a radius that is not positive.
        """
        t, phi = self._check(r, phi, radius)
        return torch.where(t <= 1, self.on_disc(t, phi), 0.0)

    def support(self, r: Tensor, phi: Tensor, radius: float) -> Tensor:
        """Closed support of each function: (K, nnz) booleans. A function may have zeros inside its support."""
        t, phi = self._check(r, phi, radius)
        return (t <= 1).expand(self.num_functions, *t.shape)

    @staticmethod
    def _check(r: Tensor, phi: Tensor, radius: float) -> tuple[Tensor, Tensor]:
        if r.shape != phi.shape:
            raise ValueError(
                f"phi has shape {tuple(phi.shape)} but r has {tuple(r.shape)}; pass one angle per distance"
            )
        if not (radius > 0 and math.isfinite(radius)):
            raise ValueError(
                f"radius is {radius}, expected a positive number; pass the cutoff in the units of r"
            )
        return r.to(torch.float64) / radius, phi.to(torch.float64)


def hann(t: Tensor) -> Tensor:
    """Window cos^2(pi t / 2): one at the centre, zero with zero slope at the rim."""
    return torch.cos(0.5 * math.pi * t) ** 2


def column(values: list[float], like: Tensor) -> Tensor:
    """`values` as (K, 1, ...) so that they broadcast against (K, *like.shape)."""
    return torch.tensor(values, dtype=torch.float64, device=like.device).reshape(-1, *[1] * like.dim())


def harmonic(m: int, phi: Tensor) -> Tensor:
    """cos(m phi) for m >= 0 and sin(m phi) for m < 0 (that is, -sin(|m| phi))."""
    return torch.cos(m * phi) if m >= 0 else torch.sin(m * phi)
