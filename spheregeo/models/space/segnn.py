"""SEGNN: message passing whose layers are gated tensor products, steered by edges and by what surrounds each point.

Reference: Brandstetter, Hesselink, van der Pol, Bekkers & Welling 2022, arXiv:2110.02905.
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
)
from spheregeo.models.space.molecule_graph import MoleculeGraph
from spheregeo.models.space.point_outputs import OUTPUTS
from spheregeo.models.space.readout import pooled
from spheregeo.models.space.segnn_blocks import SEGNNTrunk, balanced_irreps
from spheregeo.nn.irreps import NormalizedActivation, Stacks, ToStacks, as_irreps, terms_of
from spheregeo.nn.space import EdgeGeometry, polynomial_envelope
from spheregeo.nn.space.edge_frame import PointProduct

HEADS = ("atoms", "molecule")


class SEGNN(AtomNetwork):
    """Steerable E(3)-equivariant message passing between atoms.

    Shape: positions (P, 3), atomic numbers (P,) int64 below ``in_channels``, batch (P,) int64, graph as ``neighbors`` gives it;
        returns (B, out_channels). Atoms without neighbours, and molecules of one atom, are as good as any.
    Units: Å.
    Equivariance: invariant to O(3), translations and permutations, to rounding (1e-14 relative in float64, 1e-5 in float32, with
        random parameters). A molecule's result does not depend on its batch, but for ``norm="batch"`` in training. Atoms at
        one place send each other nothing.
    Raises: ValueError for sizes below 1, a cutoff that is not positive, unknown names.
    Reference: Brandstetter et al. 2022, arXiv:2110.02905; for QM9: width 128, lmax 2, lmax_attributes 3, 7 layers, cutoff 2 Å,
        ``norm="instance"``, ``readout="mean"``, ``head="molecule"``.

    Args:
        in_channels: size of the table of elements.
        out_channels: numbers for each molecule.
        width: of the dense layer that has as many weights as a product; decides the copies, see :func:`balanced_irreps`.
        depth: layers.
        lmax: highest degree of features.
        lmax_attributes: highest degree of the harmonics of edges and points.
        irreps: of the features, distinct and 0e first, in place of ``width`` and ``lmax``.
        cutoff: in Å.
        envelope: weigh messages by a function of the length that ends smoothly at the cutoff: the output is then twice
            differentiable as atoms come and go, which forces need. Not in the original.
        num_neighbors: messages are summed and divided by its root; 1 as published.
        norm: "layer" (each atom), "instance" (each molecule), "batch" or "none".
        readout: "sum", "mean", "dipole" or "extent" of atoms, see :func:`~spheregeo.models.sphere.pooled`.
        head: "atoms": a perceptron gives each atom's numbers, which are pooled, so that sums are extensive; "molecule": pooled
            first, as published; "sum" and "mean" only.

    Example:
        >>> network = SEGNN(10, 1, width=8, depth=1)
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
        depth: int = 4,
        lmax: int = 2,
        lmax_attributes: int = 3,
        irreps: str | Irreps | None = None,
        cutoff: float = 2.0,
        envelope: bool = False,
        num_neighbors: float = 1.0,
        norm: str = "layer",
        readout: str = "sum",
        head: str = "atoms",
    ) -> None:
        super().__init__(in_channels, out_channels, depth, cutoff, readout)
        if head not in HEADS or (head == "molecule" and readout not in ("sum", "mean")):
            raise ValueError(
                f"head is {head!r} with readout {readout!r}; expected 'atoms', or 'molecule' with 'sum' or 'mean'"
            )
        self.envelope, self.pool_first = envelope, head == "molecule"
        self.irreps = balanced_irreps(width, lmax, lmax_attributes) if irreps is None else as_irreps(irreps)
        count = self.irreps.num_irreps
        self.trunk = SEGNNTrunk(self.irreps, lmax_attributes, depth, num_neighbors=num_neighbors, norm=norm)
        begins = [l <= lmax_attributes and p == (-1) ** l for l, p, _ in terms_of(self.irreps)]
        self.begins = tuple(zip(terms_of(self.irreps), begins, strict=True))
        self.embedding = nn.Embedding(
            in_channels, sum(copies for (_, _, copies), begin in self.begins if begin)
        )
        last = nn.Linear(count, out_channels)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.weight *= 0.1  # a sum over tens of atoms begins at order one
        self.head = nn.Sequential(nn.Linear(count, count), NormalizedActivation("silu"), last)

    def embedded(self, numbers: Tensor, attributes: Tensor) -> Stacks:
        """Features to begin with: numbers of the element times the attributes of each degree. Shape: stacks of P points."""
        table, at, parts = self.embedding(numbers), 0, []
        for (degree, _, copies), begins in self.begins:
            if not begins:
                parts.append(table.new_zeros(len(numbers), 2 * degree + 1, copies))
                continue
            own, here = table[:, at : at + copies], attributes[:, degree**2 : (degree + 1) ** 2]
            at += copies
            parts.append(here[:, :, None] * own[:, None])
        return Stacks.of(parts, tuple(term for term, _ in self.begins))

    def forward(
        self,
        positions: Tensor,
        features: Tensor,
        batch: Tensor,
        graph: MoleculeGraph,
        num_graphs: int | None = None,
    ) -> Tensor:
        geometry = self.geometry(positions, graph)
        envelope = None
        if self.envelope:
            envelope = polynomial_envelope(geometry.lengths / self.cutoff)[:, None]
        near = self.trunk.surroundings(geometry, envelope)
        count = num_graphs if num_graphs is not None else (int(batch[-1]) + 1 if len(batch) else 0)
        x = self.trunk(self.embedded(features, near.attributes), near, batch, count)
        if self.pool_first:
            result: Tensor = self.head(pooled(x, batch, count, self.readout))
            return result
        return self.read_out(self.head(x), positions, features, batch, count)


class SEGNNPoints(PointNetwork):
    """SEGNN on the nearest neighbours of the points of a cloud, then the mean over the cloud and a perceptron.

    Shape: positions (P, 3), features (P, in_channels) or None, batch (P,), graph -> (B, out_channels), or (P, out_channels).
    Units: clouds of radius 1; ``unit`` in the same.
    Equivariance: invariant to translations and O(3): 1e-13 (float64), random parameters. Points at one place send each
        other nothing.
    Raises: ValueError for options out of range, features that do not fit.
    Reference: Brandstetter et al. 2022, arXiv:2110.02905.

    Args:
        in_channels: features of each point, 0 for none.
        out_channels: numbers for each cloud, or each point.
        k: neighbours.
        unit: squared distances are counted in its square; about the distance of neighbours.
        dropout, feature_irreps, output: as of the other networks of clouds.
        width, depth, lmax, lmax_attributes, norm: as of :class:`SEGNN`.

    Example:
        >>> network = SEGNNPoints(0, 5, width=8, depth=1)
        >>> positions, batch = torch.randn(40, 3), torch.arange(2).repeat_interleave(20)
        >>> network(positions, None, batch, network.neighbors(positions, batch), 2).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 48,
        depth: int = 3,
        lmax: int = 1,
        lmax_attributes: int = 2,
        k: int = 16,
        unit: float = 0.1,
        norm: str = "layer",
        dropout: float = 0.0,
        feature_irreps: str | None = None,
        output: str = "label",
    ) -> None:
        super().__init__(in_channels, out_channels, depth, k, feature_irreps, output)
        irreps = balanced_irreps(width, lmax, lmax_attributes)
        self.trunk = SEGNNTrunk(
            irreps, lmax_attributes, depth, num_neighbors=float(k), norm=norm, unit=check_cutoff(unit)
        )
        self.to_stacks = ToStacks(self.irreps_in)
        self.first = PointProduct(self.irreps_in, irreps, lmax_attributes)
        self.head = self.make_head(irreps.num_irreps, 2 * width, out_channels, dropout)

    def invariants(self, x: Tensor, geometry: EdgeGeometry, batch: Tensor, count: int) -> Tensor:
        near = self.trunk.surroundings(geometry, None)
        found: Tensor = self.trunk(self.first(self.to_stacks(x), near.attributes), near, batch, count)
        return found


@register("segnn", output="label", domain="molecule", options_of=SEGNN)
def small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SEGNN:
    """SEGNN (Brandstetter et al. 2022): gated products steered by edges and surroundings; invariant. Four layers."""
    return SEGNN(in_channels, out_channels, **options)


@register("segnn-base", output="label", domain="molecule", options_of=SEGNN)
def base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 128, depth: int = 7, **options: Any
) -> SEGNN:
    """SEGNN at its size for QM9: 36x0e + 36x1o + 36x2e, seven layers, 1.03 million parameters."""
    return SEGNN(in_channels, out_channels, width=width, depth=depth, **options)


@register("segnn-points", output=OUTPUTS, domain="points", options_of=SEGNNPoints)
def points_small(in_channels: int, out_channels: int, grid: Any, **options: Any) -> SEGNNPoints:
    """SEGNN (Brandstetter et al. 2022) on the nearest neighbours of each point of a cloud; invariant."""
    return SEGNNPoints(in_channels, out_channels, **options)


@register("segnn-points-base", output=OUTPUTS, domain="points", options_of=SEGNNPoints)
def points_base(
    in_channels: int, out_channels: int, grid: Any, *, width: int = 96, depth: int = 5, lmax: int = 2,
    lmax_attributes: int = 3, **options: Any,
) -> SEGNNPoints:  # fmt: skip
    """The base size: degree 2, five layers."""
    return SEGNNPoints(
        in_channels,
        out_channels,
        width=width,
        depth=depth,
        lmax=lmax,
        lmax_attributes=lmax_attributes,
        **options,
    )
