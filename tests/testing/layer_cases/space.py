"""Layers of points and edges, and vector neurons."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spheregeo.nn as layers
from layer_cases.common import (
    CASES,
    EDGES,
    GROUP,
    case,
    own_twin,
    part_of,
    places,
    rows,
    simple,
)
from spheregeo.grids import Equiangular

part_of("nn/space/test_steerable_conv.py", "SO2Maps CGPath PathTable EdgeGeometry EdgeList")
part_of("nn/space/test_edge_frame.py", "FrameGate FrameProduct FrameRotation PointProduct")
part_of(
    "nn/space/test_spherical_channels.py",
    "EdgeFrameAttention FrameSphereActivation FrameWays SphereMean StrictMessage TapMessage",
)
part_of("nn/space/test_spherical_voxels.py", "SphericalVoxels PointMaps")
own_twin("nn/space/test_steerable_conv.py", "SO2Linear")
own_twin(
    "nn/space/test_vector_neurons.py",
    "StatisticsNorm VectorBatchNorm VectorLinearReLU VectorEdgeConv VectorInvariants",
    "VectorMaxPool VectorMeanPool",
)


class AsVectors(nn.Module):
    """Vector neurons between features of irreps C x 1o."""

    def __init__(self, layer: nn.Module, *rest: Any, invariant: bool = False) -> None:
        super().__init__()
        self.layer, self.rest, self.invariant = layer, rest, invariant

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.unflatten(1, (-1, 3)).transpose(1, 2), *self.rest)
        return y if self.invariant else y.transpose(1, 2).flatten(1)


def vectors(
    kind: type, make: Callable[[], nn.Module], *rest: Any, out: str = "4x1o", group: str = "o3", **more: Any
) -> None:
    def build() -> dict[str, Any]:
        layer = make()
        arguments = {
            "layer": layer,
            "inputs": (torch.randn(8, 3, 5), *rest),
            "equivariant": AsVectors(layer, *rest, invariant=out.endswith("0e")),
            "where": places(),
            "field_in": "5x1o",
            "field_out": out,
            "equivariance": {group: 1e-11},
        }
        return {**arguments, "channel_axis": -1, **more}

    CASES[kind] = build


# ---- triangles of neighbours


own_twin("nn/space/test_local_triangles.py", "RISurConv OffsetAttention")


@case(layers.space.OffsetAttention)
def _() -> dict[str, Any]:
    return {
        "layer": layers.space.OffsetAttention(4),
        "inputs": (torch.randn(3, 5, 4),),
        "channel_axis": -1,
        "skip": ["equivariance"],
    }


@case(layers.space.RISurConv)
def _() -> dict[str, Any]:
    layer = layers.space.RISurConv(3, 4, embedding=(5, 8))
    neighbors = torch.randint(9, (8, 5))
    return {
        "layer": layer,
        "inputs": (torch.randn(8, 5, 14), neighbors, torch.randn(9, 3)),
        "channel_axis": -1,
        "skip": ["equivariance"],  # of invariants; with the features that make them in its own file
    }


# ---- scalars and vectors


own_twin("nn/space/test_scalar_vector.py", "ScalarVectorMessage ScalarVectorUpdate GatedEquivariantBlock")


@case(layers.space.scalar_vector.ScalarVectorMessage)
def _() -> dict[str, Any]:
    edges = places(20)[:10]
    return {
        "layer": layers.space.scalar_vector.ScalarVectorMessage(3),
        "inputs": (torch.randn(8, 4, 3), torch.randn(10, 9), edges, *EDGES),
        "empty_inputs": (torch.randn(0, 4, 3), torch.randn(0, 9), edges[:0], *EDGES[:, :0]),
        "channel_axis": -1,
        "skip": ["equivariance"],  # of scalars and vectors side by side, with their directions: its own file
    }


@case(layers.space.scalar_vector.ScalarVectorUpdate)
def _() -> dict[str, Any]:
    return {
        "layer": layers.space.scalar_vector.ScalarVectorUpdate(3),
        "inputs": torch.randn(8, 4, 3),
        "channel_axis": -1,
        "skip": ["equivariance"],
    }


@case(layers.space.scalar_vector.GatedEquivariantBlock)
def _() -> dict[str, Any]:
    return {
        "layer": layers.space.scalar_vector.GatedEquivariantBlock(3, 2, activate=True),
        "inputs": torch.randn(8, 4, 3),
        "channel_axis": -1,
        "skip": ["equivariance"],
    }


# ---- elements


own_twin("models/molecules/test_nequip.py", "SelfConnection")


@case(layers.space.SelfConnection)
def _() -> dict[str, Any]:
    layer, kinds = layers.space.SelfConnection("2x0e + 1x1o", "1x0e + 2x1o", kinds=3), torch.arange(8) % 3
    return {
        "layer": layer,
        "inputs": (rows("2x0e + 1x1o"), kinds),
        "empty_inputs": (rows("2x0e + 1x1o", 0), kinds[:0]),
        "where": places(20),
        "channel_axis": -1,
        "skip": ["equivariance"],  # with kinds that stay with their points: by the networks that have it
    }


# ---- products of many features


part_of("nn/space/test_many_body.py", "Kinds")
own_twin("nn/space/test_many_body.py", "SymmetricContraction")
KINDS = torch.tensor([0, 2, 1, 2, 0, 1, 1, 0])


@case(layers.space.many_body.SymmetricContraction)
def _() -> dict[str, Any]:
    irreps = "2x0e + 2x1o"
    return {
        "layer": layers.space.many_body.SymmetricContraction(irreps, irreps, 3, num_kinds=3),
        "inputs": (rows(irreps), KINDS),
        "empty_inputs": (rows(irreps, 0), KINDS[:0]),
        "channel_axis": -1,
        "skip": ["equivariance"],  # with kinds beside the features: its own file
    }


# ---- points and edges


def plain_steerable(layer: Any, *inputs: Any) -> Tensor:
    """The same weights by e3nn's order of work: edge by edge, products first."""
    name = "method" if hasattr(layer, "method") else "engine"
    before = getattr(layer, name)
    setattr(layer, name, "tensor")
    try:
        y: Tensor = layer(*inputs)
    finally:
        setattr(layer, name, before)
    return y


@case(layers.SteerableConv)
def steerable() -> dict[str, Any]:
    return {
        "layer": layers.SteerableConv("2x0e + 1x1o", "1x0e + 1x1o + 1x1e", lmax=2),
        "inputs": (rows("2x0e + 1x1o"), places(), layers.EdgeList.of(EDGES, 8)),
        "empty_inputs": (rows("2x0e + 1x1o", 0), places(0), layers.EdgeList.of(EDGES[:, :0], 0)),
        "twin": plain_steerable,
        "where": places(20),
        "equivariance": {"o3": 1e-11},
        "channel_axis": -1,
    }


def plain_implicit(layer: Any, x: Tensor, positions: Tensor, edges: Any) -> Tensor:
    """One matrix for each edge."""
    source, target = edges.edge_index
    messages = torch.einsum(
        "eij,ej->ei", layer.kernel(positions[source] - positions[target], None), x[source]
    )
    y = x.new_zeros(len(positions), messages.shape[1]).index_add(0, target, messages)
    return y / torch.bincount(target, minlength=len(positions)).clamp(min=1)[:, None] + layer.fixed()


@case(layers.ImplicitConv)
def implicit() -> dict[str, Any]:
    return {
        "layer": layers.ImplicitConv("2x0e + 1x1o", "1x0e + 1x1o", hidden=3, radius=2.0),
        "inputs": (rows("2x0e + 1x1o"), places(), layers.EdgeList.of(EDGES, 8)),
        "empty_inputs": (rows("2x0e + 1x1o", 0), places(0), layers.EdgeList.of(EDGES[:, :0], 0)),
        "twin": plain_implicit,
        "where": places(20),
        "equivariance": {"o3": 1e-11},
        "channel_axis": -1,
    }


def plain_invariant(layer: Any, x: Tensor, positions: Tensor, edges: Any) -> Tensor:
    """One matrix for each target, from all edges' outer products."""
    own = positions - positions.mean(0)
    h = layer.weights(layers.space.edge_invariants(own, own, edges.edge_index))
    products = torch.einsum("ea,eb->eab", h, x[edges.source])
    total = x.new_zeros(len(positions), *products.shape[1:]).index_add(0, edges.target, products)
    size = torch.bincount(edges.target, minlength=len(positions)).clamp(min=1)
    return layer.norm(layer.mix(total.flatten(1) / size[:, None]))


@case(layers.space.SparseInvariantConv)
def sparse_invariant() -> dict[str, Any]:
    return {
        "layer": layers.space.SparseInvariantConv(3, 4, rank=2, hidden=4),
        "inputs": (torch.randn(8, 3), places(), layers.EdgeList.of(EDGES, 8)),
        "empty_inputs": (torch.randn(0, 3), places(0), layers.EdgeList.of(EDGES[:, :0], 0)),
        "twin": plain_invariant,
        "where": places(20),
        "field_in": "3x0e",
        "field_out": "4x0e",
        "equivariance": {"o3": 1e-11},
        "channel_axis": -1,
    }


def plain_voxels(layer: Any, x: Tensor) -> Tensor:
    """A matrix for each degree and shell."""
    inner, reach = layer.layers, layer.taps // 2
    f, shells = inner.analysis(x), x.shape[2]
    weight = inner.weight.unflatten(1, (layer.taps, -1))  # (out, taps, in, degrees)
    of = torch.cat([torch.full((2 * degree + 1,), degree) for degree in range(inner.lmax + 1)])
    rows = []
    for h in range(shells):
        near = [h + t - reach for t in range(layer.taps)]
        parts = [
            torch.einsum("oim,bim->bom", weight[:, t, :, of], f[:, :, at])
            for t, at in enumerate(near) if 0 <= at < shells
        ]  # fmt: skip
        rows.append(torch.stack(parts).sum(0))
    y: Tensor = inner.synthesis(torch.stack(rows, 2)) + inner.bias[:, None, None, None]
    return y


simple(
    layers.space.spherical_voxels.SphericalVoxelConv,  # rotations of shells: own test
    lambda: {
        "layer": layers.space.spherical_voxels.SphericalVoxelConv(2, 3, Equiangular(6, 6), lmax=2),
        "inputs": torch.randn(2, 2, 3, 6, 6),
        "twin": plain_voxels,
        "skip": ["equivariance", "compile"],
    },
)


class InFrames(nn.Module):
    """``SO2Linear`` between the frames of edges and back, as features of points."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, geometry: Any) -> Tensor:
        edges = x.index_select(0, geometry.edges.source)
        scalars, vectors = (
            edges[:, :2, None].transpose(1, 2),
            edges[:, 2:].unflatten(1, (1, 3)).transpose(1, 2),
        )
        d = geometry.frames(1)[1]
        a, b = self.layer([scalars, d @ vectors])
        b = d.mT @ b
        return geometry.scatter(torch.cat([a.transpose(1, 2).flatten(1), b.transpose(1, 2).flatten(1)], 1))


@case(layers.SO2Linear)
def so2() -> dict[str, Any]:
    layer = layers.SO2Linear("2x0e + 1x1o", "2x0e + 2x1o")
    return {
        "layer": layer,
        "inputs": ([torch.randn(6, 1, 2), torch.randn(6, 3, 1)],),
        "equivariant": InFrames(layer),
        "where": places(20),
        "field_in": "2x0e + 1x1o",
        "field_out": "2x0e + 2x1o",
        "equivariance": {"o3": 1e-11},
        "skip": ["errors"],  # stacks are plain lists
    }


simple(
    layers.RadialBasis,  # functions of lengths, which nothing turns
    lambda: {
        "layer": layers.RadialBasis(2.0, 4),
        "inputs": 0.2 + torch.rand(6),
        "twin": lambda layer, r: (
            (
                math.sqrt(2)
                * torch.sin(math.pi * torch.arange(1, 5, dtype=r.dtype) * r[:, None] / 2)
                / (math.pi * r[:, None] / 2)
            )
            * layers.space.polynomial_envelope(r / 2)[:, None]
        ),
        "skip": ["equivariance", "errors"],
    },
)
simple(
    layers.RadialNetwork,
    lambda: {
        "layer": layers.RadialNetwork(4, [8], 3),
        "inputs": (torch.randn(6, 4), torch.rand(6)),
        "twin": lambda layer, b, e: (
            F.silu(
                F.linear(
                    F.silu(F.linear(b, layer.layers[0].weight, layer.layers[0].bias)),
                    layer.layers[2].weight,
                    layer.layers[2].bias,
                )
            )
            * e[:, None]
        ),
        "skip": ["equivariance", "errors"],
    },
)
simple(
    layers.space.StatisticsNorm,
    lambda: {
        "layer": layers.space.StatisticsNorm(4),
        "inputs": torch.randn(6, 4),
        "skip": ["equivariance", "errors"],
    },
)

# ---- vector neurons

vectors(
    layers.VectorLinear,
    lambda: layers.VectorLinear(5, 4),
    twin=lambda layer, v: v @ layer.weight.T,
    skip=["errors"],
)
vectors(layers.VectorBatchNorm, lambda: layers.VectorBatchNorm(5), out="5x1o", skip=["errors"])
vectors(layers.VectorLinearReLU, lambda: layers.VectorLinearReLU(5, 4), skip=["errors"])
vectors(layers.VectorEdgeConv, lambda: layers.VectorEdgeConv(5, 4), EDGES, skip=["errors"])
vectors(layers.VectorInvariants, lambda: layers.VectorInvariants(5), out="15x0e", skip=["errors"])
NO_POINTS = {"empty_inputs": (torch.zeros(0, 3, 5), GROUP[:0], 4)}
vectors(
    layers.VectorMaxPool, lambda: layers.VectorMaxPool(5), GROUP, 4, out="5x1o", skip=["errors"], **NO_POINTS
)
vectors(layers.VectorMeanPool, layers.VectorMeanPool, GROUP, 4, out="5x1o", skip=["errors"], **NO_POINTS)
