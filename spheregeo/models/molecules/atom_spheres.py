r"""Potentials of the atoms of a molecule on a sphere about each atom, as coefficients of harmonics.

On the sphere of radius R about atom i, U_z(x) = Σ_{j ≠ i, z_j = z} z_i z_j |x − r_j|^{−p}, one channel for each element z. About
the direction of r_j such a term is a function of one angle, so its coefficients are 4π h_l(d_ij) S_lm(r̂_ij) with
h_l(d) = ½ ∫ P_l(t) (R² + d² − 2Rd t)^{−p/2} dt: no sphere is sampled, and what rotates the molecule rotates the coefficients
exactly.
Reference: Cohen, Geiger, Köhler & Welling 2018, arXiv:1801.10130, section 5.3 (p = 1); Yi et al. 2022, arXiv:2206.10385.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spheregeo.checks import check_least
from spheregeo.harmonics import component_harmonics, gauss_legendre
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.nn import ExactBuffers
from spheregeo.nn.space import polynomial_envelope

ELEMENTS = (1, 6, 7, 8, 16)
_NEAREST = 1e-12  # Å²; distances are bounded from below by its root, so that coincident atoms have a gradient
_CHARGE = 6.0  # charges are counted in those of carbon


class AtomSpheres(ExactBuffers):
    """Coefficients of the potentials on the sphere about each atom.

    Degree l of a pair's term is divided by h_l at the sum of both atoms' covalent radii, which is an isotropic filter for each
    pair of elements: potentials of bonded neighbours then are about equally strong at all degrees, those of others fall off.
    z_i z_j is one number for each sphere and channel, and is divided out likewise; in the channel that elements share, z_j stays.

    Args:
        in_channels: size of the table of elements.
        elements: atomic numbers with a channel of their own; all others share a further one.
        lmax: largest degree.
        radius: of the spheres; h_l is smooth at all distances but this one.
        powers: p of the potentials, one set of channels for each.
        cutoff: where potentials end, smoothly.

    Shape: positions (P, 3), atomic numbers (P,), graph -> (P, C, (lmax + 1)²) with C = (elements + 1) · powers.
    Units: Å; charges of the shared channel in those of carbon.
    Equivariance: O(3) and translations, exact: degree l turns by D^l.
    Raises: ValueError for sizes that are not positive, or no power.

    Example:
        >>> from spheregeo.models.space.molecule_graph import molecule_graph
        >>> spheres = AtomSpheres(10, (1, 6), lmax=4)
        >>> positions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]])
        >>> spheres(positions, torch.tensor([6, 1]), molecule_graph(positions, 5.0)).shape
        torch.Size([2, 3, 25])
    """

    nodes: Tensor
    table: Tensor
    covalent: Tensor
    channel: Tensor

    def __init__(
        self,
        in_channels: int,
        elements: Sequence[int] = ELEMENTS,
        lmax: int = 8,
        radius: float = 0.7,
        powers: Sequence[float] = (2.0,),
        cutoff: float = 8.0,
    ) -> None:

        from ase.data import covalent_radii

        super().__init__()
        check_least(lmax=(lmax, 0), powers=(len(powers), 1), in_channels=(in_channels, 2))
        for name, length in (("radius", radius), ("cutoff", cutoff)):
            if not (length > 0 and math.isfinite(length)):
                raise ValueError(f"{name} is {length}; expected a positive length in Å")
        self.lmax, self.radius, self.powers = lmax, float(radius), tuple(float(p) for p in powers)
        self.elements, self.cutoff = tuple(elements), float(cutoff)
        self.num_channels = (len(self.elements) + 1) * len(self.powers)
        theta, weights = gauss_legendre(lmax + 24)
        x = theta.cos()
        table = [torch.ones_like(x), x]
        for degree in range(1, lmax):
            table.append(((2 * degree + 1) * x * table[-1] - degree * table[-2]) / (degree + 1))
        self.keep("nodes", x)
        self.keep("table", 2 * math.pi * weights[:, None] * torch.stack(table[: lmax + 1], 1))
        radii = [float(covalent_radii[min(z, len(covalent_radii) - 1)]) for z in range(in_channels)]
        self.keep("covalent", torch.tensor(radii, dtype=torch.float64))
        channel = torch.full((in_channels,), len(self.elements))
        for k, element in enumerate(self.elements):
            if 0 <= element < in_channels:
                channel[element] = k
        self.register_buffer("channel", channel, persistent=False)

    def _radial(self, distance: Tensor, power: float) -> Tensor:
        """4π h_l. Shape: (E,) -> (E, lmax + 1)."""
        return self._zonal(distance, power) @ self.table.to(distance.dtype)

    def _zonal(self, distance: Tensor, power: float) -> Tensor:
        """(R² + d² − 2Rd t)^{−p/2} at the nodes t. Shape: (E,) -> (E, nodes)."""
        d = distance[:, None]
        squared = (d - self.radius).square() + 2 * self.radius * d * (1 - self.nodes.to(d.dtype))
        return squared ** (-power / 2)

    def forward(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """The coefficients on the spheres of all atoms."""
        source, target = graph.edge_index
        vectors = graph.vectors(positions)
        distance = vectors.square().sum(1).clamp_min(_NEAREST).sqrt()
        turned = torch.stack(
            [vectors[:, 1], vectors[:, 2], vectors[:, 0]], 1
        )  # the harmonics' pole is y there
        harmonics = component_harmonics(turned, self.lmax, normalization="integral")  # (E, (lmax + 1)²)
        kinds = len(self.elements) + 1
        channel = self.channel[numbers]
        charge = torch.where(channel == kinds - 1, numbers.to(distance.dtype) / _CHARGE, 1.0)
        weight = polynomial_envelope(distance / self.cutoff) * charge.index_select(0, source)
        sizes = 2 * torch.arange(self.lmax + 1, device=positions.device) + 1
        size = self.covalent.to(distance.dtype)[numbers]
        bond = size.index_select(0, source) + size.index_select(0, target)
        terms = []
        for power in self.powers:
            ratio = self._radial(distance, power) / self._radial(bond, power)  # (E, lmax + 1)
            radial = ratio * weight[:, None]
            terms.append(harmonics * radial.repeat_interleave(sizes, 1, output_size=harmonics.shape[1]))
        rows = torch.cat(terms, 1)  # (E, powers · (lmax + 1)²)
        slot = target * kinds + channel.index_select(0, source)
        summed = rows.new_zeros(len(positions) * kinds, rows.shape[1]).index_add(0, slot, rows)
        return summed.reshape(len(positions), kinds * len(self.powers), (self.lmax + 1) ** 2)

    def extra_repr(self) -> str:
        return (
            f"elements={self.elements}, lmax={self.lmax}, radius={self.radius}, powers={self.powers}, "
            f"cutoff={self.cutoff}"
        )


__all__ = ["ELEMENTS", "AtomSpheres"]
