r"""Gaussian shells times harmonics, sampled on the taps of a voxel kernel.

    B_{k,l,m}(x) = w(|x|) exp(−(|x| − ρ_k)²/2σ_k²) Y^l_m(x/|x|),    Σ_x Σ_m B² = 1

The window w ends smoothly a little beyond the last shell, so that the kernel is a ball without corners.
Reference: Weiler et al. 2018, arXiv:1807.02547, section 4.4; Cesa, Lang & Weiler 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.harmonics import component_harmonics

MARGIN = 0.7  # of a voxel, beyond the last shell, over which the window falls
WIDTH, CENTRE_WIDTH = 0.6, 0.005
SMALL = 1e-6


class VoxelBasis:
    """The functions of one lattice: shells and, for each degree, those that can tell its harmonics apart.

    Args:
        size: taps along each axis.
        spacing: length of a voxel along each axis.
        rings, sigma: radii and widths of shells; None for radii one voxel apart, widths 0.6 voxel (centre 0.005).
        cutoff: highest degree on every shell (0 at the centre); None for ⌊2 radius⌋ in voxels, one less on
            the last beyond 2.
    """

    def __init__(
        self,
        size: Sequence[int],
        spacing: Sequence[float],
        rings: Sequence[float] | None,
        sigma: float | Sequence[float] | None,
        cutoff: int | None,
    ) -> None:
        axes = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * h for n, h in zip(size, spacing)]
        self.points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        self.unit = min(spacing)
        nearest = [float(axis.abs().min()) for axis in axes]
        inner = math.hypot(*nearest)
        # the farthest tap beside each axis; the nearest of these bounds the ball
        self.radius = min(
            math.hypot(float(axes[i].abs().max()), *(nearest[j] for j in range(3) if j != i))
            for i in range(3)
        )
        if rings is None:
            count = round((self.radius - inner) / self.unit) + 1
            rings = torch.linspace(inner, self.radius, count, dtype=torch.float64).tolist()
        self.rings = tuple(float(r) for r in rings)
        if not self.rings or not all(0 <= r < math.inf for r in self.rings):
            raise ValueError(f"rings is {rings!r}; expected radii of zero or more")
        if sigma is None:
            widths = [self.unit * (CENTRE_WIDTH if r < SMALL * self.unit else WIDTH) for r in self.rings]
        else:
            widths = [float(sigma)] * len(self.rings) if isinstance(sigma, int | float) else list(sigma)
        if len(widths) != len(self.rings) or not all(0 < s < math.inf for s in widths):
            raise ValueError(
                f"sigma is {sigma!r}; expected a positive width, or one for each of {len(self.rings)} rings"
            )
        self.widths = tuple(widths)
        self.cutoff = cutoff

    def degree(self, ring: int) -> int:
        """Highest degree on one shell."""
        if self.rings[ring] < SMALL * self.unit:
            return 0
        if self.cutoff is not None:
            return self.cutoff
        top = int(2 * self.rings[ring] / self.unit + SMALL)
        # taps are missing beyond the last shell, and with them what tells its highest degree from a lower one
        return top if self.rings[ring] < max(self.rings) else max(top - 1, min(top, 2))

    def functions(self, degree: int) -> Tensor:
        """Functions of one degree on the shells that have them. Shape: (shells, 2l + 1, taps) float64."""
        y = component_harmonics(self.points, degree)[:, degree**2 :].T
        r = self.points.norm(dim=1)
        end = max(self.radius, *self.rings)
        fall = ((r - end) / (MARGIN * self.unit)).clamp(0, 1)
        window = torch.cos(fall * (math.pi / 2)) ** 2
        window[fall >= 1] = 0  # exactly
        found = []
        for k, (ring, width) in enumerate(zip(self.rings, self.widths)):
            if degree > self.degree(k):
                continue
            values = window * torch.exp(-0.5 * ((r - ring) / width) ** 2) * y
            size = values.norm()
            if size > SMALL:  # on few taps some harmonics vanish everywhere
                found.append(values / size)
        return torch.stack(found) if found else y.new_zeros(0, *y.shape)
