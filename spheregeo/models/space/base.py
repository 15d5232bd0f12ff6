"""Bases of the networks of molecules and of clouds: first features, the graph's geometry, readout."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least, check_positions
from spheregeo.models.space.cloud import CloudGraph, CloudNetwork
from spheregeo.models.space.heads import Outputs
from spheregeo.models.space.molecule_graph import MoleculeGraph, molecule_graph
from spheregeo.models.space.point_outputs import Encoded, PointHead
from spheregeo.models.space.readout import check_readout, pooled
from spheregeo.nn import SampleDropout
from spheregeo.nn.irreps import Stacks
from spheregeo.nn.space import EdgeGeometry, EdgeList
from spheregeo.sampling import knn_graph
from spheregeo.sparse import Pairs


def sorted_geometry(positions: Tensor, edge_index: Tensor, vectors: Tensor | None = None) -> EdgeGeometry:
    """The geometry of edges that are sorted by target already; vectors (E, 3) where they are known."""
    source, target = edge_index
    points = positions.shape[0]
    if vectors is None:
        vectors = positions.index_select(0, source) - positions.index_select(0, target)
    return EdgeGeometry(vectors, EdgeList(Pairs.of(source, target, points, points), target))


def check_cutoff(cutoff: float) -> float:
    """The cutoff. Raises: ValueError where it is no positive distance."""
    if not (cutoff > 0 and math.isfinite(cutoff)):
        raise ValueError(
            f"cutoff is {cutoff}; expected a positive distance in the unit of the positions, such as 2.0"
        )
    return float(cutoff)


def natural_irreps(width: int, lmax: int) -> Irreps:
    """``width`` copies of each degree up to lmax, of the harmonics' parity.

    Raises: ValueError for a width below 1 or a negative degree.
    """
    check_least(width=(width, 1), lmax=(lmax, 0))
    return Irreps([(width, (degree, (-1) ** degree)) for degree in range(lmax + 1)])


class AtomNetwork(nn.Module):
    """Base of networks of molecules: neighbours within a cutoff, and atoms' numbers read out as a molecule's."""

    by_pairs = True  # whether the graph is all pairs within the cutoff, so that pairs of a longer list may be left out of it

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        cutoff: float,
        readout: str,
        out_vectors: int = 0,
        out_atoms: int = 0,
    ) -> None:
        super().__init__()
        check_least(out_vectors=(out_vectors, 0), out_atoms=(out_atoms, 0))
        least = 0 if out_vectors or out_atoms else 1
        check_least(in_channels=(in_channels, 2), out_channels=(out_channels, least), depth=(depth, 1))
        self.out_channels, self.out_vectors, self.out_atoms = out_channels, out_vectors, out_atoms
        self.cutoff, self.readout = check_cutoff(cutoff), check_readout(readout)

    def neighbors(
        self,
        positions: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
    ) -> MoleculeGraph:
        """The pairs of atoms within the cutoff, see :func:`~spheregeo.models.space.molecule_graph.molecule_graph`."""
        check_positions(positions)
        return molecule_graph(positions, self.cutoff, batch, cell, pbc)

    def geometry(self, positions: Tensor, graph: MoleculeGraph) -> EdgeGeometry:
        return sorted_geometry(positions, graph.edge_index, graph.vectors(positions))

    def read_out(
        self, values: Tensor, positions: Tensor, numbers: Tensor, batch: Tensor, num_graphs: int | None
    ) -> Tensor:
        return pooled(values, batch, num_graphs, self.readout, positions, numbers)


class InvariantAtomNetwork(AtomNetwork, ABC):
    """Base of networks of molecules whose atoms have invariant features alone: a head for molecules and one for atoms read them.

    A subclass makes ``head`` and ``atom_head``, None for no numbers, and implements :meth:`features`.
    """

    head: nn.Module | None
    atom_head: nn.Module | None

    @abstractmethod
    def features(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Invariant features of the atoms, (P, width)."""

    def outputs(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Outputs:
        """Numbers of the molecules and of the atoms; arguments as those of ``forward``."""
        x = self.features(positions, features, graph)
        values = x[:, :0] if self.head is None else self.head(x)
        molecules = self.read_out(values, positions, features, batch, num_graphs)
        atoms = x[:, :0] if self.atom_head is None else self.atom_head(x)
        return Outputs(molecules, molecules.new_zeros(len(molecules), 0, 3), atoms)

    def forward(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        return self.outputs(positions, features, batch, graph, num_graphs).molecules


class SteerableAtomNetwork(AtomNetwork, ABC):
    """Base of networks of molecules whose atoms have features on irreps: heads read their invariants, and vectors where asked.

    A subclass makes ``head``, ``vector_head`` and ``atom_head``, None for no numbers, and implements :meth:`stacks` and
    :meth:`invariants`.
    """

    head: nn.Module | None
    vector_head: nn.Module | None
    atom_head: nn.Module | None

    @abstractmethod
    def stacks(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Stacks:
        """Features of the atoms."""

    @abstractmethod
    def invariants(self, x: Stacks) -> Tensor:
        """What the heads read of features, (P, F)."""

    def features(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Features of the atoms, (P, irreps.dim) in mul_ir."""
        return self.stacks(positions, numbers, graph).to_mul_ir()

    def outputs(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Outputs:
        """Numbers and vectors of the molecules and numbers of the atoms; arguments as those of ``forward``."""
        x = self.stacks(positions, features, graph)
        invariants = self.invariants(x)
        values = invariants[:, :0] if self.head is None else self.head(invariants)
        molecules = self.read_out(values, positions, features, batch, num_graphs)
        vectors = molecules.new_zeros(len(molecules), 0, 3)
        if self.vector_head is not None:
            vectors = self.vector_head(x, invariants, positions, batch, len(molecules))
        atoms = invariants[:, :0] if self.atom_head is None else self.atom_head(invariants)
        return Outputs(molecules, vectors, atoms)

    def forward(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        return self.outputs(positions, features, batch, graph, num_graphs).molecules


class PointNetwork(CloudNetwork, ABC):
    """Base of networks of clouds: the k nearest neighbours, vectors of each point and their lengths to begin with.

    The vectors are the position about the cloud's mean, and those that ``InputVectors`` makes of features. A subclass implements
    :meth:`invariants` and makes ``head`` by :meth:`make_head`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int,
        k: int,
        feature_irreps: str | None,
        output: str = "label",
    ) -> None:
        super().__init__(in_channels, k, feature_irreps, output)
        check_least(out_channels=(out_channels, 1), depth=(depth, 1))
        count = self.inputs.num_vectors
        self.irreps_in = Irreps(f"{1 + count}x0e + {count}x1o")

    def neighbors(
        self, positions: Tensor, batch: Tensor | None, cell: None = None, pbc: None = None
    ) -> CloudGraph:
        """The k nearest points of each point's cloud, fewer in a cloud with fewer.

        Raises: ValueError for NaN, an unsorted batch, or a cell: clouds have no periods.
        """
        if cell is not None or pbc is not None:
            raise ValueError("cell or pbc is given, but a cloud of points has no periods; expected None")
        check_positions(positions)
        return CloudGraph(knn_graph(positions, self.k, batch))

    def make_head(self, count: int, hidden: int, out_channels: int, dropout: float) -> nn.Module:
        """The head of so many invariants, for clouds or for points."""
        if self.output == "field":
            return PointHead(count, count, out_channels, hidden=[hidden], dropout=dropout)
        return perceptron(count, hidden, out_channels, dropout=dropout)

    def first_features(self, positions: Tensor, features: Tensor | None, batch: Tensor, count: int) -> Tensor:
        """One, squared lengths, vectors. Shape: (P, irreps_in.dim) in mul_ir."""
        v = self.inputs(positions, features, batch, count)
        squares = v.square().sum(1)
        return torch.cat([torch.ones_like(squares[:, :1]), squares, v.mT.flatten(1)], 1)

    @abstractmethod
    def invariants(self, x: Tensor, geometry: EdgeGeometry, batch: Tensor, count: int) -> Tensor:
        """Invariant features of the points from :meth:`first_features`, (P, F)."""

    def encode(
        self, positions: Tensor, features: Tensor | None, batch: Tensor, graph: CloudGraph, count: int
    ) -> Encoded:
        x = self.first_features(positions, features, batch, count)
        x = self.invariants(x, sorted_geometry(positions, graph.edge_index), batch, count)
        return Encoded(x, pooled(x, batch, count, "mean"))


def perceptron(
    count: int, hidden: int, out_channels: int, *, extensive: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Norm, linear, SiLU, linear, from invariants; ``extensive``: small at first, for sums over tens of atoms."""
    last = nn.Linear(hidden, out_channels)
    nn.init.zeros_(last.bias)
    if extensive:
        with torch.no_grad():
            last.weight *= 0.1
    return nn.Sequential(
        nn.LayerNorm(count), nn.Linear(count, hidden), nn.SiLU(), SampleDropout(dropout), last
    )
