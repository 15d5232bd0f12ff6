"""HEALPix and DeepSphere networks: both orders, options, symmetries, checkpointing, errors."""

from __future__ import annotations

import copy

import healpy
import numpy as np
import pytest
import torch

from spheregeo import models
from spheregeo.grids import Equiangular, Fibonacci, Grid, HEALPix, Icosahedral
from spheregeo.models import (
    DeepSphereClassifier,
    DeepSphereUNet,
    HEALPixClassifier,
    HEALPixUNet,
    OnGrid,
    create,
    resolve,
)


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter, bias and batch-norm statistic drawn at random, in float64."""
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    for m in model.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2.0)
            m.weight.data.uniform_(0.5, 1.5)
    return model.double().eval()


@pytest.mark.parametrize(
    "name", ["healpix-unet", "healpix-classifier", "deepsphere-unet", "deepsphere-classifier"]
)
def test_orders_agree(name: str) -> None:
    ring, nested = HEALPix(8), HEALPix(8, "nested")
    model = randomise(create(name, 2, 3, ring, width=4, depth=3))
    twin = create(name, 2, 3, nested, width=4, depth=3).double().eval()
    twin.load_state_dict(model.state_dict())
    to_ring = healpy.nest2ring(8, np.arange(768))
    x = torch.randn(2, 2, 768, dtype=torch.float64)
    y = model(x)
    y = y if y.ndim == 2 else y[..., to_ring]
    torch.testing.assert_close(twin(x[..., to_ring]), y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("upsample", ["shuffle", "nearest"])
def test_healpix_unet_commutes_with_quarter_turns(upsample: str) -> None:
    grid = HEALPix(8, "nested")
    assert grid.symmetry is not None
    model = randomise(HEALPixUNet(2, 3, grid, width=4, depth=3, upsample=upsample))
    x = torch.randn(1, 2, 768, dtype=torch.float64)
    for permutation in grid.symmetry.permutations[1:4]:
        moved = torch.empty_like(x).index_copy_(2, permutation, x)
        expected = torch.empty_like(model(x)).index_copy_(2, permutation, model(x))
        assert (model(moved) - expected).norm() / expected.norm() < 1e-11


@pytest.mark.parametrize("grid", [HEALPix(8), HEALPix(8, "nested")], ids=str)
@pytest.mark.parametrize("upsample", ["linear", "nearest"])
def test_deepsphere_commutes_with_the_grids_rotations(grid: HEALPix, upsample: str) -> None:
    assert grid.symmetry is not None
    unet = randomise(DeepSphereUNet(2, 3, grid, width=4, depth=3, upsample=upsample))
    classifier = randomise(DeepSphereClassifier(2, 3, grid, width=4, depth=3))
    x = torch.randn(1, 2, grid.num_points, dtype=torch.float64)
    for permutation in grid.symmetry.permutations[1:]:
        moved = torch.empty_like(x).index_copy_(2, permutation, x)
        expected = torch.empty_like(unet(x)).index_copy_(2, permutation, unet(x))
        assert (unet(moved) - expected).norm() / expected.norm() < 1e-10
        torch.testing.assert_close(classifier(moved), classifier(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("grid", [Equiangular(16, 32), Icosahedral(2), HEALPix(4)], ids=str)
def test_deepsphere_on_nested_grids(grid: Grid) -> None:
    model = DeepSphereUNet(2, 3, grid, width=4, depth=3, order=2, neighbors=8, norm="none", reduce="max")
    x = torch.randn(2, 2, *grid.shape)
    y = model(x)
    assert y.shape == (2, 3, *grid.shape)
    y.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_options_change_the_network() -> None:
    grid = HEALPix(4)
    x = torch.randn(2, 2, 192)
    for options in (
        {"missing": "drop"},
        {"missing": "renormalize", "norm": "group"},
        {"upsample": "nearest", "blocks": 0},
        {"reduce": "max", "norm": "none"},
    ):
        model = HEALPixUNet(2, 3, grid, width=4, depth=2, **options)  # type: ignore[arg-type]
        model(x).square().mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert HEALPixClassifier(2, 5, grid, width=4, depth=3, dropout=0.5)(x).shape == (2, 5)


def test_checkpointing_changes_nothing() -> None:
    plain = HEALPixUNet(2, 3, HEALPix(4), width=4, depth=2).train()
    saving = copy.deepcopy(plain)
    saving.checkpoint = True
    x = torch.randn(2, 2, 192)
    for model in (plain, saving):
        model(x).square().mean().backward()
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for b, c in zip(plain.buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(b, c)


def test_other_grids_are_resampled_by_name_and_refused_by_class() -> None:
    grid = Equiangular(16, 32)
    assert resolve("healpix") == "healpix-unet" and resolve("healpix", "label") == "healpix-classifier"
    model = create("healpix-unet", 2, 3, grid, width=4, depth=3)
    assert isinstance(model, OnGrid) and model(torch.randn(1, 2, 16, 32)).shape == (1, 3, 16, 32)
    for kind in (HEALPixUNet, HEALPixClassifier):
        with pytest.raises(ValueError, match="expected a HEALPix grid"):
            kind(2, 3, grid)


def test_errors() -> None:
    grid = HEALPix(4)
    with pytest.raises(ValueError, match="depth <= 3"):
        HEALPixUNet(2, 3, grid, depth=4)
    with pytest.raises(ValueError, match="upsample is 'linear'"):
        HEALPixUNet(2, 3, grid, depth=2, upsample="linear")
    with pytest.raises(ValueError, match="upsample is 'shuffle'"):
        DeepSphereUNet(2, 3, grid, depth=2, upsample="shuffle")
    with pytest.raises(ValueError, match="missing is 'zero'"):
        HEALPixUNet(2, 3, grid, depth=2, missing="zero")
    with pytest.raises(ValueError, match=r"\(1, 3, 192\).*expects \(B, 2, 192\)"):
        HEALPixClassifier(2, 3, grid, depth=2)(torch.randn(1, 3, 192))
    with pytest.raises(ValueError, match="depth <= 1"):
        DeepSphereUNet(2, 3, Fibonacci(50), depth=2)


def test_deepsphere_takes_the_former_name_of_neighbors() -> None:
    with pytest.warns(DeprecationWarning, match="argument neighbours is called neighbors now"):
        former = models.create("deepsphere-unet", 1, 1, HEALPix(4), width=4, depth=2, neighbours=8)
    assert former.encoder[0][0].neighbors == 8  # type: ignore[index, union-attr]
