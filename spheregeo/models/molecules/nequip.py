"""NequIP: depthwise tensor-product messages, species-dependent self-connections and gates.

Reference: Batzner, Musaelian, Sun, Geiger, Mailoa, Kornbluth, Molinari, Smidt & Kozinsky 2022, arXiv:2101.03164.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.registry import register
from spheregeo.models.space.base import SteerableAtomNetwork
from spheregeo.models.space.heads import VectorHead
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.nn.irreps import IrrepsGate, IrrepsLinear, NormalizedActivation, Stacks, ToStacks
from spheregeo.nn.space import EdgeGeometry, RadialBasis, SelfConnection, SteerableConv

__all__ = ["InteractionBlock", "NequIP", "nequip", "reached_irreps"]


def reached_irreps(irreps_in: Irreps, wanted: Irreps, lmax: int) -> Irreps:
    """Those of the wanted irreps that products of the input with harmonics up to lmax reach.

    Example:
        >>> reached_irreps(Irreps("4x0e"), Irreps("4x0e + 4x0o + 4x1o + 4x1e"), 1)
        4x0e+4x1o
    """
    found = {
        Irrep(l, ir.p * (-1) ** degree)
        for _, ir in irreps_in
        for degree in range(lmax + 1)
        for l in range(abs(ir.l - degree), ir.l + degree + 1)
    }
    return Irreps([(mul, ir) for mul, ir in wanted if ir in found])


class InteractionBlock(nn.Module):
    """NequIP's interaction: linear map, depthwise products with the edges' harmonics summed over neighbours, linear map, plus the
    self-connection; then a gate.

    Args:
        irreps_in: features that come in.
        irreps_out: features that come out, all of which the products must reach.
        lmax: largest degree of the edges' harmonics.
        hidden: width of the radial network's last hidden layer, from which the weights of the products are mixed.
        num_neighbors: mean number of neighbours, a constant that scales sums.
        kinds: size of the table of elements.

    Shape: stacks of N points, geometry, radial features (E, hidden), numbers (N,) -> stacks of N points.
    Equivariance: O(3) and translations, exact.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        *,
        lmax: int,
        hidden: int,
        num_neighbors: float,
        kinds: int,
    ) -> None:
        super().__init__()
        self.gate = IrrepsGate(irreps_out, gate="silu")
        self.before = IrrepsLinear(irreps_in, irreps_in, bias=False)
        self.conv = SteerableConv(
            irreps_in,
            self.gate.irreps_in,
            lmax=lmax,
            edge_dim=hidden,
            depthwise=True,
            num_neighbors=num_neighbors,
        )
        self.own = SelfConnection(irreps_in, self.gate.irreps_in, kinds)

    def forward(self, x: Stacks, geometry: EdgeGeometry, radial: Tensor, numbers: Tensor) -> Stacks:
        result: Stacks = self.gate(self.conv(self.before(x), geometry, radial) + self.own(x, numbers))
        return result


class NequIP(SteerableAtomNetwork):
    """NequIP: equivariant messages of depthwise tensor products, self-connections by element, gates; energies by linear maps.

    The last interaction gives scalars alone (and vectors where ``out_vectors`` asks for them), for nothing else is read.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to O(3), translations and permutations, to rounding (measured 1e-14 relative in float64, 1e-5 in
        float32, with random parameters). Twice differentiable in the positions, also where an atom crosses the cutoff.
    Raises: ValueError for sizes below 1, a cutoff that is not positive, an unknown readout, vectors with lmax 0.
    Reference: Batzner et al. 2022, arXiv:2101.03164, figure 1.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: copies of each irrep of an atom's features.
        depth: interactions.
        lmax: largest degree of features and of the edges' harmonics, 1 to 3 in the paper; 0 for invariant features.
        parity: whether features have both parities of each degree, or the harmonics' alone, which takes about half the time.
        cutoff: in Å.
        basis: Bessel functions.
        hidden: widths of the radial networks' hidden layers.
        num_neighbors: mean number of neighbours, a constant that scales sums over them.
        readout: "sum", "mean", "dipole" or "extent", see :func:`~spheregeo.models.space.readout.pooled`.
        out_vectors: vectors for each molecule, such as its dipole, which :meth:`outputs` gives beside the numbers.
        out_atoms: numbers for each atom, such as its charge, likewise.

    Example:
        >>> import torch
        >>> network = NequIP(10, 1, width=4, depth=2, lmax=1)
        >>> positions, numbers, batch = torch.randn(6, 3), torch.randint(1, 9, (6,)), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> network(positions, numbers, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        depth: int = 4,
        lmax: int = 2,
        parity: bool = True,
        cutoff: float = 5.0,
        basis: int = 8,
        hidden: tuple[int, ...] = (64, 64),
        num_neighbors: float = 12.0,
        readout: str = "sum",
        out_vectors: int = 0,
        out_atoms: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout, out_vectors, out_atoms)
        check_least(width=(width, 1), lmax=(lmax, 0), basis=(basis, 1))
        if not hidden or min(hidden) < 1:
            raise ValueError(
                f"hidden is {hidden}; expected the width of one hidden layer or more, such as (64, 64)"
            )
        if out_vectors and lmax < 1:
            raise ValueError(
                f"out_vectors is {out_vectors} with lmax {lmax}; expected lmax of at least 1 for vectors"
            )
        self.lmax, self.hidden = lmax, tuple(hidden)
        signs = (1, -1) if parity else (1,)
        wanted = Irreps([(width, (l, sign * (-1) ** l)) for l in range(lmax + 1) for sign in signs])
        read = Irreps([(width, ir) for ir in ("0e", *(("1o",) if out_vectors else ()))])
        self.embedding = nn.Embedding(in_channels, width)
        self.basis = RadialBasis(self.cutoff, basis)
        self.radial = nn.ModuleList(_radial_network(basis, self.hidden) for _ in range(depth))
        irreps = Irreps([(width, "0e")])
        self.to_stacks = ToStacks(irreps)
        blocks = []
        for layer in range(depth):
            target = reached_irreps(irreps, read if layer == depth - 1 else wanted, lmax)
            blocks.append(
                InteractionBlock(
                    irreps,
                    target,
                    lmax=lmax,
                    hidden=self.hidden[-1],
                    num_neighbors=num_neighbors,
                    kinds=in_channels,
                )
            )
            irreps = target
        self.blocks, self.irreps = nn.ModuleList(blocks), irreps
        self.head = _head(width, out_channels, 0.1) if out_channels else None
        self.vector_head = VectorHead(width, width, width, out_vectors) if out_vectors else None
        self.atom_head = _head(width, out_atoms) if out_atoms else None

    def stacks(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Stacks:
        """Features of the atoms after the last interaction: scalars, and vectors where they are read."""
        geometry = self.geometry(positions, graph)
        basis = self.basis(geometry.lengths)  # which ends smoothly; radial networks without biases keep that
        x: Stacks = self.to_stacks(self.embedding(numbers))
        for block, radial in zip(self.blocks, self.radial, strict=True):
            x = block(x, geometry, radial(basis), numbers)
        return x

    def invariants(self, x: Stacks) -> Tensor:
        return x.parts[0].squeeze(1)


def _radial_network(basis: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """Linear maps without bias and SiLU, so that no basis gives no feature; unit features stay of order one."""
    layers: list[nn.Module] = []
    for a, b in pairwise((basis, *hidden)):
        linear = nn.Linear(a, b, bias=False)
        nn.init.normal_(linear.weight, std=a**-0.5)
        layers += [linear, NormalizedActivation("silu")]
    return nn.Sequential(*layers)


def _head(width: int, channels: int, scale: float = 1.0) -> nn.Sequential:
    """Two linear maps, as published; ``scale`` 0.1 for sums over tens of atoms, which then begin at order one."""
    half = max(1, width // 2)
    first, last = nn.Linear(width, half, bias=False), nn.Linear(half, channels)
    nn.init.normal_(first.weight, std=width**-0.5)
    nn.init.normal_(last.weight, std=scale * half**-0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, last)


@register("nequip", output="label", domain="molecule", options_of=NequIP)
def nequip(in_channels: int, out_channels: int, grid: Any, **options: Any) -> NequIP:
    """NequIP (Batzner et al. 2022): depthwise tensor products, self-connections by element, gates; invariant, smooth."""
    return NequIP(in_channels, out_channels, **options)
