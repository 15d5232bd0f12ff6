"""Pictures on the sphere: where each pixel lands, one rotation an image, splits, the generated glyphs, errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import (
    GLYPHS,
    SphericalGlyphsData,
    SphericalImages,
    SphericalImagesData,
    SphericalMNISTData,
)
from spheregeo.data.sphere.glyphs import make_glyphs
from spheregeo.data.sphere.mnist import MNIST_FILE
from spheregeo.data.sphere.stereographic import image_coordinates, project
from spheregeo.grids import Equiangular, Fibonacci, HEALPix, Icosahedral, Plane
from spheregeo.sampling import random_rotations, rotate


def slow(image: np.ndarray, point: np.ndarray) -> float:
    """Brightness at one point, by the angle from the south pole and a loop over the four pixels."""
    height, width = image.shape
    theta = math.acos(max(-1.0, min(1.0, -point[2])))
    radius, azimuth = 2 * math.tan(theta / 2), math.atan2(point[1], point[0])
    x, y = radius * math.cos(azimuth), radius * math.sin(azimuth)
    row, column = (0.5 - x / 3) * height - 0.5, (0.5 + y / 3) * width - 0.5
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * image[i, j]
    return total


# ---- the projection


def test_projection_equals_a_slow_twin_upright_and_turned() -> None:
    images, points = torch.rand(3, 6, 5), Fibonacci(150).points
    turns = random_rotations(3)
    upright, turned = project(images, points), project(images, points, turns)
    for k in range(3):
        pixels = images[k].double().numpy()
        expected = [slow(pixels, p) for p in points.numpy()]
        # rows pᵀ R are R⁻¹ p
        moved = [slow(pixels, p) for p in (points @ turns[k]).numpy()]
        np.testing.assert_allclose(upright[k].numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(turned[k].numpy(), moved, atol=1e-5)
    assert (upright > 0).float().mean() > 0.3 and (upright == 0).float().mean() > 0.3


def test_more_images_than_a_chunk() -> None:
    images, points, turns = torch.rand(70, 4, 4), Fibonacci(40).points, random_rotations(70)
    together = project(images, points, turns)
    apart = torch.cat([project(images[k : k + 1], points, turns[k : k + 1]) for k in range(70)])
    assert torch.equal(together, apart)


def test_edges_and_corners_lie_where_the_formula_says() -> None:
    def angle_of_border(azimuth: float) -> float:
        theta = torch.linspace(0, math.pi, 20001, dtype=torch.float64)
        r = theta.sin()
        points = torch.stack([r * math.cos(azimuth), r * math.sin(azimuth), -theta.cos()], 1)
        row, column = image_coordinates(points, 28, 28)
        inside = (row - 13.5).abs().maximum((column - 13.5).abs()) < 14
        return math.degrees(float(theta[inside].max()))

    assert angle_of_border(0.0) == pytest.approx(73.7, abs=0.05)
    assert angle_of_border(math.pi / 4) == pytest.approx(93.4, abs=0.05)


def test_seen_from_outside_no_picture_is_mirrored_or_transposed() -> None:
    picture = torch.zeros(1, 9, 9)
    picture[0, 1, 4] = 1.0  # above the centre
    picture[0, 4, 6] = 2.0  # right of it
    points = Fibonacci(2000).points
    field = project(picture, points)[0]
    above = points[(field * (points[:, 0] > 0.2)).argmax()]
    right = points[field.argmax()]
    # From below, looking up along +z with +x on top, the right hand is z × x = +y.
    assert above[0] > 0.3 and abs(above[1]) < 0.15
    assert right[1] > 0.3 and abs(right[0]) < 0.15


def test_integer_places_read_their_pixel() -> None:
    # The pole reads the middle of an odd picture exactly, where neighbours ceil and floor would coincide.
    picture = torch.rand(1, 5, 5)
    assert float(project(picture, torch.tensor([[0.0, 0.0, -1.0]]).double())[0, 0]) == float(picture[0, 2, 2])
    assert float(project(picture, torch.tensor([[0.0, 0.0, 1.0]]).double())[0, 0]) == 0.0


def test_a_turned_picture_is_the_picture_turned() -> None:
    grid = HEALPix(16)
    images, _ = make_glyphs(4, 0, "train")
    turns = random_rotations(4)
    direct = project(images, grid.points, turns)
    upright = project(images, grid.points)
    for k in range(4):
        by_interpolation = rotate(upright[k], grid, turns[k])
        # Strokes are two pixels wide, a pixel is 5 degrees: interpolating between samples 3.7 degrees apart blurs them.
        assert (by_interpolation - direct[k]).norm() / direct[k].norm() < 0.35
        assert (upright[k] - direct[k]).norm() / direct[k].norm() > 0.5


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match=r"expected \(n, H, W\) and \(N, 3\)"):
        project(torch.zeros(4, 4), Fibonacci(9).points)
    with pytest.raises(ValueError, match=r"expected \(2, 3, 3\), one an image"):
        project(torch.zeros(2, 4, 4), Fibonacci(9).points, torch.eye(3)[None])


# ---- the dataset


def test_every_image_has_its_own_even_rotation() -> None:
    images, labels = torch.rand(1000, 4, 4), torch.zeros(1000)
    data = SphericalImages(images, labels, Fibonacci(20), rotated=True, seed=3)
    turns = data.rotations()
    assert turns is not None and len({tuple(t.flatten().tolist()) for t in turns}) == 1000
    assert torch.allclose(torch.linalg.det(turns), torch.ones(1000).double())
    # Haar: every entry has mean 0 and variance 1/3; a thousand scatter by 0.02.
    assert turns.mean(0).abs().max() < 0.08 and (turns.square().mean(0) - 1 / 3).abs().max() < 0.06
    assert torch.equal(
        turns, SphericalImages(images, labels, Fibonacci(20), rotated=True, seed=3).rotations(5)
    )
    others = SphericalImages(images, labels, Fibonacci(20), rotated=True, seed=3, split="test").rotations()
    assert not torch.equal(turns, others)


def test_redrawn_rotations_change_with_the_epoch_only() -> None:
    images, labels = torch.rand(6, 5, 5), torch.arange(6)
    data = SphericalImages(images, labels, HEALPix(4), rotated=True, redraw=True).prepare()
    first, second = data[(0, 2)]["image"], data[(1, 2)]["image"]
    assert not torch.equal(first, second) and torch.equal(first, data[(0, 2)]["image"])
    both = data.__getitems__([(0, 2), (1, 2)])
    assert torch.equal(both[0]["image"], first) and torch.equal(both[1]["image"], second)
    fixed = SphericalImages(images, labels, HEALPix(4), rotated=True)
    assert torch.equal(fixed[(0, 2)]["image"], fixed[(1, 2)]["image"])


@pytest.mark.parametrize(
    "grid", [HEALPix(4), Icosahedral(2), Equiangular(8, 16)], ids=lambda g: type(g).__name__
)
@pytest.mark.parametrize("rotated", [False, True])
def test_items_on_any_grid_kept_or_not(grid: HEALPix, rotated: bool) -> None:
    images, labels = torch.randint(0, 256, (5, 7, 7), dtype=torch.uint8), torch.tensor([3, 1, 4, 1, 5])
    data = SphericalImages(images, labels, grid, rotated=rotated, mean=0.2, std=0.5)
    before = data[3]
    after = data.prepare()[3]
    assert before["image"].shape == (1, *grid.shape) and before["image"].dtype == torch.float32
    assert torch.equal(before["image"], after["image"])
    assert int(after["label"]) == 1 and int(after["index"]) == 3
    brightness = before["image"] * 0.5 + 0.2
    assert 0 <= brightness.min() + 1e-6 and 0.2 < brightness.max() <= 1 + 1e-6


def test_dataset_errors() -> None:
    images, labels = torch.rand(5, 7, 7), torch.arange(5)
    with pytest.raises(ValueError, match=r"expected \(n, H, W\) and \(n,\)"):
        SphericalImages(images, labels[:4], HEALPix(2))
    with pytest.raises(ValueError, match="expected a grid on the sphere"):
        SphericalImages(images, labels, Plane(4, 4))
    with pytest.raises(ValueError, match="split is 'dev'"):
        SphericalImages(images, labels, HEALPix(2), split="dev")
    with pytest.raises(IndexError, match="index 5 is outside a dataset of 5"):
        SphericalImages(images, labels, HEALPix(2))[5]


# ---- glyphs and the data modules


def test_glyphs_depend_on_seed_split_and_number_alone() -> None:
    few, classes = make_glyphs(10, 1, "train")
    many, _ = make_glyphs(20, 1, "train")
    assert torch.equal(few, many[:10]) and classes.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]
    for other in (make_glyphs(10, 1, "test")[0], make_glyphs(10, 2, "train")[0]):
        assert not torch.equal(few, other)
    assert 0 <= few.min() and few.max() == 1.0
    inked = few.mean((1, 2))
    assert inked.min() > 0.02 and inked.max() < 0.5
    border = torch.cat([many[:, 0], many[:, -1], many[:, :, 0], many[:, :, -1]], 1)
    assert (border.amax(1) == 0).float().mean() > 0.8  # nearly all stay inside


def test_copies_are_rotations_taken_in_turn() -> None:
    images, labels = make_glyphs(3, 0, "train")
    data = SphericalImages(images, labels, HEALPix(4), rotated=True, copies=3).prepare()
    seen = [data[(epoch, 1)]["image"] for epoch in range(7)]
    assert all(torch.equal(seen[k], seen[k + 3]) for k in range(4))
    assert all(not torch.allclose(seen[k], seen[k + 1], atol=0.1) for k in range(3))
    fixed = SphericalImages(images, labels, HEALPix(4), rotated=True)
    assert torch.equal(fixed[(5, 1)]["image"], seen[0]), (
        "the first copy is the rotation of a picture turned once"
    )


def test_points_of_strokes_have_the_pictures_class() -> None:
    data = glyphs(segment=True, grid="Equiangular(16, 32)", train_rotated=True)
    batch = next(iter(data.train_dataloader()))
    label, bright = batch["label"], batch["image"][:, 0] * data.std[0] + data.mean[0]
    assert label.shape == (5, 16, 32) and data.class_names == ("background", *GLYPHS)
    classes = data.images("train")[1][batch["index"]] + 1
    expected = torch.where(bright > 150 / 255 + 1e-6, classes[:, None, None], 0)
    assert torch.equal(label, expected)
    assert all((picture > 0).any() and (picture == 0).any() for picture in label)


def glyphs(**options: object) -> SphericalGlyphsData:
    return SphericalGlyphsData(
        **{"grid": "HEALPix(8)", "train": 24, "val": 8, "test": 16, "batch_size": 5, **options}
    )  # type: ignore[arg-type]


def test_loaders_give_every_sample_once_and_normalised() -> None:
    data = glyphs(train_rotated=True, train=160)
    seen = list(data.train_dataloader())
    assert sorted(torch.cat([b["index"] for b in seen]).tolist()) == list(range(160))
    x = torch.cat([b["image"] for b in seen])[:, 0].double()
    share = data.grid.areas / data.grid.areas.sum()
    # Turned pictures have the mean and spread of upright ones, up to quadrature; so has this module, which measures them.
    assert float((x @ share).mean().abs()) < 0.05 and float((x.square() @ share).mean()) == pytest.approx(
        1, abs=0.1
    )
    assert torch.cat([b["index"] for b in data.test_dataloader()]).tolist() == list(range(16))
    assert data.num_classes == 8 == len(GLYPHS) and data.in_channels == 1 == len(data.mean) == len(data.std)
    data.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match="trained with class_names cat but"):
        data.load_state_dict(data.state_dict() | {"class_names": ["cat"]})


def test_train_and_test_are_turned_separately() -> None:
    upright = glyphs(test_rotated=False)
    assert [upright.dataset(s).rotated for s in ("train", "val", "test")] == [False] * 3
    mixed = glyphs(train_rotated=False, test_rotated=True)
    assert [mixed.dataset(s).rotated for s in ("train", "val", "test")] == [False, False, True]
    turned = glyphs(train_rotated=True, test_rotated=True, redraw=True)
    assert [turned.dataset(s).redraw for s in ("train", "val", "test")] == [True, False, False]
    a, b = upright.dataset("test")[3]["image"], mixed.dataset("test")[3]["image"]
    assert not torch.allclose(a, b, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"copies": 0}, "copies is 0"),
        ({"train": 0}, "train is 0"),
        ({"grid": "Torus(3)"}, "grid 'Torus"),
        ({"grid": "Plane(4, 4)"}, "a grid on the sphere"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_wrong_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        glyphs(**options)


def write(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def mnist(root: Path, **options: object) -> SphericalMNISTData:
    return SphericalMNISTData(str(root), **{"grid": HEALPix(4), "train": 6, "val": 2, "test": 3, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("inside", [False, True])
def test_digits_come_from_the_root_or_its_folder_mnist(tmp_path: Path, inside: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    write(tmp_path / ("mnist" if inside else "") / MNIST_FILE, x=x, y=np.arange(12, dtype=np.uint8) % 10)
    data = mnist(tmp_path)
    assert [len(data.dataset(s)) for s in ("train", "val", "test")] == [6, 2, 3]
    assert data.images("train")[1].tolist() == [0, 1, 2, 3, 4, 5] and data.images("val")[1].tolist() == [6, 7]
    assert data.images("test")[1].tolist() == [9, 0, 1], "the test digits are the last ones"
    assert data.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "no npz file with arrays x and y"),
        ({"x": np.zeros((12, 28, 28)), "y": np.zeros(12, int)}, r"expected x \(n, height, width\) uint8"),
        ({"x": np.zeros((12, 28, 28), np.uint8), "y": np.zeros(11, int)}, r"expected x .* and y \(n,\)"),
        ({"x": np.zeros((12, 28, 28), np.uint8), "y": np.full(12, 10)}, r"expected whole numbers 0 \.\.\. 9"),
        (
            {"x": np.zeros((9, 28, 28), np.uint8), "y": np.zeros(9, int)},
            r"holds 9 digits but .* are 6 \+ 2 \+ 3",
        ),
    ],
    ids=["names", "dtype", "shape", "classes", "few"],
)
def test_bad_files(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    write(tmp_path / MNIST_FILE, **arrays)
    with pytest.raises(ValueError, match=message):
        mnist(tmp_path).images("train")


def test_a_missing_or_torn_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=MNIST_FILE):
        mnist(tmp_path).images("train")
    write(tmp_path / MNIST_FILE, x=np.zeros((12, 28, 28), np.uint8), y=np.zeros(12, int))
    whole = (tmp_path / MNIST_FILE).read_bytes()
    (tmp_path / MNIST_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read as an array"):
        mnist(tmp_path).images("train")


@pytest.mark.realdata
def test_the_digits_themselves(real_data: Path) -> None:
    data = SphericalMNISTData(str(real_data), grid="HEALPix(8)", test_rotated=True)
    assert [len(data.images(s)[1]) for s in ("train", "val", "test")] == [5500, 500, 2000]
    for split in ("train", "val", "test"):
        counts = torch.bincount(data.images(split)[1], minlength=10)
        assert counts.min() > 0.08 * counts.sum()
    batch = next(iter(data.test_dataloader()))
    assert batch["image"].shape == (32, 1, 768) and torch.isfinite(batch["image"]).all()


@pytest.mark.parametrize("cls", [SphericalGlyphsData, SphericalMNISTData])
def test_the_command_line_reads_a_grid(cls: type[SphericalImagesData]) -> None:
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "data")
    root = ["--data.root=somewhere"] if cls is SphericalMNISTData else []
    build = getattr(parser, "instantiate", None) or parser.instantiate_classes  # jsonargparse before 4.49
    made = build(parser.parse_args([*root, "--data.grid=Equiangular(16, 32)", "--data.train_rotated=true"]))
    assert made.data.grid == Equiangular(16, 32) and made.data.rotated["val"]
