"""Tensor field networks: convolutions with harmonics times learned radial functions, self-interaction, nonlinearity.

Reference: Thomas, Smidt, Kearnes, Yang, Li, Kohlhoff & Riley 2018, arXiv:1802.08219.
"""

from __future__ import annotations

from typing import Any

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.deprecation import renamed_arguments
from spheregeo.models.registry import register
from spheregeo.models.space.base import (
    AtomNetwork,
    PointNetwork,
    check_cutoff,
    natural_irreps,
    perceptron,
)
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.models.space.point_outputs import OUTPUTS
from spheregeo.models.space.steerable_blocks import invariants_of, split_scalars
from spheregeo.nn.irreps import (
    IrrepsGate,
    IrrepsLayerNorm,
    IrrepsLinear,
    NormActivation,
    SphereActivation,
    Stacks,
    ToStacks,
)
from spheregeo.nn.space import EdgeGeometry, RadialBasis, RadialNetwork, SteerableConv, polynomial_envelope

NONLINEARITIES = ("norm", "gate", "sphere")


def nonlinearity(name: str, irreps: Irreps) -> tuple[nn.Module, Irreps]:
    """The named nonlinearity that gives ``irreps``, and what it takes. Raises: ValueError for another name."""
    if name == "norm":
        return NormActivation(irreps), irreps
    if name == "gate":
        gate = IrrepsGate(irreps)
        return gate, gate.irreps_in
    if name == "sphere":
        return SphereActivation(irreps), irreps
    raise ValueError(f"nonlinearity is {name!r}; expected one of {', '.join(map(repr, NONLINEARITIES))}")


class TFNLayer(nn.Module):
    """Convolution with a weight matrix for every edge from its length, plus self-interaction, nonlinearity, norm.

    Shape: stacks of N points, geometry, radial functions (E, K), envelope (E,), extra (E, X) or None -> stacks of N points.
    Equivariance: O(3); exact but for "sphere", see :class:`~spheregeo.nn.space.SphereActivation`.
    """

    def __init__(
        self, irreps_in: Irreps, irreps_out: Irreps, *, lmax: int, act: str, basis: int, hidden: int, edge_dim: int,
        num_neighbors: float, norm: bool, extra: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.act, wide = nonlinearity(act, irreps_out)
        self.radial = RadialNetwork(basis, [hidden], edge_dim, extra)
        self.conv = SteerableConv(irreps_in, wide, lmax=lmax, edge_dim=edge_dim, num_neighbors=num_neighbors)
        self.own = IrrepsLinear(irreps_in, wide)
        self.norm = IrrepsLayerNorm(irreps_out, share="separable") if norm else None

    def forward(
        self, x: Stacks, geometry: EdgeGeometry, basis: Tensor, envelope: Tensor, extra: Tensor | None = None
    ) -> Stacks:
        y: Stacks = self.act(self.own(x) + self.conv(x, geometry, self.radial(basis, envelope, extra)))
        return y if self.norm is None else self.norm(y)


class _Layers(nn.Module):
    """The layers and the invariants of the last features. Shape: x (N, irreps_in.dim), ... -> (N, irreps.num_irreps)."""

    def __init__(self, irreps_in: Irreps, irreps: Irreps, depth: int, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TFNLayer(irreps_in if i == 0 else irreps, irreps, **options) for i in range(depth)
        )
        split_scalars(irreps)  # scalars must come first
        self.to_stacks = ToStacks(irreps_in)

    def forward(
        self, x: Tensor, geometry: EdgeGeometry, basis: Tensor, envelope: Tensor, extra: Tensor | None = None
    ) -> Tensor:
        features = self.to_stacks(x)
        for layer in self.layers:
            features = layer(features, geometry, basis, envelope, extra)
        return invariants_of(features)


class TFN(AtomNetwork):
    """Tensor field network of atoms.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels).
    Units: Å.
    Equivariance: invariant to O(3), translations and permutations, to rounding (1e-14 relative in float64, 1e-6 in float32,
        random parameters); with ``nonlinearity="sphere"`` to about 1e-3 a layer. Twice differentiable in the positions, at the
        cutoff too.
    Raises: ValueError for sizes below 1, a cutoff that is not positive, unknown names.
    Reference: Thomas et al. 2018, arXiv:1802.08219. The norm after each layer and the elements in radial networks are ours.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: copies of each degree.
        depth: layers.
        lmax: highest degree of features and harmonics.
        nonlinearity: "norm" (published), "gate" or "sphere".
        cutoff: in Å.
        basis: radial functions.
        hidden, edge_dim: widths of the radial networks, whose last layer holds the weight matrices.
        num_neighbors: mean number of neighbors, a constant that scales sums over them.
        element_dim: numbers of each end's element that radial networks see; 0 for none.
        norm: layer norm after each layer.
        readout: "sum", "mean", "dipole" or "extent" of atoms.

    Example:
        >>> network = TFN(10, 1, width=8, depth=1)
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
        width: int = 16,
        depth: int = 3,
        lmax: int = 2,
        nonlinearity: str = "norm",
        cutoff: float = 5.0,
        basis: int = 8,
        hidden: int = 32,
        edge_dim: int = 16,
        num_neighbors: float = 12.0,
        element_dim: int = 8,
        norm: bool = True,
        readout: str = "sum",
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout)
        irreps = natural_irreps(width, lmax)
        self.embedding = nn.Embedding(in_channels, width)
        self.elements = nn.Embedding(in_channels, element_dim) if element_dim else None
        self.basis = RadialBasis(self.cutoff, basis, envelope=False)
        self.layers = _Layers(
            irreps[:1], irreps, depth, lmax=lmax, act=nonlinearity, basis=basis, hidden=hidden, edge_dim=edge_dim,
            num_neighbors=num_neighbors, norm=norm, extra=2 * element_dim,
        )  # fmt: skip
        self.head = perceptron(irreps.num_irreps, 2 * width, out_channels, extensive=True)

    def forward(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        geometry, extra = self.geometry(positions, graph), None
        envelope = polynomial_envelope(geometry.lengths / self.cutoff)
        if self.elements is not None:
            of = self.elements(features)
            extra = torch.cat([of.index_select(0, end) for end in graph.edge_index], 1)
        x = self.layers(self.embedding(features), geometry, self.basis(geometry.lengths), envelope, extra)
        return self.read_out(self.head(x), positions, features, batch, num_graphs)


class TFNPoints(PointNetwork):
    """Tensor field network of clouds: nearest neighbours, then the mean of invariants over the cloud.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph -> (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; ``cutoff`` in the same.
    Equivariance: invariant to translations and O(3): 1e-13 (float64), random parameters; "sphere" to about 1e-3 a layer.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: Thomas et al. 2018, arXiv:1802.08219.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        feature_irreps: what the features are, such as "1x1o" for normals; scalars if None.
        k: neighbours.
        cutoff: the distance up to which radial functions tell lengths apart.
        dropout: in the head.
        output: "label" for numbers of each cloud, "field" for numbers of each point.
        width, depth, lmax, nonlinearity, basis, hidden, edge_dim, norm: as of :class:`TFN`.

    Example:
        >>> network = TFNPoints(0, 5, width=8, depth=1)
        >>> positions, batch = torch.randn(40, 3), torch.arange(2).repeat_interleave(20)
        >>> network(positions, None, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 16,
        depth: int = 3,
        lmax: int = 2,
        nonlinearity: str = "norm",
        k: int = 16,
        cutoff: float = 0.5,
        basis: int = 8,
        hidden: int = 32,
        edge_dim: int = 8,
        norm: bool = True,
        dropout: float = 0.0,
        feature_irreps: str | None = None,
        output: str = "label",
    ) -> None:
        super().__init__(in_channels, out_channels, depth, k, feature_irreps, output)
        irreps = natural_irreps(width, lmax)
        self.basis = RadialBasis(check_cutoff(cutoff), basis, "gaussian", envelope=False)
        self.layers = _Layers(
            self.irreps_in, irreps, depth, lmax=lmax, act=nonlinearity, basis=basis, hidden=hidden, edge_dim=edge_dim,
            num_neighbors=float(k), norm=norm,
        )  # fmt: skip
        self.head = self.make_head(irreps.num_irreps, 4 * width, out_channels, dropout)

    def invariants(self, x: Tensor, geometry: EdgeGeometry, batch: Tensor, count: int) -> Tensor:
        lengths = geometry.lengths
        found: Tensor = self.layers(x, geometry, self.basis(lengths), torch.ones_like(lengths))
        return found


@register("tfn", output="label", domain="molecule", options_of=TFN)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> TFN:
    """Tensor field network (Thomas et al. 2018): harmonics times learned radial functions; invariant, smooth."""
    return TFN(in_channels, out_channels, **options)


@register("tfn-base", output="label", domain="molecule", options_of=TFN)
def base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 64, depth: int = 5, hidden: int = 64,
    edge_dim: int = 32, **options: Any,
) -> TFN:  # fmt: skip
    """The base size: 64 copies of each degree, five layers."""
    return TFN(
        in_channels, out_channels, width=width, depth=depth, hidden=hidden, edge_dim=edge_dim, **options
    )


@register("tfn-points", output=OUTPUTS, domain="points", options_of=TFNPoints)
def points_small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> TFNPoints:
    """Tensor field network on the nearest neighbours of each point of a cloud; invariant."""
    return TFNPoints(in_channels, out_channels, **options)


@register("tfn-points-base", output=OUTPUTS, domain="points", options_of=TFNPoints)
def points_base(
    in_channels: int,
    out_channels: int,
    grid: Any,
    *,
    width: int = 48,
    depth: int = 4,
    k: int = 32,
    **options: Any,
) -> TFNPoints:
    """The base size: 48 copies of each degree, four layers, 32 neighbours."""
    return TFNPoints(in_channels, out_channels, width=width, depth=depth, k=k, **options)
