"""Maps between some of the points equal the same rows and columns of the whole map."""

from __future__ import annotations

import pytest
import torch

from spheregeo.sparse import (
    BlockPattern,
    CSRPattern,
    Gather,
    MaxPlusMap,
    Pattern,
    RingPattern,
    SparseMap,
    read_points,
    restricted,
)

M = 6  # points of a ring


def rings() -> RingPattern:
    """Three rings of six points, each of which reads itself and the next; the last reads the middle one again."""
    base = torch.arange(3) * M
    one = torch.ones(3, dtype=torch.int64)
    ring, shift = torch.tensor([0, 1, 1, 2, 2, 1]).int(), torch.tensor([0, 2, 1, 5, 0, 3]).int()
    return RingPattern(torch.tensor([0, 2, 4, 6]), ring, shift, base, one, base, one, M, 3 * M, 3 * M)


def rows() -> CSRPattern:
    """Rows 0, 2, ..., 8 share coefficients, and so do 1, 3, ..., 9; the last eight are empty."""
    first = torch.arange(10)
    indices = torch.stack([first, (first + 3) % 18, (2 * first + 5) % 18], 1).reshape(-1)
    indptr = torch.cat([torch.arange(11) * 3, torch.full((8,), 30)])
    return CSRPattern.of(indptr, indices, 18, torch.cat([first % 2 * 3, torch.full((8,), 6)]), 6)


def blocks() -> BlockPattern:
    return BlockPattern.of(
        [(rings(), slice(0, 18), slice(0, 18)), (rows(), slice(18, 36), slice(6, 24))], 24, 36
    )


@pytest.mark.parametrize("pattern", [rings(), rows(), blocks()], ids=lambda p: p.kind)
@pytest.mark.parametrize("chosen", ["whole rings", "torn", "turned"])
def test_rows_and_columns_of_the_whole(pattern: Pattern, chosen: str) -> None:
    targets = {
        "whole rings": torch.arange(6, 18),
        "torn": torch.tensor([0, 3, 7, 17]),
        "turned": torch.arange(11, 5, -1),
    }[chosen]
    map_ = SparseMap.from_pattern(pattern, torch.randn(2, pattern.num_values).double())
    read = read_points(map_, targets)
    dense = map_.to_dense()[:, targets]
    assert torch.equal(read, dense.abs().sum((0, 1)).nonzero()[:, 0])
    for sources in (read, read.flip(0), torch.arange(pattern.num_source)):
        part = restricted(map_, targets, sources)
        assert torch.equal(part.to_dense(), dense[:, :, sources])
        if chosen == "whole rings" and pattern.kind == "rings":
            assert part.kind == "rings" and part.values.shape[1] == 4
    with pytest.raises(ValueError, match="sources lack"):
        restricted(map_, targets, read[1:])


def test_extremes_and_copies() -> None:
    targets = torch.tensor([1, 4, 5])
    largest = MaxPlusMap(rows())
    read = read_points(largest, targets)
    x, values = torch.randn(1, 2, 18), torch.randn(6)
    assert torch.equal(
        restricted(largest, targets, read)(x[..., read], values), largest(x, values)[..., targets]
    )
    copies = Gather([2, -1, 0, 1, 1, 3], 4, ([1, 5], [3, 2], [0.5, 2.0]))
    read = read_points(copies, targets)
    x = torch.randn(1, 2, 4)
    assert read.tolist() == [1, 2, 3]
    assert torch.equal(restricted(copies, targets, read)(x[..., read]), copies(x)[..., targets])
    with pytest.raises(ValueError, match="sources lack"):
        restricted(copies, targets, read[:2])
    with pytest.raises(TypeError, match="expected a map between fixed points"):
        read_points(torch.nn.Linear(1, 1), targets)  # type: ignore[arg-type]
