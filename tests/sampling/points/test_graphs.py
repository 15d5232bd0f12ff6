"""Graphs of near points equal those found pair by pair, whatever the engine, the batch, the rotation or the order."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from torch import Tensor

from spheregeo.sampling import (
    farthest_points,
    knn_between,
    knn_graph,
    periodic_radius_graph,
    radius_between,
    radius_graph,
    random_rotations,
    voxel_downsample,
)
from spheregeo.sampling.points import blocks

Slow = Callable[..., Tensor]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_all_pairs(engine: str, cloud: Tensor, dtype: torch.dtype, slow: Slow) -> None:
    x = cloud.to(dtype)
    for cutoff in (1e-3, 0.2, 1.0):
        assert torch.equal(radius_graph(x, cutoff), slow(x, cutoff=cutoff))
    assert torch.equal(radius_graph(x, math.inf), slow(x))
    for k in (1, 6, 30, 500):
        assert torch.equal(knn_graph(x, k), slow(x, k=k))


@pytest.mark.parametrize("ties", ["index", "all"])
@pytest.mark.parametrize("loop", [False, True])
def test_options_equal_all_pairs(engine: str, cloud: Tensor, ties: str, loop: bool, slow: Slow) -> None:
    batch = torch.arange(len(cloud)) // 40 * 2  # graphs 1 and 3 are empty
    for k in (1, 7):
        found = knn_graph(cloud, k, batch, loop=loop, ties=ties)  # type: ignore[arg-type]
        assert torch.equal(found, slow(cloud, batch, k=k, ties=ties, loop=loop))
        found = radius_graph(cloud, 0.8, batch, loop=loop, max_neighbors=k, ties=ties)  # type: ignore[arg-type]
        assert torch.equal(found, slow(cloud, batch, 0.8, k, ties=ties, loop=loop))
    assert torch.equal(radius_graph(cloud, 0.8, batch, loop=loop), slow(cloud, batch, 0.8, loop=loop))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    coordinates=st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=30),
    sizes=st.lists(st.integers(0, 12), max_size=4),
    k=st.integers(1, 8),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 77.0]),
)
def test_small_graphs_full_of_ties(
    engine: str, slow: Slow, coordinates: list[tuple[int, int, int]], sizes: list[int], k: int, scale: float
) -> None:
    x = torch.tensor(coordinates, dtype=torch.float32).reshape(-1, 3) * scale
    ends = torch.tensor(sizes, dtype=torch.int64).cumsum(0)
    batch = torch.searchsorted(ends, torch.arange(len(x)), right=True)
    assert torch.equal(knn_graph(x, k, batch), slow(x, batch, k=k))
    cutoff = scale * math.sqrt(2)  # a shell of the lattice
    assert torch.equal(radius_graph(x, cutoff, batch), slow(x, batch, cutoff))
    assert torch.equal(radius_graph(x, cutoff, batch, max_neighbors=k), slow(x, batch, cutoff, k))


def test_equal_to_scipy_on_many_points() -> None:
    x = torch.rand(10_000, 3, dtype=torch.float64)
    tree = cKDTree(x.numpy())
    source, target = knn_graph(x, 16)
    assert torch.equal(target, torch.arange(10_000).repeat_interleave(16))
    assert torch.equal(source.view(-1, 16), torch.from_numpy(tree.query(x.numpy(), k=17)[1][:, 1:]))
    pairs = tree.query_pairs(0.07, output_type="ndarray")
    found = radius_graph(x, 0.07)
    expected = np.sort(np.concatenate([pairs @ [1, 10_000], pairs @ [10_000, 1]]))
    assert np.array_equal(np.sort((found[0] + 10_000 * found[1]).numpy()), expected)
    assert len(pairs) > 50_000


def test_cells_equal_the_tree_on_many_points(monkeypatch: pytest.MonkeyPatch) -> None:
    from spheregeo.sampling.points import cells, tree

    dense = torch.rand(1000, 3) * torch.tensor([0.1, 0.01, 1e-3])
    x = torch.cat([dense, torch.rand(1000, 3), torch.rand(1000, 3) * 50])
    batch = torch.arange(len(x)) // 2500
    by_tree = knn_graph(x, 12, batch), radius_graph(x, 0.02, batch)
    monkeypatch.setattr(tree, "search", cells.search)
    assert torch.equal(knn_graph(x, 12, batch), by_tree[0])
    assert torch.equal(radius_graph(x, 0.02, batch), by_tree[1])


def keyed(edges: Tensor, count: int) -> Tensor:
    return (edges[1] * count + edges[0]).sort().values


@pytest.mark.parametrize("translate", [False, True])
def test_unchanged_by_rotations_of_float32(translate: bool) -> None:
    x = torch.rand(300, 3) - 0.5
    cutoff, count = 0.21, len(x)
    sharp = radius_graph(x, cutoff - 1e-5), radius_graph(x, cutoff + 1e-5)
    inside, near = (set(keyed(edges, count).tolist()) for edges in sharp)
    nearest = keyed(knn_graph(x, 16), count)
    for rotation in random_rotations(100):
        y = x @ rotation.T.float()
        if translate:
            y = y + torch.randn(3)
        found = set(keyed(radius_graph(y, cutoff), count).tolist())
        assert inside <= found <= near
        assert torch.equal(keyed(knn_graph(y, 16), count), nearest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 0.037, 1e4])
def test_lattices_keep_their_neighbours_when_rotated(scale: float, dtype: torch.dtype) -> None:
    axis = torch.arange(7, dtype=torch.float64)
    x = scale * torch.cartesian_prod(axis, axis, axis)
    cutoff = scale * math.sqrt(3)  # exactly the third shell
    still = x.to(dtype)
    nearest, within = knn_graph(still, 20), radius_graph(still, cutoff)
    capped = radius_graph(still, cutoff, max_neighbors=9)
    assert int(torch.bincount(within[1]).max()) == 26
    for rotation in random_rotations(20):
        y = (x @ rotation.T + scale * torch.randn(3, dtype=torch.float64)).to(dtype)
        assert torch.equal(knn_graph(y, 20), nearest)
        assert torch.equal(radius_graph(y, cutoff), within)
        assert torch.equal(radius_graph(y, cutoff, max_neighbors=9), capped)


def test_permutations() -> None:
    lattice = torch.cartesian_prod(*[torch.arange(6.0)] * 3)
    for x, ties in ((torch.rand(400, 3), "index"), (lattice, "all")):
        order = torch.randperm(len(x))
        for search in (
            lambda p, ties=ties: knn_graph(p, 10, ties=ties),
            lambda p, ties=ties: radius_graph(p, 1.5, max_neighbors=10, ties=ties),
        ):
            back = order[search(x[order])]
            assert torch.equal(keyed(back, len(x)), keyed(search(x), len(x)))
    assert int(torch.bincount(knn_graph(lattice, 10, ties="all")[1]).max()) == 18


def test_a_cap_takes_the_nearest_and_favours_no_direction() -> None:
    x = torch.rand(4000, 3)
    source, target = radius_graph(x, 0.3, max_neighbors=8)
    inner = ((x > 0.3) & (x < 0.7)).all(1)[target]
    mean = (x[source] - x[target])[inner].mean(0)
    assert mean.abs().max() < 5e-3
    assert torch.equal(torch.stack([source, target]), knn_graph(x, 8))


def test_batch_is_a_loop_over_graphs(engine: str) -> None:
    sizes = [30, 0, 1, 200, 2, 0, 77]
    parts = [torch.randn(n, 3) for n in sizes]
    batch = torch.repeat_interleave(torch.arange(7), torch.tensor(sizes))
    for search in (
        lambda p, b=None: knn_graph(p, 5, b),
        lambda p, b=None: radius_graph(p, 0.7, b),
        lambda p, b=None: radius_graph(p, 0.9, b, max_neighbors=4, loop=True),
    ):
        start = np.cumsum([0, *sizes])
        apart = torch.cat([search(part) + int(at) for part, at in zip(parts, start)], 1)
        assert torch.equal(search(torch.cat(parts), batch), apart)


def test_edges_are_sorted_by_target_distance_source(engine: str) -> None:
    x = torch.randn(300, 3, dtype=torch.float64)
    for source, target in (radius_graph(x, 0.8), knn_graph(x, 9)):
        distance = (x[source] - x[target]).norm(dim=1)
        assert (target.diff() >= 0).all()
        assert (distance.diff()[target.diff() == 0] >= 0).all()
        assert (source != target).all()


def test_two_sets(engine: str, cloud: Tensor, slow: Slow) -> None:
    some = torch.arange(0, len(cloud), 3)
    for cutoff, k in ((0.4, None), (math.inf, 5)):
        every = slow(cloud, cutoff=cutoff, k=k, loop=True, ties="all" if k else "index")
        chosen = every[:, torch.isin(every[1], some)]
        expected = torch.stack([chosen[0], torch.searchsorted(some, chosen[1])])
        found = (
            knn_between(cloud, cloud[some], k, ties="all")
            if k
            else radius_between(cloud, cloud[some], cutoff)
        )
        assert torch.equal(keyed(found, len(cloud)), keyed(expected, len(cloud)))


def test_two_sets_in_batches(engine: str) -> None:
    sources, targets = torch.randn(60, 3), 3 * torch.randn(50, 3) + 100 * torch.eye(3)[0]
    a, b = torch.arange(60) // 20, torch.arange(50) // 10  # graphs 3 and 4 have no sources
    found = knn_between(sources, targets, 4, a, b)
    distance = torch.cdist(sources.double(), targets.double()).masked_fill(a[:, None] != b[None], math.inf)
    expected = distance[:, b < 3].topk(4, dim=0, largest=False).indices
    assert torch.equal(found[0].view(-1, 4).T, expected)
    assert torch.equal(found[1], torch.arange(30).repeat_interleave(4))
    assert radius_between(sources, targets, 1.0, a, b).shape == (2, 0)
    capped = radius_between(sources, targets, 150.0, a, b, max_neighbors=2)
    assert torch.equal(capped[0].view(-1, 2).T, expected[:2])


def test_empty_and_single(engine: str) -> None:
    none = torch.zeros(0, 3)
    for edges in (
        radius_graph(none, 1.0),
        knn_graph(none, 3),
        knn_graph(torch.zeros(1, 3), 3),
        radius_graph(torch.zeros(1, 3), 1.0),
        knn_between(none, torch.ones(2, 3), 2),
        knn_between(torch.ones(2, 3), none, 2),
    ):
        assert edges.shape == (2, 0) and edges.dtype == torch.int64
    assert radius_graph(torch.zeros(1, 3), 1.0, loop=True).tolist() == [[0], [0]]
    assert knn_graph(torch.zeros(3, 3), 9, torch.tensor([4, 4, 6])).tolist() == [[1, 0], [0, 1]]


def test_a_loop_survives_coincident_points(engine: str) -> None:
    source, target = knn_graph(torch.zeros(6, 3), 2, loop=True)
    assert torch.equal(target, torch.arange(6).repeat_interleave(2))
    assert torch.equal(source.view(6, 2)[:, 0], torch.arange(6))
    assert source.view(6, 2)[:, 1].tolist() == [1, 0, 0, 0, 0, 0]


def test_gradients_and_dtypes_are_no_matter() -> None:
    x = torch.rand(50, 3, requires_grad=True)
    edges = knn_graph(x, 3, torch.zeros(50, dtype=torch.int32))
    assert not edges.requires_grad
    assert torch.equal(edges, knn_graph(x.detach()[::2].repeat_interleave(2, 0)[:50] * 0 + x.detach(), 3))


def test_strict_counts() -> None:
    x, batch = torch.rand(9, 3), torch.tensor([0] * 6 + [2] * 3)
    assert knn_graph(x, 2, batch, strict=True).shape == (2, 18)
    assert knn_graph(x, 3, batch, strict=True, loop=True).shape == (2, 27)
    with pytest.raises(ValueError, match="k is 3; graph 2 has 3 points, too few"):
        knn_graph(x, 3, batch, strict=True)


BAD = torch.tensor([[0.0, 0.0, 0.0], [math.nan, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: radius_graph(BAD, 1.0), r"positions\[1\] is \[nan"),
        (lambda x: knn_graph(x * math.inf, 1), "finite coordinates"),
        (lambda x: knn_graph(BAD, 1, strict=True), "finite coordinates"),
        (lambda x: radius_graph(x[:, :0], 1.0), r"positions has shape \(4, 0\)"),
        (lambda x: knn_between(x, x[:, :2], 1), r"targets has shape \(4, 2\); expected \(P, 3\)"),
        (lambda x: radius_graph(x[0], 1.0), r"positions has shape \(3,\)"),
        (lambda x: radius_graph(x.long(), 1.0), "torch.int64; expected float16"),
        (lambda x: radius_graph([[0, 0, 0]], 1.0), "positions is a list"),
        (lambda x: radius_graph(x, 0.0), "cutoff is 0.0"),
        (lambda x: radius_graph(x, -1), "cutoff is -1"),
        (lambda x: radius_graph(x, math.nan), "cutoff is nan"),
        (lambda x: radius_graph(x, "1"), "cutoff is '1'"),
        (lambda x: radius_graph(x, 1.0, max_neighbors=0), "max_neighbors is 0"),
        (lambda x: knn_graph(x, 0), "k is 0"),
        (lambda x: knn_graph(x, 2.0), "k is 2.0"),
        (lambda x: knn_graph(x, True), "k is True"),
        (lambda x: knn_graph(x, 2, ties="first"), "ties is 'first'"),
        (lambda x: knn_graph(x, 2, torch.tensor([0, 1, 0, 1])), "batch is unsorted"),
        (lambda x: knn_graph(x, 2, torch.tensor([-1, 0, 0, 1])), "negative"),
        (lambda x: knn_graph(x, 2, torch.zeros(3, dtype=torch.int64)), r"batch has shape \(3,\)"),
        (lambda x: knn_graph(x, 2, torch.zeros(4)), "batch is of torch.float32"),
        (lambda x: knn_between(x, x, 2, None, torch.tensor([1, 0, 0, 0])), "target_batch is unsorted"),
        (lambda x: radius_between(x, BAD, 2.0), r"targets\[1\]"),
    ],
)
def test_errors(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.rand(4, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu(cloud: Tensor) -> None:
    batch = torch.arange(len(cloud)) // 30
    for search in (
        lambda p, b: knn_graph(p, 6, b, ties="all"),
        lambda p, b: radius_graph(p, 0.5, b, max_neighbors=9),
        lambda p, b: radius_graph(p, 0.5, b),
    ):
        assert torch.equal(search(cloud.cuda(), batch.cuda()).cpu(), search(cloud, batch))


DIMENSIONS = (1, 2, 4, 7, 64)


@pytest.fixture(params=["products", "tree"])
def wide(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which search runs in many dimensions; blocks are made small."""
    monkeypatch.setattr(blocks, "PAIRS", 500)
    monkeypatch.setattr(blocks, "TREE_SIZE", 0)
    monkeypatch.setattr(blocks, "TREE_DIMENSIONS", 0 if request.param == "products" else 100)
    return str(request.param)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_any_dimension_and_dtype(wide: str, dimension: int, dtype: torch.dtype, slow: Slow) -> None:
    g = torch.Generator().manual_seed(dimension)
    x = torch.randn(45, dimension, generator=g)
    x = torch.cat([x, x[:9], x.new_zeros(6, dimension)]).to(dtype)  # coincident points
    batch = torch.arange(len(x)) // 20 * 2  # graphs 1, 3 and 5 are empty
    cutoff = 1.2 * math.sqrt(dimension)
    for ties in ("index", "all", "exact"):
        assert torch.equal(knn_graph(x, 5, batch, ties=ties), slow(x, batch, k=5, ties=ties))  # type: ignore[arg-type]
    assert torch.equal(knn_graph(x, 5, loop=True), slow(x, k=5, loop=True))
    assert torch.equal(knn_graph(x, 500), slow(x, k=500))
    assert torch.equal(radius_graph(x, cutoff, batch), slow(x, batch, cutoff))
    assert torch.equal(radius_graph(x, cutoff, max_neighbors=4), slow(x, None, cutoff, 4))
    found = knn_between(x, x[:7].clone(), 5, ties="exact")
    assert torch.equal(found[:, found[1] < 7], found)
    distance = torch.cdist(x[:7].double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.sort(stable=True)
    assert torch.equal(distance[found[1], found[0]].view(7, 5), nearest.values[:, :5])
    assert torch.equal(radius_between(x[:0], x, 1.0), torch.empty(2, 0, dtype=torch.int64))


@pytest.mark.parametrize("dimension", [2, 3, 16])
def test_cosine_distance(dimension: int) -> None:
    x, y = torch.randn(40, dimension), torch.randn(9, dimension, dtype=torch.float64)
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    expected = (1 - torch.nn.functional.normalize(y, dim=1) @ unit.T).argsort(1)[:, :6]
    assert torch.equal(knn_between(x, y, 6, metric="cosine")[0].view(9, 6), expected)
    scaled = x * torch.logspace(-30, 30, 40)[:, None].to(x)
    assert torch.equal(knn_graph(scaled, 3, metric="cosine"), knn_graph(x, 3, metric="cosine"))
    with pytest.raises(ValueError, match=r"positions\[2\] is zero; expected vectors with a direction"):
        knn_graph(torch.cat([x[:2], x[:1] * 0]), 1, metric="cosine")
    with pytest.raises(ValueError, match="metric is 'l1'"):
        knn_graph(x, 1, metric="l1")  # type: ignore[arg-type]


def test_products_keep_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    squared = blocks._Graph._squared

    def noted(self: blocks._Graph, rows: Tensor) -> tuple[Tensor, Tensor]:
        found = squared(self, rows)
        sizes.append(found[0].numel())
        return found

    monkeypatch.setattr(blocks._Graph, "_squared", noted)
    x = torch.randn(4000, 20)
    assert knn_graph(x, 3).shape == (2, 12000) and max(sizes) <= blocks.PAIRS < len(x) ** 2


def test_positions_that_their_dtype_cannot_tell_apart() -> None:
    x = torch.rand(50, 3)
    near = radius_graph(x.double() + 1e8, 0.3)  # float64 can
    assert torch.equal(near.sort(1).values, radius_graph(x, 0.3).sort(1).values)
    for search in (lambda: radius_graph(x + 1e8, 0.3), lambda: radius_between(x, x + 1e8, 0.3)):
        with pytest.raises(
            ValueError, match=r"numbers of torch.float32 are 8 apart; the cutoff is 0.3; .* float64"
        ):
            search()
    with pytest.warns(RuntimeWarning, match=r"are 0.0625 apart; the cutoff is 0.3"):
        radius_graph(x + 1e6, 0.3)


def test_batches_of_absurdly_many_graphs() -> None:
    x = torch.rand(6, 3)
    batch = torch.arange(6)
    assert knn_graph(x, 2, batch + 1000).shape == (2, 0)
    for call in (
        lambda b: knn_graph(x, 2, b),
        lambda b: radius_graph(x, 0.1, b),
        lambda b: knn_between(x, x, 1, b, batch),
        lambda b: farthest_points(x, 2, b),
        lambda b: voxel_downsample(x, 0.1, b),
        lambda b: periodic_radius_graph(x, 0.1, torch.eye(3), batch=b),
    ):
        with pytest.raises(ValueError, match=r"batch names graph 100000000005 for 6 points"):
            call(batch + 10**11)
