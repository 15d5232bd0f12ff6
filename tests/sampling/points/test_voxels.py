"""Voxel downsampling equals grouping points one by one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spheregeo.sampling import voxel_downsample


@pytest.mark.parametrize("size", [0.05, 0.3, 5.0])
def test_equal_to_a_dictionary_of_cubes(cloud: Tensor, size: float) -> None:
    batch = torch.arange(len(cloud)) // 45 * 2
    groups = defaultdict(list)
    for i, (g, p) in enumerate(zip(batch.tolist(), cloud.double())):
        low = cloud[batch == g].double().min(0).values
        groups[(g, *((p - low) / size + 7 / 16).floor().long().tolist())].append(i)
    found = voxel_downsample(cloud, size, batch)
    assert len(found.counts) == len(groups)
    for v, (key, members) in enumerate(sorted(groups.items())):
        assert (found.voxel == v).nonzero()[:, 0].tolist() == members
        assert int(found.batch[v]) == key[0] and int(found.counts[v]) == len(members)
        mean = cloud[members].double().mean(0)
        torch.testing.assert_close(found.positions[v].double(), mean, rtol=0, atol=1e-6)
        away = (cloud[members].double() - mean).norm(dim=1)
        assert int(found.nearest[v]) in members
        assert away[members.index(int(found.nearest[v]))] <= away.min() + 1e-5


def test_a_lattice_of_the_same_size_is_kept_wherever_it_stands() -> None:
    lattice = 0.1 * torch.cartesian_prod(*[torch.arange(6.0)] * 3)
    for _ in range(20):
        x = lattice + torch.randn(3)
        found = voxel_downsample(x, 0.1)
        assert torch.equal(found.nearest, torch.arange(216)) and torch.equal(found.voxel, torch.arange(216))
        assert len(voxel_downsample(x, 0.2).counts) == 27  # planes 0 1 | 2 3 | 4 5


def test_permutation_and_translation() -> None:
    x, order = torch.rand(500, 3, dtype=torch.float64), torch.randperm(500)
    still, mixed = voxel_downsample(x, 0.2), voxel_downsample(x[order] + 3.0, 0.2)
    torch.testing.assert_close(mixed.positions - 3.0, still.positions, rtol=0, atol=1e-12)
    assert torch.equal(mixed.voxel, still.voxel[order])
    more = still.counts > 2  # both of two points are equally near their mean: the lower index is taken
    assert torch.equal(order[mixed.nearest][more], still.nearest[more])


def test_no_points_and_dtype() -> None:
    none = voxel_downsample(torch.zeros(0, 3), 1.0)
    assert [len(part) for part in none] == [0] * 5
    assert voxel_downsample(torch.rand(5, 3), 1.0).positions.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: voxel_downsample(x, 0), "size is 0"),
        (lambda x: voxel_downsample(x, math.inf), "size is inf"),
        (lambda x: voxel_downsample(x, 1e-12), "expected fewer than 2"),
        (lambda x: voxel_downsample(x * math.nan, 1.0), "finite coordinates"),
        (lambda x: voxel_downsample(x, 1.0, torch.zeros(2, dtype=torch.int64)), "batch has shape"),
    ],
)
def test_errors(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.rand(4, 3))
