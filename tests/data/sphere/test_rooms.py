from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import ROOM_CLASSES, Rooms
from spheregeo.data.sphere.rooms.furniture import furnish
from spheregeo.data.sphere.rooms.render import cast
from spheregeo.data.sphere.rooms.rooms import source_digest
from spheregeo.data.sphere.rooms.scene import CEILING, FLOOR, Scene

SIZE = (32, 64)


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    return Rooms(30, SIZE)


def first_hit(scene: Scene, direction: np.ndarray) -> tuple[float, int, int]:
    """Distance, owner and axis along one ray: the three-dimensional slab test, one box at a time."""
    eye = np.array(scene.camera)
    to_shell = np.where(direction > 0, np.array(scene.room) - eye, -eye) / direction
    axis = int(to_shell.argmin())
    best, owner = float(to_shell[axis]), 2 if axis < 2 else int(direction[2] > 0)
    for k, (low, high) in enumerate(zip(scene.lower, scene.upper)):
        a, b = (np.array(low) - eye) / direction, (np.array(high) - eye) / direction
        near, far = np.minimum(a, b), np.maximum(a, b)
        if near.max() <= far.min() and 1e-6 < near.max() < best:
            best, owner, axis = float(near.max()), 3 + k, int(near.argmax())
    return best, owner, axis


@pytest.mark.parametrize("seed", range(4))
def test_rays_meet_what_a_brute_force_slab_test_says(seed: int) -> None:
    scene = furnish(np.random.default_rng(seed))
    elevation = np.pi / 2 - (np.arange(20) + 0.5) * np.pi / 20
    azimuth = 0.3 + np.arange(40) * 2 * np.pi / 40
    rho, owner, axis = cast(scene, azimuth, elevation)
    for i in range(20):
        for j in range(40):
            level = np.cos(elevation[i])
            ray = np.array([level * np.cos(azimuth[j]), level * np.sin(azimuth[j]), np.sin(elevation[i])])
            distance, what, face = first_hit(scene, ray)
            assert rho[i, j] / level == pytest.approx(distance, rel=1e-9)
            assert (owner[i, j], axis[i, j]) == (what, face)


@pytest.mark.parametrize("seed", range(30))
def test_the_camera_stands_in_the_room_and_in_nothing_else(seed: int) -> None:
    scene = furnish(np.random.default_rng(1000 + seed))
    eye = np.array(scene.camera)
    assert 1.0 <= eye[2] <= 1.8
    assert (eye > 0).all() and (eye < scene.room).all()
    inside = (eye > np.array(scene.lower)).all(1) & (eye < np.array(scene.upper)).all(1)
    assert not inside.any()
    low, high = np.array(scene.lower), np.array(scene.upper)
    assert (low < high).all() and (low > -1e-9).all() and (high < np.array(scene.room) + 1e-9).all()


def test_items_have_the_documented_form(rooms: Rooms) -> None:
    item = rooms[3]
    assert item["image"].shape == (3, *SIZE) and item["image"].dtype == torch.float32
    assert 0 <= float(item["image"].min()) and float(item["image"].max()) <= 1
    assert item["label"].shape == SIZE and item["label"].dtype == torch.int64
    assert item["depth"].shape == SIZE and item["depth"].dtype == torch.float32
    assert float(item["depth"].min()) > 0 and float(item["depth"].max()) < 10
    assert torch.isfinite(item["image"]).all()


def test_rooms_hold_all_classes_with_the_floor_below_and_the_ceiling_above(rooms: Rooms) -> None:
    labels = torch.stack([rooms[k]["label"] for k in range(len(rooms))])
    present = torch.bincount(labels.flatten(), minlength=len(ROOM_CLASSES))
    assert len(present) == len(ROOM_CLASSES) and (present > 0).all()
    assert (labels[:, : SIZE[0] // 2] != FLOOR).all()
    assert (labels[:, SIZE[0] // 2 :] != CEILING).all()
    assert (labels[:, -1] == FLOOR).float().mean() > 0.8


def test_the_nadir_is_as_deep_as_the_camera_is_high(rooms: Rooms) -> None:
    item = rooms[1]
    floor = item["label"][-1] == FLOOR
    assert floor.any()
    assert 0.99 < float(item["depth"][-1][floor].min()) < 1.82


def test_a_room_depends_on_seed_split_and_index_alone() -> None:
    one, many = Rooms(1, SIZE, seed=5), Rooms(9, SIZE, seed=5)
    assert all(torch.equal(one[0][key], many[0][key]) for key in ("image", "label", "depth"))
    others = [
        many[1],
        Rooms(1, SIZE, seed=6)[0],
        Rooms(1, SIZE, seed=5, split="val")[0],
        Rooms(1, SIZE, seed=5, split="test")[0],
    ]
    assert not any(torch.equal(one[0]["label"], other["label"]) for other in others)


def test_another_size_shows_the_same_room() -> None:
    small, large = Rooms(1, (32, 64))[0], Rooms(1, (64, 128))[0]
    coarse = torch.nn.functional.avg_pool2d(large["depth"][None, None], 2)[0, 0]
    # differs at the edges of things, and nowhere else
    assert float(((coarse - small["depth"]).abs() < 0.05).float().mean()) > 0.85


def test_colour_alone_does_not_name_the_class(rooms: Rooms) -> None:
    """Furniture classes share one range of colours: their mean colours differ less than the colours within each."""
    colours: dict[int, list[torch.Tensor]] = {c: [] for c in (6, 7, 8)}
    for k in range(len(rooms)):
        item = rooms[k]
        for c, found in colours.items():
            mask = item["label"] == c
            if mask.sum() > 3:
                found.append(item["image"][:, mask].mean(1))
    means = torch.stack([torch.stack(found).mean(0) for found in colours.values()])
    within = torch.stack([torch.stack(found).std(0) for found in colours.values()]).mean()
    assert float(means.std(0).mean()) < float(within)


def test_the_folder_cache_gives_the_same_rooms_and_survives_a_torn_file(tmp_path: Path) -> None:
    plain = Rooms(2, (8, 16))
    stored = Rooms(2, (8, 16), cache_dir=tmp_path / "cache")
    assert torch.equal(stored[1]["image"], plain[1]["image"])
    files = list((tmp_path / "cache").iterdir())
    assert [file.name for file in files] == [f"room-{source_digest()}-8x16-seed0-train-000001.npz"]
    files[0].write_bytes(files[0].read_bytes()[:100])
    again = Rooms(2, (8, 16), cache_dir=tmp_path / "cache")
    assert all(torch.equal(again[1][key], plain[1][key]) for key in ("image", "label", "depth"))
    with np.load(files[0]) as whole:
        assert set(whole.files) == {"image", "label", "depth"}


def test_finished_rooms_are_read_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Rooms(1, (8, 16), cache_dir=tmp_path)[0]
    monkeypatch.setattr("spheregeo.data.sphere.rooms.rooms.furnish", None)
    assert Rooms(1, (8, 16), cache_dir=tmp_path)[0]["label"].shape == (8, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"size": (64, 64)}, "nlon = 2 nlat"),
        ({"split": "training"}, "split is 'training'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rooms(**{"count": 1, **arguments})


def test_an_index_outside_is_an_index_error(rooms: Rooms) -> None:
    with pytest.raises(IndexError, match="30 items"):
        rooms[30]


def test_no_kept_room_outlives_its_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Rooms(1, (8, 16), cache_dir=tmp_path)[0]
    monkeypatch.setattr("spheregeo.data.sphere.rooms.rooms.source_digest", lambda: "of-other-code")
    monkeypatch.setattr(
        "spheregeo.data.sphere.rooms.rooms.furnish", lambda rng: furnish(np.random.default_rng(99))
    )
    again = Rooms(1, (8, 16), cache_dir=tmp_path)[0]
    assert not torch.equal(again["label"], made["label"]) and len(list(tmp_path.iterdir())) == 2
