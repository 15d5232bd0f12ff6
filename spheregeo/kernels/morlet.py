r"""Plane waves along the frame's two axes under a Hann window: the basis torch-harmonics calls "harmonic".

:math:`\psi_{mn} = \cos^2(\pi t / 2)\, f_m(x) f_n(y) / \|\cdot\|`, :math:`x = t \cos\phi` (along the first frame vector),
:math:`y = t \sin\phi`, :math:`f_0 = 1, f_1 = \sin \pi x, f_2 = \cos \pi x, f_3 = \sin 2 \pi x, \ldots`
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spheregeo.checks import check_count
from spheregeo.kernels.kernel import Kernel, hann


@dataclass(frozen=True)
class Morlet(Kernel):
    """`num_x` waves along the frame's first axis times `num_y` along its second: (3, 3) gives nine; y runs fastest.

    Args:
        num_x: waves along the frame's first axis.
        num_y: waves along its second axis.
        normalized: whether each function has unit norm, as torch-harmonics' "harmonic" basis.

    Equivariance: only the first function is isotropic; the rest follow the frame (azimuthal on a sphere's (e_theta, e_phi)).
    Reference: torch-harmonics 0.9.3, basis types "harmonic" (normalized) and "morlet" (not).

    Example:
        >>> from spheregeo.kernels import Morlet
        >>> Morlet(3, 3).num_functions
        9
    """

    num_x: int
    num_y: int
    normalized: bool = True

    def __post_init__(self) -> None:
        check_count("num_x", self.num_x, 1)
        check_count("num_y", self.num_y, 1)

    @property
    def orders(self) -> tuple[int | None, ...]:
        return (0,) + (None,) * (self.num_x * self.num_y - 1)

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        x, y = _waves(t * torch.cos(phi), self.num_x), _waves(t * torch.sin(phi), self.num_y)
        values = hann(t) * (x[:, None] * y[None]).flatten(0, 1)  # (num_x * num_y, *t.shape)
        if not self.normalized:
            return values
        return values / _norms(self.num_x, self.num_y).to(t.device).reshape(-1, *[1] * t.dim())


def _waves(x: Tensor, count: int) -> Tensor:
    return torch.stack(
        [
            torch.sin((k + 1) // 2 * math.pi * x) if k % 2 else torch.cos(k // 2 * math.pi * x)
            for k in range(count)
        ]
    )


@lru_cache(maxsize=64)
def _norms(num_x: int, num_y: int) -> Tensor:
    """L2 norms on the unit disc by the 50 x 200 midpoint rule of torch-harmonics, so that weights carry over exactly."""
    t = ((torch.arange(50, dtype=torch.float64) + 0.5) / 50)[:, None].expand(50, 200)
    phi = (torch.arange(200, dtype=torch.float64) * (2 * math.pi / 200)).expand(50, 200)
    squares = Morlet(num_x, num_y, normalized=False).on_disc(t, phi) ** 2 * t
    return (squares.sum((-2, -1)) * (2 * math.pi / 200 / 50)).sqrt()
