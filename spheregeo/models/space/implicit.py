"""Steerable CNNs with implicit kernels: each convolution's kernel is an equivariant network of the offset and of edge attributes.

Reference: Zhdanov, Hoffmann & Cesa 2023, arXiv:2212.06096.
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
from spheregeo.nn.irreps import IrrepsGate, IrrepsLayerNorm, IrrepsLinear, Stacks, ToStacks
from spheregeo.nn.space import EdgeGeometry, ImplicitConv


class ImplicitLayer(nn.Module):
    """Convolution with an implicit kernel plus a linear map of the point's own features, norm, gate; residual where sizes agree.

    Shape: stacks of N points, geometry, attributes (E, A) or None -> stacks of N points.
    Equivariance: that of the kernel's group; O(3) exact.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, **options: Any) -> None:
        super().__init__()
        self.gate = IrrepsGate(irreps_out)
        wide = self.gate.irreps_in
        self.conv = ImplicitConv(irreps_in, wide, **options)
        self.own = IrrepsLinear(irreps_in, wide, bias=False)
        self.norm = IrrepsLayerNorm(wide, share="separable")
        self.residual = irreps_in == irreps_out

    def forward(self, x: Stacks, geometry: EdgeGeometry, attributes: Tensor | None = None) -> Stacks:
        y: Stacks = self.gate(self.norm(self.own(x) + self.conv(x, geometry, attributes)))
        return x + y if self.residual else y


class _Layers(nn.Module):
    """The layers and the invariants of the last features. Shape: x (N, irreps_in.dim), ... -> (N, irreps.num_irreps)."""

    def __init__(self, irreps_in: Irreps, irreps: Irreps, depth: int, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            ImplicitLayer(irreps_in if i == 0 else irreps, irreps, **options) for i in range(depth)
        )
        split_scalars(irreps)  # scalars must come first
        self.to_stacks = ToStacks(irreps_in)

    def forward(self, x: Tensor, geometry: EdgeGeometry, attributes: Tensor | None = None) -> Tensor:
        features = self.to_stacks(x)
        for layer in self.layers:
            features = layer(features, geometry, attributes)
        return invariants_of(features)


class ImplicitMolecule(AtomNetwork):
    """Steerable CNN of atoms whose kernels see the offset and both ends' elements.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels).
    Units: Å.
    Equivariance: invariant to O(3), translations and permutations, to rounding (1e-13 relative in float64, 1e-5 in float32,
        random parameters). Twice differentiable in the positions, at the cutoff too.
    Raises: ValueError for sizes below 1, a cutoff that is not positive, unknown names.
    Reference: Zhdanov et al. 2023, arXiv:2212.06096. There attributes are bonds, which are not among our data; here learned
        numbers of the elements. Layer norm in place of batch norm, sums over neighbours in place of means, a smooth cutoff.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: copies of each degree.
        depth: layers.
        lmax: highest degree of features.
        kernel_width: hidden copies in the kernel networks.
        kernel_layers: their hidden layers.
        element_dim: numbers of each end's element that kernels see.
        cutoff: in Å.
        num_neighbors: mean number of neighbors, a constant that scales sums over them.
        readout: "sum", "mean", "dipole" or "extent" of atoms.
        chunk: edges done at a time; None for all.

    Example:
        >>> network = ImplicitMolecule(10, 1, width=8, depth=1)
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
        kernel_width: int = 8,
        kernel_layers: int = 2,
        element_dim: int = 8,
        cutoff: float = 5.0,
        num_neighbors: float = 12.0,
        readout: str = "sum",
        chunk: int | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout)
        irreps = natural_irreps(width, lmax)
        self.embedding = nn.Embedding(in_channels, width)
        self.elements = nn.Embedding(in_channels, element_dim)
        self.layers = _Layers(
            irreps[:1], irreps, depth, hidden=kernel_width, layers=kernel_layers, attributes=f"{2 * element_dim}x0e",
            radius=self.cutoff, envelope=True, reduce="sum", num_neighbors=num_neighbors,
            chunk=chunk,
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
        of = self.elements(features)
        attributes = torch.cat([of.index_select(0, end) for end in graph.edge_index], 1)
        x = self.layers(self.embedding(features), self.geometry(positions, graph), attributes)
        return self.read_out(self.head(x), positions, features, batch, num_graphs)


class ImplicitPoints(PointNetwork):
    """Steerable CNN of clouds with implicit kernels on nearest neighbours, then the mean of invariants over the cloud.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph -> (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; ``radius`` in the same.
    Equivariance: invariant to translations and O(3), or the ``group`` given: 1e-13 (float64), random parameters.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: Zhdanov et al. 2023, arXiv:2212.06096; layer norm in place of batch norm.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        radius: unit of length of the kernels, whose Gaussian shell begins with half of it.
        group: of the kernels, see :class:`~spheregeo.nn.space.implicit.conv.ImplicitConv`.
        k, dropout, feature_irreps, output: as of the other networks of clouds.
        width, depth, lmax, kernel_width, kernel_layers, chunk: as of :class:`ImplicitMolecule`.

    Example:
        >>> network = ImplicitPoints(0, 5, width=8, depth=1)
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
        kernel_width: int = 8,
        kernel_layers: int = 2,
        k: int = 16,
        radius: float = 0.4,
        group: str = "O3",
        dropout: float = 0.0,
        chunk: int | None = None,
        feature_irreps: str | None = None,
        output: str = "label",
    ) -> None:
        super().__init__(in_channels, out_channels, depth, k, feature_irreps, output)
        irreps = natural_irreps(width, lmax)
        self.layers = _Layers(
            self.irreps_in, irreps, depth, hidden=kernel_width, layers=kernel_layers, radius=check_cutoff(radius), group=group,
            chunk=chunk,
        )  # fmt: skip
        self.head = self.make_head(irreps.num_irreps, 4 * width, out_channels, dropout)

    def invariants(self, x: Tensor, geometry: EdgeGeometry, batch: Tensor, count: int) -> Tensor:
        found: Tensor = self.layers(x, geometry)
        return found


@register("implicit-molecule", output="label", domain="molecule", options_of=ImplicitMolecule)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> ImplicitMolecule:
    """Implicit steerable CNN (Zhdanov et al. 2023): kernels by networks of offset and elements; invariant, smooth."""
    return ImplicitMolecule(in_channels, out_channels, **options)


@register("implicit-molecule-base", output="label", domain="molecule", options_of=ImplicitMolecule)
def base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 48, depth: int = 5, kernel_width: int = 16,
    **options: Any,
) -> ImplicitMolecule:  # fmt: skip
    """The base size: 48 copies of each degree, five layers, kernels of width 16."""
    return ImplicitMolecule(
        in_channels, out_channels, width=width, depth=depth, kernel_width=kernel_width, **options
    )


@register("implicit-points", output=OUTPUTS, domain="points", options_of=ImplicitPoints)
def points_small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> ImplicitPoints:
    """Implicit steerable CNN (Zhdanov et al. 2023) on the nearest neighbours of each point of a cloud; invariant."""
    return ImplicitPoints(in_channels, out_channels, **options)


@register("implicit-points-base", output=OUTPUTS, domain="points", options_of=ImplicitPoints)
def points_base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 32, depth: int = 4, kernel_width: int = 16,
    k: int = 32, **options: Any,
) -> ImplicitPoints:  # fmt: skip
    """The base size: 32 copies of each degree, four layers, kernels of width 16, 32 neighbours."""
    return ImplicitPoints(
        in_channels, out_channels, width=width, depth=depth, kernel_width=kernel_width, k=k, **options
    )
