r"""Polar kernels: radial profiles times cos and sin of j phi for j = 0 ... J, what gauge-equivariant layers are made of."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel


@dataclass(frozen=True)
class PolarKernel(Kernel):
    r"""The functions of an isotropic ``profile`` times :math:`t^j \{\cos j\phi, \sin j\phi\}`, j = 0 ... ``max_order``.

    Order-major, cosines before sines: the order of :class:`~spheregeo.kernels.CircularHarmonics`. ``smooth=False`` leaves out
    :math:`t^j`, as mesh networks do; functions of order j > 0 are then zero at the centre, where phi is undefined.
    Each function has unit L2 norm on the flat unit disc.

    Args:
        profile: isotropic kernel whose functions are the radial profiles.
        max_order: highest angular order j.
        smooth: whether functions of order j carry the factor :math:`t^j`.

    Equivariance: order 0 SO(3), up to quadrature; an order-j pair turns with the frame by j times its angle.
    Raises: ValueError for a profile that depends on the angle, or a negative order.

    Example:
        >>> from spheregeo.kernels import GaussianRings, PolarKernel
        >>> PolarKernel(GaussianRings(2), 1).num_functions
        6
    """

    profile: Kernel
    max_order: int
    smooth: bool = True

    def __post_init__(self) -> None:
        check_count("max_order", self.max_order, 0)
        if not self.profile.isotropic:
            raise ValueError(f"profile is {self.profile!r}; expected an isotropic kernel, such as Rings(3)")

    @property
    def orders(self) -> tuple[int | None, ...]:
        signed = [0] + [sign * m for m in range(1, self.max_order + 1) for sign in (1, -1)]
        return tuple(m for m in signed for _ in range(self.profile.num_functions))

    @property
    def radial_kinks(self) -> tuple[float, ...]:
        return self.profile.radial_kinks

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        radial = self.profile.on_disc(t, phi)
        out = []
        for j in range(self.max_order + 1):
            norm = torch.tensor(_norms(self, j), dtype=t.dtype, device=t.device).reshape(-1, *[1] * t.dim())
            part = radial * _centre(t, j, self.smooth) / norm
            out.append(part * torch.cos(j * phi))
            if j:
                out.append(part * torch.sin(j * phi))  # order -j in `orders`
        return torch.cat(out)


def _centre(t: Tensor, j: int, smooth: bool) -> Tensor:
    if smooth:
        return t**j
    return torch.ones_like(t) if j == 0 else (t > 1e-12).to(t.dtype)


@lru_cache(maxsize=64)
def _norms(kernel: PolarKernel, j: int) -> list[float]:
    """L2 norms of profile * t^j * cos(j phi) on the unit disc, by Gauss-Legendre in t between the profile's kinks."""
    x, w = np.polynomial.legendre.leggauss(48)
    edges = [0.0, *sorted(kernel.radial_kinks), 1.0]
    t = torch.from_numpy(
        np.concatenate([(a + b) / 2 + (b - a) / 2 * x for a, b in itertools.pairwise(edges)])
    )
    weight = torch.from_numpy(np.concatenate([(b - a) / 2 * w for a, b in itertools.pairwise(edges)]))
    radial = kernel.profile.on_disc(t, torch.zeros_like(t)) * _centre(t, j, kernel.smooth)
    angular = 2 * math.pi if j == 0 else math.pi
    return [math.sqrt(max(angular * float((weight * t * f**2).sum()), 1e-30)) for f in radial]
