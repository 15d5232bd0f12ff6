"""torch_cluster's names and arguments, called from Python and from TorchScript, equal searches pair by pair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spheregeo.compat.torch_cluster import fps, knn, knn_graph, nearest, radius, radius_graph

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
Y = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
BATCH_X, BATCH_Y = torch.arange(40) // 10, torch.arange(12) // 3
APART = torch.cdist(Y.double(), X.double()).masked_fill(BATCH_Y[:, None] != BATCH_X, torch.inf)
WITHIN = torch.cdist(X.double(), X.double()).masked_fill(BATCH_X[:, None] != BATCH_X, torch.inf)


def pairs(edges: Tensor) -> list[list[int]]:
    return sorted(edges.T.tolist())


@pytest.mark.parametrize("script", [False, True])
def test_two_sets(script: bool) -> None:
    near = torch.jit.script(radius) if script else radius
    assert pairs(near(X, Y, 2.5, BATCH_X, BATCH_Y)) == pairs((APART <= 2.5).nonzero().T)
    assert torch.bincount(near(X, Y, 9.0, max_num_neighbors=3)[0]).tolist() == [3] * 12
    nearest_k = torch.jit.script(knn) if script else knn
    expected = APART.argsort(1)[:, :4]
    assert torch.equal(nearest_k(X, Y, 4, BATCH_X, BATCH_Y)[1].view(12, 4), expected)
    cosine = torch.nn.functional.normalize(Y, dim=1) @ torch.nn.functional.normalize(X, dim=1).T
    assert torch.equal(nearest_k(X, Y, 4, cosine=True)[1].view(12, 4), (-cosine).argsort(1)[:, :4])
    assert torch.equal(nearest(X, Y, BATCH_X, BATCH_Y), APART.argmin(0))
    with pytest.raises(ValueError, match="batch_y does not"):
        nearest(X, Y, BATCH_X, torch.zeros(12, dtype=torch.int64))


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
def test_one_set(script: bool, flow: str) -> None:
    near = torch.jit.script(radius_graph) if script else radius_graph
    for loop in (False, True):
        apart = WITHIN if loop else WITHIN.clone().fill_diagonal_(torch.inf)
        edges = near(X, 2.5, BATCH_X, loop, flow=flow)
        target, source = edges if flow == "target_to_source" else edges.flip(0)
        assert pairs(torch.stack([target, source])) == pairs((apart <= 2.5).nonzero().T)
        edges = knn_graph(X, 4, BATCH_X, loop, flow)
        target, source = edges if flow == "target_to_source" else edges.flip(0)
        assert torch.equal(source.view(-1, 4), apart.argsort(1)[:, :4])
    other = radius(X, X.clone(), 2.5, ignore_same_index=True, max_num_neighbors=2)
    assert (other[0] != other[1]).all() and int(torch.bincount(other[0]).max()) == 2


def test_subsets() -> None:
    found = fps(X, BATCH_X, 0.2, False)
    assert found[::2].tolist() == [0, 10, 20, 30]
    assert torch.equal(found[1::2], WITHIN.masked_fill(WITHIN.isinf(), -1)[::10].argmax(1))
    for ptr in ([0, 10, 20, 30, 40], torch.arange(0, 41, 10)):
        assert torch.equal(fps(X, ratio=torch.tensor([0.2] * 4), random_start=False, ptr=ptr), found)
    assert len(fps(X)) == 20 and torch.equal(batch_of(fps(X, BATCH_X)), torch.arange(4).repeat_interleave(5))
    assert torch.equal(torch.jit.script(fps)(X, BATCH_X, torch.tensor(0.2), False), found)


def batch_of(points: Tensor) -> Tensor:
    return BATCH_X[points]


def test_points_of_a_line_may_lack_an_axis() -> None:
    line = torch.tensor([0.0, 1.0, 3.0, 7.0])
    assert pairs(knn_graph(line, 1)) == [[0, 1], [1, 0], [1, 2], [2, 3]]
    assert knn(line[:0], line, 2).shape == (2, 0)
