"""Generated vector fields of glyphs: gradients, measurements alike at all places, copies turned without interpolation."""

from __future__ import annotations

import pytest
import torch

from spheregeo.data import GlyphGradientData
from spheregeo.grids import Equiangular
from spheregeo.spectral import VectorSHT


def tiny(**options: object) -> GlyphGradientData:
    given = {"train": 3, "val": 1, "test": 2, "lmax": 7, "size": (16, 32), "batch_size": 1}
    return GlyphGradientData(**{**given, **options})  # type: ignore[arg-type]


def test_fields_are_gradients_of_unit_size() -> None:
    data = tiny(noise=0.0)
    (series,) = data.series("train")
    gradient = series.values[:, 2:].double()
    grid = Equiangular(16, 32)
    found = VectorSHT(grid, 7)(gradient)
    assert found[:, 1].abs().max() < 1e-5 * found[:, 0].abs().max()  # no curl; float32
    square = (gradient.square().sum(1) * grid.areas.reshape(16, 32)).sum((1, 2)) / (4 * torch.pi)
    torch.testing.assert_close(square, torch.ones(3).double(), atol=1e-5, rtol=0)
    length = gradient.norm(dim=1, keepdim=True)
    torch.testing.assert_close(series.values[:, :2].double(), gradient / (1 + length), atol=1e-6, rtol=0)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (1, 2, 16, 32) and batch["target"].shape == (1, 1, 2, 16, 32)


def test_noise_has_one_size_everywhere() -> None:
    data = tiny(test=200, noise=0.3)
    noise = data._disturbance("test", 200)
    spread = noise.square().mean((0, 1, 3)).sqrt()  # by row
    assert (spread - 0.3).abs().max() < 0.02


def test_turned_copies_are_the_same_fields() -> None:
    upright, turned = tiny(noise=0.0), tiny(noise=0.0, rotate_test=3)
    one, many = (
        VectorSHT(Equiangular(16, 32), 7)(d.series("test")[0].values[:, 2:].double())
        for d in (upright, turned)
    )
    assert many.shape[0] == 6
    for l in range(1, 8):
        part = slice(l * l, (l + 1) ** 2)
        power = one[:, 0, part].square().sum(1).repeat_interleave(3)
        torch.testing.assert_close(many[:, 0, part].square().sum(1), power, rtol=1e-4, atol=1e-6)
    assert (many[0] - one[0]).abs().max() > 0.1
    # a turned training sees other rotations than the test
    both = tiny(noise=0.0, rotate_train=True, rotate_test=1, train=2, test=2)
    both.coefficients = lambda split: torch.eye(64)[[4, 5]].double()  # type: ignore[method-assign]
    first, last = (both.series(split)[0].values[:, 2:] for split in ("train", "test"))
    assert (first - last).abs().amax((1, 2, 3)).min() > 0.1
    (train,) = tiny(noise=0.0, rotate_train=True).series("train")
    assert not torch.allclose(train.values, tiny(noise=0.0).series("train")[0].values)


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"size is \(16, 32\) and lmax 16; expected 1 <= lmax"):
        tiny(lmax=16)
    with pytest.raises(ValueError, match="noise is -1"):
        tiny(noise=-1)
