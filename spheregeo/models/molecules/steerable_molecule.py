"""The default network for molecules: residual, steerable, depthwise messages of degree 2, smooth in the positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.deprecation import renamed_arguments
from spheregeo.models.registry import register
from spheregeo.models.space.base import SteerableAtomNetwork
from spheregeo.models.space.heads import VectorHead
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.models.space.small_network import Kept, small_features
from spheregeo.models.space.steerable_blocks import (
    MessageBlock,
    PointBlock,
    invariants_of,
    pyramid,
)
from spheregeo.nn.irreps import Stacks, ToStacks, terms_of
from spheregeo.nn.space import EdgeGeometry, RadialBasis, polynomial_envelope


class SteerableMolecule(SteerableAtomNetwork):
    """Steerable messages between atoms and gated feed-forward blocks at atoms, then a sum or mean over each molecule.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to O(3), translations and permutations, to rounding (1e-14 relative in float64, 1e-5 in float32, with
        random parameters). Twice differentiable in the positions, also where an atom crosses the cutoff.
    Raises: ValueError for sizes below 1, a cutoff that is not positive, an unknown readout.
    Reference: own arrangement; the parts are those of Batzner et al. 2022, arXiv:2101.03164 (depthwise messages), Schütt et al.
        2021, arXiv:2102.03150 (inner products) and Liao et al. 2023, arXiv:2306.12059 (separable norm).

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: scalars of an atom; half as many vectors, a quarter as many of degree 2.
        depth: message blocks.
        lmax: highest degree of features and of the edges' harmonics.
        cutoff: in Å.
        basis: radial functions.
        hidden: hidden width of the radial networks.
        edge_dim: numbers that a radial network gives each edge, from which weights are mixed.
        num_neighbors: mean number of neighbors, a constant that scales sums over them.
        element_dim: numbers of each end's element that radial networks see; 0 for none.
        dropout: in the feed-forward blocks.
        readout: "sum", "mean", "dipole" or "extent", see :func:`~spheregeo.models.space.readout.pooled`.
        chunk: edges done at a time, for large systems; None for all.
        out_vectors: vectors for each molecule, such as its dipole, which :meth:`outputs` gives beside the numbers.
        out_atoms: numbers for each atom, such as its charge, likewise.

    Example:
        >>> network = SteerableMolecule(10, 1, width=8, depth=1)
        >>> positions, numbers, batch = torch.randn(6, 3), torch.randint(1, 9, (6,)), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> network(positions, numbers, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 1])
    """

    @renamed_arguments(degree="num_neighbors")
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        depth: int = 3,
        lmax: int = 2,
        cutoff: float = 5.0,
        basis: int = 8,
        hidden: int = 64,
        edge_dim: int = 32,
        num_neighbors: float = 12.0,
        element_dim: int = 8,
        dropout: float = 0.0,
        readout: str = "sum",
        chunk: int | None = None,
        out_vectors: int = 0,
        out_atoms: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout, out_vectors, out_atoms)
        if out_vectors and lmax < 1:
            raise ValueError(
                f"out_vectors is {out_vectors} with lmax {lmax}; expected lmax of at least 1 for vectors"
            )
        irreps = pyramid(width, lmax)
        self.lmax, self.irreps = lmax, irreps
        self.embedding = nn.Embedding(in_channels, width)
        self.elements = nn.Embedding(in_channels, element_dim) if element_dim else None
        self.basis = RadialBasis(self.cutoff, basis, envelope=False)
        first = pyramid(width, 0)
        self.to_stacks = ToStacks(first)
        sizes: dict[str, Any] = {
            "lmax": lmax, "basis": basis, "hidden": hidden, "edge_dim": edge_dim, "num_neighbors": num_neighbors,
            "extra": 2 * element_dim,
            "chunk": chunk,
        }  # fmt: skip
        self.messages = nn.ModuleList(
            MessageBlock(first if i == 0 else irreps, irreps, **sizes) for i in range(depth)
        )
        self.points = nn.ModuleList(PointBlock(irreps, 2 * width, dropout) for _ in range(depth))
        self._small, self._small_terms = Kept(), terms_of(irreps)
        count = irreps.num_irreps
        self.head = _head(count, width, out_channels, 0.1) if out_channels else None
        copies = sum(mul for mul, irrep in irreps if irrep.l == 1)
        self.vector_head = VectorHead(count, copies, width, out_vectors) if out_vectors else None
        self.atom_head = _head(count, width, out_atoms) if out_atoms else None

    def stacks(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Stacks:
        """Features of the atoms after the last block.

        Those of a small system with fixed weights are one operator, see :mod:`spheregeo.models.space.small_network`.
        """
        geometry = self.geometry(positions, graph)

        def plain(vectors: Tensor, harmonics: Tensor) -> Tensor:
            again = EdgeGeometry(vectors, geometry.edges)
            again._harmonics = harmonics
            return self._by_blocks(again, numbers).planar()

        found = small_features(self._small, self, geometry, numbers, plain)
        if found is not None:
            return Stacks.from_planar(found, self._small_terms, len(numbers))
        return self._by_blocks(geometry, numbers)

    def _by_blocks(self, geometry: EdgeGeometry, numbers: Tensor) -> Stacks:
        source, target = geometry.edges.source, geometry.edges.target
        basis = self.basis(geometry.lengths)
        envelope = polynomial_envelope(geometry.lengths / self.cutoff)
        extra = None
        if self.elements is not None:
            of = self.elements(numbers)
            extra = torch.cat([of.index_select(0, source), of.index_select(0, target)], 1)
        x = self.to_stacks(self.embedding(numbers))
        for message, point in zip(self.messages, self.points, strict=True):
            x = point(message(x, geometry, basis, envelope, extra))
        return x

    def invariants(self, x: Stacks) -> Tensor:
        return invariants_of(x)


def _head(count: int, width: int, channels: int, scale: float = 1.0) -> nn.Sequential:
    """Norm, linear, SiLU, linear; ``scale`` 0.1 for sums over tens of atoms, which then begin at order one."""
    last = nn.Linear(width, channels)
    nn.init.zeros_(last.bias)
    with torch.no_grad():
        last.weight *= scale
    return nn.Sequential(nn.LayerNorm(count), nn.Linear(count, width), nn.SiLU(), last)


@register("steerable-molecule", output="label", domain="molecule", options_of=SteerableMolecule)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SteerableMolecule:
    """Steerable messages of degree 2 between atoms, gated feed-forward blocks; invariant, smooth. For one CPU core."""
    return SteerableMolecule(in_channels, out_channels, **options)


@register("steerable-molecule-base", output="label", domain="molecule", options_of=SteerableMolecule)
def base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 256, depth: int = 5, lmax: int = 3, edge_dim: int = 64,
    **options: Any,
) -> SteerableMolecule:  # fmt: skip
    """The base size: width 256, five blocks, degree 3; for a GPU."""
    return SteerableMolecule(
        in_channels, out_channels, width=width, depth=depth, lmax=lmax, edge_dim=edge_dim, **options
    )
