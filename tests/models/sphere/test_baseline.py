"""The baselines: one sees a pixel only, the other a plane."""

from __future__ import annotations

import pytest
import torch

from spheregeo.grids import Equiangular, HEALPix
from spheregeo.models import PixelMLP, PlanarUNet


def test_pixel_mlp_sees_one_pixel() -> None:
    model = PixelMLP(3, 4, HEALPix(4), width=8).eval()
    x = torch.randn(1, 3, 192, requires_grad=True)
    model(x)[0, :, 7].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1)).nonzero().flatten().tolist()
    assert seen == [7]


def test_planar_unet_wraps_in_longitude() -> None:
    model = PlanarUNet(3, 4, Equiangular(16, 32), width=4, depth=3).eval()
    x = torch.randn(1, 3, 16, 32)
    torch.testing.assert_close(model(x.roll(4, -1)), model(x).roll(4, -1))
    assert model(x).shape == (1, 4, 16, 32)


def test_planar_unet_needs_sides_that_halve() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        PlanarUNet(3, 4, Equiangular(12, 24), depth=4)
    with pytest.raises(ValueError, match="lat-lon"):
        PlanarUNet(3, 4, HEALPix(4), depth=2)
