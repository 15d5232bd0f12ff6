"""Partitions, parts and what is refused, in one process."""

from __future__ import annotations

import pytest
import torch

from spheregeo.distributed import Halo, Part, Partition, distribute
from spheregeo.grids import Equiangular, Fibonacci, Grid, HEALPix, Icosahedral
from spheregeo.nn import Pool, SpectralConv


@pytest.mark.parametrize(
    "grid",
    [Equiangular(8, 16), HEALPix(4), HEALPix(4, order="nested"), Icosahedral(2), Fibonacci(60)],
    ids=str,
)
@pytest.mark.parametrize("parts", [1, 3, 4])
def test_parts_cover_a_grid_and_its_coarser_one(grid: Grid, parts: int) -> None:
    partition = Partition.of(grid, parts)
    found = torch.cat([partition.points_of(k) for k in range(parts)])
    assert torch.equal(found.sort().values, torch.arange(grid.num_points))
    most = 1.35 if grid.rings is not None else 1.02  # whole rings
    assert int(partition.counts.max()) <= most * grid.num_points / parts + 1
    field = torch.randn(2, *grid.shape)
    pieces = torch.cat([Part(partition, k).of(field).reshape(2, -1) for k in range(parts)], 1)
    assert torch.equal(pieces[:, found.argsort()], field.reshape(2, -1))
    areas = sum(float(Part(partition, k).areas.sum()) for k in range(parts))
    assert areas == pytest.approx(float(grid.areas.sum()))
    if not isinstance(grid, Fibonacci):  # most children stay with their parents
        owner = partition.on(grid.coarsen()).owner[grid.parents()]
        assert float((owner == partition.owner).double().mean()) >= 0.75


def test_work_moves_the_cuts() -> None:
    grid = Equiangular(8, 4)
    work = torch.ones(8, 4)
    work[0] = 7
    assert Partition.of(grid, 2, work.reshape(-1)).counts.tolist() == [4, 28]
    assert Part(Partition.of(grid, 2, work.reshape(-1)), 1).shape == (7, 4)


def test_more_parts_than_rings_or_points() -> None:
    assert Partition.of(Equiangular(2, 4), 4).counts.tolist() == [2, 2, 2, 2]
    assert Part(Partition.of(Equiangular(2, 4), 4), 0).shape == (2,)
    with pytest.raises(ValueError, match="parts is 13; expected at most 12"):
        Partition.of(HEALPix(1), 13)


def test_graphs_are_cut_where_few_edges_are() -> None:
    ring = torch.arange(40)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    edges = shuffled[torch.stack([ring, (ring + 1) % 40])]
    partition = Partition.of_graph(edges, 40, 4)
    cut = int((partition.owner[edges[0]] != partition.owner[edges[1]]).sum())
    assert partition.counts.max() <= 11 and cut <= 8  # 30 of 40 in the order given
    assert Partition.of_points(torch.eye(3).repeat(4, 1), 4).counts.tolist() == [3, 3, 3, 3]


def test_values_and_messages() -> None:
    partition = Partition.of(HEALPix(2), 2)
    assert partition == Partition(partition.owner, 2, HEALPix(2)) and hash(partition) == hash(
        partition.on(HEALPix(2))
    )
    assert Part(partition, 0) != Part(partition, 1) and Part(partition, 0) == Part(partition, 0)
    with pytest.raises(ValueError, match="own none of the 2 points"):
        Partition(torch.tensor([0, 0]), 2)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        Partition(torch.tensor([0, 2]), 2)
    with pytest.raises(ValueError, match="2 parts and the group 1"):
        Halo(partition, torch.arange(3))
    with pytest.raises(ValueError, match="2 parts and the group 1"):
        distribute(Pool(HEALPix(2)), partition)
    one = Partition.of(HEALPix(2), 1)
    with pytest.raises(ValueError, match="gradients is 'both'"):
        distribute(Pool(HEALPix(2)), one, gradients="both")
    with pytest.raises(TypeError, match="cannot split"):
        distribute(torch.nn.Sequential(SpectralConv(2, 2, HEALPix(2), lmax=2)), one)
    with pytest.raises(ValueError, match="expected 48 points along axis 2"):
        Halo(one, torch.arange(3))(torch.zeros(1, 1, 47))
