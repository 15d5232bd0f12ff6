"""Harmonics of many directions beside e3nn's; harmonic transforms beside torch-harmonics and, where it is installed, ducc0."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch

from cases.configuration import PointConfiguration
from measure import Work
from spheregeo.grids import GaussLegendre
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


def analysis(degrees: int, maps: int, library: str) -> Callable[[], Work]:
    """A builder of the analysis of maps on Gauss–Legendre rings, degrees below ``degrees``."""

    def build() -> Work:
        torch.manual_seed(0)
        x = torch.randn(maps, degrees, 2 * degrees, requires_grad=True)
        if library == "torch-harmonics":
            from torch_harmonics import RealSHT

            theirs = RealSHT(degrees, 2 * degrees, degrees, degrees, "legendre-gauss")
            return Work(lambda: torch.view_as_real(theirs(x)), (x,))
        from spheregeo.spectral import SHT

        layer = SHT(GaussLegendre(degrees, 2 * degrees), degrees - 1)
        return Work(lambda: layer(x), (x,))

    return build


class DuccAnalysis(torch.autograd.Function):
    """ducc0's analysis, one map after another, with its adjoint as derivative."""

    @staticmethod
    def forward(ctx, x, degrees):  # type: ignore[no-untyped-def]
        from ducc0.sht import analysis_2d

        ctx.degrees, ctx.width = degrees, x.shape[2]
        options = {"spin": 0, "lmax": degrees - 1, "geometry": "GL", "nthreads": torch.get_num_threads()}
        found = [analysis_2d(map=part[None], **options) for part in x.numpy()]
        return torch.view_as_real(torch.from_numpy(np.concatenate(found)))

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        from ducc0.sht import adjoint_analysis_2d

        options = {"spin": 0, "lmax": ctx.degrees - 1, "geometry": "GL", "nthreads": torch.get_num_threads()}
        alm = torch.view_as_complex(grad.contiguous()).numpy()
        shape = {"ntheta": ctx.degrees, "nphi": ctx.width}
        found = [adjoint_analysis_2d(alm=part[None], **shape, **options) for part in alm]
        return torch.from_numpy(np.concatenate(found)), None


def ducc(degrees: int, maps: int) -> Callable[[], Work]:
    def build() -> Work:
        torch.manual_seed(0)
        x = torch.randn(maps, degrees, 2 * degrees, requires_grad=True)
        return Work(lambda: DuccAnalysis.apply(x, degrees), (x,))

    return build


def same_power(works: dict[str, Work]) -> None:
    """Raise unless all give coefficients of one size: their orders of coefficients differ."""
    with torch.no_grad():
        ours = works["spheregeo"].forward().square().sum(-1)
        for name, work in works.items():
            found = work.forward()
            if name == "torch-harmonics":  # (maps, l, m, 2): orders m > 0 stand for -m, too
                squares = found.square().sum(-1)
                found = 2 * squares.sum((1, 2)) - squares[:, :, 0].sum(1)
            elif name == "ducc0":  # (maps, packed, 2), m = 0 first
                squares = found.square().sum(-1)
                degrees = int((2 * squares.shape[1]) ** 0.5)
                found = 2 * squares.sum(1) - squares[:, :degrees].sum(1)
            else:
                continue
            assert ((found - ours).abs() < 1e-4 * ours).all(), f"{name} gives other coefficients"


def transform(degrees: int, maps: int, small: PointConfiguration | None) -> PointConfiguration:
    names = (
        ("spheregeo", "torch-harmonics") if degrees <= 512 else ("spheregeo",)
    )  # their table: 8 GiB at 1024
    builders = {name: analysis(degrees, maps, name) for name in names}
    if find_spec("ducc0"):
        builders["ducc0"] = ducc(degrees, maps)
    return PointConfiguration(
        "harmonics",
        f"Gauss-Legendre {degrees}x{2 * degrees}",
        "analysis",
        degrees * degrees * 2,
        maps,
        builders,
        small,
        same_power,
    )


def cases() -> list[PointConfiguration]:
    found = []
    for points, lmax in ((1_000_000, 2), (1_000_000, 6), (20_000, 4)):
        found.append(configuration(points, lmax, configuration(1000, lmax, None)))
    for degrees in (256, 512, 1024):
        for maps in (1, 16):
            found.append(transform(degrees, maps, transform(16, maps, None)))
    return found
