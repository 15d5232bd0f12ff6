from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spheregeo.data import IGNORE, PanoramaFolder, View, read_depth, read_image, read_labels
from spheregeo.data.sphere.pictures import views

SIZE = (8, 16)
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 3, SIZE, dtype=np.uint8)


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k in range(12):
        save(np.roll(COLOUR, k, 1), tmp_path / "images" / f"pano{k:02d}.png")
        save(np.roll(LABEL, k, 1), tmp_path / "labels" / f"pano{k:02d}.png")
    (tmp_path / "classes.txt").write_text("floor  # index 0\n\nwall\nceiling\n")
    return tmp_path


def test_items_are_what_the_files_hold(root: Path) -> None:
    data = PanoramaFolder(root, SIZE)
    assert data.class_names == ("floor", "wall", "ceiling") and data.targets == ("label",)
    item = data[1]
    np.testing.assert_allclose(
        item["image"].numpy(), np.roll(COLOUR, 1, 1).transpose(2, 0, 1) / 255, atol=1e-7
    )
    np.testing.assert_array_equal(item["label"].numpy(), np.roll(LABEL, 1, 1))
    assert item["image"].dtype == torch.float32 and item["label"].dtype == torch.int64 and "depth" not in item


def test_without_lists_the_names_are_dealt_out(root: Path) -> None:
    names = {split: PanoramaFolder(root, SIZE, split).names for split in ("train", "val", "test")}
    assert names["val"] == ["pano08"] and names["test"] == ["pano09"] and len(names["train"]) == 10


def test_lists_say_what_is_in_a_split(root: Path) -> None:
    for split, text in {"train": "pano03\npano01.png\n", "val": "pano00", "test": "pano05\n"}.items():
        (root / f"{split}.txt").write_text(text)
    assert PanoramaFolder(root, SIZE, "train").names == ["pano03", "pano01"]
    assert PanoramaFolder(root, SIZE, "test").names == ["pano05"]
    (root / "val.txt").write_text("elsewhere")
    with pytest.raises(FileNotFoundError, match=r"val.txt names 'elsewhere'"):
        PanoramaFolder(root, SIZE, "val")
    (root / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"not val\.txt; give all three or none"):
        PanoramaFolder(root, SIZE, "train")


@pytest.mark.parametrize("rule", ["folder", r"^(room\d)_"])
def test_groups_stay_together(tmp_path: Path, rule: str) -> None:
    for k in range(40):
        name = f"room{k % 8}/{k}" if rule == "folder" else f"room{k % 8}_{k}"
        save(np.roll(COLOUR, k, 1) + np.uint8(k), tmp_path / "images" / f"{name}.png")
        save(LABEL, tmp_path / "labels" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    names = {
        split: PanoramaFolder(tmp_path, SIZE, split, group=rule).names for split in ("train", "val", "test")
    }
    rooms = {split: {name[:5] for name in found} for split, found in names.items()}
    every = [name for found in names.values() for name in found]
    assert len(every) == len({*every}) == 40 and len(names["train"]) == 30
    assert not rooms["train"] & rooms["val"] and not rooms["val"] & rooms["test"]
    assert len(rooms["val"]) == len(rooms["test"]) == 1
    assert PanoramaFolder(tmp_path, SIZE, group=rule)[0]["label"].shape == SIZE


def test_groups_that_cannot_be_are_named(root: Path) -> None:
    with pytest.raises(ValueError, match=r"group '\^x' finds nothing in 'pano00' \(12 of 12 names\)"):
        PanoramaFolder(root, SIZE, group="^x")
    with pytest.raises(ValueError, match=r"group is '\('; expected 'folder' or a regular expression"):
        PanoramaFolder(root, SIZE, group="(")
    with pytest.raises(ValueError, match="there are 1 groups"):
        PanoramaFolder(root, SIZE, group="pano")


def test_a_picture_in_two_splits_is_warned_of(root: Path) -> None:
    for split, text in {"train": "pano03\npano01\n", "val": "pano03\n", "test": "pano05\n"}.items():
        (root / f"{split}.txt").write_text(text)
    with pytest.warns(UserWarning, match=r"share the same image: pano03\.png \(train and val\)"):
        PanoramaFolder(root, SIZE)
    (root / "val.txt").write_text("pano07\n")
    PanoramaFolder(root, SIZE)  # and none where nothing is shared
    (root / "images" / "pano07.png").write_bytes((root / "images" / "pano01.png").read_bytes())
    with pytest.warns(
        UserWarning, match=r"share the same picture in several files: pano01\.png \(train and val\)"
    ):
        PanoramaFolder(root, SIZE)
    (root / "val.txt").write_text("pano05\n")
    (root / "test.txt").write_text("pano06\n")
    with pytest.warns(UserWarning, match=r"share the same group: 0 \(train and val and test\)"):
        PanoramaFolder(root, SIZE, group=r"pano(\d)")


def test_images_and_labels_are_brought_to_the_working_size(root: Path) -> None:
    item = PanoramaFolder(root, (4, 8))[0]
    assert item["image"].shape == (3, 4, 8) and item["label"].shape == (4, 8)
    assert set(item["label"].unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOUR[..., 0], COLOUR[..., :1].repeat(3, -1) / 255),  # grey
        (np.concatenate([COLOUR, COLOUR[..., :1]], -1), COLOUR / 255),  # alpha is dropped
        (COLOUR[..., :2], COLOUR[..., :1].repeat(3, -1) / 255),  # grey with alpha
        (COLOUR[..., 0].astype(np.uint16) * 257, COLOUR[..., :1].repeat(3, -1) / 255),  # 16 bits
        (COLOUR[..., 0] > 128, (COLOUR[..., :1] > 128).repeat(3, -1)),  # one bit
    ],
    ids=["grey", "rgba", "grey-alpha", "16-bit", "1-bit"],
)
def test_every_kind_of_image_becomes_three_channels_in_0_1(
    array: np.ndarray, expected: np.ndarray, tmp_path: Path
) -> None:
    got = read_image(save(array, tmp_path / "image.png"))
    assert got.shape == (3, *SIZE) and got.dtype == np.float32
    np.testing.assert_allclose(got, expected.transpose(2, 0, 1), atol=1e-6)


def test_palette_images_are_looked_up_and_palette_labels_are_not(tmp_path: Path) -> None:
    image = Image.fromarray(LABEL, "L").convert("P")
    image.putdata(LABEL.ravel().tolist())
    image.putpalette([200, 10, 30, 0, 255, 0, 5, 6, 7])
    image.save(tmp_path / "palette.png")
    table = np.array([[200, 10, 30], [0, 255, 0], [5, 6, 7]]) / 255
    np.testing.assert_allclose(
        read_image(tmp_path / "palette.png"), table[LABEL].transpose(2, 0, 1), atol=1e-6
    )
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png", 3), LABEL)


def test_16_bit_labels_and_void(tmp_path: Path) -> None:
    label = LABEL.astype(np.uint16)
    label[0, 0], label[0, 1] = 65535, 255
    got = read_labels(save(label, tmp_path / "label.png"), 3)
    assert got[0, 0] == IGNORE and got[0, 1] == IGNORE
    np.testing.assert_array_equal(got[1:], LABEL[1:])


def test_depth_in_millimetres_or_metres(tmp_path: Path) -> None:
    metres = RNG.uniform(0.5, 9, SIZE).astype(np.float32).round(3)
    metres[0, 0] = 0
    save(np.rint(metres * 1000).astype(np.uint16), tmp_path / "depth.png")
    np.save(tmp_path / "depth.npy", np.where(metres == 0, np.nan, metres))
    np.savez(tmp_path / "depth.npz", depth=metres)
    for suffix in (".png", ".npy", ".npz"):
        np.testing.assert_allclose(read_depth(tmp_path / f"depth{suffix}"), metres, atol=1e-6)


def test_a_folder_with_depth_only_needs_no_classes(tmp_path: Path) -> None:
    save(COLOUR, tmp_path / "images" / "a.jpg")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", np.ones(SIZE, np.float32))
    data = PanoramaFolder(tmp_path, SIZE)
    assert data.targets == ("depth",) and data.class_names == ()
    assert set(data[0]) == {"image", "depth"} and float(data[0]["depth"].mean()) == 1


def test_a_folder_of_coloured_labels(root: Path) -> None:
    table = np.array([[1, 2, 3], [200, 0, 0], [0, 200, 0]], np.uint8)
    (root / "classes.txt").write_text("floor 1 2 3\nwall 200 0 0\nceiling 0 200 0\n")
    for path in (root / "labels").iterdir():
        rgb = table[np.asarray(Image.open(path))]
        rgb[0, 0] = 255
        save(rgb, path)
    item = PanoramaFolder(root, SIZE, void=["#FFFFFF"])[1]
    want = np.roll(LABEL, 1, 1).astype(int)
    want[0, 0] = IGNORE
    np.testing.assert_array_equal(item["label"].numpy(), want)


def test_six_files_of_a_cube_and_partial_panoramas(tmp_path: Path) -> None:
    for k in range(12):
        for face, value in zip(
            ("front", "right", "back", "left", "up", "down"), (10, 50, 90, 130, 170, 210), strict=True
        ):
            save(
                np.full((8, 8, 3), value + k, np.uint8), tmp_path / "cube" / "images" / f"p{k:02}_{face}.png"
            )
            save(np.full((8, 8), value // 40, np.uint8), tmp_path / "cube" / "labels" / f"p{k:02}_{face}.png")
        save(COLOUR, tmp_path / "part" / "images" / f"p{k}.png")
        save(LABEL, tmp_path / "part" / "labels" / f"p{k}.png")
    for name in ("cube", "part"):
        (tmp_path / name / "classes.txt").write_text("a\nb\nc\nd\ne\nf\n")
    with pytest.warns(UserWarning, match="picture in several files"):  # all of part/ are one
        part = PanoramaFolder(tmp_path / "part", SIZE, view=View(hfov=180.0, vfov=90.0))
    cube = PanoramaFolder(tmp_path / "cube", SIZE, view=View("cube"))
    assert len(cube) == 10
    item = cube[0]
    assert item["label"][4, 8] == 0 and item["label"][4, 12] == 1 and item["label"][4, 0] == 2
    assert item["label"][4, 3] == 3 and (item["label"][0] == 4).all() and (item["label"][-1] == 5).all()
    np.testing.assert_allclose(item["image"][:, 0], 170 / 255, atol=1e-6)
    item = part[0]
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[2:6, 4:12] = True
    assert torch.equal(item["label"] != IGNORE, inside) and bool(torch.isfinite(item["image"]).all())
    mean = item["image"][:, inside].mean(1)
    torch.testing.assert_close(item["image"][:, 0, 0], mean, atol=0.05, rtol=0)
    (tmp_path / "cube" / "images" / "p00_up.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"p00_up\.png does not exist; expected six files"):
        PanoramaFolder(tmp_path / "cube", SIZE, view=View("cube"))[0]


def test_sheets_named_like_faces_are_sheets(tmp_path: Path) -> None:
    names = ["room_b", "kitchen_back", "house_f", "hall_front", "loft_u"]
    for k, name in enumerate(names):
        save(np.full((8, 48, 3), 40 * k, np.uint8), tmp_path / "images" / f"{name}.png")
        save(np.full((8, 48), k, np.uint8), tmp_path / "labels" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    (tmp_path / "train.txt").write_text("\n".join(names))
    for split in ("val", "test"):
        (tmp_path / f"{split}.txt").write_text("room_b\n")
    with pytest.warns(UserWarning, match="split"):
        data = PanoramaFolder(tmp_path, SIZE, view=View("cube"))
    assert data.names == names
    for k in range(len(names)):
        assert (data[k]["label"] == k).all()


def test_any_of_six_files_that_changes_is_read_again(tmp_path: Path) -> None:
    for folder, shape in (("images", (8, 8, 3)), ("labels", (8, 8))):
        for face in ("front", "right", "back", "left", "up", "down"):
            save(np.zeros(shape, np.uint8), tmp_path / folder / f"a_{face}.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    data = PanoramaFolder(tmp_path, SIZE, view=View("cube"))
    assert (data[0]["label"] == 0).all() and (data[0]["image"] == 0).all()
    save(np.ones((8, 8), np.uint8), tmp_path / "labels" / "a_up.png")
    assert (data[0]["label"][0] == 1).all()
    save(np.full((8, 8, 3), 255, np.uint8), tmp_path / "images" / "a_down.png")
    assert (data[0]["image"][:, -1] > 0.9).all()


def test_the_panorama_of_a_large_photo_is_no_larger_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(np.zeros((300, 400, 3), np.uint8), tmp_path / "images" / "a.png")
    save(np.zeros((300, 400), np.uint8), tmp_path / "labels" / "a.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    made = []
    directions = views._directions
    monkeypatch.setattr(views, "_directions", lambda size: made.append(size) or directions(size))
    PanoramaFolder(tmp_path, SIZE, view=View("perspective", hfov=60.0))[0]
    assert made and max(made) <= 4 * SIZE[0]


def test_a_file_that_changes_is_read_again(root: Path) -> None:
    data = PanoramaFolder(root, SIZE)
    before = data[1]["label"]
    assert torch.equal(data[1]["label"], before)
    save(np.roll(LABEL, 3, 0), root / "labels" / "pano01.png")
    after = data[1]["label"]
    np.testing.assert_array_equal(after.numpy(), np.roll(LABEL, 3, 0))
    assert not torch.equal(after, before)


def broken(change: Callable[[Path], object], message: str, error: type[Exception] = ValueError) -> object:
    return pytest.param(change, message, error, id=message[:30])


@pytest.mark.parametrize(
    ("change", "message", "error"),
    [
        broken(
            lambda r: (r / "labels" / "pano00.png").unlink(), r"pano00\.png is missing", FileNotFoundError
        ),
        broken(
            lambda r: [(r / "labels" / "pano00.png").unlink(), save(LABEL, r / "labels" / "pano00.jpg")],
            r"pano00\.jpg is a JPEG",
        ),
        broken(lambda r: (r / "classes.txt").unlink(), "classes.txt does not exist", FileNotFoundError),
        broken(lambda r: (r / "classes.txt").write_text("\n# none\n"), "holds 0 class names"),
        broken(lambda r: (r / "classes.txt").write_text("a\nb\na\n"), "names a class twice"),
        broken(
            lambda r: save(np.zeros((8, 20, 3), np.uint8), r / "images" / "pano00.png"), "is 8 x 20 pixels"
        ),
        broken(lambda r: save(np.zeros((8, 20), np.uint8), r / "labels" / "pano00.png"), "is 8 x 20 pixels"),
        broken(
            lambda r: save(np.full(SIZE, 3, np.uint8), r / "labels" / "pano00.png"), "has label 3 at row 0"
        ),
        broken(lambda r: save(COLOUR, r / "labels" / "pano00.png"), "label image with mode RGB"),
        broken(lambda r: (r / "images" / "pano00.png").write_bytes(b""), "cannot be read as an image"),
        broken(
            lambda r: (r / "images" / "pano00.png").write_bytes(b"no image at all"),
            "cannot be read as an image",
        ),
        broken(lambda r: [p.unlink() for p in (r / "images").iterdir()], "holds no .png", FileNotFoundError),
        broken(lambda r: save(COLOUR, r / "images" / "pano00.jpg"), "two images of one name"),
    ],
)
def test_faults_are_named_with_their_file(
    root: Path, change: Callable[[Path], object], message: str, error: type[Exception]
) -> None:
    change(root)
    with pytest.raises(error, match=message):
        PanoramaFolder(root, SIZE)[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_named(root: Path, suffix: str) -> None:
    noise = RNG.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    path = root / "images" / f"pano00{suffix}"
    (root / "images" / "pano00.png").unlink()
    save(noise, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"pano00{suffix} cannot be read as an image.*truncated"):
        PanoramaFolder(root, SIZE)[0]


def test_nan_in_a_floating_image_is_named(tmp_path: Path) -> None:
    values = np.ones(SIZE, np.float32)
    values[2, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "image.tiff")
    with pytest.raises(ValueError, match="holds 1 NaN"):
        read_image(tmp_path / "image.tiff")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        PanoramaFolder(tmp_path / "nowhere", SIZE)
    with pytest.raises(FileNotFoundError, match="neither labels/ nor depth/"):
        PanoramaFolder(tmp_path, SIZE)


def test_wrong_depth_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="8-bit depth"):
        read_depth(save(LABEL, tmp_path / "a.png"))
    np.save(tmp_path / "b.npy", np.full(SIZE, -1.0))
    with pytest.raises(ValueError, match="negative depths"):
        read_depth(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as an array"):
        read_depth(tmp_path / "c.npy")
    np.savez(tmp_path / "e.npz", near=np.ones(SIZE), far=np.ones(SIZE))
    with pytest.raises(ValueError, match="holds 2 arrays; expected one"):
        read_depth(tmp_path / "e.npz")
    np.save(tmp_path / "d.npy", np.ones((2, *SIZE)))
    with pytest.raises(ValueError, match="one depth a pixel"):
        read_depth(tmp_path / "d.npy")
