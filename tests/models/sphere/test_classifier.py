"""The DISCO classifier and its planar peer: shapes, invariance, options, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo.audit import equivariance_error, randomise
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.models import DiscoClassifier, PlanarCNN, create


@pytest.mark.parametrize(
    "options",
    [
        {"grid": Equiangular(16, 32), "depth": 3},
        {"grid": HEALPix(8, order="nested"), "depth": 2, "skip": 1},
        {"grid": Fibonacci(200), "levels": [Fibonacci(200), Icosahedral(1)]},
        {"grid": GaussLegendre(8, 16), "depth": 1, "norm": "none", "blocks": 2},
    ],
    ids=lambda o: type(o["grid"]).__name__,
)
def test_any_grid(options: dict[str, Any]) -> None:
    grid: Grid = options.pop("grid")
    model = DiscoClassifier(2, 5, grid, width=4, **options)
    x = torch.randn(3, 2, *grid.shape, requires_grad=True)
    y = model(x)
    assert y.shape == (3, 5)
    y.square().mean().backward()
    assert x.grad is not None and (x.grad != 0).float().mean() > 0.99
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_skip_begins_on_a_coarser_grid() -> None:
    model = DiscoClassifier(1, 3, HEALPix(8), width=4, depth=2, skip=2)
    assert model.levels == (HEALPix(2), HEALPix(1)) and model.grid == HEALPix(8)


@pytest.mark.parametrize("grid", [Icosahedral(2), HEALPix(8)], ids=repr)
def test_no_rotation_of_the_grid_changes_the_answer(grid: Grid) -> None:
    assert grid.symmetry is not None
    model = randomise(DiscoClassifier(2, 4, grid, width=4, depth=3).double().eval())
    x = torch.randn(1, 2, *grid.shape, dtype=torch.float64)
    y = model(x)
    for permutation in grid.symmetry.permutations[1:6]:
        moved = torch.empty_like(x).index_copy_(2, permutation, x)
        torch.testing.assert_close(model(moved), y, rtol=1e-10, atol=1e-10)


def test_invariance_to_any_rotation_by_audit() -> None:
    error = equivariance_error(DiscoClassifier(1, 5, HEALPix(16), width=8, depth=3), HEALPix(16))
    assert 1e-12 < error < 2e-2  # quadrature of the coarser levels
    planar = equivariance_error(PlanarCNN(1, 5, Equiangular(32, 64), width=8, depth=3), Equiangular(32, 64))
    assert planar > 2 * error  # both look at an integral of noise, which changes little


def test_circular_padding_knows_longitude_shifts_and_plain_does_not() -> None:
    errors = {}
    for padding in ("zeros", "circular"):
        model = PlanarCNN(1, 4, Equiangular(16, 32), width=4, depth=3, padding=padding)
        model = randomise(model.double().eval())
        x = torch.randn(2, 1, 16, 32, dtype=torch.float64)
        with torch.no_grad():
            errors[padding] = float((model(x.roll(12, -1)) - model(x)).norm() / model(x).norm())
    assert errors["circular"] < 1e-12  # rounding
    assert errors["zeros"] > 1e-6  # the seam is a column or two of 32, and noise has little mean


def test_bad_arguments() -> None:
    grid = Equiangular(16, 32)
    with pytest.raises(ValueError, match="depth is 7 but"):
        DiscoClassifier(1, 2, grid, depth=6, skip=1)
    with pytest.raises(ValueError, match="skip -1"):
        DiscoClassifier(1, 2, grid, skip=-1)
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        DiscoClassifier(1, 2, grid, depth=2, dropout=1.0)
    with pytest.raises(ValueError, match=r"expects \(B, 1, 16, 32\)"):
        DiscoClassifier(1, 2, grid, depth=2)(torch.randn(1, 2, 16, 32))
    with pytest.raises(ValueError, match="multiples of 8"):
        PlanarCNN(1, 2, Equiangular(12, 24), depth=4)
    with pytest.raises(ValueError, match="lat-lon"):
        PlanarCNN(1, 2, HEALPix(4), depth=2)
    with pytest.raises(ValueError, match="'zeros' or 'circular'"):
        PlanarCNN(1, 2, grid, padding="reflect")
    with pytest.raises(ValueError, match=r"expects \(B, 1, 16, 32\)"):
        create("planar-cnn", 1, 2, grid)(torch.randn(1, 1, 8, 16))
