"""Every public grid and kernel passes the compliance suite. A newly exported class that has no small example fails."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import trimesh
from torch import Tensor

from spheregeo import grids, kernels
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral, Scattered
from spheregeo.kernels import GaussianRings, Kernel, Rings
from spheregeo.mesh import TriangleMesh
from spheregeo.testing import ComplianceError, check_grid, check_kernel, small_grids, small_kernels

EXACT = {
    Equiangular: 5,
    GaussLegendre: 11,
    HEALPix: 1,
    Icosahedral: 5,
}  # degrees that the small grids integrate


def concrete(room: Any, base: type) -> list[type]:
    found = [getattr(room, name) for name in room.__all__]
    return [c for c in found if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)]


@pytest.mark.parametrize(
    ("room", "base", "examples", "line"),
    [
        (grids, Grid, small_grids(spheres_only=False), "small_grids: {0}(8, 16),"),
        (kernels, Kernel, small_kernels(), "small_kernels: {0}(3),"),
    ],
    ids=["grids", "kernels"],
)
def test_every_public_class_has_an_example(room: Any, base: type, examples: list[Any], line: str) -> None:
    there = {type(example) for example in examples}
    missing = [c.__name__ for c in concrete(room, base) if c not in there and c is not grids.LatLon]
    assert not missing, "add to spheregeo/testing/examples.py, " + ", ".join(line.format(m) for m in missing)


@pytest.mark.parametrize("grid", small_grids(spheres_only=False), ids=str)
def test_grids(grid: Grid) -> None:
    bound = 0.3 if isinstance(grid, Scattered) else 0.1  # random directions leave wide gaps
    check_grid(grid, degree=EXACT.get(type(grid), 0), quadrature=1e-12, equivariance=bound)


def test_meshes_are_grids() -> None:
    sphere = trimesh.creation.icosphere(1)
    check_grid(TriangleMesh(torch.tensor(sphere.vertices), torch.tensor(sphere.faces)))


@pytest.mark.parametrize("kernel", small_kernels(), ids=str)
def test_kernels(kernel: Kernel) -> None:
    check_kernel(kernel, equivariance=0.05)


# ---- the suites find what is broken


@dataclass(frozen=True)
class Faulty(Fibonacci):
    """A Fibonacci grid with one fault."""

    fault: str = ""

    @property
    def areas(self) -> Tensor:
        areas = super().areas
        return 1.01 * areas if self.fault == "sphere" else areas.float() if self.fault == "tensors" else areas

    @property
    def frames(self) -> Tensor:
        frames = super().frames
        return frames.flip(1) if self.fault == "frames" else frames

    def refine(self) -> Grid:
        return Fibonacci(7 * self.n) if self.fault == "levels" else super().refine()


@pytest.mark.parametrize("fault", ["sphere", "tensors", "frames", "levels"])
def test_faults_of_grids_are_named(fault: str) -> None:
    with pytest.raises(ComplianceError, match=rf"checks failed(.|\n)*\n  {fault}: "):
        check_grid(Faulty(60, fault), namespace={"Faulty": Faulty})


@dataclass(frozen=True)
class Odd(GaussianRings):
    """Gaussian rings with one fault."""

    fault: str = ""

    @property
    def orders(self) -> tuple[int | None, ...]:
        return (1, *super().orders[1:]) if self.fault == "orders" else super().orders

    def on_disc(self, t: Tensor, phi: Tensor) -> Tensor:
        values = super().on_disc(t, phi)
        if self.fault == "independent":
            values[1] = 2 * values[0]
        if self.fault == "values":
            values = values + 0.01 * phi
        if self.fault == "kinks":
            values = values * (t < 0.371)
        return values


@pytest.mark.parametrize("fault", ["orders", "independent", "values", "kinks"])
def test_faults_of_kernels_are_named(fault: str) -> None:
    with pytest.raises(ComplianceError, match=rf"checks failed(.|\n)*\n  {fault}: "):
        check_kernel(Odd(3, fault), skip=["value"])


def test_values_that_change_are_found() -> None:
    class Loose(Rings):
        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

    with pytest.raises(ComplianceError, match=r"value: "):
        check_kernel(Loose(3))
    assert dataclasses.is_dataclass(Loose)


def test_names_of_checks_are_checked() -> None:
    with pytest.raises(ValueError, match=re.escape("skip names 'layer'; the checks are frames, layers")):
        check_grid(HEALPix(2), skip=["layer"])
    with pytest.raises(TypeError, match="expected a list of names"):
        check_grid(HEALPix(2), skip="layers")
    assert "layers" not in check_grid(HEALPix(2), skip=["layers"])
