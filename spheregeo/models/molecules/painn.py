"""PaiNN: polarisable atom interactions, scalars and vectors at atoms. Few operators: made for dynamics of small molecules.

Reference: Schütt, Unke & Gastegger 2021, arXiv:2102.03150.
"""

from __future__ import annotations

from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.molecules.schnet import ENVELOPES, cosine_envelope
from spheregeo.models.registry import register
from spheregeo.models.space.base import AtomNetwork
from spheregeo.models.space.heads import Outputs, moment
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.nn.irreps import Stacks, terms_of
from spheregeo.nn.space import RadialBasis, polynomial_envelope
from spheregeo.nn.space.scalar_vector import GatedEquivariantBlock, ScalarVectorMessage, ScalarVectorUpdate

__all__ = ["PaiNN", "painn"]

_NEAREST = 1e-12  # Å²; distances are bounded from below by its root, so that coincident atoms have a gradient
_SMALLEST = 1e-12  # added to a squared dipole, so that the norm of a vanishing one has a gradient


class PaiNN(AtomNetwork):
    """PaiNN: messages of scalars and vectors with weights from radial functions, and updates that pair vectors at atoms.

    The weights of all layers' edges are one product with the radial functions; a layer has one gather for scalars, one for
    vectors, and one sum over edges.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to O(3), translations and permutations, to rounding (measured 1e-14 relative in float64, 1e-5 in
        float32, with random parameters). Twice differentiable in the positions, also where an atom crosses the cutoff (with the
        polynomial envelope).
    Raises: ValueError for an unknown envelope or readout, sizes below 1, a cutoff that is not positive.
    Reference: Schütt, Unke & Gastegger 2021, arXiv:2102.03150, sections 3.3 and 3.4.

    Args:
        in_channels: size of the table of elements: atomic numbers are below it.
        out_channels: numbers for each molecule.
        width: scalars of an atom, and as many vectors.
        depth: layers, a message and an update each.
        cutoff: in Å.
        basis: radial functions sin(nπr/cutoff)/r.
        envelope: "polynomial" (twice differentiable) or "cosine", the paper's.
        readout: "sum" or "mean" of the atoms' outputs, "extent" from them and the atoms' places, or "dipole", the length of what
            the tensor head gives.
        out_vectors: vectors for each molecule, such as its dipole, of the tensor head, which :meth:`outputs` gives beside the
            numbers.
        out_atoms: numbers for each atom, such as its charge, likewise.

    Example:
        >>> network = PaiNN(10, 1, width=8, depth=1)
        >>> positions, numbers, batch = torch.randn(6, 3), torch.randint(1, 9, (6,)), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> network(positions, numbers, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 128,
        depth: int = 3,
        cutoff: float = 5.0,
        basis: int = 20,
        envelope: str = "polynomial",
        readout: str = "sum",
        out_vectors: int = 0,
        out_atoms: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout, out_vectors, out_atoms)
        check_least(width=(width, 2), basis=(basis, 1))
        if envelope not in ENVELOPES:
            raise ValueError(f"envelope is {envelope!r}; expected {' or '.join(map(repr, ENVELOPES))}")
        self.width, self.irreps = width, Irreps([(width, (0, 1)), (width, (1, -1))])
        self._terms = terms_of(self.irreps)
        self.envelope = polynomial_envelope if envelope == "polynomial" else cosine_envelope
        self.embedding = nn.Embedding(in_channels, width)
        self.basis = RadialBasis(self.cutoff, basis, envelope=False)
        self.filters = nn.Linear(basis, depth * 3 * width)
        self.messages = nn.ModuleList(ScalarVectorMessage(width) for _ in range(depth))
        self.updates = nn.ModuleList(ScalarVectorUpdate(width) for _ in range(depth))
        tensor = readout == "dipole"
        self.head = _head(width, out_channels) if out_channels and not tensor else None
        moments = out_vectors + (out_channels if tensor else 0)
        self.tensor_head = _tensor_head(width, moments) if moments else None
        self.atom_head = _head(width, out_atoms) if out_atoms else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():  # sums over tens of atoms begin at order one
            for last in (self.head, self.tensor_head):
                if last is not None:
                    list(last.parameters())[-2].mul_(0.1)

    def packed(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Scalars and vectors of the atoms after the last layer, (P, 4, width)."""
        source, target = graph.edge_index
        vectors = graph.vectors(positions)
        lengths = vectors.square().sum(1).clamp_min(_NEAREST).sqrt()  # (E,)
        directions = vectors / lengths[:, None]
        envelope = self.envelope(lengths / self.cutoff)
        filters = (self.filters(self.basis(lengths)) * envelope[:, None]).split(3 * self.width, 1)
        x = nn.functional.pad(self.embedding(numbers)[:, None], (0, 0, 0, 3))
        for message, update, weights in zip(self.messages, self.updates, filters, strict=True):
            x = update(message(x, weights, directions, source, target))
        return x

    def stacks(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Stacks:
        """Features of the atoms after the last layer."""
        return Stacks.of(self.packed(positions, numbers, graph).split([1, 3], 1), self._terms)

    def features(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Features of the atoms after the last layer, (P, irreps.dim) in mul_ir."""
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
        x = self.packed(positions, features, graph)
        scalars = x[:, 0]
        count = num_graphs if num_graphs is not None else (int(batch[-1]) + 1 if len(batch) else 0)
        moments = scalars.new_zeros(count, 0, 3)
        if self.tensor_head is not None:
            y = self.tensor_head(x)
            moments = moment(y[:, 1:].mT, y[:, 0], positions, batch, count)
        vectors = moments[:, : self.out_vectors]
        if self.readout == "dipole":
            molecules = (moments[:, self.out_vectors :].square().sum(2) + _SMALLEST).sqrt()
        else:
            values = scalars[:, :0] if self.head is None else self.head(scalars)
            molecules = self.read_out(values, positions, features, batch, count)
        atoms = scalars[:, :0] if self.atom_head is None else self.atom_head(scalars)
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


def _head(width: int, channels: int) -> nn.Sequential:
    half = max(1, width // 2)
    return nn.Sequential(nn.Linear(width, half), nn.SiLU(), nn.Linear(half, channels))


def _tensor_head(width: int, channels: int) -> nn.Sequential:
    """Two gated equivariant blocks: a charge and a vector of each atom for each moment."""
    half = max(1, width // 2)
    return nn.Sequential(
        GatedEquivariantBlock(width, half, activate=True), GatedEquivariantBlock(half, channels)
    )


@register("painn", output="label", domain="molecule", options_of=PaiNN)
def painn(in_channels: int, out_channels: int, grid: Any, **options: Any) -> PaiNN:
    """PaiNN (Schütt et al. 2021): scalars and vectors at atoms, few operators, short calls; invariant, smooth."""
    return PaiNN(in_channels, out_channels, **options)
