"""Errors on images: exact under quarter turns and flips, by angle for smooth signals, for every kind of planar field."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from spheregeo import models
from spheregeo.audit import (
    equivariance_error,
    measure_angles,
    measure_equivariance,
    plot_angles,
    report_images,
)
from spheregeo.audit.on_plane import turned_channels
from spheregeo.audit.plane import format_images, plane_waves
from spheregeo.groups import FieldType, PlanarType


def ring(radius: float, size: int = 9) -> nn.Conv2d:
    """A convolution with a kernel of the distance alone, a Gaussian."""
    at = torch.arange(size) - (size - 1) / 2
    conv = nn.Conv2d(1, 1, size, padding=size // 2)
    conv.weight.data[0, 0] = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * radius**2)) / 10
    return conv


class Lift(nn.Module):
    """Four turned copies of one kernel: a regular field of C4."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.out_type = 1, PlanarType.of("1xC4")
        self.kernel, self.bias = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bank = torch.stack([torch.rot90(self.kernel, r) for r in range(4)])[:, None]
        return nn.functional.conv2d(x, bank, padding=1) + self.bias


class Gradient(nn.Module):
    """Central differences along x and y: a vector field, up to rotations of pixels."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.in_channels, self.out_type, self.sign = 1, FieldType("1x1"), sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(x, (1, 1, 1, 1))
        along = x[..., 1:-1, 2:] - x[..., 1:-1, :-2]
        up = x[..., :-2, 1:-1] - x[..., 2:, 1:-1]
        return torch.cat([along, self.sign * up], 1)


def test_quarter_turns_and_flips_are_exact_where_they_should_be_and_missed_nowhere() -> None:
    plain = nn.Conv2d(2, 3, 3, padding=1)
    for group in ("so3", "o3"):
        assert equivariance_error(plain, (7, 7), group=group) > 0.1
        assert equivariance_error(ring(1.2), (7, 9), group=group, randomise=False, num_rotations=7) < 1e-14
    assert equivariance_error(Lift(), (7, 7), num_rotations=3) < 1e-14
    with pytest.raises(ValueError, match="with a reflection is no element of C4"):
        equivariance_error(Lift(), (7, 7), group="o3")
    assert equivariance_error(Gradient(), (7, 7), group="o3", num_rotations=7) < 1e-14
    assert equivariance_error(Gradient(-1.0), (7, 7)) > 0.1
    cyclic = nn.Sequential(Lift(), nn.Conv2d(4, 4, 1))
    cyclic[1].out_type = PlanarType.of("1xC4")
    assert equivariance_error(cyclic, (7, 7)) > 0.1


def test_channels_turn_as_the_types_say() -> None:
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    field = FieldType("1x0 + 1x1")
    once = turned_channels(turned_channels(x, field, 0.4, False), field, 0.3, True)
    both = turned_channels(x, field, 0.3 - 0.4, True)  # the reflection turns angles round
    assert torch.allclose(once, both)
    regular = PlanarType.of("3x0 + 2xD4")
    y = torch.randn(2, 19, 5, 5, dtype=torch.float64)
    assert torch.equal(
        torch.rot90(turned_channels(y, regular, torch.pi / 2, True).flip(-1), 1, (-2, -1)), regular.act(y, 5)
    )


def test_errors_by_angle_need_no_interpolation_of_signals() -> None:
    still, turned = (
        plane_waves((13, 13), 2, a, False, torch.Generator().manual_seed(1)) for a in (0.0, torch.pi / 2)
    )
    assert torch.allclose(torch.rot90(still, 1, (-2, -1)), turned, atol=1e-12)
    mirrored = plane_waves((13, 13), 2, 0.0, True, torch.Generator().manual_seed(1))
    assert torch.allclose(still.flip(-1), mirrored, atol=1e-12)
    found = measure_angles(ring(1.4), (25, 25), angles=(30, 45, 90), randomise=False)
    assert max(found["errors"][:2]) < 2e-3 and found["errors"][2] < 1e-13 < found["errors"][0]
    assert found["spread"] > 0.5
    vectors = measure_angles(Gradient(), (25, 25), angles=(45,), flip=True, shortest=12.0, randomise=False)
    wrong = measure_angles(Gradient(-1.0), (25, 25), angles=(45,), flip=True, shortest=12.0, randomise=False)
    assert vectors["errors"][0] < 0.05 < wrong["errors"][0]
    with pytest.raises(ValueError, match="45° is no element of C4"):
        measure_angles(Lift(), (9, 9), angles=(45,))


def test_report_and_polar_plot(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = models.create("image-cnn", 2, 3, None, width=4, depth=2)
    result = report_images(model, (9, 9), channels=2)
    text = format_images(result)
    assert "error under turns by any angle" in text and "worst angle" in text
    assert result["invariance"]["randomised"]["quarter turns"] > 1e-3
    plot_angles(result["by_angle"], tmp_path / "polar.png")
    assert (tmp_path / "polar.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="series is empty"):
        plot_angles({})


def test_what_does_not_fit_is_named() -> None:
    conv = nn.Conv2d(2, 3, 3)
    with pytest.raises(ValueError, match="channels is 3 but field_in is"):
        measure_equivariance(conv, (5, 5), field_in="1xC2", channels=3)
    with pytest.raises(ValueError, match="rotations are given for an image"):
        measure_equivariance(conv, (5, 5), torch.eye(3)[None])
    with pytest.raises(TypeError, match=r"field_in is 1\.5"):
        measure_equivariance(conv, (5, 5), field_in=1.5)
