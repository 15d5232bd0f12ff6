"""Spherical harmonics of many directions beside e3nn's, same basis and normalisation."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.harmonics import component_harmonics


def ours(points: int, lmax: int) -> Callable[[], Work]:
    def build() -> Work:
        torch.manual_seed(0)
        v = torch.randn(points, 3, requires_grad=True)
        return Work(lambda: component_harmonics(v, lmax), (v,))

    return build


def peer(points: int, lmax: int) -> Callable[[], Work]:
    def build() -> Work:
        from e3nn.o3 import spherical_harmonics

        torch.manual_seed(0)
        v = torch.randn(points, 3, requires_grad=True)
        degrees = list(range(lmax + 1))
        return Work(lambda: spherical_harmonics(degrees, v, True, normalization="component"), (v,))

    return build


def agree(works: dict[str, Work]) -> None:
    """Raise unless both give the same values."""
    with torch.no_grad():
        difference = (works["spheregeo"].forward() - works["e3nn"].forward()).abs().max()
    assert difference < 1e-3, f"values differ by {difference}"


def configuration(points: int, lmax: int, small: PointConfiguration | None) -> PointConfiguration:
    builders = {"spheregeo": ours(points, lmax), "e3nn": peer(points, lmax)}
    return PointConfiguration(
        "harmonics", f"{points} directions", f"l <= {lmax}", points, 1, builders, small, agree
    )


def cases() -> list[PointConfiguration]:
    found = []
    for points, lmax in ((1_000_000, 2), (1_000_000, 6), (20_000, 4)):
        found.append(configuration(points, lmax, configuration(1000, lmax, None)))
    return found
