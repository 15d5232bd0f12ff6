r"""Solid harmonics |t|^l Y^l(t/|t|) by products of small matrices, a form that ``torch.compile`` traces.

    S^0 = 1,  S^1 = √3 t,  S^{l+1} ∝ Σ C^{l,1,l+1} S^l ⊗ t,  with |S^l(t)|² = (2l + 1)|t|^{2l}

They are polynomials: smooth at t = 0, where surface harmonics have no value.
Reference: Varshalovich, Moskalev & Khersonskii 1988, section 5.1.7.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.harmonics import clebsch_gordan
from spheregeo.nn.exact_buffers import ExactBuffers


class SolidHarmonics(ExactBuffers):
    """``component_harmonics(t, lmax, normalize=False)``: all solid harmonics up to a degree.

    Shape: (..., 3) -> (..., (lmax + 1)²), m = −l … l within each l.
    Equivariance: O(3), S^l(Rt) = D^l(R) S^l(t), parity (−1)^l.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        for l in range(1, lmax):
            table = clebsch_gordan(l, 1, l + 1)
            # at the pole (0, 1, 0) only m = 0 is left, and S^l is √(2l + 1) there
            size = math.sqrt((2 * l + 3) / (2 * l + 1)) / float(table[l, 1, l + 1])
            self.keep(f"step{l}", size * table.flatten(0, 1))

    def forward(self, t: Tensor) -> Tensor:
        found = [torch.ones_like(t[..., :1])]
        if self.lmax:
            found.append(math.sqrt(3) * t)
        for l in range(1, self.lmax):
            product = (found[-1][..., :, None] * t[..., None, :]).flatten(-2)
            found.append(product @ self.get_buffer(f"step{l}").to(t.dtype))
        return torch.cat(found, -1)
