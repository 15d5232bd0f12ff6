"""Networks of images: shapes, gradients, samples that do not mix, and the input that is refused."""

from __future__ import annotations

import pytest
import torch

from spheregeo import models
from spheregeo.audit.randomise import randomise

BASELINES = {"image-cnn": (3,), "image-unet": (3, 9, 14)}
RINGS = {"gmr-cnn": (3,), "gmr-unet": (3, 9, 14)}  # isotropic kernels


@pytest.mark.parametrize("name", {**BASELINES, **RINGS})
def test_gradients_samples_and_bad_input(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name, 2, 3, None, width=4, depth=3).double()
    x = torch.randn(3, 2, 9, 14, dtype=torch.float64, requires_grad=True)
    y = model(x)
    assert y.shape == (3, *{**BASELINES, **RINGS}[name])
    y.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    model.eval()
    assert torch.allclose(model(x)[1:2], model(x[1:2]), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match=r"expects \(B, 2, H, W\)"):
        model(torch.zeros(1, 3, 9, 14, dtype=torch.float64))
    if name in BASELINES:  # rings take any size
        with pytest.raises(ValueError, match=r"x has 9 x 3 pixels; .* expects at least 4"):
            model(torch.zeros(1, 2, 9, 3, dtype=torch.float64))
    else:
        assert bool(model(torch.zeros(1, 2, 9, 3, dtype=torch.float64)).isfinite().all())
    with pytest.raises(ValueError, match="kernel_size is 4"):
        models.create(name, 2, 3, None, kernel_size=4)
    with pytest.raises(ValueError, match="works on images"):
        models.resolve(name, models.output_of(name), "points")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("group-cnn", {"group": "D4"}),
        ("group-cnn", {"group": "C8"}),
        ("group-resnet", {"group": "D4", "stem": 4}),
        ("group-unet", {"group": "D4"}),
        ("group-unet", {"group": "C4", "kernel_size": 5}),
    ],
)
@torch.no_grad()
def test_group_networks_are_exact_at_every_size(name: str, options: dict) -> None:
    """Everything random, even and odd sides alike; a layer that breaks the symmetry at one size would show there."""
    torch.manual_seed(0)
    model = randomise(models.create(name, 1, 2, None, width=1, **options)).double().eval()
    for height, width in ((12, 12), (13, 13), (15, 15), (14, 11)):
        x = torch.randn(2, 1, height, width, dtype=torch.float64)
        moves = [lambda t: torch.rot90(t, 1, (-2, -1))]
        if options["group"] == "D4":
            moves.append(lambda t: t.flip(-1))
        y = model(x)
        for move in moves:
            expected = move(y) if models.output_of(name) == "field" else y
            torch.testing.assert_close(model(move(x)), expected, rtol=0, atol=1e-12 * float(y.abs().max()))


def test_group_networks_refuse() -> None:
    with pytest.raises(ValueError, match="kernel_size is 4"):
        models.create("group-cnn", 1, 2, None, kernel_size=4)
    with pytest.raises(ValueError, match="stem is 3"):
        models.create("group-resnet", 1, 2, None, stem=3)
    with pytest.raises(ValueError, match="group is 'E4'"):
        models.create("group-unet", 1, 2, None, group="E4")


def test_pde_network_is_invariant_under_quarter_turns_and_refuses_other_orientations() -> None:
    torch.manual_seed(0)
    model = models.create("pde-cnn", 1, 3, None, width=4, depth=3).double()
    for size in (12, 13):
        x = torch.randn(2, 1, size, size, dtype=torch.float64)
        model.train()(x)
        model.eval()
        assert (model(torch.rot90(x, 1, (2, 3))) - model(x)).abs().max() < 1e-12
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    with pytest.raises(ValueError, match="orientations is 6; expected a multiple of 4"):
        models.create("pde-cnn", 1, 3, None, orientations=6)


@torch.no_grad()
@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("name", RINGS)
def test_rings_are_exact_under_quarter_turns_and_flips_on_every_size(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = randomise(models.create(name, 2, 3, None, width=4, depth=3)).double().eval()
    x = torch.randn(2, 2, size, size, dtype=torch.float64)
    y = model(x)
    for turns, flip in ((1, False), (0, True), (3, True)):
        a, b = (torch.rot90(f.flip(-1) if flip else f, turns, (-2, -1)) if f.ndim == 4 else f for f in (x, y))
        torch.testing.assert_close(model(a), b, rtol=0, atol=1e-12 * float(y.abs().max()))
