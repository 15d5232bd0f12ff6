"""From features of atoms to what a target is: numbers of molecules, vectors of molecules, numbers of atoms."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spheregeo.nn.irreps import Stacks, working_dtype


class Outputs(NamedTuple):
    """What a network gives: numbers of molecules (B, C), vectors of molecules (B, V, 3), numbers of atoms (P, A)."""

    molecules: Tensor
    vectors: Tensor
    atoms: Tensor


class Invariants(nn.Module):
    """A network whose outputs are all invariant: numbers of molecules, lengths of vectors, and sums of squares over atoms.

    For audits of networks that give vectors or numbers of atoms.

    Args:
        network: a network for molecules with ``outputs``.

    Shape: as the network; returns (B, C + V + A).
    Equivariance: invariant to motions, reflections and permutations as far as the network is exact.

    Example:
        >>> from spheregeo.models import SchNet
        >>> network = Invariants(SchNet(10, 1, width=8, depth=1, out_atoms=2))
        >>> positions, numbers, batch = torch.randn(4, 3), torch.tensor([1, 6, 8, 1]), torch.tensor([0, 0, 1, 1])
        >>> network(positions, numbers, batch, network.neighbors(positions, batch)).shape
        torch.Size([2, 3])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def neighbors(self, positions: Tensor, batch: Tensor | None = None) -> Any:
        """Neighbours as the network finds them."""
        return self.network.neighbors(positions, batch)  # type: ignore[operator]

    def forward(
        self, positions: Tensor, features: Tensor, batch: Tensor, graph: Any, num_graphs: int | None = None
    ) -> Tensor:
        found: Outputs = self.network.outputs(positions, features, batch, graph, num_graphs)  # type: ignore[operator]
        squares = found.atoms.square()
        atoms = squares.new_zeros(len(found.molecules), squares.shape[1]).index_add(0, batch, squares)
        return torch.cat([found.molecules, found.vectors.norm(dim=2), atoms], 1)


class VectorHead(nn.Module):
    """Vectors of molecules, such as dipoles: those of the atoms, and charges at the atoms' places.

    v = Σ_i Σ_m w_m g_m(i) x_m(i) + Σ_i (q(i) - q̄) (r_i - r̄), with gates g and charges q from the atoms' invariants; charges
    add up to nothing, as in a neutral molecule.

    Args:
        count: invariants of an atom.
        copies: vectors among an atom's features.
        hidden: hidden width of the network of invariants.
        channels: vectors for each molecule.

    Shape: stacks with l = 1 (P, 3, copies), invariants (P, count), positions (P, 3), batch (P,) -> (B, channels, 3).
    Units: that of the target, per unit of the positions for charges.
    Equivariance: turns and reflects with the molecule, does not see translations, to rounding.

    Example:
        >>> head = VectorHead(5, 2, 8, 1)
        >>> stacks = Stacks.from_mul_ir(torch.randn(3, 9), "3x0e + 2x1o")
        >>> head(stacks, torch.randn(3, 5), torch.randn(3, 3), torch.tensor([0, 0, 1]), 2).shape
        torch.Size([2, 1, 3])
    """

    def __init__(self, count: int, copies: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.copies = copies
        last = nn.Linear(hidden, copies + channels)
        self.gates = nn.Sequential(nn.LayerNorm(count), nn.Linear(count, hidden), nn.SiLU(), last)
        self.mix = nn.Parameter(torch.randn(copies, channels) * copies**-0.5)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.weight *= 0.1  # a sum over tens of atoms begins at order one

    def forward(
        self, x: Stacks, invariants: Tensor, positions: Tensor, batch: Tensor, num_graphs: int
    ) -> Tensor:
        gates, charges = self.gates(invariants).split([self.copies, self.mix.shape[1]], 1)
        vectors = torch.einsum("pdm,mc->pcd", x["1o"] * gates[:, None], self.mix)
        return moment(vectors, charges, positions, batch, num_graphs)


def moment(vectors: Tensor, charges: Tensor, positions: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
    """Σ_i v_i + Σ_i (q_i - q̄) (r_i - r̄) of each molecule: vectors of atoms, and charges at their places that add up to nothing.

    Shape: vectors (P, C, 3), charges (P, C), positions (P, 3), batch (P,) -> (B, C, 3). Sums are in float32 at least.
    Equivariance: turns and reflects as the vectors do, does not see translations.
    """
    kind = working_dtype(vectors)
    positions, charges = positions.to(kind), charges.to(kind)

    def over(parts: Tensor) -> Tensor:
        return parts.new_zeros(num_graphs, *parts.shape[1:]).index_add(0, batch, parts)

    atoms = over(torch.ones_like(charges[:, :1])).clamp_min(1.0)
    centred = positions - (over(positions) / atoms).index_select(0, batch)
    neutral = charges - (over(charges) / atoms).index_select(0, batch)
    return over(vectors.to(kind) + neutral[:, :, None] * centred[:, None])
