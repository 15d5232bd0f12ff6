"""Images: generated, from digits' files, turned."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.data import (
    BinaryImages,
    ImageFolder,
    ImageFolderData,
    MaskFolder,
    MaskFolderData,
    MedMNISTData,
    MNISTData,
    Textures,
    TexturesData,
    read_all,
    read_picture,
)
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
    with pytest.raises(ValueError, match="rotation is 'c8'"):
        TexturesData(turned="c8")  # type: ignore[arg-type]


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
    with pytest.raises(ValueError, match=r"train \+ val \+ test are 1 \+ 500 \+ 4"):
        MNISTData(str(tmp_path)).dataset("train")


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


# ---- files, folders and archives


def write_picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_folders_of_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        for k in range(10):
            write_picture(tmp_path / name / f"{k}.png", rng.integers(0, 256, (6, 8, 3), np.uint8))
    data = ImageFolder(tmp_path)
    assert data.class_names == ("left", "right") and len(data) == 16 and data[0].shape == (3, 6, 8)
    module = ImageFolderData(str(tmp_path), channels=1, resize=[5, 5], batch_size=4)
    assert (module.num_classes, module.in_channels, module.size) == (2, 1, [5, 5])
    write_picture(tmp_path / "left" / "0.png", rng.integers(0, 256, (7, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="have the shapes"):
        next(iter(ImageFolderData(str(tmp_path), batch_size=16).train_dataloader()))
    with pytest.raises(ValueError, match=r"resize is \[5\.5, 4\]"):
        ImageFolderData(str(tmp_path), resize=[5.5, 4])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"resize is \[5\]"):
        ImageFolderData(str(tmp_path), resize=[5])


def test_folders_of_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "classes.txt").write_text("soil\nroof\n")
    for k in range(10):
        write_picture(tmp_path / "images" / f"{k}.png", rng.integers(0, 256, (6, 6, 3), np.uint8))
        write_picture(tmp_path / "masks" / f"{k}.png", rng.integers(0, 2, (6, 6), np.uint8))
    data = MaskFolderData(str(tmp_path), train_rotation="c4", batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert (
        batch["image"].shape == (4, 3, 6, 6)
        and batch["mask"].shape == (4, 6, 6)
        and batch["mask"].dtype == torch.int64
    )
    assert (data.num_classes, data.ignore_index, data.class_names) == (2, 255, ("soil", "roof"))
    assert [len(MaskFolder(tmp_path, split)) for split in ("train", "val", "test")] == [8, 1, 1]
    write_picture(tmp_path / "masks" / "2.png", np.zeros((5, 6), np.uint8))
    write_picture(tmp_path / "masks" / "3.png", np.full((6, 6), 7, np.uint8))
    write_picture(tmp_path / "masks" / "extra.png", np.zeros((6, 6), np.uint8))
    (tmp_path / "masks" / "4.png").unlink()
    found = read_all(MaskFolderData(str(tmp_path)))
    told = " ".join(message for _, message in found.faults)
    assert (
        len(found.faults) == 4
        and "5 x 6 pixels; expected 6 x 6" in told
        and "has label 7" in told
        and "4.png" in told
        and "extra.png belongs to no image" in told
    )
    with pytest.raises(FileNotFoundError, match=r"4\.png is missing"):
        MaskFolder(tmp_path)


def test_channels_of_pictures(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    write_picture(tmp_path / "a.png", rgb)
    grey = read_picture(tmp_path / "a.png", 1)
    assert np.abs(grey[0] * 255 - np.asarray(Image.fromarray(rgb).convert("L"))).max() < 1.01
    np.save(tmp_path / "b.npy", rgb[..., 0])
    assert read_picture(tmp_path / "b.npy", 3) == pytest.approx(np.repeat(rgb[None, ..., 0] / 255, 3, 0))
    for content, message in (
        (np.zeros((2, 4, 5)), "has 2 channels; expected 3"), (np.full((4, 5), np.nan), "20 NaN"), (np.zeros(4), r"shape \(4,\)"),
    ):  # fmt: skip
        np.save(tmp_path / "bad.npy", content)
        with pytest.raises(ValueError, match=message) as caught:
            read_picture(tmp_path / "bad.npy", 3)
        assert "bad.npy" in str(caught.value)


def test_tiff_keeps_all_bands_and_fills_what_is_missing(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    bands = np.random.default_rng(0).integers(0, 3000, (6, 7, 5)).astype(np.int16)
    bands[2, 3, 1] = -9999
    for planar, array in (("contig", np.moveaxis(bands, 0, -1)), ("separate", bands)):
        tifffile.imwrite(
            tmp_path / "a.tif",
            array,
            photometric="minisblack",
            planarconfig=planar,
            extratags=[(42113, "s", 0, "-9999", True)],
        )
        image = read_picture(tmp_path / "a.tif")
        known = np.delete(bands[2].ravel(), 3 * 5 + 1)
        assert image.shape == (6, 7, 5) and image[2, 3, 1] == int(known.mean())
        assert np.array_equal(np.delete(image[2].ravel(), 16), known) and np.array_equal(image[0], bands[0])
    tifffile.imwrite(tmp_path / "rgb.tif", np.full((4, 5, 3), 128, np.uint8), photometric="rgb")
    assert read_picture(tmp_path / "rgb.tif") == pytest.approx(128 / 255)
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((2, 3, 4, 5), np.uint8), photometric="minisblack")
    with pytest.raises(ValueError, match=r"stack\.tif.*expected rows, columns and bands"):
        read_picture(tmp_path / "stack.tif")


def test_medmnist_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 6, 6, 3), np.uint8)
    path = tmp_path / "pneumoniamnist_64.npz"
    np.savez(
        path,
        train_images=images,
        train_labels=(np.arange(20) % 2)[:, None],
        val_images=images[:4],
        val_labels=np.zeros((4, 1), int),
    )
    data = MedMNISTData(str(path))
    assert data.class_names == ("normal", "pneumonia") and [
        len(data.dataset(s)) for s in ("train", "val", "test")
    ] == [18, 4, 2]
    assert np.allclose(data.dataset("test")[0], np.moveaxis(images[9], -1, 0) / 255)
    np.savez(path, train_images=images, train_labels=np.zeros((20, 14), int))
    with pytest.raises(ValueError, match=r"train_labels \(20, 14\); expected \(N, H, W\) and \(N, 1\)"):
        MedMNISTData(str(path)).dataset("train")
    np.savez(path, train_images=images[:5], train_labels=np.zeros((5, 1), int))
    with pytest.raises(ValueError, match=r"no samples for val \(5 in train_images\)"):
        MedMNISTData(str(path)).dataset("val")


def test_binary_layouts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, marks in (("ten", 1), ("hundred", 2)):
        (tmp_path / name).mkdir()
        rows = rng.integers(0, 256, (20, marks + 3072), np.uint8)
        rows[:, :marks] = np.arange(20)[:, None] % 10
        files = ["test_batch", *(f"data_batch_{k}" for k in range(1, 6))] if marks == 1 else ["train", "test"]
        for file in files:
            (tmp_path / name / f"{file}.bin").write_bytes(rows.tobytes())
        data = BinaryImages(tmp_path / name, "test")
        assert (
            len(data) == 20
            and len(data.class_names) == 10**marks
            and list(data.labels) == rows[:, 0].tolist()
        )
        assert np.allclose(data[3], rows[3, marks:].reshape(3, 32, 32) / 255)
        assert len(BinaryImages(tmp_path / name, "val")) == (10 if marks == 1 else 2)
    (tmp_path / "stl").mkdir()
    images = rng.integers(0, 256, (10, 3, 96, 96), np.uint8)
    for part in ("train", "test"):
        (tmp_path / "stl" / f"{part}_X.bin").write_bytes(images.swapaxes(-1, -2).tobytes())
        (tmp_path / "stl" / f"{part}_y.bin").write_bytes(bytes(range(1, 11)))
    data = BinaryImages(tmp_path / "stl", "test")
    assert np.allclose(data[4], images[4] / 255) and list(data.labels) == list(range(10))
    (tmp_path / "ten" / "test_batch.bin").write_bytes(bytes(3074))
    with pytest.raises(ValueError, match=r"test_batch\.bin.*3074 bytes; expected a multiple of 3073"):
        BinaryImages(tmp_path / "ten", "test")
    (tmp_path / "hundred" / "train.bin").write_bytes(bytes(3 * 3074))
    with pytest.raises(ValueError, match=r"no images for val \(3 in the files of train\)"):
        BinaryImages(tmp_path / "hundred", "val")
    with pytest.raises(FileNotFoundError, match="data_batch_1"):
        BinaryImages(tmp_path)
