"""Graphs on Lie groups against brute force and their own symmetries; convolution, subgraphs, pooling against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from spheregeo.grids import Equiangular, HEALPix, Icosahedral, Plane
from spheregeo.groups import se2_inverse, se2_log, se2_product, so3_log
from spheregeo.nn import LieGraphConv, LieGraphPool, LieGraphUnpool, R2Graph, S2Graph, SE2Graph, SO3Graph
from spheregeo.nn.plane.lie_graph import LieGraph, LieGraphEdges, copy_to_orientations, reduce_orientations
from spheregeo.nn.plane.lie_graph.conv import sampled_values

GRAPHS: list[LieGraph] = [
    SE2Graph(6, 5, 4, neighbors=9, anisotropy=3.0, turn=1.3),
    SE2Graph(5, 5, 4, neighbors=9, directed=False, main="across"),
    SE2Graph(4, 4, 1, neighbors=5),
    R2Graph(7, 6, neighbors=8),
    S2Graph(HEALPix(2), neighbors=8),
    SO3Graph(HEALPix(2), 4, neighbors=12),
    SO3Graph(Equiangular(4, 6), 3, directed=False, main="across", turn=0.7),
    SO3Graph(HEALPix(1), 2, turn=9.0),
]
SQUARE = [
    SE2Graph(7, 7, 8, neighbors=10),
    SE2Graph(6, 6, 6, neighbors=12, directed=False, main="across", turn=1.4),
]


def lengths(graph: LieGraph) -> Tensor:
    """All distances, from logarithms of g⁻¹h written out."""
    if isinstance(graph, (R2Graph, S2Graph)):
        p = graph.pixels() if isinstance(graph, R2Graph) else graph.grid.points
        inner = (p @ p.T).clamp(-1, 1)
        return torch.cdist(p, p) if isinstance(graph, R2Graph) else inner.arccos().fill_diagonal_(0)
    assert isinstance(graph, (SE2Graph, SO3Graph))
    found = []
    for half_turn in [False] if graph.directed else [False, True]:
        g = graph.elements()
        if isinstance(graph, SE2Graph):
            h = se2_product(g, g.new_tensor([0, 0, torch.pi * half_turn]))
            c = se2_log(se2_product(se2_inverse(g)[:, None], h[None]))
            along, across, turn = *c.unbind(-1)[:2], graph.turn
        else:
            h = g @ torch.diag(g.new_tensor([-1.0, -1, 1] if half_turn else [1.0, 1, 1]))
            c = so3_log(g.mT[:, None] @ h[None])
            along, across, turn = c[..., 1], c[..., 0], graph.turn * graph.grid.spacing
        main, other = (along, across) if graph.main == "along" else (across, along)
        found.append((main**2 + (graph.anisotropy * other) ** 2 + (turn * c[..., 2]) ** 2).sqrt())
    return torch.stack(found).amin(0)


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_graphs_are_those_of_brute_force(graph: LieGraph) -> None:
    d, n = lengths(graph), graph.num_vertices
    at = np.arange(n)
    torch.testing.assert_close(torch.from_numpy(graph.distance(at[:, None], at[None])), d, rtol=0, atol=1e-7)
    points = torch.from_numpy(graph.embedding())
    assert float((torch.cdist(points, points) - d).max()) < 1e-7  # candidates cannot be missed
    few = min(graph.neighbors, n - 1)
    near = d <= d.sort(1).values[:, few, None] + 1e-6
    near = (near | near.T) & ~torch.eye(n, dtype=torch.bool)
    weight = torch.where(near, torch.exp(-(d**2) / (0.8 * (d[near] ** 2).mean())), 0.0)
    root = weight.sum(1).rsqrt()
    found = graph.laplacian().to_dense()[0]
    torch.testing.assert_close(found, -root[:, None] * weight * root, rtol=0, atol=1e-7)
    assert torch.equal(found, found.T)
    spectrum = torch.linalg.eigvalsh(found)
    assert float(spectrum[0]) > -1 - 1e-12 and float(spectrum[-1]) < 1 + 1e-12
    edges: LieGraphEdges = graph.edges()
    assert edges.weights.shape == edges.lengths.shape == edges.indices.shape == (int(near.sum()),)


@pytest.mark.parametrize("graph", SQUARE, ids=str)
def test_quarter_turns_permute_graphs_on_squares(graph: SE2Graph) -> None:
    """The graph, its cells and the interpolation between them: left translations by turns of the image."""

    def moved(of: SE2Graph) -> Tensor:
        n = of.orientations
        vertices = torch.arange(of.num_vertices).view(n, *of.places)
        return torch.rot90(vertices, 1, (1, 2)).roll(n // (4 if of.directed else 2), 0).flatten()

    fine, coarse = moved(graph), moved(graph.coarsen())
    matrix = graph.laplacian().to_dense()[0]
    assert torch.equal(matrix[fine][:, fine] != 0, matrix != 0)
    torch.testing.assert_close(matrix[fine][:, fine], matrix, rtol=0, atol=1e-14)
    pool, unpool = graph.pooling_map().to_dense()[0], graph.unpooling_map().to_dense()[0]
    torch.testing.assert_close(pool[coarse][:, fine], pool, rtol=0, atol=1e-14)
    torch.testing.assert_close(unpool[fine][:, coarse], unpool, rtol=0, atol=1e-14)


@pytest.mark.parametrize("grid", [HEALPix(2), Icosahedral(1)], ids=str)
def test_rotations_of_grids_permute_graphs(grid: HEALPix | Icosahedral) -> None:
    """Points alone under all rotations of the grid, directions under those that carry frames to frames and their opposites."""
    graphs = [S2Graph(grid, neighbors=8), *([SO3Graph(grid, 4)] if isinstance(grid, HEALPix) else [])]
    for rotation, permutation in list(zip(grid.symmetry.rotations, grid.symmetry.permutations))[1::3]:
        for graph in graphs:
            to = permutation
            if isinstance(graph, SO3Graph):
                elements = graph.elements()
                to = torch.cdist((rotation @ elements).flatten(1), elements.flatten(1)).argmin(1)
                assert torch.equal(to % grid.num_points, permutation.repeat(4))
            matrix = graph.laplacian().to_dense()[0]
            assert torch.equal(matrix[to][:, to] != 0, matrix != 0)
            torch.testing.assert_close(matrix[to][:, to], matrix, rtol=0, atol=1e-13)


def test_the_main_axis_is_the_cheap_one() -> None:
    """A vertex that looks right is nearer to the one on its right than to the one above, or the other way round."""
    middle, right, above = np.array([12]), np.array([13]), np.array([7])
    for main, near, far in (("along", right, above), ("across", above, right)):
        graph = SE2Graph(5, 5, 4, main=main, anisotropy=5.0, turn=2.0)
        assert (
            abs(graph.distance(middle, near)[0] - 1) < 1e-12
            and abs(graph.distance(middle, far)[0] - 5) < 1e-12
        )
        assert (
            abs(graph.distance(middle, middle + 25)[0] - np.pi) < 1e-12
        )  # a turn of π/2 costs 2 pixels a radian
    grid = Equiangular(6, 12)
    ball = SO3Graph(grid, 4, main="along", anisotropy=5.0)
    south, west = np.array([24 + 12]), np.array([24 + 1])
    point = np.array([24])
    assert ball.distance(point, south)[0] < 1.0001 * np.pi / 6 < 2 * np.pi / 6 < ball.distance(point, west)[0]


def dense_layer(layer: LieGraphConv, x: Tensor, matrix: Tensor) -> Tensor:
    n = layer.graph.orientations
    fields = x.unflatten(1, (-1, n)).flatten(2)
    terms = [fields, fields @ matrix]
    while len(terms) < layer.order:
        terms.append(2 * terms[-1] @ matrix - terms[-2])
    y = sum(torch.einsum("oc,bcv->bov", layer.weight[:, :, k], terms[k]) for k in range(layer.order))
    y = y if layer.bias is None else y + layer.bias[:, None]
    return y.unflatten(2, (n, -1)).flatten(1, 2).unflatten(2, x.shape[2:])


@pytest.mark.parametrize(
    "graph", [GRAPHS[0], SE2Graph(directions=4, neighbors=9), GRAPHS[5], GRAPHS[3]], ids=str
)
@pytest.mark.parametrize(("order", "channels"), [(1, 2), (2, 5), (4, 3)])
def test_convolution_against_the_dense_polynomial(graph: LieGraph, order: int, channels: int) -> None:
    layer = LieGraphConv(channels, 2, graph, order).double()
    torch.nn.init.normal_(layer.bias)
    places = graph.places if graph.is_sized else (6, 5)
    sized = graph if graph.is_sized else SE2Graph(6, 5, 4, neighbors=9)
    matrix = sized.laplacian().to_dense()[0]
    x = torch.randn(2, channels * graph.orientations, *places, dtype=torch.float64)
    g = torch.randn(2, 2 * graph.orientations, *places, dtype=torch.float64)
    results = []
    for run in (layer, lambda t: dense_layer(layer, t, matrix)):
        at = x.clone().requires_grad_()
        y = run(at)
        results.append([y.detach(), *torch.autograd.grad(y, [at, *layer.parameters()], g)])
    for a, b in zip(*results, strict=True):
        assert float((a - b).abs().max()) <= 1e-12 * max(1.0, float(b.abs().max()))


def test_layers_of_any_size_keep_their_maps_and_types() -> None:
    layer = LieGraphConv(2, 3, SE2Graph(directions=4, neighbors=6))
    for side in range(3, 14):
        layer(torch.randn(1, 8, side, side))
    assert len(layer._modules) == 8 and "map_13x13" not in layer._modules and "map_13_13" in layer._modules
    x = torch.randn(1, 8, 9, 9)
    y = layer(x)
    exact = SE2Graph(9, 9, 4, neighbors=6).laplacian().values
    assert torch.equal(layer.double().map_of((9, 9), x.double()).values, exact)
    torch.testing.assert_close(layer(x.double()).float(), y, rtol=1e-4, atol=1e-5)
    assert set(layer.state_dict()) == {"weight", "bias"}
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(x.double()), layer(x.double()), rtol=0, atol=1e-13
    )  # sums in another order


def act(x: Tensor, n: int) -> Tensor:
    return torch.rot90(x.unflatten(1, (-1, n)).roll(n // 4, 2).flatten(1, 2), 1, (-2, -1))


@pytest.mark.parametrize("size", [8, 9])
def test_layers_commute_with_quarter_turns(size: int) -> None:
    graph = SE2Graph(size, size, 8, neighbors=10)
    x = torch.randn(2, 16, size, size, dtype=torch.float64)
    conv = LieGraphConv(2, 3, graph, 3).double()
    torch.nn.init.normal_(conv.bias)
    pool, unpool = LieGraphPool(graph).double(), LieGraphUnpool(graph).double()
    for layer in (
        conv,
        pool,
        lambda t: unpool(pool(t)),
        lambda t: copy_to_orientations(reduce_orientations(t, 8), 8),
    ):
        torch.testing.assert_close(layer(act(x, 8)), act(layer(x), 8), rtol=0, atol=1e-12)
    assert float((unpool(pool(x)) - x).abs().max()) > 0.1
    flat = torch.ones(1, 8, size, size, dtype=torch.float64)
    torch.testing.assert_close(unpool(pool(flat)), flat, rtol=0, atol=1e-13)


def test_pooling_on_the_sphere_turns_directions_with_their_frames() -> None:
    """The component along x of every direction, pooled and interpolated; without turning, frames that differ spoil it."""
    graph = SO3Graph(Icosahedral(2), 8)
    parents = graph.grid.parents()

    def field(of: SO3Graph) -> Tensor:
        return of.elements()[:, 0, 0].view(1, 8, -1)

    fine, coarse = field(graph), field(graph.coarsen())
    pooled, between = LieGraphPool(graph).double()(fine), LieGraphUnpool(graph).double()(coarse)
    plain = torch.zeros_like(coarse).index_add_(2, parents, fine) / torch.bincount(parents)

    def error(found: Tensor, wanted: Tensor) -> float:
        return float((found - wanted).norm() / wanted.norm())

    assert error(pooled, coarse) < 0.11 < 0.7 * error(plain, coarse)
    assert error(between, fine) < 0.07 < 0.3 * error(coarse[..., parents], fine)
    ones = torch.ones_like(fine)
    torch.testing.assert_close(LieGraphUnpool(graph).double()(LieGraphPool(graph).double()(ones)), ones)


@pytest.mark.parametrize(("edge_drop", "vertex_drop"), [(0.4, 0.0), (0.0, 0.3), (0.3, 0.2)])
def test_subgraphs_are_normalised_anew(edge_drop: float, vertex_drop: float) -> None:
    graph = GRAPHS[0]
    whole = graph.laplacian()
    row, column, _ = whole.pattern.coo()
    values = sampled_values(whole, edge_drop, vertex_drop)
    n = graph.num_vertices
    weight, found = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    weight[row.long(), column.long()] = torch.from_numpy(graph.edges().weights) * (values != 0)
    found[row.long(), column.long()] = values
    degree = weight.sum(1)
    root = torch.where(degree > 0, degree, 1.0).rsqrt()
    torch.testing.assert_close(found, -root[:, None] * weight * root, rtol=0, atol=1e-13)
    assert torch.equal(found, found.T)
    kept = float((values != 0).double().mean())
    assert abs(kept - (1 - edge_drop) * (1 - vertex_drop) ** 2) < 0.15
    if vertex_drop and not edge_drop:
        assert abs(float((degree == 0).double().mean()) - vertex_drop) < 0.15
    layer = LieGraphConv(2, 2, graph, edge_drop=edge_drop, vertex_drop=vertex_drop)
    x = torch.randn(1, 8, 6, 5)
    assert not torch.equal(layer(x), layer(x)) and torch.equal(layer.eval()(x), layer(x))


def test_wrong_arguments_are_named() -> None:
    for make, message in (
        (lambda: SE2Graph(5, 5, 4, main="forward"), "main is 'forward'; expected 'along' or 'across'"),
        (lambda: SE2Graph(5, 5, 4, anisotropy=0.5), "anisotropy is 0.5; expected 1 or more"),
        (lambda: SE2Graph(5, 5, 4, turn=0.0), "turn is 0.0; expected a positive length"),
        (lambda: SE2Graph(5, 5, 0), "orientations is 0; expected a positive integer"),
        (lambda: SE2Graph(5, None), "expected both or neither"),
        (lambda: R2Graph(0, 3), "height is 0; expected a positive integer"),
        (lambda: R2Graph(neighbors=0), "neighbors is 0; expected a positive integer"),
        (lambda: R2Graph().num_vertices, "has no size"),
        (lambda: S2Graph(Plane(4, 4)), "expected a grid on the sphere"),
        (lambda: LieGraphConv(1, 1, Plane(4, 4)), "expected a graph such as"),
        (lambda: LieGraphConv(1, 1, R2Graph(4, 4), edge_drop=1.0), "edge_drop is 1.0; expected 0"),
        (
            lambda: LieGraphConv(2, 1, SE2Graph(4, 4, 4))(torch.zeros(1, 8, 4, 5)),
            r"expected \(batch, 8, 4, 4\)",
        ),
        (lambda: LieGraphUnpool(R2Graph())(torch.zeros(1, 2, 4, 5)), "places is None"),
        (lambda: reduce_orientations(torch.zeros(1, 4, 2, 2), 4, "sum"), "reduce is 'sum'"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
