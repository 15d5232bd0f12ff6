"""Wigner matrices of all degrees up to lmax for many rotation matrices, beside e3nn's.

Rows `edges` are the frames of edges, R r = y, as steerable convolutions need them; e3nn's then come from angles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.groups import random_rotations
from spheregeo.harmonics import packed_wigner, wigner_to_y


def inputs(points: int, edges: bool) -> Tensor:
    torch.manual_seed(0)
    x = torch.randn(points, 3) if edges else random_rotations(points).float()
    return x.requires_grad_()


def ours(points: int, lmax: int, edges: bool) -> Callable[[], Work]:
    def build() -> Work:
        x = inputs(points, edges)
        return Work(lambda: wigner_to_y(x, lmax) if edges else packed_wigner(x, lmax), (x,))

    return build


def peer(points: int, lmax: int, edges: bool) -> Callable[[], Work]:
    def build() -> Work:
        from e3nn import o3

        x = inputs(points, edges)

        def of_angles(*angles: Tensor) -> Tensor:
            return torch.cat([o3.wigner_D(degree, *angles).flatten(1) for degree in range(lmax + 1)], 1)

        def forward() -> Tensor:
            if not edges:
                return of_angles(*o3.matrix_to_angles(x))
            alpha, beta = o3.xyz_to_angles(x)
            return of_angles(torch.zeros_like(alpha), -beta, -alpha)

        return Work(forward, (x,))

    return build


def agree(works: dict[str, Work]) -> None:
    """Raise unless both give the same matrices."""
    with torch.no_grad():
        difference = (works["spheregeo"].forward() - works["e3nn"].forward()).abs()
    # near its poles e3nn loses half the digits, so a few rows may stand out
    assert difference.amax(1).quantile(0.99) < 1e-3, f"matrices differ by {difference.amax(1).median()}"


def configuration(
    points: int, lmax: int, edges: bool, small: PointConfiguration | None
) -> PointConfiguration:
    builders = {"spheregeo": ours(points, lmax, edges), "e3nn": peer(points, lmax, edges)}
    space = f"{points} {'edges' if edges else 'rotations'}"
    # the frames of edges may differ by a roll
    check = None if edges else agree
    return PointConfiguration("wigner", space, f"l <= {lmax}", points, 1, builders, small, check)


def cases() -> list[PointConfiguration]:
    return [
        configuration(20_000, lmax, edges, configuration(500, lmax, edges, None))
        for lmax, edges in ((2, False), (6, False), (4, True))
    ]
