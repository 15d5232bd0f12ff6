"""SchNet: continuous-filter convolutions on the distances between atoms, a baseline whose features are all invariant.

Reference: Schütt, Kindermans, Sauceda, Chmiela, Tkatchenko & Müller 2017, arXiv:1706.08566.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from spheregeo.checks import check_least
from spheregeo.models.registry import register
from spheregeo.models.space.base import InvariantAtomNetwork
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.models.space.readout import READOUTS, pooled
from spheregeo.nn.space import RadialBasis, polynomial_envelope

ENVELOPES = ("polynomial", "cosine")
_NEAREST = 1e-12  # Å²; distances are bounded from below by its root, so that coincident atoms have a gradient


def cosine_envelope(t: Tensor) -> Tensor:
    """(1 + cos πt) / 2 for t in [0, 1], 0 beyond; once differentiable at 1, with a jump in the second derivative."""
    return 0.5 * (1 + torch.cos(math.pi * t.clamp(max=1.0)))


class ShiftedSoftplus(nn.Module):
    """ln(1 + e^x) - ln 2: smooth, and 0 at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x) - math.log(2.0)


class Interaction(nn.Module):
    """x_i + MLP(Σ_j (W x_j) ∘ f(d_ij)): atoms hear their neighbours through filters of the distance."""

    def __init__(self, width: int, basis: int) -> None:
        super().__init__()
        self.filter = nn.Sequential(nn.Linear(basis, width), ShiftedSoftplus(), nn.Linear(width, width))
        self.inward = nn.Linear(width, width, bias=False)
        self.outward = nn.Sequential(nn.Linear(width, width), ShiftedSoftplus(), nn.Linear(width, width))

    def forward(self, x: Tensor, basis: Tensor, envelope: Tensor, source: Tensor, target: Tensor) -> Tensor:
        filters = self.filter(basis) * envelope  # (E, C)
        messages = self.inward(x).index_select(0, source) * filters
        heard = x.new_zeros(x.shape, dtype=messages.dtype).index_add(0, target, messages)
        result: Tensor = x + self.outward(heard)
        return result


class SchNet(InvariantAtomNetwork):
    """SchNet: invariant continuous-filter convolutions, and a sum or mean over atoms.

    The output is twice differentiable in the positions, also where an atom crosses the cutoff (with the polynomial envelope).

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to rotations, reflections, translations and permutations, to rounding (measured 1e-15 relative in
        float64, 1e-6 in float32, with random parameters).
    Raises: ValueError for an unknown envelope or readout, sizes below 1, a cutoff that is not positive.
    Reference: Schütt et al. 2017, equations 1-4, figure 2.

    Args:
        in_channels: size of the table of elements: atomic numbers are below it.
        out_channels: numbers for each molecule.
        width: features of an atom.
        depth: interactions.
        cutoff: in Å.
        basis: Gaussians on [0, cutoff].
        envelope: "polynomial" (twice differentiable) or "cosine".
        readout: "sum" or "mean" of the atoms' outputs, or "dipole" or "extent" from them and the atoms' places.
        out_atoms: numbers for each atom, which :meth:`outputs` gives beside those of the molecules.

    Example:
        >>> network = SchNet(10, 1)
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
        depth: int = 6,
        cutoff: float = 5.0,
        basis: int = 50,
        envelope: str = "polynomial",
        readout: str = "sum",
        out_atoms: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout, out_atoms=out_atoms)
        check_least(width=(width, 2), basis=(basis, 2))
        if envelope not in ENVELOPES:
            raise ValueError(f"envelope is {envelope!r}; expected {' or '.join(map(repr, ENVELOPES))}")
        self.envelope = polynomial_envelope if envelope == "polynomial" else cosine_envelope
        self.embedding = nn.Embedding(in_channels, width)
        self.gaussians = RadialBasis(self.cutoff, basis, "gaussian", envelope=False)
        self.interactions = nn.ModuleList(Interaction(width, basis) for _ in range(depth))
        self.head = _head(width, out_channels) if out_channels else None
        self.atom_head = _head(width, out_atoms) if out_atoms else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.head is not None:
            with torch.no_grad():
                next(self.head[2].parameters()).mul_(0.1)  # a sum over tens of atoms begins at order one

    def features(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Features of the atoms after the last interaction, (P, width)."""
        source, target = graph.edge_index
        squared = graph.vectors(positions).square().sum(1)
        distance = squared.clamp_min(_NEAREST).sqrt()  # (E,)
        basis = self.gaussians(distance)
        envelope = self.envelope(distance / self.cutoff)[:, None]
        x: Tensor = self.embedding(numbers)
        for interaction in self.interactions:
            x = interaction(x, basis, envelope, source, target)
        return x


def _head(width: int, channels: int) -> nn.Sequential:
    half = max(1, width // 2)
    return nn.Sequential(nn.Linear(width, half), ShiftedSoftplus(), nn.Linear(half, channels))


@register("schnet", output="label", domain="molecule")
def schnet(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 128, depth: int = 6, cutoff: float = 5.0,
    basis: int = 50, envelope: str = "polynomial", readout: str = "sum", out_atoms: int = 0,
) -> SchNet:  # fmt: skip
    """SchNet (Schütt et al. 2017): filters of the distances between atoms; invariant."""
    return SchNet(
        in_channels, out_channels, width=width, depth=depth, cutoff=cutoff, basis=basis, envelope=envelope,
        readout=readout, out_atoms=out_atoms,
    )  # fmt: skip


__all__ = ["READOUTS", "SchNet", "cosine_envelope", "polynomial_envelope", "pooled", "schnet"]
