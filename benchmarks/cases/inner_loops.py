"""Layers on the LLVM tiles of the CPU engine beside the same layers on plain numba loops, in one process.

A copy of the kernels, a package of another name, is imported with ``SPHEREGEO_TILES=0``; it stands in for them while the second
work runs.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from cases.configuration import PointConfiguration
from measure import Work

PACKAGE, COPY = "spheregeo.sparse.engines.kernels", "kernels_with_plain_loops"


@cache
def plain_kernels() -> ModuleType:
    """The copy of the kernels, compiled with plain loops."""
    tiles = importlib.import_module(f"{PACKAGE}.inner").chosen.__name__
    assert tiles == f"{PACKAGE}.tiles", f"the inner loops to compare with are {tiles}"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(importlib.import_module(PACKAGE).__path__[0])
        copy = shutil.copytree(source, Path(folder) / COPY, ignore=shutil.ignore_patterns("__pycache__"))
        for file in copy.glob("*.py"):
            file.write_text(file.read_text().replace(PACKAGE, COPY))
        before = os.environ.get("SPHEREGEO_TILES")
        os.environ["SPHEREGEO_TILES"] = "0"
        sys.path.insert(0, folder)
        try:
            found = importlib.import_module(COPY)
        finally:
            sys.path.remove(folder)
            os.environ.pop("SPHEREGEO_TILES")
            if before is not None:
                os.environ["SPHEREGEO_TILES"] = before
    assert sys.modules[f"{COPY}.inner"].chosen.__name__ == f"{COPY}.loops"
    return found


@contextmanager
def exchanged() -> Iterator[None]:
    """Have engines call the copy."""
    first, second = sys.modules[PACKAGE], plain_kernels()
    users = [m for m in list(sys.modules.values()) if vars(m).get("kernels") is first]
    assert users, "no engine calls the kernels by their package"
    for module in users:
        vars(module)["kernels"] = second
    try:
        yield
    finally:
        for module in users:
            vars(module)["kernels"] = first


class OnLoops(Work):
    """Work whose kernels are those with plain loops, forward and backward."""

    def both(self) -> None:
        with exchanged():
            super().both()


def layer_of(what: str, channels: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A layer and its inputs, of which the first is differentiated."""
    import spheregeo as sg

    torch.manual_seed(0)
    if what == "SteerableConv":
        n = 2000
        irreps = f"{channels}x0e + {channels}x1o + {channels}x2e"
        layer = sg.nn.SteerableConv(irreps, irreps, lmax=2)
        positions = torch.randn(n, 3)
        edges = sg.sampling.knn_graph(positions, 12)
        return layer, (torch.randn(n, 9 * channels, requires_grad=True), positions, edges)
    if what == "GaugeConv":
        grid = sg.grids.HEALPix(16)
        field = f"{channels}x0 + {channels}x1"
        return sg.nn.GaugeConv(field, field, grid), (torch.randn(1, 3 * channels, 3072, requires_grad=True),)
    if what == "DiscoConv, rings":
        latlon = sg.grids.Equiangular(64, 128)
        return sg.nn.DiscoConv(channels, channels, latlon), (
            torch.randn(1, channels, 64, 128, requires_grad=True),
        )
    source = sg.grids.Fibonacci(8192)
    return sg.nn.DiscoConv(channels, channels, source), (torch.randn(1, channels, 8192, requires_grad=True),)


def builder(what: str, channels: int, tiles: bool) -> Callable[[], Work]:
    def build() -> Work:
        layer, inputs = layer_of(what, channels)
        leaves = (inputs[0], *layer.parameters())
        if tiles:
            return Work(lambda: layer(*inputs), leaves)

        def forward() -> Tensor:
            if torch.is_grad_enabled():  # by ``both``
                return layer(*inputs)
            with exchanged():
                return layer(*inputs)

        return OnLoops(forward, leaves)

    return build


def agree(works: dict[str, Work]) -> None:
    """Raise unless both give the same values but for rounding."""
    with torch.no_grad():
        ours, theirs = (work.forward() for work in works.values())
    assert (ours - theirs).abs().max() < 1e-4 * ours.abs().max()


def configuration(what: str, points: int, channels: int) -> PointConfiguration:
    builders = {
        "spheregeo": builder(what, channels, True),
        "plain loops": builder(what, channels, False),
    }
    labels = "inner_loops", f"{points} points", f"{what}, {channels} channels", points, channels
    return PointConfiguration(*labels, builders, PointConfiguration(*labels, builders), agree)


def cases() -> list[PointConfiguration]:
    layers = (
        ("SteerableConv", 2000),
        ("GaugeConv", 3072),
        ("DiscoConv, rings", 8192),
        ("DiscoConv, scattered", 8192),
    )
    return [configuration(what, points, channels) for what, points in layers for channels in (16, 64)]
