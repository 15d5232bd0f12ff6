from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spheregeo.data import IGNORE, Stanford2D3DS, stanford_classes

AREAS = ("area_1", "area_2", "area_3", "area_4", "area_5a", "area_5b", "area_6")
ENTRIES = ["<UNK>_0_<UNK>_0_0"] + [
    f"{name}_{k}_office_{k}_1" for name in stanford_classes() for k in range(30)
]
SIZE = (8, 16)
MISSING = 0x0D0D0D


def write(root: Path, area: str, room: str, entries: np.ndarray, metres: np.ndarray) -> None:
    name = f"camera_{'0' * 31}{area[-1]}_{room}_frame_equirectangular_domain_"
    rng = np.random.default_rng(0)
    for kind, array in {
        "rgb": rng.integers(0, 256, (*SIZE, 4), dtype=np.uint8),  # the panoramas come as RGBA
        "semantic": np.stack([entries >> 16, entries >> 8 & 255, entries & 255], -1).astype(np.uint8),
        "depth": np.where(np.isnan(metres), 65535, np.rint(metres * 512)).astype(np.uint16),
    }.items():
        path = root / area / "pano" / kind / f"{name}{kind}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def entries() -> np.ndarray:
    picked = np.random.default_rng(1).integers(0, len(ENTRIES), SIZE)
    picked[0], picked[1, 0] = MISSING, 0
    picked[1, 1] = 1 + 30 * 12 + 29  # beyond 256: needs the second byte
    return picked


@pytest.fixture(scope="module")
def metres() -> np.ndarray:
    depth = np.random.default_rng(2).integers(1, 60000, SIZE) / 512
    depth[3, 3] = np.nan
    return depth


@pytest.fixture
def root(tmp_path: Path, entries: np.ndarray, metres: np.ndarray) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "semantic_labels.json").write_text(json.dumps(ENTRIES))
    for area in AREAS:
        for k in range(12):
            write(tmp_path, area, f"office_{k}", entries, metres)
    return tmp_path


def test_semantic_colours_are_indices_into_the_label_list(root: Path, entries: np.ndarray) -> None:
    label = Stanford2D3DS(root, 1, SIZE)[0]["label"].numpy()
    names = (*stanford_classes(),)
    want = [
        [IGNORE if e == MISSING or e == 0 else names.index(ENTRIES[e].split("_")[0]) for e in row]
        for row in entries
    ]
    np.testing.assert_array_equal(label, want)
    assert len(names) == 13 and (label[0] == IGNORE).all() and label[1, 0] == IGNORE and label[1, 1] == 12


def test_depth_is_in_512ths_of_a_metre(root: Path, metres: np.ndarray) -> None:
    depth = Stanford2D3DS(root, 1, SIZE, depth=True)[0]["depth"].numpy()
    np.testing.assert_allclose(depth, np.nan_to_num(metres, nan=0.0), atol=1e-5)
    assert depth[3, 3] == 0 and "depth" not in Stanford2D3DS(root, 1, SIZE)[0]


def test_alpha_is_dropped(root: Path) -> None:
    assert Stanford2D3DS(root, 2, SIZE)[0]["image"].shape == (3, *SIZE)


@pytest.mark.parametrize(
    ("fold", "test"),
    [(1, {"area_5a", "area_5b"}), (2, {"area_2", "area_4"}), (3, {"area_1", "area_3", "area_6"})],
)
def test_folds_are_the_official_ones(root: Path, fold: int, test: set[str]) -> None:
    found = {split: Stanford2D3DS(root, fold, SIZE, split).images for split in ("train", "val", "test")}
    areas = {split: {path.parents[2].name for path in paths} for split, paths in found.items()}
    assert areas["test"] == test
    assert areas["train"] == set(AREAS) - test and areas["val"] <= areas["train"]
    assert not set(found["train"]) & set(found["val"])
    assert len(found["train"]) + len(found["val"]) + len(found["test"]) == 12 * len(AREAS)
    assert 0 < len(found["val"]) < len(found["train"]) / 3


def test_panoramas_of_a_room_stay_together() -> None:
    names = [f"camera_{k:032x}_hallway_3_frame_equirectangular_domain_rgb.png" for k in range(40)]
    assert len({Stanford2D3DS._held_out("area_1", Path(name)) for name in names}) == 1
    rooms = [f"camera_{0:032x}_office_{k}_frame_equirectangular_domain_rgb.png" for k in range(100)]
    assert 2 <= sum(Stanford2D3DS._held_out("area_1", Path(name)) for name in rooms) <= 25


def test_areas_choose_what_is_there(root: Path) -> None:
    assert len(Stanford2D3DS(root, 1, SIZE, "test", areas=("area_2",))) == 12


def test_faults_are_named(root: Path) -> None:
    with pytest.raises(ValueError, match="fold is 4; expected one of 1, 2, 3"):
        Stanford2D3DS(root, 4, SIZE)
    first = Stanford2D3DS(root, 2, SIZE, "test", depth=True)
    first.depths[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"depth\.png is missing"):
        Stanford2D3DS(root, 2, SIZE, "test", depth=True)
    for path in first.images:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"area_2.*holds no camera"):
        Stanford2D3DS(root, 2, SIZE, "test")
    (root / "assets" / "semantic_labels.json").write_text('["sphinx_1_office_1_1"]')
    with pytest.raises(ValueError, match="has class 'sphinx'"):
        Stanford2D3DS(root, 1, SIZE)
    (root / "assets" / "semantic_labels.json").unlink()
    with pytest.raises(FileNotFoundError, match="assets"):
        Stanford2D3DS(root, 1, SIZE)
