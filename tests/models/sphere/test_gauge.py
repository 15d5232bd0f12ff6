"""Gauge networks on spheres: shapes, rotations, parameters that act, and the frames' own gauge."""

from __future__ import annotations

import pytest
import torch

from spheregeo.audit import equivariance_error, measure_equivariance, randomise
from spheregeo.grids import Equiangular, HEALPix, Icosahedral
from spheregeo.models import create


@pytest.mark.parametrize("grid", [HEALPix(8), Equiangular(16, 32), Icosahedral(3)], ids=str)
@pytest.mark.parametrize("nonlinearity", ["gated", "regular"])
def test_shapes_and_gradients(grid: object, nonlinearity: str) -> None:
    model = create("gauge-unet", 3, 5, grid, width=4, depth=2, nonlinearity=nonlinearity, max_order=2)
    randomise(model)
    x = torch.randn(2, 3, *grid.shape)  # type: ignore[attr-defined]
    y = model(x)
    assert y.shape == (2, 5, *grid.shape)  # type: ignore[attr-defined]
    y.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.norm()) > 0, name
    labels = create("gauge-classifier", 3, 7, grid, width=4, depth=2, nonlinearity=nonlinearity)(x)
    assert labels.shape == (2, 7)


@pytest.mark.parametrize(("depth", "bar"), [(1, 2e-3), (2, 3e-2)])
def test_commutes_with_rotations(depth: int, bar: float) -> None:
    """All parameters and statistics random, a band-limited input: 1.1e-3 and 2.0e-2 measured, falling with resolution."""
    torch.manual_seed(0)
    grid = HEALPix(32)
    model = create("gauge-unet", 1, 2, grid, width=4, depth=depth, spacings=3.0).eval()
    randomise(model, torch.Generator().manual_seed(0), torch.randn(1, 1, *grid.shape))
    assert equivariance_error(model.double(), grid) < bar


def test_vectors_in_and_out_turn_with_the_sphere() -> None:
    """Fields 1x0 + 1x1 to 1x1 + 2x0 + 1x2, all random: 2 % measured, as for scalars; exact under the grid's own rotations."""
    torch.manual_seed(0)
    grid = HEALPix(16)
    types = {"in_type": "1x0 + 1x1", "out_type": "1x1 + 2x0 + 1x2"}
    model = create("gauge-unet", 3, 6, grid, width=4, depth=1, max_order=2, spacings=3.0, **types).eval()
    randomise(model, torch.Generator().manual_seed(0), torch.randn(1, 3, *grid.shape))
    model.double()
    both = {"field_in": "1x0 + 1x1", "field_out": "1x1 + 2x0 + 1x2"}
    assert measure_equivariance(model, grid, group="so3", lmax=4, **both).error < 3e-2
    wrong = {"field_in": "3x0", "field_out": "6x0"}  # components taken for scalars
    assert measure_equivariance(model, grid, group="so3", lmax=4, **wrong).error > 0.1
    assert create("gauge-unet", 3, 2, HEALPix(4), depth=1, out_type="1x1")(torch.zeros(1, 3, 192)).any() == 0
    labels = create("gauge-classifier", 3, 2, grid, width=4, depth=2, in_type="1x0 + 1x1").eval()
    randomise(labels, torch.Generator().manual_seed(0), torch.randn(1, 3, *grid.shape))
    x = torch.cat([torch.randn(1, 1, 3072), torch.zeros(1, 2, 3072)], 1)
    assert not torch.equal(labels(x), labels(x + torch.tensor([0.0, 1.0, 0.0])[:, None]))


def test_checkpointing_changes_nothing() -> None:
    grid = HEALPix(4)
    x = torch.randn(1, 1, *grid.shape)
    gradients = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        model = create("gauge-unet", 1, 2, grid, width=4, depth=2, checkpoint=checkpoint)
        model(x).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # type: ignore[union-attr]
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[0].norm()


def test_errors() -> None:
    with pytest.raises(ValueError, match="in_type is '1x1' with 2 channels; expected 1 channels of orders 0"):
        create("gauge-unet", 1, 2, HEALPix(4), in_type="1x1", depth=1)
    with pytest.raises(ValueError, match="out_type is '1x2' with 2 channels; expected 2"):
        create("gauge-unet", 1, 2, HEALPix(4), out_type="1x2", depth=1)
    with pytest.raises(ValueError, match="max_order"):
        create("gauge-unet", 1, 2, HEALPix(4), max_order=0)
    with pytest.raises(ValueError, match="nonlinearity is 'relu'"):
        create("gauge-classifier", 1, 2, HEALPix(4), depth=1, nonlinearity="relu")
    with pytest.raises(ValueError, match="x has shape"):
        create("gauge-unet", 1, 2, HEALPix(4), depth=1)(torch.zeros(1, 2, 192))
