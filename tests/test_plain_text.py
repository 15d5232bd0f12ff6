"""Grids and kernels as text: read back exactly, and nothing else is evaluated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from spheregeo import models, tasks
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, HEALPix, Icosahedral, parse_grid
from spheregeo.kernels import PiecewiseLinear, Rings, parse_kernel


@pytest.mark.parametrize(
    "grid",
    [
        Equiangular(4, 8),
        Equiangular(5, 8, poles=True),
        GaussLegendre(4, 8),
        HEALPix(2, order="nested"),
        Icosahedral(1),
        Fibonacci(50),
    ],
    ids=repr,
)
def test_grids_come_back(grid: object) -> None:
    assert parse_grid(repr(grid)) == grid


@pytest.mark.parametrize("kernel", [Rings(3), PiecewiseLinear(3, 4)], ids=repr)
def test_kernels_come_back(kernel: object) -> None:
    assert parse_kernel(repr(kernel)) == kernel


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HEALPix",
        "os.system('x')",
        "__import__('os')",
        "Equiangular(open('x'))",
        "Grid()",
        "clear_cache()",
        "Torus(3)",
        "HEALPix(2, sides=3)",
        "HEALPix(0)",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_grid(text)


def test_models_take_what_recipes_take() -> None:
    grid = Equiangular(8, 16)
    levels = [grid, HEALPix(2)]
    as_text = {"kernel": "PiecewiseLinear(3, 3)", "levels": [repr(level) for level in levels]}
    text = models.create("sphere-unet", 1, 2, grid, width=4, depth=2, **as_text)
    made = models.create(
        "sphere-unet", 1, 2, grid, width=4, depth=2, kernel=PiecewiseLinear(3, 3), levels=levels
    )
    made.load_state_dict(text.state_dict())
    image = torch.randn(1, 1, 8, 16)
    assert torch.equal(made.eval()(image), text.eval()(image))
    assert tasks.parse_grid is parse_grid and tasks.parse_kernel is parse_kernel


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: models.create("sphere-unet-smal", 1, 2, Equiangular(8, 16)),
            "did you mean 'sphere-unet-small",
        ),
        (lambda: models.create("sphere-unet", 1, 2, Equiangular(8, 16), widht=3), "did you mean 'width"),
        (lambda: models.resolve("gauge-unt"), "did you mean 'gauge-unet"),
        (lambda: parse_kernel("Ring(3)"), "did you mean 'Rings"),
        (lambda: parse_grid("Healpix(8)"), "did you mean 'HEALPix"),
    ],
)
def test_unknown_names_get_the_nearest_ones(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
