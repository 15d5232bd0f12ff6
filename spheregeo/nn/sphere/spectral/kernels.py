r"""Kernels of spectral convolutions: sums of point masses on the sphere or on SO(3), or free coefficients.

A kernel of K point masses w_k has the coefficients ψ_ln = Σ_k w_k S_ln(p_k) on the sphere and D^l(Q_k) on SO(3), so that a
convolution with it is f ↦ Σ_k w_k f(R p_k), or Σ_k w_k h(R Q_k): samples at a few places, read where R has turned them.
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130, section 5.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.harmonics import real_harmonics, unpack_wigner, wigner_d
from spheregeo.harmonics.wigner_forms import packed_size


def rotation_blocks(alpha: Tensor, beta: Tensor, gamma: Tensor, lmax: int) -> list[Tensor]:
    """Real Wigner matrices of the rotations R_z(α) R_y(β) R_z(γ), which turn real harmonics: S_l(R x) = D^l(R) S_l(x).

    Args:
        alpha, beta, gamma: angles, all of one shape.
        lmax: largest degree.

    Shape: three (...) -> for each degree (..., 2l + 1, 2l + 1), float64.
    Units: radians.
    """
    some, which = torch.unique(beta, return_inverse=True)
    found = []
    for degree, d in enumerate(unpack_wigner(wigner_d(some, lmax))):
        m = torch.arange(-degree, degree + 1)
        x = _to_real(_to_real(d.to(torch.complex128)).mH).mH.real[which]
        left, right = alpha[..., None, None] * m[:, None], gamma[..., None, None] * m
        x = left.cos() * x - left.sin() * x.flip(-2)  # R_z mixes orders m and −m alone
        found.append(right.cos() * x + right.sin() * x.flip(-1))
    return found


def _to_real(matrix: Tensor) -> Tensor:
    """A matrix whose columns belong to complex harmonics, times the transpose of the map from complex to real harmonics."""
    degree = matrix.shape[-1] // 2
    m = torch.arange(-degree, degree + 1)
    sign = 1.0 - 2.0 * (m % 2)
    other = matrix.flip(-1)
    cosine, sine = (sign * matrix + other) / math.sqrt(2), -1j * (sign * other - matrix) / math.sqrt(2)
    return torch.where(m > 0, cosine, torch.where(m < 0, sine, matrix))


@dataclass(frozen=True)
class SpectralKernel(ABC):
    """Base of kernels: a table from K weights to coefficients, or none where the weights are the coefficients (``tabulated``).

    Example:
        >>> from spheregeo.nn import NearIdentity
        >>> NearIdentity(num_alpha=8, num_beta=3).on_sphere(4).shape
        torch.Size([24, 25])
    """

    tabulated: ClassVar[bool] = True

    @abstractmethod
    def on_sphere(self, lmax: int) -> Tensor | None:
        """Coefficients of each function on the sphere; None where weights are coefficients. Shape: (K, (lmax + 1)²)."""

    @abstractmethod
    def on_rotations(self, lmax: int) -> Tensor | None:
        """Transposed Wigner matrices of each point mass on SO(3); None where weights are coefficients.

        Shape: (K, Σ(2l + 1)²), blocks by degree.
        """

    def num_on_sphere(self, lmax: int) -> int:
        """Number of weights K of a kernel on the sphere."""
        table = self.on_sphere(lmax)
        return (lmax + 1) ** 2 if table is None else len(table)

    def num_on_rotations(self, lmax: int) -> int:
        """Number of weights K of a kernel on SO(3)."""
        table = self.on_rotations(lmax)
        return packed_size(lmax) if table is None else len(table)


class _Points(SpectralKernel):
    """Kernels of point masses at Euler angles."""

    @abstractmethod
    def _angles(self) -> tuple[Tensor, Tensor, Tensor]:
        """α, β and γ of the rotations, each (num_beta, num_alpha, num_gamma)."""

    def on_sphere(self, lmax: int) -> Tensor:
        alpha, beta = (angle[..., 0].flatten() for angle in self._angles()[:2])
        points = torch.stack([beta.sin() * alpha.cos(), beta.sin() * alpha.sin(), beta.cos()], -1)
        return real_harmonics(points, lmax)

    def on_rotations(self, lmax: int) -> Tensor:
        alpha, beta, gamma = (angle.flatten() for angle in self._angles())
        blocks = rotation_blocks(alpha, beta, gamma, lmax)
        return torch.cat([block.transpose(-1, -2).flatten(-2) for block in blocks], -1)


def _circle(count: int) -> Tensor:
    return 2 * math.pi * torch.arange(count, dtype=torch.float64) / count


@dataclass(frozen=True)
class NearIdentity(_Points):
    """Point masses on rings about the north pole; on SO(3) on rings about the identity.

    Args:
        max_beta: radius of the outermost ring.
        num_alpha: points of each ring.
        num_beta: rings, at multiples of max_beta / num_beta.
        num_gamma: on SO(3), turns γ' at each point, with γ = γ' − α; ``num_alpha`` if None.
        max_gamma: largest |γ'|; all the circle, evenly, from π on.

    Units: radians.
    Raises: ValueError for counts below 1, or angles outside (0, π].
    Reference: Cohen et al. 2018, arXiv:1801.10130; the defaults are those of its code.

    Example:
        >>> from spheregeo.nn import NearIdentity
        >>> NearIdentity(max_beta=0.3).num_on_rotations(5)
        192
    """

    max_beta: float = math.pi / 8
    num_alpha: int = 8
    num_beta: int = 3
    num_gamma: int | None = None
    max_gamma: float = math.pi

    def __post_init__(self) -> None:
        for name in ("num_alpha", "num_beta"):
            check_count(name, getattr(self, name))
        if self.num_gamma is not None:
            check_count("num_gamma", self.num_gamma)
        if not 0 < self.max_beta <= math.pi or not self.max_gamma >= 0:
            raise ValueError(
                f"max_beta is {self.max_beta} and max_gamma {self.max_gamma}; expected 0 < max_beta <= pi, max_gamma >= 0"
            )

    def _angles(self) -> tuple[Tensor, Tensor, Tensor]:
        turns = self.num_alpha if self.num_gamma is None else self.num_gamma
        beta = self.max_beta * torch.arange(1, self.num_beta + 1, dtype=torch.float64) / self.num_beta
        if self.max_gamma >= math.pi:
            turn = _circle(turns)
        else:
            turn = torch.linspace(-self.max_gamma, self.max_gamma, turns, dtype=torch.float64)
        b, a, c = torch.meshgrid(beta, _circle(self.num_alpha), turn, indexing="ij")
        return a, b, c - a


@dataclass(frozen=True)
class Equatorial(_Points):
    """Point masses on rings at the equator: long, thin kernels that see a whole great circle.

    Args:
        max_beta: the rings' largest distance from the equator.
        num_alpha: points of each ring.
        num_beta: rings, evenly between the outermost ones.
        num_gamma: on SO(3), turns γ at each point.
        max_gamma: largest |γ|; all the circle, evenly, from π on.

    Units: radians.
    Raises: ValueError for counts below 1, or max_beta outside [0, π/2].
    Reference: Cohen et al. 2018, arXiv:1801.10130; the defaults are those of its code.

    Example:
        >>> from spheregeo.nn import Equatorial
        >>> Equatorial(num_alpha=16).num_on_sphere(5)
        16
    """

    max_beta: float = 0.0
    num_alpha: int = 32
    num_beta: int = 1
    num_gamma: int = 2
    max_gamma: float = math.pi / 8

    def __post_init__(self) -> None:
        for name in ("num_alpha", "num_beta", "num_gamma"):
            check_count(name, getattr(self, name))
        if not 0 <= self.max_beta <= math.pi / 2 or not self.max_gamma >= 0:
            raise ValueError(
                f"max_beta is {self.max_beta} and max_gamma {self.max_gamma}; expected 0 <= max_beta <= pi/2, max_gamma >= 0"
            )

    def _angles(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.max_gamma >= math.pi:
            turn = _circle(self.num_gamma)
        else:
            turn = torch.linspace(-self.max_gamma, self.max_gamma, self.num_gamma, dtype=torch.float64)
        beta = math.pi / 2 + torch.linspace(-self.max_beta, self.max_beta, self.num_beta, dtype=torch.float64)
        b, a, c = torch.meshgrid(beta, _circle(self.num_alpha), turn, indexing="ij")
        return a, b, c


@dataclass(frozen=True)
class FullSpectrum(SpectralKernel):
    """A weight for each coefficient up to the band limit: any kernel, with support on the whole sphere or group.

    Reference: Cohen et al. 2018, arXiv:1801.10130, section 4.

    Example:
        >>> from spheregeo.nn import FullSpectrum
        >>> FullSpectrum().num_on_sphere(5), FullSpectrum().num_on_rotations(5)
        (36, 286)
    """

    tabulated: ClassVar[bool] = False

    def on_sphere(self, lmax: int) -> None:
        return None

    def on_rotations(self, lmax: int) -> None:
        return None
