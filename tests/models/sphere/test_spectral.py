"""Spectral networks: what tasks rely on, sizes as published, rotations, options, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spheregeo.audit import equivariance_error
from spheregeo.grids import Equiangular, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.models import SFNO, S2CNNClassifier, S2CNNUNet, create, resolve
from spheregeo.models.sphere.s2cnn import _bandwidths
from spheregeo.nn import NearIdentity
from spheregeo.testing import check_model

SMALL: dict[str, dict[str, Any]] = {
    "s2cnn-classifier": {"width": 2, "bandwidths": [3, 2]},
    "s2cnn-unet": {"width": 2, "depth": 2, "skip": True},
    "sfno": {"width": 4, "depth": 1},
    "sfno-classifier": {"width": 4, "depth": 1, "norm": "batch"},
    "spin-unet": {"width": 2, "depth": 2, "blocks": 1},
    "spin-classifier": {"width": 2, "depth": 2, "anchors": 3},
}


@pytest.mark.parametrize("name", SMALL)
def test_what_tasks_rely_on(name: str) -> None:
    grid = Equiangular(8, 16)
    model = create(name, 2, 3, grid, **SMALL[name])
    shape = (2, 3) if name.endswith("classifier") else (2, 3, 8, 16)
    turns = {"spin-unet": 0.6, "s2cnn-unet": 0.3, "sfno": 0.2}.get(name, 0.2)  # coarse grids alias; see below
    slow = [] if name == "sfno" else ["compile"]  # their layers are compiled one by one elsewhere
    found = check_model(
        model, grid, out_shape=shape, equivariance={"so3": turns}, skip=["autocast", *slow],
        equivariance_options={"lmax": 3},
    )  # fmt: skip
    assert {"trains", "samples", "checkpoint"} <= set(found)


@pytest.mark.parametrize(("name", "options", "bar"), [
    ("s2cnn-unet", {"width": 3, "depth": 2, "bandwidth": 10, "oversampling": 2.0}, 0.015),
    ("s2cnn-classifier", {"width": 3, "bandwidth": 15, "oversampling": 2.0}, 0.005),
    ("sfno", {"width": 6, "depth": 2}, 0.03),
    ("spin-unet", {"width": 3, "depth": 2, "degrees": 0.5}, 0.04),
])  # fmt: skip
def test_rotations_cost_what_activations_alias(name: str, options: dict[str, Any], bar: float) -> None:
    grid = Equiangular(32, 64)
    torch.manual_seed(0)
    error = equivariance_error(create(name, 1, 2, grid, **options), grid, num_signals=1, num_rotations=2)
    assert 1e-9 < error < bar


def test_position_and_orders_break_the_symmetry() -> None:
    grid = Equiangular(16, 32)
    plain = equivariance_error(SFNO(1, 2, grid, width=4, depth=1), grid, lmax=4)
    for options in ({"position": True}, {"operator": "diagonal"}):
        torch.manual_seed(0)
        broken = equivariance_error(SFNO(1, 2, grid, width=4, depth=1, **options), grid, lmax=4)
        assert broken > 5 * plain


def test_segmentation_network_is_the_published_one() -> None:
    """204 thousand weights with 11 classes, of which 20 thousand of the last correlation are redundant before the read-out."""
    model = S2CNNUNet(1, 11, Equiangular(40, 40), norm="none")
    assert [round(50 / 20 * b) for b in model.bandwidths] == pytest.approx(
        [42, 35, 27, 20, 27, 35, 42], abs=1
    )
    assert _bandwidths(50, 4) == (42, 35, 27, 20, 27, 35, 42)
    counted = sum(p.numel() for p in model.parameters())
    assert counted + 11 * 11 * (192 - 24) == pytest.approx(204_000, rel=2e-3)
    kernels = [block[0].kernel for block in model.blocks] + [model.head.kernel]  # type: ignore[index]
    reach = [
        kernel.max_beta * b / torch.pi for kernel, b in zip(kernels, (20, *model.bandwidths), strict=True)
    ]
    published = [0.1238, 0.1474, 0.1768, 0.2292, 0.3095, 0.2292, 0.1768, 0.1474]
    assert reach == pytest.approx(
        [r * b for r, b in zip(published, (50, 42, 35, 27, 20, 27, 35, 42), strict=True)], rel=1e-3
    )


def test_classifier_has_the_published_bandwidths() -> None:
    model = S2CNNClassifier(1, 10, Equiangular(60, 60))
    assert (model.bandwidth, model.bandwidths) == (30, (10, 6))
    assert [tuple(p.shape) for p in model.encoder.parameters() if p.ndim == 3] == [(20, 1, 24), (40, 20, 192)]


def test_short_names() -> None:
    assert [resolve("s2cnn", output, "grid") for output in ("field", "label")] == [
        "s2cnn-unet",
        "s2cnn-classifier",
    ]
    assert [resolve("spin", output, "grid") for output in ("field", "label")] == [
        "spin-unet",
        "spin-classifier",
    ]


@pytest.mark.parametrize("grid", [GaussLegendre(8, 16), HEALPix(4), Icosahedral(2)], ids=repr)
def test_any_grid_with_a_transform(grid: Grid) -> None:
    x = torch.randn(1, 1, *grid.shape)
    for name in ("s2cnn-unet", "sfno", "spin-unet"):
        model = create(name, 1, 2, grid, width=2, depth=2)
        model(x).square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_checkpointing_changes_nothing() -> None:
    x = torch.randn(2, 1, 8, 16)
    for name in ("s2cnn-unet", "sfno", "spin-unet"):
        gradients = []
        for checkpoint in (False, True):
            torch.manual_seed(0)
            model = create(name, 1, 2, Equiangular(8, 16), width=2, depth=2, checkpoint=checkpoint)
            model(x).square().sum().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # type: ignore[union-attr]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_errors() -> None:
    grid = Equiangular(16, 32)
    with pytest.raises(ValueError, match="bandwidth is 40; expected at most 16"):
        create("s2cnn-unet", 1, 2, grid, bandwidth=40)
    with pytest.raises(ValueError, match="expected one for each layer"):
        create("s2cnn-classifier", 1, 2, grid, bandwidths=[4])
    with pytest.raises(ValueError, match="norm is 'group'"):
        create("s2cnn-unet", 1, 2, grid, norm="group")
    with pytest.raises(ValueError, match=r"oversampling is 0\.5"):
        create("s2cnn-unet", 1, 2, grid, oversampling=0.5)
    with pytest.raises(ValueError, match="norm is 'layer'"):
        create("sfno", 1, 2, grid, norm="layer")
    with pytest.raises(ValueError, match="lmax is 20; expected at most 15"):
        create("sfno", 1, 2, grid, lmax=20)
    with pytest.raises(ValueError, match="degrees is 2"):
        create("spin-unet", 1, 2, grid, degrees=2.0)
    with pytest.raises(ValueError, match="x has shape"):
        create("spin-classifier", 1, 2, grid, width=2, depth=2)(torch.zeros(1, 2, 16, 32))
    kernel = NearIdentity(max_beta=0.5)
    assert create("s2cnn-unet", 1, 2, grid, width=2, depth=1, kernel=kernel).head.kernel == kernel  # type: ignore[union-attr]
