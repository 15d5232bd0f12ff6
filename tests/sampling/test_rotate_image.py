"""Quick rotation of images: the same numbers as the general one, per image, for any dtype."""

from __future__ import annotations

import math

import pytest
import torch

from spheregeo.grids import Equiangular
from spheregeo.sampling import random_rotations, rotate, rotate_image, rotation_about


@pytest.mark.parametrize("origin,offset", [(0.0, 0.0), (math.pi / 32 - math.pi, -15.5)])
def test_it_is_the_general_rotation(origin: float, offset: float) -> None:
    """Also over the poles and across the seam, and with a picture's own first longitude."""
    rotations = random_rotations(6, torch.Generator().manual_seed(1))
    grid = Equiangular(16, 32, offset=offset)
    x = torch.randn(6, 2, 16, 32, dtype=torch.float64)
    fast = rotate_image(x, rotations, longitude_origin=origin)
    slow = torch.stack([rotate(x[b], grid, rotations[b]) for b in range(6)])
    torch.testing.assert_close(fast, slow, atol=1e-12, rtol=0)
    single = rotate_image(x.float(), rotations[2], longitude_origin=origin)
    torch.testing.assert_close(
        single[2].double(), slow[2], atol=1e-4, rtol=0
    )  # float32 angles, values of size 4
    assert single.dtype == torch.float32


def test_no_turn_and_whole_columns() -> None:
    x = torch.randn(2, 3, 8, 16, dtype=torch.float64)
    torch.testing.assert_close(rotate_image(x, torch.eye(3)), x, atol=1e-12, rtol=0)
    turned = rotate_image(x, rotation_about([0, 0, 1], 3 * 2 * math.pi / 16))
    torch.testing.assert_close(turned, x.roll(3, dims=-1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float32])
@pytest.mark.parametrize("width", [32, 31])
def test_nearest_keeps_labels(dtype: torch.dtype, width: int) -> None:
    x = torch.randint(0, 5, (3, 1, 16, width)).to(dtype)
    turned = rotate_image(x, random_rotations(3), "nearest")
    assert turned.dtype == dtype and set(turned.unique().tolist()) <= set(x.unique().tolist())
    rolled = rotate_image(x, rotation_about([0, 0, 1], 2 * math.pi * 5 / width), "nearest")
    assert torch.equal(rolled, x.roll(5, dims=-1))


def test_nearest_is_within_a_pixel_of_where_it_came_from() -> None:
    grid, rotation = Equiangular(32, 64), rotation_about([1.0, 1.0, 0.3], 1.1)
    p = grid.points.T.reshape(1, 3, 32, 64)
    came_from = rotate_image(p, rotation, "nearest")[0].flatten(1).T
    distance = (came_from - grid.points @ rotation).norm(dim=1)
    assert distance.max() < 0.75 * math.pi / 32  # half the diagonal of a cell


def test_gradients_and_half_precision() -> None:
    x = torch.randn(2, 1, 4, 8, dtype=torch.float64, requires_grad=True)
    rotations = random_rotations(2)
    assert torch.autograd.gradcheck(lambda v: rotate_image(v, rotations), (x,))
    half = rotate_image(x.detach().bfloat16(), rotations)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), rotate_image(x.detach(), rotations), atol=3e-2, rtol=0)


@pytest.mark.parametrize(
    "call,error,message",
    [
        (
            lambda: rotate_image(torch.zeros(3, 8, 16), torch.eye(3)),
            ValueError,
            r"shape \(3, 8, 16\), expected images \(B, C, H, W\)",
        ),
        (
            lambda: rotate_image(torch.zeros(2, 3, 8, 16), random_rotations(3)),
            ValueError,
            r"holds \(3,\) rotations, expected 1 or 2",
        ),
        (
            lambda: rotate_image(torch.zeros(2, 3, 8, 15), torch.eye(3)),
            ValueError,
            "15 columns, expected an even number",
        ),
        (
            lambda: rotate_image(torch.zeros(2, 3, 8, 16), torch.eye(3), "cubic"),
            ValueError,
            "mode is 'cubic'",
        ),
        (
            lambda: rotate_image(torch.zeros(2, 3, 8, 16).long(), torch.eye(3)),
            TypeError,
            "labels need mode='nearest'",
        ),
    ],
)
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
