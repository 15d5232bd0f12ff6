"""The rotations that an audit tries: random ones of a group, and those that permute a grid's points."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spheregeo.grids import Grid, LatLon
from spheregeo.groups import axis_angle, random_rotations


def draw(group: str, n: int, generator: torch.Generator) -> Tensor:
    """Elements drawn evenly from SO(3), O(3) (in turn a reflection, a rotation ...) or the turns about z.

    Shape: (n, 3, 3) float64.
    """
    if group == "azimuthal":
        angles = 2 * math.pi * torch.rand(n, dtype=torch.float64, generator=generator)
        return torch.stack([axis_angle((0, 0, 1), float(angle)) for angle in angles])
    turns = random_rotations(n, generator)
    if group == "o3":
        turns[::2] *= -1
    return turns


def has_symmetries(source: Grid, target: Grid) -> bool:
    """Whether :func:`symmetries` has any rotation but the identity to offer."""
    if isinstance(source, LatLon) and isinstance(target, LatLon):
        return math.gcd(source.nlon, target.nlon) > 1
    return type(source) is type(target) and source.symmetry is not None and len(source.symmetry.rotations) > 1


def symmetries(
    source: Grid, target: Grid, n: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Up to n rotations other than the identity that permute both grids: R, and for each grid perm, point i going to perm[i].

    Raises: ValueError where the grids share none.
    """
    if not has_symmetries(source, target):
        raise ValueError(
            f"group is 'grid' but no rotation permutes the points of {source!s} and {target!s}; use 'so3' or 'azimuthal'"
        )
    if isinstance(source, LatLon) and isinstance(target, LatLon):
        columns = math.gcd(source.nlon, target.nlon)
        for turn in 1 + torch.randperm(columns - 1, generator=generator)[:n]:
            rotation = axis_angle((0, 0, 1), 2 * math.pi * int(turn) / columns)
            yield rotation, _shift(source, int(turn), columns), _shift(target, int(turn), columns)
        return
    assert source.symmetry is not None and target.symmetry is not None
    for g in 1 + torch.randperm(len(source.symmetry.rotations) - 1, generator=generator)[:n]:
        permutations = source.symmetry.permutations[g], target.symmetry.permutations[g]
        yield source.symmetry.rotations[g], *permutations


def _shift(grid: LatLon, turn: int, columns: int) -> Tensor:
    """Permutation of a turn about z by turn/columns of a circle."""
    step = turn * (grid.nlon // columns)
    return (torch.arange(grid.num_points).reshape(grid.shape).roll(-step, 1)).reshape(-1)
