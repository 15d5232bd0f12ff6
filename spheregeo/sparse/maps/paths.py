"""Products of blocks of the source with features of a pair, as the tables that loops over them read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Path(NamedTuple):
    """A product of one block of the source with the pair's features, into one group of the result.

    Shape: constants (components of the group, components of the block, S) float64.
    """

    block: int
    group: int
    constants: Tensor


class PathTables(NamedTuple):
    """Where blocks, groups and products lie.

    ``groups``: (components, channels) of each group of the result; ``blocks``: (first column of the source, components,
    channels, first and last function) of each block; ``functions``: (first column of the group, columns of the group in all,
    component, columns of one component, column within it, first channel among those of all paths); ``paths``: the paths of each
    block in the order of their functions; ``inputs``, ``outputs``, ``channels``: numbers of a source, of a result, channels of
    all paths.
    """

    groups: list[tuple[int, int]]
    blocks: list[tuple[int, ...]]
    functions: list[tuple[int, ...]]
    paths: list[list[Path]]
    inputs: int
    outputs: int
    channels: int


def path_tables(
    blocks: Sequence[tuple[int, int]], groups: Sequence[int], paths: Sequence[Path], pair_dim: int
) -> PathTables:
    """The tables of some products.

    Raises:
        ValueError: constants of another shape.
    """
    for path in paths:
        shape = (groups[path.group], blocks[path.block][0], pair_dim)
        if tuple(path.constants.shape) != shape:
            raise ValueError(
                f"constants of a path have shape {tuple(path.constants.shape)}; expected {shape}"
            )
    columns = [sum(blocks[p.block][1] for p in paths if p.group == g) for g in range(len(groups))]
    shapes = list(zip(groups, columns, strict=True))
    firsts = [sum(d * c for d, c in shapes[:g]) for g in range(len(groups))]
    taken, channels, places = (
        [0] * len(groups),
        0,
        list[tuple[int, int]](),
    )  # column within the group, first channel
    for path in paths:
        places.append((taken[path.group], channels))
        taken[path.group] += blocks[path.block][1]
        channels += blocks[path.block][1]
    table, functions, own = list[tuple[int, ...]](), list[tuple[int, ...]](), list[list[Path]]()
    column = 0
    for b, (d, mul) in enumerate(blocks):
        begin = len(functions)
        own.append([path for path in paths if path.block == b])
        for path, place in zip(paths, places, strict=True):
            if path.block == b:
                size, wide = shapes[path.group]
                functions += [(firsts[path.group], size * wide, m, wide, *place) for m in range(size)]
        table.append((column, d, mul, begin, len(functions)))
        column += d * mul
    outputs = sum(d * c for d, c in shapes)
    return PathTables(shapes, table, functions, own, column, outputs, channels)


def integers(rows: Sequence[tuple[int, ...]], width: int) -> Tensor:
    """A table of integers, of the right width if it has no rows."""
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, width)


def bits_of(values: Sequence[Tensor], *shape: int) -> Tensor:
    """Constants one after another as the integers of their bits, which no change of a module's dtype rounds."""
    every = torch.cat(list(values)) if values else torch.zeros(0, *shape, dtype=torch.float64)
    return every.view(torch.int64)
