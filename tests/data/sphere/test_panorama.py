from __future__ import annotations

import numpy as np
import pytest
import torch

from spheregeo.data import panorama_grid, resize_depth, resize_image, resize_labels
from spheregeo.data.sphere.resize import AreaMap, image_map, overlap, uniform_edges
from spheregeo.sampling import resample


def test_overlaps_cover_every_cell_once() -> None:
    source, target = np.linspace(-3, 3, 11), np.linspace(-3, 3, 8)
    matrix = overlap(source, target).toarray()
    np.testing.assert_allclose(matrix.sum(0), np.diff(source), rtol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), np.diff(target), rtol=1e-6)


def test_overlaps_wrap_round_the_circle() -> None:
    source = np.radians(np.linspace(20, 380, 37))
    target = np.radians(np.linspace(-180, 180, 10))
    matrix = overlap(source, target, period=2 * np.pi).toarray()
    np.testing.assert_allclose(matrix.sum(0), np.diff(source), rtol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), np.diff(target), rtol=1e-6)


def test_an_average_weighs_by_solid_angle() -> None:
    """The mean of z over a cell is the mean of its bounds' sines: exact for cells of any height."""
    edges = np.linspace(90, -90, 37)
    sines = np.sin(np.radians(edges))
    x = np.broadcast_to(((sines[1:] + sines[:-1]) / 2)[:, None], (36, 72)).astype(np.float32)
    got = image_map(36, 72, (6, 12)).average(x)
    coarse = np.sin(np.radians(np.linspace(90, -90, 7)))
    np.testing.assert_allclose(
        got, np.broadcast_to(((coarse[1:] + coarse[:-1]) / 2)[:, None], (6, 12)), atol=1e-6
    )


def test_the_integral_is_kept() -> None:
    x = np.random.default_rng(0).random((30, 60)).astype(np.float32)
    y = image_map(30, 60, (7, 14)).average(x)

    def integral(z: np.ndarray) -> float:
        rows, columns = uniform_edges(*z.shape)
        return float((z * np.outer(-np.diff(np.sin(np.radians(rows))), np.diff(np.radians(columns)))).sum())

    assert integral(y) == pytest.approx(integral(x), rel=1e-6)


def test_missing_values_are_left_out_until_they_cover_half() -> None:
    x = np.ones((8, 16), np.float32)
    x[0, 0] = np.nan  # a quarter of the target's cell (less by area, next to the pole)
    x[4:6, 4:6] = np.nan
    y = image_map(8, 16, (4, 8)).average(x)
    assert y[0, 0] == pytest.approx(1)
    assert np.isnan(y[2, 2]) and np.isnan(y).sum() == 1


def test_the_majority_counts_area_not_pixels() -> None:
    label = np.zeros((4, 8), np.int64)
    label[0] = 3  # the polar row of each pair covers less than the other
    assert (resize_labels(label, (2, 4)) == 0).all()


@pytest.mark.parametrize("shape", [(24, 48), (20, 40)])
def test_the_majority_agrees_with_a_count_over_fine_pixels(shape: tuple[int, int]) -> None:
    """20 -> 8 rows is no whole ratio: cells are cut. Both ways agree with labels refined until nothing is cut."""
    rng = np.random.default_rng(1)
    label = rng.choice([0, 1, 2, 255], shape)
    got = resize_labels(label, (8, 16))
    fine = label.repeat(6, 0).repeat(6, 1)
    rows, _ = uniform_edges(*fine.shape)
    # exact areas of the coarse rows' parts: refining a row does not change its share of sin(latitude)
    area = -np.diff(np.sin(np.radians(rows)))
    best = np.zeros((8, 16))
    winner = np.full((8, 16), -1)
    step = fine.shape[0] // 8
    for value in (0, 1, 2, 255):
        share = ((fine == value) * area[:, None]).reshape(8, step, 16, step).sum((1, 3))
        clear = share > best * (1 + 1e-4)
        winner, best = np.where(clear, value, winner), np.where(clear, share, best)
    assert (got == winner).mean() > 0.99
    assert set(np.unique(got)) <= {0, 1, 2, 255}


def test_labels_that_grow_stay_labels() -> None:
    label = np.random.default_rng(0).choice([0, 7, 255], (8, 16))
    grown = resize_labels(label, (24, 48))
    assert grown.shape == (24, 48) and set(np.unique(grown)) <= {0, 7, 255}
    np.testing.assert_array_equal(grown[1::3, 1::3], label)


def test_images_that_grow_are_interpolated_over_seam_and_poles() -> None:
    def z_and_x(height: int, width: int) -> np.ndarray:
        theta = (np.arange(height) + 0.5) * np.pi / height
        phi = (np.arange(width) + 0.5) * 2 * np.pi / width - np.pi
        return np.stack([np.cos(theta)[:, None] + 0 * phi, np.sin(theta)[:, None] * np.cos(phi)]).astype(
            np.float32
        )

    errors = [np.abs(resize_image(z_and_x(n, 2 * n), (128, 256)) - z_and_x(128, 256)).max() for n in (16, 32)]
    assert errors[0] < 0.01
    assert errors[0] / errors[1] > 3.5  # second order, poles and seam included


def test_missing_values_do_not_spread_when_an_image_grows() -> None:
    image = np.full((1, 8, 16), 3.0, np.float32)
    image[0, 2:4, 5] = np.nan
    grown = resize_image(image, (32, 64))
    known = np.isfinite(grown)
    np.testing.assert_allclose(grown[known], 3)
    assert (~known).sum() == pytest.approx(2 * 16, abs=8)  # as large as the gap was


def test_depth_ignores_what_is_missing() -> None:
    depth = np.full((8, 16), 2.0, np.float32)
    depth[2, 2] = 0
    depth[4:6, 4:6] = 0
    small = resize_depth(depth, (4, 8))
    assert small[1, 1] == pytest.approx(2)
    assert small[2, 2] == 0 and (small == 0).sum() == 1


def test_cells_that_do_not_reach_the_poles_leave_gaps() -> None:
    half = AreaMap(np.linspace(90, 0, 10), np.linspace(-180, 180, 37), (6, 12))
    y = half.average(np.ones((9, 36), np.float32))
    assert np.isfinite(y[:3]).all() and np.isnan(y[3:]).all()


def test_growing_is_the_sampling_layers_interpolation() -> None:
    x = np.random.default_rng(3).random((2, 8, 16))
    want = resample(torch.from_numpy(x), panorama_grid(8, 16), panorama_grid(12, 24), "linear").numpy()
    np.testing.assert_allclose(resize_image(x, (12, 24)), want, atol=1e-12)


def test_shrinking_is_the_sampling_layers_average() -> None:
    x = np.random.default_rng(3).random((2, 12, 24)).astype(np.float32)
    want = resample(torch.from_numpy(x), panorama_grid(12, 24), panorama_grid(8, 16), "average").numpy()
    np.testing.assert_allclose(resize_image(x, (8, 16)), want, atol=1e-6)
