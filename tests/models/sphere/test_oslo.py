"""Networks of compression: symbols that survive, weights for any resolution, and what turns leave alone."""

from __future__ import annotations

import pytest
import torch

from spheregeo import models
from spheregeo.coding import exact_copy
from spheregeo.grids import Equiangular, Grid, HEALPix
from spheregeo.models import OSLO, PlanarOSLO, ScaleHyperprior
from spheregeo.nn import HEALPixConv

NESTED, IMAGE = HEALPix(16, "nested"), Equiangular(32, 64)


def network(grid: Grid = NESTED, **options: int) -> ScaleHyperprior:
    torch.manual_seed(0)
    kind = OSLO if isinstance(grid, HEALPix) else PlanarOSLO
    made = kind(2, 2, grid, **{"width": 4, "depth": 2, **options}).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # biases, too
            parameter += 0.05 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("grid", [NESTED, HEALPix(16), IMAGE])
def test_the_pass_of_training_is_the_pass_of_files(grid: Grid) -> None:
    """Symbols, their scales and the field made of them are those of the rated pass, to the fixed point's accuracy."""
    made, x = network(grid), 3 * torch.randn(1, 2, *grid.shape)
    with torch.no_grad():
        rated = made.rate(x)
    y, z = made.symbols(x)
    assert y.abs().max() > 1
    found = made.synthesis(y.float().unflatten(1, made.latent_grid.shape)[None])
    assert torch.allclose(found, rated.reconstruction, atol=1e-5)
    assert made.bits_of(y, z) == pytest.approx(float(rated.bits), rel=1e-5)
    scales = made.hyper_synthesis(z.float().unflatten(1, made.hyper_grid.shape)[None])[0].flatten(1)
    same = made.scale_indices(z) == made.conditional.indices(scales)
    assert float(same.float().mean()) > 0.97


def test_noise_in_training_reaches_every_weight() -> None:
    made = network().train()
    x = torch.randn(2, 2, *NESTED.shape)
    first, second = made.rate(x), made.rate(x)
    assert not torch.equal(first.reconstruction, second.reconstruction) and first.bits.shape == (2,)
    (first.bits.sum() + first.reconstruction.square().sum()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in made.parameters())


def test_quarter_turns_of_the_grid_turn_the_field() -> None:
    made = network().double()
    x = torch.randn(1, 2, *NESTED.shape, dtype=torch.float64)
    faces = (
        torch.arange(12).reshape(3, 4).roll(1, 1).flatten()
    )  # a turn about z moves faces, and keeps pixels in them

    def turn(field: torch.Tensor) -> torch.Tensor:
        return field.unflatten(2, (12, -1))[:, :, faces].flatten(2)

    assert torch.allclose(made(turn(x)), turn(made(x)), atol=1e-9)


def test_shifts_of_the_image_by_whole_latents_shift_it() -> None:
    made, x = network(IMAGE).double(), torch.randn(1, 2, 32, 64, dtype=torch.float64)
    assert torch.allclose(made(x.roll(16, -1)), made(x).roll(16, -1), atol=1e-9)


def test_weights_serve_any_resolution() -> None:
    small, large = network(), OSLO(2, 2, HEALPix(32, "nested"), width=4, depth=2)
    assert large.load_state_dict(small.state_dict()).missing_keys == []


def test_the_exact_network_is_the_same_in_other_orders_of_pixels() -> None:
    made = network(HEALPix(16))
    z = torch.randint(-9, 10, (4, made.hyper_grid.num_points))
    exact = exact_copy(made.hyper_synthesis, (HEALPixConv,))
    assert torch.equal(made.scale_indices(z), made.conditional.indices(exact(z.double()[None])[0]))


def test_native_grids_and_wrong_arguments() -> None:
    assert models.native_grid("oslo", IMAGE) == HEALPix(16, "nested")
    assert models.native_grid("oslo", HEALPix(4)) == HEALPix(4)
    with pytest.raises(ValueError, match="out_channels is 3 but in_channels 2"):
        OSLO(2, 3, NESTED)
    with pytest.raises(ValueError, match="width is 0"):
        OSLO(2, 2, NESTED, width=0)
    with pytest.raises(ValueError, match="rows and columns"):
        PlanarOSLO(2, 2, NESTED)
    with pytest.raises(ValueError, match="coarsened"):
        OSLO(2, 2, NESTED, depth=3)
    with pytest.raises(ValueError, match="does not give a value at every point"):
        models.resolve("oslo", "field")
