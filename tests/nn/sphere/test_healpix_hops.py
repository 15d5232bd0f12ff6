"""Hops: composition of single convolutions, reach, aggregations, errors."""

from __future__ import annotations

import healpy
import pytest
import torch

from spheregeo.grids import HEALPix
from spheregeo.nn import HEALPixHops


@pytest.mark.parametrize("aggregate", ["sum", "max", "concat"])
def test_outputs_of_successive_convolutions(aggregate: str) -> None:
    grid = HEALPix(4)
    layer = HEALPixHops(2, 6, grid, hops=3, aggregate=aggregate).double()
    x = torch.randn(2, 2, grid.num_points, dtype=torch.float64)
    first, second, third = layer.convs
    a = first(x)
    b = second(a)
    c = third(b)
    expected = {
        "sum": a + b + c,
        "max": torch.maximum(torch.maximum(a, b), c),
        "concat": torch.cat([a, b, c], 1),
    }[aggregate]
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-14)
    assert layer(x).shape == (2, 6, grid.num_points)
    layer(x).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in layer.parameters())


def test_reach() -> None:
    grid = HEALPix(8, "nested")
    x = torch.randn(1, 1, grid.num_points, requires_grad=True)
    HEALPixHops(1, 1, grid, hops=2)(x)[0, 0, 100].backward()
    assert x.grad is not None
    ring = set(healpy.get_all_neighbours(8, 100, nest=True).tolist()) | {100}
    both = set(healpy.get_all_neighbours(8, sorted(ring), nest=True).ravel().tolist()) - {-1}
    assert set(x.grad[0, 0].nonzero()[:, 0].tolist()) == both and len(both) == 25


def test_errors() -> None:
    with pytest.raises(ValueError, match="hops is 0"):
        HEALPixHops(1, 1, HEALPix(2), hops=0)
    with pytest.raises(ValueError, match="aggregate is 'mean'"):
        HEALPixHops(1, 1, HEALPix(2), aggregate="mean")
    with pytest.raises(ValueError, match="multiple of hops, 2"):
        HEALPixHops(1, 3, HEALPix(2), aggregate="concat")
