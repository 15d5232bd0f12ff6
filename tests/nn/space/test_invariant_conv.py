"""Sparse invariant convolution against edge-by-edge sums, its invariants, and the interpolation between sets of points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spheregeo.nn.space import SparseInvariantConv, edge_invariants, interpolate_points
from spheregeo.sampling import knn_between, random_rotations


def plain(conv: SparseInvariantConv, x: Tensor, place: Tensor, edge_index: Tensor) -> Tensor:
    """The same layer, a matrix of weights for each target."""
    own = place - place.mean(0)
    h = conv.weights(edge_invariants(own, own, edge_index))
    rows = []
    for i in range(len(place)):
        of = (edge_index[1] == i).nonzero()[:, 0]
        products = sum(
            (torch.outer(h[e], x[edge_index[0, e]]) for e in of.tolist()), x.new_zeros(h.shape[1], x.shape[1])
        )
        rows.append(products.flatten() / max(1, len(of)))
    return conv.norm(conv.mix(torch.stack(rows)))


def test_equals_the_sum_over_edges_with_all_gradients() -> None:
    torch.manual_seed(0)
    conv = SparseInvariantConv(3, 5, rank=4).double()
    place = torch.randn(9, 3, dtype=torch.float64)
    edge_index = torch.cat([knn_between(place, place[:7], 4), torch.tensor([[2, 2], [7, 7]])], 1)
    x = torch.randn(9, 3, dtype=torch.float64)
    found = []
    for form in (conv, lambda *given: plain(conv, *given)):
        given = x.clone().requires_grad_(), place.clone().requires_grad_()
        y = form(*given, edge_index)
        wanted = (*given, *conv.parameters())
        found.append((y, *torch.autograd.grad((y * y.cos()).sum(), wanted)))
    for a, b in zip(*found, strict=True):
        assert float((a - b).detach().abs().max()) < 1e-11


def test_invariants_are_what_their_names_say_and_no_motion_about_the_origin_changes_them() -> None:
    a, b = torch.randn(2, 6, 3, dtype=torch.float64)
    edges = torch.stack([torch.arange(6), torch.arange(6)])
    found = edge_invariants(b, a, edges)  # a target's only neighbour is the mean of its neighbours
    angle = torch.arccos((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))) / math.pi
    gap = (a - b).norm(dim=1)
    assert torch.allclose(found[:, 0], angle) and torch.allclose(found[:, 1], b.norm(dim=1))
    assert float(found[:, 2].abs().max()) == 0 and torch.allclose(found[:, 3:5], gap[:, None].expand(6, 2))
    assert torch.allclose(found[:, 6], -torch.ones(6, dtype=torch.float64), atol=1e-6)
    for turn in (*random_rotations(3), -torch.eye(3, dtype=torch.float64)):
        assert float((edge_invariants(b @ turn.T, a @ turn.T, edges) - found).abs().max()) < 1e-14
    at_rest = torch.zeros(
        2, 3, dtype=torch.float64, requires_grad=True
    )  # points at the origin and on each other
    edge_invariants(at_rest, at_rest, torch.tensor([[0, 1], [0, 0]])).sum().backward()
    assert at_rest.grad is not None and bool(torch.isfinite(at_rest.grad).all())


def test_interpolation_takes_what_lies_there_and_keeps_constants() -> None:
    coarse, fine = torch.randn(6, 3), torch.randn(20, 3)
    edges = knn_between(coarse, torch.cat([fine, coarse]), 3)
    x = torch.randn(6, 4)
    y = interpolate_points(x, coarse, torch.cat([fine, coarse]), edges)
    assert torch.allclose(y[20:], x, atol=1e-4)
    ones = interpolate_points(torch.ones(6, 1), coarse, torch.cat([fine, coarse]), edges)
    assert torch.allclose(ones, torch.ones(26, 1))
    weight = 1 / ((coarse[edges[0, :3]] - fine[0]).square().sum(1) + 1e-8)
    assert torch.allclose(y[0], (weight[:, None] * x[edges[0, :3]]).sum(0) / weight.sum(), atol=1e-5)
