r"""Networks that give an implicit kernel its values: hidden features h(t) of an offset t, times a learned Gaussian shell.

Of one vector and scalars every function equivariant under O(3) or SO(3) is a sum of scalars times harmonics, so
:class:`GatedNetwork` lets a scalar network gate solid harmonics and loses nothing. :mod:`.product_kernel` is for attributes that
turn, :mod:`.regular_kernel` for finite groups. Layer norm, never batch norm: a kernel may not depend on the batch.
Reference: Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from spheregeo.nn.exact_buffers import ExactBuffers
from spheregeo.nn.irreps.layout import EVEN
from spheregeo.nn.irreps.solid_harmonics import SolidHarmonics

SILU_GAIN = 1.6765324  # 1/√E[silu(z)²] for z normal


def shell_mean_square(degree: int, sigma: float, envelope: bool) -> float:
    """Mean over the unit ball of the square of |t|^degree times the shell."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = (nodes + 1) / 2
    square = t ** (2 * degree) * np.exp(-(t**2) / sigma**2)
    if envelope:
        square = square * (1 - t**2) ** 6
    return float((3 * t**2 * square * weights).sum() / 2)


class KernelNetwork(ExactBuffers):
    """Base of kernel networks: the unit of length, radial features, and the shell exp(−t²/2σ²), σ learned for each copy.

    Radial features are Gaussians in t², centred on 0 … 1: smooth at t = 0, bounded everywhere.
    """

    def __init__(
        self,
        attributes: Irreps | None,
        hidden: int,
        *,
        radius: float,
        sigma: float,
        envelope: bool,
        num_radial: int,
    ) -> None:
        super().__init__()
        self.attributes, self.hidden, self.radius = attributes, hidden, radius
        self.sigma, self.envelope, self.num_radial = sigma, envelope, num_radial
        self.keep("centres", torch.linspace(0, 1, num_radial, dtype=torch.float64))
        self.log_sigma = nn.Parameter(torch.full((hidden,), math.log(sigma)))

    def reset_parameters(self) -> None:
        """Draw the network anew; σ as at first."""
        for module in self.modules():
            if module is not self and isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
        with torch.no_grad():
            self.log_sigma.fill_(math.log(self.sigma))

    def radial(self, square: Tensor) -> Tensor:
        """Features of t². Shape: (E, 1) -> (E, num_radial)."""
        width = 1 / max(self.num_radial - 1, 1)
        return torch.exp(-0.5 * ((square - self.get_buffer("centres").to(square.dtype)) / width) ** 2)

    def shell(self, square: Tensor) -> Tensor:
        """The Gaussian of each copy, and the smooth end at t = 1 where asked for. Shape: (E, 1) -> (E, hidden)."""
        found = torch.exp(-0.5 * square * torch.exp(-2 * self.log_sigma.to(square.dtype)))
        return found * (1 - square).clamp(min=0) ** 3 if self.envelope else found

    def normalised(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets in units of the radius, and their squares. Shape: (E, 3) -> (E, 3), (E, 1)."""
        t = vectors / self.radius
        return t, (t * t).sum(-1, keepdim=True)


class GatedNetwork(KernelNetwork):
    """Scalars of |t|² and scalar attributes by an MLP, which multiply solid harmonics |t|^l Y^l.

    Shape: vectors (E, 3), attributes (E, A) or None -> scalars (E, hidden) and harmonics (E, D); h is their outer product.
    """

    def __init__(
        self, degrees: Sequence[int], attributes: Irreps | None, hidden: int, layers: int, **shell: float
    ) -> None:
        super().__init__(attributes, hidden, **shell)  # type: ignore[arg-type]
        self.degrees = tuple(degrees)
        self.lmax = max(degrees)
        self.harmonics = SolidHarmonics(self.lmax)
        columns = [l * l + m for l in degrees for m in range(2 * l + 1)]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        scale = [
            shell_mean_square(l, self.sigma, self.envelope) ** -0.5 for l in degrees for _ in range(2 * l + 1)
        ]
        self.keep("scale", torch.tensor(scale, dtype=torch.float64))
        width = self.num_radial + (0 if attributes is None else attributes.dim)
        network: list[nn.Module] = []
        for _ in range(layers):
            network += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.SiLU()]
            width = hidden
        self.network = nn.Sequential(*network)

    def forward(self, vectors: Tensor, attributes: Tensor | None) -> tuple[Tensor, Tensor]:
        t, square = self.normalised(vectors)
        return self._gates(square, attributes), self._turning(t)

    def gates(self, vectors: Tensor, attributes: Tensor | None) -> Tensor:
        """The scalars alone, functions of lengths and attributes. Shape: (E, 3), (E, A) -> (E, hidden)."""
        return self._gates(self.normalised(vectors)[1], attributes)

    def turning(self, vectors: Tensor) -> Tensor:
        """The harmonics alone. Shape: (E, 3) -> (E, D)."""
        return self._turning(self.normalised(vectors)[0])

    def _gates(self, square: Tensor, attributes: Tensor | None) -> Tensor:
        scalars = self.radial(square)
        if attributes is not None:
            scalars = torch.cat([scalars, attributes], -1)
        return SILU_GAIN * self.network(scalars) * self.shell(square)

    def _turning(self, t: Tensor) -> Tensor:
        y = self.harmonics(t)
        if len(self.degrees) <= self.lmax:
            y = y.index_select(-1, self.get_buffer("columns"))
        return y * self.get_buffer("scale").to(y.dtype)


def reachable(attributes: Irreps | None, lmax: int, parity: bool) -> list[Irrep]:
    """Irreps that products of harmonics of the offset and attributes can have, up to degree ``lmax``, in order of degree.

    Of the offset alone only the natural ones, parity (−1)^l: r ⊗ r is symmetric. For SO(3) all are labelled even.
    """
    if not parity:
        return [Irrep(l, 1) for l in range(lmax + 1)]
    found = {Irrep(l, (-1) ** l) for l in range(lmax + 1)}
    turning = {ir for _, ir in attributes or () if ir != EVEN}
    if turning:
        found |= {ir for ir in turning if ir.l <= lmax}
        while True:
            more = {out for a in found for b in found for out in a * b if out.l <= lmax}
            if more <= found:
                break
            found |= more
    return sorted(found, key=lambda ir: (ir.l, -ir.p))
