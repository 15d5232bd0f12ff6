"""Networks of images: shapes, gradients, samples that do not mix, and the input that is refused."""

from __future__ import annotations

import pytest
import torch

from spheregeo import models

BASELINES = {"image-cnn": (3,), "image-unet": (3, 9, 14)}


@pytest.mark.parametrize("name", BASELINES)
def test_gradients_samples_and_bad_input(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name, 2, 3, None, width=4, depth=3).double()
    x = torch.randn(3, 2, 9, 14, dtype=torch.float64, requires_grad=True)
    y = model(x)
    assert y.shape == (3, *BASELINES[name])
    y.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    model.eval()
    assert torch.allclose(model(x)[1:2], model(x[1:2]), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match=r"expects \(B, 2, H, W\)"):
        model(torch.zeros(1, 3, 9, 14, dtype=torch.float64))
    with pytest.raises(ValueError, match="kernel_size is 4"):
        models.create(name, 2, 3, None, kernel_size=4)
    with pytest.raises(ValueError, match="works on images"):
        models.resolve(name, models.output_of(name), "points")
