"""Models by name: every one of them builds, runs and trains."""

from __future__ import annotations

import pytest
import torch

from spheregeo import models
from spheregeo.grids import Equiangular


@pytest.mark.parametrize("name", models.names())
def test_every_model(name: str) -> None:
    model = models.create(name, 2, 3, Equiangular(16, 32), width=4, depth=3)
    y = model(torch.randn(2, 2, 16, 32))
    assert y.shape == ((2, 3, 16, 32) if name in models.names("field") else (2, 3))
    y.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    again = models.create(name, 2, 3, Equiangular(16, 32), width=4, depth=3)
    again.load_state_dict(model.state_dict())


def test_unknown_names_and_options() -> None:
    with pytest.raises(ValueError, match=r"no model is named 'resnet'.*sphere-unet"):
        models.create("resnet", 2, 3, Equiangular(8, 16))
    with pytest.raises(ValueError, match="takes no option 'colour'; its options are width"):
        models.create("pixel-mlp", 2, 3, Equiangular(8, 16), colour=1)
    with pytest.raises(ValueError, match="exists already"):
        models.register("pixel-mlp")(torch.nn.Identity)
