"""Steerable and harmonic networks of images: exact where pixels move onto pixels, for each group and nonlinearity."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo import models
from spheregeo.audit.randomise import randomise
from spheregeo.groups import PlanarGroup

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("steerable-cnn", {"group": "SO2", "nonlinearity": "fourier"}, "C4"),
    ("steerable-cnn", {"group": "O2", "nonlinearity": "gated"}, "D4"),
    ("steerable-cnn", {"group": "D4"}, "D4"),
    ("steerable-unet", {"group": "O2", "nonlinearity": "norm", "max_order": 1}, "D4"),
    ("steerable-unet", {"group": "C4"}, "C4"),
    ("harmonic-cnn", {"max_order": 1}, "C4"),
]


@pytest.mark.parametrize(("name", "options", "exact"), CASES)
def test_what_turns_on_pixels_is_exact(name: str, options: dict[str, Any], exact: str) -> None:
    model = models.create(name, 2, 3, None, width=1, depth=3, kernel_size=3, **options).double()
    x = torch.randn(2, 2, 10, 10, dtype=torch.float64)
    y = model(x)
    y.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    randomise(model, x=x)
    model.eval()
    group = PlanarGroup.of(exact)
    with torch.no_grad():
        y = model(x)
        assert y.std() > 1e-3
        for h in (1, group.size - 1):
            expected = group.turn(y, h) if y.ndim == 4 else y
            torch.testing.assert_close(model(group.turn(x, h)), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["steerable-cnn", "steerable-unet", "harmonic-cnn"])
def test_what_is_refused(name: str) -> None:
    model = models.create(name, 2, 3, None, width=1, depth=1)
    with pytest.raises(ValueError, match=r"expects \(B, 2, H, W\)"):
        model(torch.zeros(1, 3, 9, 9))
    with pytest.raises(ValueError, match="kernel_size is 4"):
        models.create(name, 2, 3, None, kernel_size=4)
    if name != "harmonic-cnn":
        with pytest.raises(ValueError, match="nonlinearity is 'relu'"):
            models.create(name, 2, 3, None, nonlinearity="relu")
