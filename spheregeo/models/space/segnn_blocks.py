"""The layers of SEGNN: messages between points in the frames of edges, updates at points by what surrounds them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.harmonics import wigner_to_y
from spheregeo.nn.irreps import (
    IrrepsBatchNorm,
    IrrepsInstanceNorm,
    IrrepsLayerNorm,
    Stacks,
    as_irreps,
)
from spheregeo.nn.space import EdgeGeometry
from spheregeo.nn.space.edge_frame import FrameGate, FrameProduct, FrameRotation, PointProduct
from spheregeo.sparse import Rows

NORMS = ("layer", "instance", "batch", "none")


def balanced_irreps(width: int, lmax: int, lmax_attributes: int) -> Irreps:
    """As many copies of each harmonic degree up to lmax that products with attributes have no fewer weights than a dense layer.

    n copies have n² weights for each product l₁ ⊗ l₂ -> l₃ that parity allows; a dense layer has width².

    Raises: ValueError for a width below 1 or negative degrees.
    """
    if width < 1 or lmax < 0 or lmax_attributes < 0:
        raise ValueError(
            f"width is {width}, lmax {lmax}, lmax_attributes {lmax_attributes}; expected at least 1, and zero or more"
        )
    degrees = range(lmax + 1)
    products = sum(
        abs(a - c) <= b <= a + c and (a + b + c) % 2 == 0
        for a in degrees
        for c in degrees
        for b in range(lmax_attributes + 1)
    )
    copies = math.isqrt(math.ceil(width * width / products))
    copies += copies * copies * products < width * width
    return Irreps([(copies, (degree, (-1) ** degree)) for degree in degrees])


class Surroundings(NamedTuple):
    """Inputs of SEGNN's layers that depend on the edges alone, made once.

    Shape: squared lengths (E, 1); attributes of points (N, (lmax + 1)²), and their matrices (N, ...); matrices into the frames of
        edges (E, ...), and the same times the messages' weights; the points that edges come from and lead to.
    """

    squares: Tensor
    attributes: Tensor
    at_points: tuple[Tensor, Tensor]
    inward: Tensor
    outward: Tensor
    sources: Rows
    targets: Rows


class PointNorm(nn.Module):
    """A norm of each point, of each graph, or of the batch."""

    def __init__(self, irreps: Irreps, kind: str) -> None:
        super().__init__()
        if kind not in NORMS:
            raise ValueError(f"norm is {kind!r}; expected one of {', '.join(map(repr, NORMS))}")
        made = {"layer": IrrepsLayerNorm, "instance": IrrepsInstanceNorm, "batch": IrrepsBatchNorm}
        self.kind = kind
        self.norm = made[kind](irreps) if kind != "none" else None

    def forward(self, x: Stacks, batch: Tensor, num_graphs: int) -> Stacks:
        if self.norm is None:
            return x
        result: Stacks = self.norm(x, batch, num_graphs) if self.kind == "instance" else self.norm(x)
        return result


class SEGNNLayer(nn.Module):
    """x_i + T(G([x_i, Σ_j m_ij] ⊗ a_i) ⊗ a_i) with m_ij = G(G([x_i, x_j, |r|²] ⊗ a_ij) ⊗ a_ij), and a norm.

    a_ij are the harmonics of an edge and a_i their mean at a point, G a gated and T a plain tensor product with bias. Both
    products of a message are done in the edge's frame.

    Shape: stacks of N points, surroundings, batch (N,), number of graphs -> stacks of N points.
    Equivariance: O(3), exact.
    Reference: Brandstetter et al. 2022, arXiv:2110.02905, equations 8 to 10.
    """

    def __init__(
        self, irreps: str | Irreps, lmax_attributes: int, *, num_neighbors: float = 1.0, norm: str = "layer"
    ) -> None:
        super().__init__()
        irreps = as_irreps(irreps)
        self.gate, self.num_neighbors = FrameGate(irreps), num_neighbors
        self.rotation = FrameRotation(irreps)
        wide = self.gate.irreps_in
        self.message1 = FrameProduct([irreps, irreps], wide, lmax_attributes, scalars=1)
        self.message2 = FrameProduct([irreps], wide, lmax_attributes)
        self.update1 = PointProduct(irreps + irreps, wide, lmax_attributes)
        self.update2 = PointProduct(irreps, irreps, lmax_attributes)
        self.norm = PointNorm(irreps, norm)

    def messages(self, x: Stacks, near: Surroundings) -> Stacks:
        """Sums of the messages to each point. Shape: stacks of N points -> the same."""
        planar = x.planar()
        own = self.rotation.inward(planar, near.inward, near.targets)
        theirs = self.rotation.inward(planar, near.inward, near.sources)
        count = near.squares.shape[0]
        hidden = self.gate(self.message1([own, theirs], count, near.squares), count)
        hidden = self.gate(self.message2([hidden], count), count)
        return self.rotation.outward(hidden, near.outward, near.targets)

    def forward(self, x: Stacks, near: Surroundings, batch: Tensor, num_graphs: int) -> Stacks:
        sums = self.messages(x, near)
        if self.num_neighbors != 1.0:
            sums = sums.map(lambda part: part / math.sqrt(self.num_neighbors))
        hidden = self.update1(Stacks.cat([x, sums]), near.attributes, near.at_points)
        update = self.update2(self.gate.of_stacks(hidden), near.attributes, near.at_points)
        result: Stacks = self.norm(x + update, batch, num_graphs)
        return result


class SEGNNTrunk(nn.Module):
    """Layers of SEGNN and the two products after them, from features of points to even scalars, one for each of their copies.

    Shape: ``surroundings(geometry, envelope (E, 1) or None)``, of a graph whose points are sources and targets; ``trunk(x,
        surroundings, batch, number of graphs)``: stacks of N points -> (N, irreps.num_irreps).
    """

    def __init__(
        self,
        irreps: Irreps,
        lmax_attributes: int,
        depth: int,
        *,
        num_neighbors: float,
        norm: str,
        unit: float = 1.0,
    ) -> None:
        super().__init__()
        self.lmax, self.lmax_attributes, self.unit = int(max(ir.l for _, ir in irreps)), lmax_attributes, unit
        self.layers = nn.ModuleList(
            SEGNNLayer(irreps, lmax_attributes, num_neighbors=num_neighbors, norm=norm) for _ in range(depth)
        )
        self.gate = FrameGate(irreps)
        self.last1 = PointProduct(irreps, self.gate.irreps_in, lmax_attributes)
        self.last2 = PointProduct(irreps, Irreps(f"{irreps.num_irreps}x0e"), lmax_attributes)

    def surroundings(self, geometry: EdgeGeometry, envelope: Tensor | None) -> Surroundings:
        edges, points = geometry.edges, geometry.num_target
        harmonics = geometry.harmonics(self.lmax_attributes)
        if envelope is None:
            num_neighbors = edges.pairs.indptr.diff().clamp_min(1)[:, None].to(harmonics.dtype)
            attributes = geometry.scatter(harmonics) / num_neighbors
        else:  # a neighbour comes and goes smoothly
            attributes = geometry.scatter(harmonics * envelope) / (1 + geometry.scatter(envelope))
        attributes = torch.cat([torch.ones_like(attributes[:, :1]), attributes[:, 1:]], 1)
        squares = geometry.vectors.square().sum(1, keepdim=True) / self.unit**2
        weights, apart = envelope, (squares > 0).to(harmonics.dtype)
        if torch.compiler.is_compiling() or not bool(
            apart.all()
        ):  # points that coincide have no direction to speak in
            weights = apart if weights is None else weights * apart
        first = self.layers[0]
        assert isinstance(first, SEGNNLayer)
        inward = first.rotation.coefficients(wigner_to_y(geometry.vectors, self.lmax))
        return Surroundings(
            squares,
            attributes,
            self.last1.coefficients(attributes),
            inward,
            inward if weights is None else inward * weights,
            Rows.of(edges.source, points),
            Rows.of(edges.target, points, ordered=True),
        )

    def forward(self, x: Stacks, near: Surroundings, batch: Tensor, num_graphs: int) -> Tensor:
        for layer in self.layers:
            x = layer(x, near, batch, num_graphs)
        hidden = self.gate.of_stacks(self.last1(x, near.attributes, near.at_points))
        scalars: Tensor = self.last2(hidden, near.attributes).parts[0]
        return scalars.squeeze(1)
