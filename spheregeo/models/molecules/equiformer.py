"""EquiformerV2: attention between functions on the sphere about atoms, in the frames of edges.

Reference: Liao, Wood, Das & Smidt 2023, arXiv:2306.12059.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spheregeo.checks import check_least
from spheregeo.models.registry import register
from spheregeo.models.space.base import InvariantAtomNetwork
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.nn.irreps import IrrepsLayerNorm, IrrepsLinear, SeparableSphereActivation, Stacks
from spheregeo.nn.space import EdgeGeometry, RadialBasis, RadialNetwork, polynomial_envelope
from spheregeo.nn.space.spherical_channels import EdgeFrameAttention, FrameWays, channel_irreps

__all__ = ["EquiformerV2", "equiformer_v2"]


class FeedForward(nn.Module):
    """Linear map, separable activation on the sphere, linear map, at each atom."""

    def __init__(self, width: int, hidden: int, lmax: int, resolution: tuple[int, int]) -> None:
        super().__init__()
        outer, inner = channel_irreps(width, lmax), channel_irreps(hidden, lmax)
        self.first, self.last = IrrepsLinear(outer, inner), IrrepsLinear(inner, outer)
        self.act = SeparableSphereActivation(inner, resolution=resolution)

    def forward(self, x: Stacks) -> Stacks:
        result: Stacks = self.last(self.act(self.first(x)))
        return result


class EquiformerV2(InvariantAtomNetwork):
    """EquiformerV2: blocks of norm, attention in edge frames, norm and feed-forward with separable activations on the sphere.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). An atom without neighbours contributes what its element alone says.
    Units: Å.
    Equivariance: invariant to translations and permutations, to rounding; to rotations and reflections up to the sphere grids of
        the feed-forward parts, whose error falls exponentially with ``oversampling`` (attention with "gate" is exact). Twice
        differentiable in the positions, also where an atom crosses the cutoff (with "gate").
    Raises: ValueError for sizes below 1, a width that heads do not divide, an unknown activation or readout.
    Reference: Liao, Wood, Das & Smidt 2023, arXiv:2306.12059; with harmonics' parity, so that reflections count, and a softmax
        that is smooth at the cutoff.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: functions on the sphere about each atom, a multiple of ``heads``.
        depth: blocks.
        lmax: largest degree.
        mmax: orders that attention keeps in the frames of edges; None for all.
        heads: attentions side by side.
        alpha: attention features of a head.
        activation: of attention: "gate", exact, or "sphere", the published separable one on a grid about the edge.
        cutoff: in Å.
        basis: radial functions.
        hidden: copies of each degree inside the feed-forward parts, and width of the radial networks and heads.
        element_dim: numbers of each end's element that radial networks see.
        num_neighbors: mean number of neighbours, a constant that scales the first sum over them.
        oversampling: of the sphere grids, in units of (2L + 1, 4L + 1) rings and points.
        readout: "sum" or "mean" of the atoms' outputs, or "dipole" or "extent" from them and the atoms' places.
        out_atoms: numbers for each atom, which :meth:`outputs` gives beside those of the molecules.

    Example:
        >>> network = EquiformerV2(10, 1, width=4, depth=1, lmax=1, heads=2, hidden=8)
        >>> positions, numbers, batch = torch.randn(6, 3), torch.randint(1, 9, (6,)), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> network(positions, numbers, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 16,
        depth: int = 2,
        lmax: int = 2,
        mmax: int | None = None,
        heads: int = 4,
        alpha: int = 8,
        activation: str = "gate",
        cutoff: float = 5.0,
        basis: int = 12,
        hidden: int = 64,
        element_dim: int = 8,
        num_neighbors: float = 30.0,
        oversampling: float = 1.0,
        readout: str = "sum",
        out_atoms: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout, out_atoms=out_atoms)
        check_least(width=(width, 1), lmax=(lmax, 1), hidden=(hidden, 1), element_dim=(element_dim, 1))
        if not oversampling >= 1:
            raise ValueError(f"oversampling is {oversampling}; expected at least 1")
        self.width, self.lmax, self.num_neighbors = width, lmax, float(num_neighbors)
        irreps = channel_irreps(width, lmax)
        orders = lmax if mmax is None else min(mmax, lmax)
        points, about = (
            (round(oversampling * (2 * lmax + 1)), round(oversampling * (4 * m + 1))) for m in (lmax, orders)
        )
        self.embedding = nn.Embedding(in_channels, width)
        self.elements = nn.Embedding(in_channels, element_dim)
        self.basis = RadialBasis(self.cutoff, basis, envelope=False)
        self.around = RadialNetwork(basis, [hidden], (lmax + 1) * width, 2 * element_dim)
        self.attentions = nn.ModuleList(
            EdgeFrameAttention(width, lmax, width, heads, alpha, orders, activation, about, k == depth - 1)
            for k in range(depth)
        )
        features = self.attentions[0].num_features
        assert isinstance(features, int)
        self.radial = nn.ModuleList(
            RadialNetwork(basis, [hidden], features, 2 * element_dim) for _ in range(depth)
        )
        for part in (self.around, self.radial):
            for layer in part.modules():
                if isinstance(layer, nn.Linear):  # messages begin as large as what they come from
                    nn.init.normal_(layer.weight, std=2 * layer.in_features**-0.5)
        # scalars are read from scalars alone: the last block needs no others after its attention
        self.forwards = nn.ModuleList(FeedForward(width, hidden, lmax, points) for _ in range(depth - 1))
        self.norms = nn.ModuleList(IrrepsLayerNorm(irreps, share="separable") for _ in range(2 * depth - 1))
        self.last_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.last_forward = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))
        self.head = _head(width, hidden, out_channels, 0.1) if out_channels else None
        self.atom_head = _head(width, hidden, out_atoms) if out_atoms else None

    def first(self, numbers: Tensor, geometry: EdgeGeometry, radial: Tensor) -> Stacks:
        """Each atom's element as its scalars, plus its neighbours' directions by radial functions (E, (lmax + 1) width)."""
        scalars = self.embedding(numbers)[:, None]
        y, radial = geometry.harmonics(self.lmax).to(scalars), radial.to(scalars)
        factors = radial.unflatten(1, (self.lmax + 1, self.width)) * self.num_neighbors**-0.5
        parts = []
        for l in range(self.lmax + 1):
            messages = y[:, l * l : (l + 1) ** 2, None] * factors[:, l, None]
            parts.append(geometry.scatter(messages))
        parts[0] = parts[0] + scalars
        return Stacks.of(parts, tuple((l, (-1) ** l, self.width) for l in range(self.lmax + 1)))

    def features(self, positions: Tensor, numbers: Tensor, graph: MoleculeGraph) -> Tensor:
        """Invariant features of the atoms, (P, width): scalars after the last norm."""
        source, target = graph.edge_index
        geometry = self.geometry(positions, graph)
        basis = self.basis(geometry.lengths)
        # atoms at one place have no direction to one another: they do not meet
        envelope = polynomial_envelope(geometry.lengths / self.cutoff) * (geometry.lengths > 0)
        of = self.elements(numbers)
        extra = torch.cat([of.index_select(0, source), of.index_select(0, target)], 1)
        x = self.first(numbers, geometry, self.around(basis, envelope, extra))
        ways = FrameWays.of(geometry, self.attentions[0].rotation, self.lmax)  # type: ignore[arg-type]
        ones = torch.ones_like(envelope)
        norms = iter(self.norms)
        for k, (attention, radial) in enumerate(zip(self.attentions, self.radial, strict=True)):
            heard = attention(next(norms)(x), ways, radial(basis, ones, extra), envelope, target)
            if k < len(self.forwards):
                x = x + heard
                x = x + self.forwards[k](next(norms)(x))
        scalars = (x.parts[0] + heard.parts[0]).squeeze(1)
        scalars = scalars + self.last_forward(self.last_norms[0](scalars))
        result: Tensor = self.last_norms[1](scalars)
        return result


def _head(width: int, hidden: int, channels: int, scale: float = 1.0) -> nn.Sequential:
    """Linear, SiLU, linear; ``scale`` 0.1 for sums over tens of atoms, which then begin at order one."""
    last = nn.Linear(hidden, channels)
    nn.init.zeros_(last.bias)
    with torch.no_grad():
        last.weight *= scale
    return nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), last)


@register("equiformer-v2", output="label", domain="molecule", options_of=EquiformerV2)
def equiformer_v2(in_channels: int, out_channels: int, grid: Any, **options: Any) -> EquiformerV2:
    """EquiformerV2 (Liao et al. 2023): attention in edge frames, separable sphere activations; strict up to grids."""
    return EquiformerV2(in_channels, out_channels, **options)
