"""Farthest-point sampling equals the plain loop, and the choice depends on the shape alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spheregeo.sampling import farthest_points, random_rotations
from spheregeo.sampling.points import farthest


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compiled kernel with buckets even for small graphs, or the loop for GPUs."""
    monkeypatch.setattr(farthest, "SMALL", 0)
    if request.param == "torch":

        def in_torch(points: Tensor, bounds: Tensor, *rest: Tensor) -> Tensor:
            index = torch.repeat_interleave(bounds.diff())
            return farthest.in_torch(points, index, bounds, *rest)

        monkeypatch.setattr(farthest, "_compiled", in_torch)
    return str(request.param)


def plain(positions: Tensor, count: int) -> Tensor:
    """One point after another, all distances each time."""
    unit = 2.0**-34 if positions.dtype == torch.float64 else 2.0**-19
    x = positions.double()
    size = float((x - x.mean(0)).norm(dim=1).max())
    tau = unit * 2.0 ** math.ceil(math.log2(1.2 * size)) if size > 1e-15 else 0.0
    far, chosen = (x - x.mean(0)).norm(dim=1), []
    for k in range(count):
        largest = float(far.max())
        chosen.append(int((far >= largest - min(tau, largest / 1024)).nonzero()[0]))
        distance = (x - x[chosen[-1]]).norm(dim=1)
        far = torch.minimum(far, distance) if k else distance
        far[chosen] = -1.0
    return torch.tensor(chosen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_the_plain_loop(way: str, cloud: Tensor, dtype: torch.dtype) -> None:
    x = cloud.to(dtype)
    for count in (1, 7, len(x)):
        found = farthest_points(x, count)
        assert torch.equal(found, plain(x, count))
    assert torch.equal(found.sort().values, torch.arange(len(x)))  # none twice


def test_larger_clouds(way: str) -> None:
    for x in (torch.randn(2000, 3), torch.cat([torch.rand(1000, 3) * 1e-3, torch.rand(1000, 3)])):
        assert torch.equal(farthest_points(x, 150), plain(x, 150))


def test_batches(way: str) -> None:
    sizes = [40, 0, 1, 300, 7]
    batch = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    parts = [torch.randn(n, 3) for n in sizes]
    x, start = torch.cat(parts), [0, 40, 40, 41, 341]
    for wanted in (12, 1, 0.25, 1.0):
        numbers = [min(wanted, n) if isinstance(wanted, int) else math.ceil(n * wanted) for n in sizes]
        expected = [plain(p, n) + s for p, n, s in zip(parts, numbers, start) if n]
        assert torch.equal(farthest_points(x, wanted, batch), torch.cat(expected))
    assert farthest_points(torch.zeros(0, 3), 5).shape == (0,)


def test_rotations_and_translations_change_nothing(way: str) -> None:
    lattice = torch.cartesian_prod(*[torch.arange(7, dtype=torch.float64)] * 3)
    for x in (torch.rand(500, 3, dtype=torch.float64), lattice):
        still = farthest_points(x.float(), 60)
        for rotation in random_rotations(20):
            y = x @ rotation.T + torch.randn(3, dtype=torch.float64)
            assert torch.equal(farthest_points(y.float(), 60), still)


def test_permutation_relabels(way: str) -> None:
    x = torch.rand(300, 3)
    order = torch.randperm(300)
    assert torch.equal(order[farthest_points(x[order], 50)], farthest_points(x, 50))


def test_it_starts_farthest_from_the_centroid_or_at_random(way: str) -> None:
    x = torch.rand(200, 3)
    assert int(farthest_points(x, 1)) == int((x - x.mean(0)).norm(dim=1).argmax())
    batch = torch.arange(200) // 100
    starts = {
        tuple(farthest_points(x, 1, batch, generator=torch.Generator().manual_seed(seed)).tolist())
        for seed in range(20)
    }
    assert len(starts) > 15
    assert all(a < 100 <= b < 200 for a, b in starts)
    again = [farthest_points(x, 9, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*again)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: farthest_points(x, 0), "ratio_or_count is 0"),
        (lambda x: farthest_points(x, 0.0), "ratio_or_count is 0.0"),
        (lambda x: farthest_points(x, 1.5), "ratio_or_count is 1.5"),
        (lambda x: farthest_points(x, math.nan), "ratio_or_count is nan"),
        (lambda x: farthest_points(x / 0, 3), "finite coordinates"),
        (lambda x: farthest_points(x, 3, torch.tensor([1, 0, 0, 0])), "batch is unsorted"),
        (lambda x: farthest_points(x[:, :0], 3), "positions has shape"),
    ],
)
def test_errors(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.rand(4, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 2, 5, 64])
def test_any_dimension_and_dtype(dimension: int, dtype: torch.dtype) -> None:
    x = torch.randn(60, dimension, generator=torch.Generator().manual_seed(dimension)).to(dtype)
    assert torch.equal(farthest_points(x, 20), plain(x, 20))


def test_shares_and_counts_of_each_graph() -> None:
    x, batch = torch.randn(60, 3), torch.arange(60) // 20
    for wanted in (0.25, torch.tensor(0.25), torch.tensor([0.25]), torch.tensor([5, 5, 5]), torch.tensor(5)):
        assert torch.equal(farthest_points(x, wanted, batch), farthest_points(x, 5, batch))
    found = farthest_points(x, torch.tensor([0.1, 1.0, 0.5]), batch)
    assert torch.bincount(batch[found]).tolist() == [2, 20, 10]
    assert farthest_points(x[:0], torch.tensor(0.5), batch[:0]).shape == (0,)
    for wrong in (
        torch.tensor(0.0),
        torch.tensor([0.5, 1.5, 0.5]),
        torch.tensor([1, 0, 1]),
        torch.tensor([1, 2]),
    ):
        with pytest.raises(ValueError, match="ratio_or_count is"):
            farthest_points(x, wrong, batch)


def test_where_sampling_starts() -> None:
    x, batch = torch.randn(60, 3), torch.arange(60) // 20
    start = torch.tensor([3, 20, 59])
    found = farthest_points(x, 4, batch, start=start)
    assert torch.equal(found[::4], start)
    for first in start.tolist():
        mine = batch == batch[first]
        distance = (x[mine] - x[first]).norm(dim=1)
        assert int(found[found.tolist().index(first) + 1]) == int(mine.nonzero()[distance.argmax(), 0])
    torch.manual_seed(1)
    firsts = torch.stack([farthest_points(x, 1, batch, random_start=True) for _ in range(40)])
    assert torch.equal(batch[firsts], torch.arange(3).expand(40, 3)) and len(firsts[:, 0].unique()) > 5
    with pytest.raises(ValueError, match=r"start\[1\] is 3; expected a point of graph 1"):
        farthest_points(x, 4, batch, start=torch.tensor([3, 3, 59]))
    with pytest.raises(ValueError, match=r"start is \(1,\) of torch.int64; expected \(3,\)"):
        farthest_points(x, 4, batch, start=torch.tensor([3]))
