"""Images: generated, from digits' files, turned."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import MNISTData, Textures, TexturesData
from spheregeo.data.images.turns import turn, turn_of
from spheregeo.groups import PlanarGroup


def test_textures_depend_on_seed_split_and_number_alone() -> None:
    again = [Textures(8, size=12, seed=1, shapes=2) for _ in range(2)]
    assert np.array_equal(again[0][3], again[1][3]) and np.array_equal(again[0].mask(3), again[1].mask(3))
    others = [Textures(8, 12, seed=2, shapes=2)[3], Textures(8, 12, seed=1, shapes=2, split="test")[3]]
    assert not any(np.array_equal(again[0][3], other) for other in others)
    assert Textures(3, 12)[0].dtype == np.float32 and set(np.unique(again[0].mask(3))) <= set(range(6))
    for wrong, message in (({"rotation": "so3"}, "rotation is 'so3'"), ({"size": 3}, "size is 3")):
        with pytest.raises(ValueError, match=message):
            Textures(2, **wrong)


@pytest.mark.parametrize("h", range(8))
def test_turns_of_squares_are_the_group_s_and_exact(h: int) -> None:
    image = np.random.default_rng(0).standard_normal((2, 5, 5)).astype(np.float32)
    flip, r = divmod(h, 4)
    expected = PlanarGroup.of("D4").turn(torch.from_numpy(image), h).numpy()
    assert np.array_equal(turn(image, r * math.pi / 2, bool(flip)), expected)
    # interpolation beside a quarter turn is the permutation of pixels
    assert np.abs(turn(image, r * math.pi / 2 + 1e-7, bool(flip)) - expected).max() < 1e-5


def test_interpolated_turns_agree_with_the_function() -> None:
    at = np.arange(21) - 10.0
    x, y = np.meshgrid(at, -at)
    angle, inside = 0.7, np.hypot(x, y) < 8

    def value(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.exp(-((u - 2) ** 2 + (v - 3) ** 2) / 8)

    exact = value(math.cos(angle) * x + math.sin(angle) * y, -math.sin(angle) * x + math.cos(angle) * y)
    off = {i: np.abs(turn(value(x, y), angle, False, i) - exact)[inside].max() for i in ("linear", "cubic")}
    assert off["cubic"] < 2e-3 < off["linear"] < 0.05
    mask = (value(x, y) > 0.5).astype(int)
    assert set(np.unique(turn(mask, angle, True, "nearest"))) == {0, 1}
    with pytest.raises(ValueError, match="interpolation is 'quintic'"):
        turn(mask, angle, False, "quintic")
    with pytest.raises(ValueError, match="rotation is 'so3'"):
        turn_of("so3", np.random.default_rng(0))


def test_images_keep_their_turn_unless_turns_are_drawn_anew() -> None:
    fixed = TexturesData(train=5, val=5, test=5, pixels=9, train_rotation="so2").items("train")
    assert torch.equal(fixed[(1, 2)]["image"], fixed[(4, 2)]["image"])
    anew = TexturesData(train=5, val=5, test=5, pixels=9, train_rotation="so2", redraw=True)
    items = anew.items("train")
    assert torch.equal(items[(1, 2)]["image"], items[(1, 2)]["image"])
    assert not torch.equal(items[(1, 2)]["image"], items[(2, 2)]["image"])
    upright = TexturesData(train=5, val=5, test=5, pixels=9).items("train")
    assert not torch.equal(upright[(0, 2)]["image"], fixed[(0, 2)]["image"])
    assert torch.equal(
        anew.items("test")[2]["image"],
        TexturesData(train=5, val=5, test=5, pixels=9).items("test")[2]["image"],
    )
    with pytest.raises(ValueError, match="rotation is 'so3'"):
        TexturesData(train_rotation="so3")  # type: ignore[arg-type]


def test_masks_turn_with_their_images() -> None:
    turned = TexturesData(train=3, val=1, test=1, pixels=9, shapes=2, train_rotation="d4").items("train")
    upright = TexturesData(train=3, val=1, test=1, pixels=9, shapes=2).items("train")
    group = PlanarGroup.of("D4")
    for k in range(3):
        found = [h for h in range(8) if torch.equal(group.turn(upright[k]["image"], h), turned[k]["image"])]
        assert len(found) == 1
        assert torch.equal(group.turn(upright[k]["mask"], found[0]), turned[k]["mask"])


def test_channels_are_normalised_by_the_training_images() -> None:
    data = TexturesData(train=40, val=5, test=5, pixels=9)
    images = torch.stack([data.items("train")[k]["image"] for k in range(40)])
    assert abs(float(images.mean())) < 1e-5 and float(images.std(unbiased=False)) == pytest.approx(
        1, abs=1e-4
    )


def digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 6, 6), np.uint8), (np.arange(count) % 10).astype(np.uint8)


def test_digits_of_one_part(tmp_path: Path) -> None:
    x, y = digits(40)
    np.savez(tmp_path / "mnist_t10k_first8000.npz", x=x, y=y)
    data = MNISTData(str(tmp_path), train=20, val=5, test=10, batch_size=4)
    assert (data.num_classes, data.in_channels, data.size) == (10, 1, [6, 6])
    assert np.allclose(data.dataset("test")[0][0], x[30] / 255, atol=1e-7)
    assert np.allclose(data.dataset("val")[0][0], x[25] / 255, atol=1e-7)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [20, 5, 10]
    all_of_it = MNISTData(str(tmp_path / "mnist_t10k_first8000.npz"), val=5)
    assert [len(all_of_it.dataset(split)) for split in ("train", "val", "test")] == [31, 5, 4]
    with pytest.raises(ValueError, match=r"holds 40 images but train \+ val \+ test are 30 \+ 5 \+ 10"):
        MNISTData(str(tmp_path), train=30, val=5, test=10).dataset("train")


def test_digits_of_two_parts_and_idx_files(tmp_path: Path) -> None:
    (x, y), (u, v) = digits(20), digits(10, 1)
    np.savez(tmp_path / "keras.npz", x_train=x, y_train=y, x_test=u, y_test=v)
    for part, (images, classes) in {"train": (x, y), "t10k": (u, v)}.items():
        head = struct.pack(">HBBIII", 0, 8, 3, *images.shape)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        packed = gzip.compress(struct.pack(">HBBI", 0, 8, 1, len(classes)) + classes.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(packed)
    for root in (tmp_path, tmp_path / "keras.npz"):
        data = MNISTData(str(root), val=4)
        assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [16, 4, 10]
        assert np.allclose(data.dataset("test")[3][0], u[3] / 255, atol=1e-7)
        assert list(data.dataset("val").labels) == y[16:].tolist()
    torn = (tmp_path / "t10k-images-idx3-ubyte").read_bytes()[:-1]
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(torn)
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.*359 follow"):
        MNISTData(str(tmp_path), val=4).dataset("test")
