"""Photos of any size on the working grid and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spheregeo.grids import Equiangular, HEALPix
from spheregeo.tasks import Segmentation
from spheregeo.tasks.sphere.passes import infer_passes
from spheregeo.tasks.sphere.photos import enlarge_strips, infer, label_photo, working_grid


def enlarged(field: torch.Tensor, height: int, width: int, rows: int = 64) -> torch.Tensor:
    return torch.cat(list(enlarge_strips(field, height, width, rows)), dim=1)


def test_enlarging_is_second_order_across_seam_and_poles() -> None:
    errors = []
    for n in (16, 32):
        grid, fine = Equiangular(n, 2 * n), Equiangular(4 * n, 8 * n)
        # Pixel centres of an image sit half a column further than the grid's; the same for both.
        values = []
        for g in (grid, fine):
            phi = (torch.arange(g.shape[1]) + 0.5) * 2 * torch.pi / g.shape[1]
            theta = (torch.arange(g.shape[0])[:, None] + 0.5) * torch.pi / g.shape[0]
            values.append(theta.sin() * torch.cos(phi - 0.3) + theta.cos())
        errors.append(float((enlarged(values[0][None], *fine.shape)[0] - values[1]).abs().max()))
    assert errors[0] < 0.012  # h^2 / 8 of a unit sine, twice
    assert errors[0] / errors[1] > 3.5


def test_strips_make_no_difference() -> None:
    field = torch.randn(3, 8, 16)
    torch.testing.assert_close(enlarged(field, 50, 100, rows=7), enlarged(field, 50, 100, rows=50))
    torch.testing.assert_close(enlarged(field, 8, 16), field)


def test_working_grid() -> None:
    task = Segmentation(3, 2, HEALPix(4), network="pixel-mlp")
    assert working_grid(task) == Equiangular(12, 24)  # spacing sqrt(4 pi / 192) = 0.256 = pi / 12.3
    own = Segmentation(3, 2, Equiangular(8, 16), network="pixel-mlp")
    assert working_grid(own) == own.grid


@pytest.mark.parametrize("grid", [Equiangular(16, 32), HEALPix(8)], ids=repr)
def test_a_pixel_classifier_labels_a_photo_by_its_colour(grid: object) -> None:
    task = Segmentation(
        3, 3, grid, network="pixel-mlp", options={"norm": "none"}, depth=1, mean=[0.5] * 3, std=[0.5] * 3
    )
    with torch.no_grad():  # logits are the channels: the class is the strongest colour
        for p in task.parameters():
            p.copy_(torch.eye(3) if p.dim() == 2 else torch.zeros(3))
    photo = torch.zeros(3, 60, 120)
    truth = torch.zeros(60, 120, dtype=torch.uint8)
    truth[20:40], truth[40:] = 1, 2
    photo.scatter_(0, truth[None].long(), 1.0)
    label = label_photo(task.eval(), photo)
    assert label.dtype == torch.uint8 and label.shape == (60, 120)
    away = np.r_[0:16, 24:36, 44:60]  # a working pixel away from the borders
    assert (label[away] == truth[away]).float().mean() > 0.98


def test_wrong_channels() -> None:
    task = Segmentation(4, 2, Equiangular(8, 16), network="pixel-mlp").eval()
    with pytest.raises(ValueError, match="3 channels but the model was trained on 4"):
        infer(task, torch.rand(3, 16, 32))


def colour_classifier(grid: object) -> Segmentation:
    """A task whose logits are the channels: the class is the strongest colour."""
    task = Segmentation(
        3, 3, grid, network="pixel-mlp", options={"norm": "none"}, depth=1, mean=[0.5] * 3, std=[0.5] * 3
    )
    with torch.no_grad():
        for p in task.parameters():
            p.copy_(torch.eye(3) if p.dim() == 2 else torch.zeros(3))
    return task.eval()


def test_one_pass_is_the_plain_answer() -> None:
    task, photo = colour_classifier(Equiangular(8, 16)), torch.rand(3, 40, 80)
    torch.testing.assert_close(infer_passes(task, photo), infer(task, photo))


@pytest.mark.parametrize("tiles", [2, 3])
def test_tiles_answer_for_pixels_finer_than_the_grid(tiles: int) -> None:
    task, photo = colour_classifier(Equiangular(8, 16)), torch.rand(3, 8 * tiles, 16 * tiles)
    got = infer_passes(task, photo, tiles=tiles)
    assert got.shape == photo.shape
    # the slow way: for every pixel the mean of the square around it, with corners and edges of an even square in part
    want = torch.zeros_like(photo, dtype=torch.float64)
    reach = tiles / 2
    for i, j in np.ndindex(*photo.shape[1:]):
        total, norm = 0.0, 0.0
        for a, b in np.ndindex(2 * tiles + 1, 2 * tiles + 1):
            di, dj = a - tiles, b - tiles
            share = max(0.0, min(1.0, reach + 0.5 - abs(di))) * max(0.0, min(1.0, reach + 0.5 - abs(dj)))
            row, column = i + di, j + dj
            if not 0 <= row < photo.shape[1]:  # over a pole, half a turn further
                row, column = (
                    (-1 - row if row < 0 else 2 * photo.shape[1] - 1 - row),
                    column + photo.shape[2] // 2,
                )
            total, norm = total + share * photo[:, row, column % photo.shape[2]].double(), norm + share
        want[:, i, j] = total / norm
    torch.testing.assert_close(got.double(), (want - 0.5) / 0.5, rtol=0, atol=1e-5)


def test_a_mean_over_all_turns_is_equivariant() -> None:
    torch.manual_seed(0)
    task, photo = colour_classifier(Equiangular(4, 8)), torch.rand(3, 4, 8)
    place = torch.randn(3, 4, 8)  # a network that knows the columns apart

    def once(task: Segmentation, image: torch.Tensor) -> torch.Tensor:
        return image * place

    got = infer_passes(task, photo, turns=8, once=once)
    torch.testing.assert_close(got, photo * place.mean(-1, keepdim=True))
    torch.testing.assert_close(infer_passes(task, photo.roll(3, -1), turns=8, once=once), got.roll(3, -1))
    both = infer_passes(task, torch.rand(3, 16, 32), tiles=2, turns=4)
    assert both.shape == (3, 8, 16)
    with pytest.raises(ValueError, match="turns is 9; expected at most 8"):
        infer_passes(task, photo, turns=9)
    with pytest.raises(ValueError, match="tiles is 0"):
        infer_passes(task, photo, tiles=0)
