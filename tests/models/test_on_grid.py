"""Networks of one grid on another: which grid that is, and what the way there and back costs."""

from __future__ import annotations

import pytest
import torch

from spheregeo import models
from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.models import OnGrid, PixelMLP
from spheregeo.models.on_grid import to_healpix, to_icosahedral, to_image


@pytest.mark.parametrize(
    ("grid", "icosahedral", "healpix", "image"),
    [
        (Equiangular(64, 128), 5, 32, Equiangular(64, 128)),
        (GaussLegendre(20, 40), 3, 8, GaussLegendre(20, 40)),
        (HEALPix(8, order="nested"), 3, 8, Equiangular(16, 32)),
        (Fibonacci(20), 0, 1, Equiangular(8, 16)),
    ],
    ids=repr,
)
def test_the_native_grid_is_of_like_resolution(
    grid: Grid, icosahedral: int, healpix: int, image: Grid
) -> None:
    assert to_icosahedral(grid) == Icosahedral(icosahedral)
    assert to_healpix(grid) == (grid if isinstance(grid, HEALPix) else HEALPix(healpix))
    assert to_image(grid) == image
    for native in (to_icosahedral, to_healpix, to_image):
        assert native(native(grid)) == native(grid)


def test_fields_go_there_and_back() -> None:
    grid, native = Equiangular(24, 48), HEALPix(16)
    model = OnGrid(torch.nn.Identity(), grid, native)
    height = grid.points[:, 2].reshape(1, 1, 24, 48).float()
    # Two linear interpolations: each of second order, spacing² / 8 of the second derivative.
    assert (model(height) - height).abs().max() < 2 * max(grid.spacing, native.spacing) ** 2 / 8 * 2
    constant = torch.full((2, 3, 24, 48), 0.7)
    torch.testing.assert_close(model(constant), constant)
    with pytest.raises(ValueError, match=r"the fields of Equiangular\(nlat=24"):
        model(torch.randn(1, 3, native.num_points))


def test_labels_come_back_as_they_are() -> None:
    grid = Fibonacci(500)
    model = models.create("planar-cnn", 2, 5, grid, width=4, depth=2)
    assert isinstance(model, OnGrid) and model.in_channels == 2 and model.native == Equiangular(16, 32)
    x = torch.randn(3, 2, 500, requires_grad=True)
    y = model(x)
    assert y.shape == (3, 5)
    y.square().sum().backward()
    assert x.grad is not None and (x.grad.abs().sum((0, 1)) > 0).float().mean() > 0.9


def test_no_wrapper_where_none_is_needed() -> None:
    assert isinstance(models.create("planar-unet", 1, 1, Equiangular(8, 16), depth=2), models.PlanarUNet)
    assert isinstance(models.create("pixel-mlp", 1, 1, HEALPix(2)), PixelMLP)
    weights = models.create("planar-unet", 1, 2, HEALPix(8), width=4, depth=2).state_dict()
    assert all(name.startswith("model.") for name in weights), (
        "the interpolations are no part of a checkpoint"
    )
