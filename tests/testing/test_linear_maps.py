"""Linear layers of several rooms against all linear maps that their symmetry allows, found as a null space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from spheregeo.groups import FieldType
from spheregeo.harmonics import wigner_D
from spheregeo.mesh import TriangleMesh
from spheregeo.nn import FieldLinear, GaugeConv, IrrepsLinear, SpinLinear, SpinType, SteerableConv, ZonalConv
from spheregeo.sampling import random_rotations
from spheregeo.spectral import SHT, InverseSHT, rotate_coefficients
from spheregeo.testing import check_linear_layer

F64 = torch.float64
Action = Callable[[Tensor], Tensor]
TURNS = random_rotations(2, torch.Generator().manual_seed(0))
# two rotations at random and an inversion with one generate a group that is dense in O(3)
MOTIONS = [*TURNS, -TURNS[0]]


def on_irreps(irreps: str | Irreps, elements: Any = MOTIONS) -> list[Action]:
    """Functions that move features on irreps."""
    matrices = [wigner_D(Irreps(irreps), element) for element in elements]
    return [lambda x, d=d: x @ d.T for d in matrices]


def test_irreps_linear_spans_all_maps() -> None:
    into, out = "2x0e + 1x1o + 1x2e", "1x0e + 2x1o + 1x1e + 1x2e"
    found = check_linear_layer(IrrepsLinear(into, out), (10,), on_irreps(into), on_irreps(out))
    assert found["rank"] == 2 * 1 + 1 * 2 + 1


@pytest.mark.parametrize(
    ("source", "target", "reflections", "count"),
    [
        ("1x0", "1x0", True, 3),
        ("1x0", "1x1", False, 4),
        ("1x1", "1x1", False, 8),
        ("1x1", "1x2", True, 2),
        ("1x1", "1x0", True, 2),
    ],
)
def test_spin_linear_spans_all_maps(source: str, target: str, reflections: bool, count: int) -> None:
    """A block of columns by columns for each degree from max(k, k') to 2; halved by reflections."""
    into, out = (SpinType(fields, 2, reflections=reflections) for fields in (source, target))
    elements = MOTIONS if reflections else TURNS
    acts = on_irreps(into.irreps, elements), on_irreps(out.irreps, elements)
    assert check_linear_layer(SpinLinear(into, out), (into.dim,), *acts)["rank"] == count


class OneEdge(nn.Module):
    """A convolution's message along one edge, of each sample by itself."""

    def __init__(self, conv: SteerableConv, edge: Tensor) -> None:
        super().__init__()
        self.conv, self.edge = conv, edge

    def forward(self, x: Tensor) -> Tensor:
        number = torch.arange(len(x))
        places = self.edge.expand(len(x), 3), torch.zeros(len(x), 3, dtype=F64)
        result: Tensor = self.conv(x, places, torch.stack([number, number]))
        return result


@pytest.mark.parametrize("method", ["product", "so2"])
def test_steerable_kernels_span_all_maps_that_an_edge_allows(method: str) -> None:
    """What arrives along an edge commutes with turns about it and with reflections that keep it: no other map does."""
    into, out, edge = "1x0e + 1x1o", "1x0e + 1x1o + 1x1e", torch.tensor([0.3, -1.1, 0.7], dtype=F64)
    axis = edge / edge.norm()
    x, y, z = axis.tolist()
    crossed = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=F64)
    turn = torch.eye(3, dtype=F64) + math.sin(1.0) * crossed + (1 - math.cos(1.0)) * crossed @ crossed
    across = torch.linalg.cross(axis, torch.tensor([1.0, 0, 0], dtype=F64))
    across = across / across.norm()
    mirror = torch.eye(3, dtype=F64) - 2 * torch.outer(across, across)
    kept = [turn, mirror]
    layer = OneEdge(SteerableConv(into, out, lmax=2, method=method), edge)
    found = check_linear_layer(layer, (4,), on_irreps(into, kept), on_irreps(out, kept))
    assert found["rank"] == 1 + 1 + 1 + 2 + 1  # 0e→0e, 1o→0e, 0e→1o, 1o→1o by l = 0, 2, and 1o→1e


class BetweenCoefficients(nn.Module):
    """A layer of fields on a grid as a map of harmonic coefficients."""

    def __init__(self, layer: ZonalConv, lmax: int) -> None:
        super().__init__()
        self.layer = layer
        self.synthesis, self.analysis = InverseSHT(layer.source, lmax), SHT(layer.source, lmax)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.analysis(self.layer(self.synthesis(x)))
        return result


def test_zonal_convolution_spans_all_maps() -> None:
    layer = BetweenCoefficients(ZonalConv(1, 2, 2), 2)
    acts: list[Action] = [lambda x, r=r: rotate_coefficients(x, r) for r in TURNS]
    assert check_linear_layer(layer, (1, 9), acts, acts)["rank"] == 2 * 3


def on_fields(kind: str, angle: float, flip: bool) -> Action:
    """A turn of the frame, or a reflection, of fields at one point."""
    parts = []
    for order in (t.order for t in FieldType.of(kind).terms for _ in range(t.multiplicity)):
        c, s = math.cos(order * angle), math.sin(order * angle)
        turn = torch.tensor([[c, -s], [s, c]], dtype=F64) if order else torch.ones(1, 1, dtype=F64)
        parts.append(turn @ torch.diag(torch.tensor([1.0, -1.0], dtype=F64)) if flip and order else turn)
    matrix = torch.block_diag(*parts)
    return lambda x: torch.einsum("ij,bjp->bip", matrix, x)


@pytest.mark.parametrize(("reflections", "count"), [(False, 1 + 2 + 4), (True, 1 + 1 + 2)])
def test_field_linear_spans_all_maps(reflections: bool, count: int) -> None:
    into, out = "1x0 + 1x1 + 2x2", "1x0 + 1x1 + 1x2"
    moves = [(1.0, False), *([(0.0, True)] if reflections else [])]
    acts = [on_fields(into, *move) for move in moves], [on_fields(out, *move) for move in moves]
    layer = FieldLinear(into, out, reflections=reflections)
    assert check_linear_layer(layer, (7, 1), *acts)["rank"] == count


def octahedron() -> tuple[TriangleMesh, list[tuple[Tensor, Tensor]]]:
    """An octahedron, and for two of its rotations where each vertex goes and by what angle its frame then differs."""
    vertices = np.concatenate([np.eye(3), -np.eye(3)])
    faces = [
        [a, b, c] if np.linalg.det(vertices[[a, b, c]]) > 0 else [a, c, b]
        for a in (0, 3) for b in (1, 4) for c in (2, 5)
    ]  # fmt: skip
    mesh = TriangleMesh(vertices, np.array(faces))
    frames = mesh.frames
    moves = []
    for turn in ([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], [[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]):
        matrix = torch.tensor(turn, dtype=F64)
        goes = (mesh.points @ matrix.T @ mesh.points.T).argmax(1)
        first = torch.einsum("ij,vj->vi", matrix, frames[:, 0])
        there = torch.einsum("vki,vi->vk", frames[goes], first)
        moves.append((goes, torch.atan2(there[:, 1], there[:, 0])))
    return mesh, moves


def on_octahedron(order: int, goes: Tensor, angle: Tensor) -> Action:
    c, s = (order * angle).cos(), (order * angle).sin()

    def act(x: Tensor) -> Tensor:
        turned = torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], 1) if order else x
        moved = torch.empty_like(turned)
        moved[..., goes] = turned
        return moved

    return act


@pytest.mark.parametrize(("into", "out", "count"), [(0, 0, 2), (0, 1, 2), (1, 0, 2), (1, 1, 6)])
def test_gauge_convolution_spans_all_maps_on_an_octahedron(into: int, out: int, count: int) -> None:
    """A vertex and its four neighbours, which rotations of the octahedron permute: one ring of filters is all there is."""
    mesh, moves = octahedron()
    layer = GaugeConv(f"1x{into}", f"1x{out}", mesh, radius=1.8, num_rings=1, moments=None, smooth=False)
    acts = [on_octahedron(into, *move) for move in moves], [on_octahedron(out, *move) for move in moves]
    near = (mesh.points @ mesh.points.T > -0.5).repeat(2 if out else 1, 2 if into else 1)
    found = check_linear_layer(layer, (2 if into else 1, 6), *acts, support=near)
    assert found["rank"] == count
