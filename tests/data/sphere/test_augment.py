from __future__ import annotations

import numpy as np
import pytest
import torch

from spheregeo.data import IGNORE, AzimuthalShift, ColourJitter, FieldJitter, Normalize, RandomRotation, Rooms
from spheregeo.data.common import Item, generator


@pytest.fixture
def item() -> Item:
    room = Rooms(1, (32, 64))[0]
    room["label"][:4] = IGNORE
    return room


def directions(height: int, width: int) -> torch.Tensor:
    theta = (torch.arange(height) + 0.5) * torch.pi / height
    phi = torch.arange(width) * 2 * torch.pi / width
    x, y = torch.sin(theta)[:, None] * torch.cos(phi), torch.sin(theta)[:, None] * torch.sin(phi)
    return torch.stack([x, y, torch.cos(theta)[:, None].expand(height, width)])


def test_an_azimuthal_shift_moves_all_planes_alike(item: Item) -> None:
    turned = AzimuthalShift(mirror=False)(item, generator(1))
    shift = next(s for s in range(64) if torch.equal(item["label"].roll(s, -1), turned["label"]))
    assert all(torch.equal(value.roll(shift, -1), turned[key]) for key, value in item.items())


def test_mirrors_come_half_of_the_time(item: Item) -> None:
    asymmetric = {"image": torch.arange(8.0).expand(1, 4, 8) ** 2}
    turned = [AzimuthalShift()(asymmetric, generator(k))["image"][0, 0] for k in range(200)]
    mirrored = sum(not any(torch.equal(t.roll(s), torch.arange(8.0) ** 2) for s in range(8)) for t in turned)
    assert 70 < mirrored < 130  # 100 +- 4 standard deviations


def test_a_rotation_keeps_labels_and_depths_among_the_old_ones(item: Item) -> None:
    turned = RandomRotation()(item, generator(2))
    for key in ("label", "depth"):
        assert turned[key].dtype == item[key].dtype
        assert set(turned[key].unique().tolist()) <= set(item[key].unique().tolist())
    assert IGNORE in turned["label"]
    assert not torch.equal(turned["label"], item["label"])


@pytest.mark.parametrize("mirror", [False, True])
def test_image_label_and_depth_turn_together(mirror: bool) -> None:
    """A field, its sign as label and its value as depth still agree after any rotation."""
    z = directions(64, 128) @ torch.eye(128)
    field = z[0] * 0.8 + z[2] * 0.6
    item = {"image": field[None], "label": (field > 0).long(), "depth": field + 2}
    for k in range(6):
        turned = RandomRotation(mirror)(item, generator(k))
        assert (
            float((turned["depth"] - 2 - turned["image"][0]).abs().max()) < 0.06
        )  # nearest: half a pixel's slope
        clear = turned["image"][0].abs() > 0.06
        assert torch.equal(turned["label"][clear], (turned["image"][0] > 0)[clear].long())


def test_rotations_are_uniform_over_the_group() -> None:
    """Where the pole goes is uniform on the sphere: mean 0, second moment 1/3 (400 draws; 5 standard deviations)."""
    z = directions(16, 32)
    item = {"image": z.clone()}
    points = torch.stack([RandomRotation()(item, generator(7, k))["image"][:, 0].mean(1) for k in range(400)])
    points = torch.nn.functional.normalize(points, dim=-1)  # R^-1 of the north pole
    assert float(points.mean(0).abs().max()) < 5 * (1 / 3 / 400) ** 0.5
    assert float((points.T @ points / 400 - torch.eye(3) / 3).abs().max()) < 0.08


def test_jitter_stays_in_range_and_leaves_other_channels(item: Item) -> None:
    image = torch.cat([item["image"], torch.full((1, 32, 64), 5000.0)])
    for k in range(20):
        out = ColourJitter(0.5, 0.5, 0.5)(item | {"image": image}, generator(k))["image"]
        assert 0 <= float(out[:3].min()) and float(out[:3].max()) <= 1
        assert torch.equal(out[3], image[3])
        assert not torch.equal(out[:3], image[:3])
    still = ColourJitter(0, 0, 0)(item, generator(0))["image"]
    assert torch.allclose(still, item["image"], atol=1e-6)


def test_field_jitter_scales_and_shifts_the_other_channels(item: Item) -> None:
    height = directions(32, 64)[2:] * 1000
    image = torch.cat([item["image"], height])
    out = FieldJitter(3, 0.1, 0.1)(item | {"image": image}, generator(3))["image"]
    assert torch.equal(out[:3], image[:3])
    gain = float((out[3].max() - out[3].min()) / (height.max() - height.min()))
    assert 0.9 <= gain <= 1.1 and gain != 1
    offset = float((out[3] - gain * height[0]).mean())
    assert 0 < abs(offset) <= 0.1 * float(height.std()) + 1e-3


def test_normalize_is_an_affine_map_a_channel(item: Item) -> None:
    out = Normalize((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(item)["image"]
    want = (item["image"].numpy() - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([1, 2, 4])[
        :, None, None
    ]
    np.testing.assert_allclose(out.numpy(), want, atol=1e-6)
    with pytest.raises(ValueError, match="mean has 2 numbers but the image has 3"):
        Normalize((0.0, 0.0), (1.0, 1.0))(item)
