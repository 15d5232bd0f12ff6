"""Images with rotations: drawn by the depth buffer, from folders, arrays and PASCAL3D+; turns, cameras, faults."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from spheregeo.data import (
    Pascal3D,
    Pascal3DData,
    PoseArrays,
    PoseArraysData,
    PoseFolder,
    PoseFolderData,
    ShadedViews,
    ShadedViewsData,
    read_all,
)
from spheregeo.data.poses.pascal3d import cut_square, viewpoint_rotation
from spheregeo.data.poses.render import AMBIENT, FILL, render
from spheregeo.data.poses.shapes import SHAPES, box, shape
from spheregeo.groups import axis_angle, random_rotations

QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("distance", [None, 3.0])
def test_the_depth_buffer_beside_rays(distance: float | None) -> None:
    """Rays through the middles of the samples, against every triangle one by one."""
    vertices, faces = shape("mug")
    rotation, size = random_rotations(1, torch.Generator().manual_seed(0))[0].numpy(), 10
    image = render(vertices, faces, rotation, size, distance=distance, light=(0.3, 0.2, 1.0))
    fine = 2 * size
    at = ((np.arange(fine) + 0.5) / fine * 2 - 1) / FILL
    x, y = np.meshgrid(at, -at)
    points = vertices @ rotation.T
    if distance is None:
        start = np.stack([x, y, np.full_like(x, 5.0)], -1).reshape(-1, 3)
        ray = np.broadcast_to([0.0, 0, -1], start.shape)
    else:
        start = np.broadcast_to([0.0, 0, distance], (fine * fine, 3))
        ray = np.stack([x, y, np.full_like(x, -math.sqrt(distance**2 - 1))], -1).reshape(-1, 3)
    nearest, slow = np.full(len(ray), np.inf), np.zeros(len(ray))
    light = np.array([0.3, 0.2, 1.0]) / np.linalg.norm([0.3, 0.2, 1.0])
    for a, b, c in points[faces]:
        normal = np.cross(b - a, c - a)
        if not np.linalg.norm(normal) > 1e-12:
            continue
        normal /= np.linalg.norm(normal)
        facing = ray @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (a - start) @ normal / facing
        p = start + np.where(np.isfinite(t), t, 0)[:, None] * ray
        inside = np.all(
            [np.cross(e, p - o) @ normal >= 0 for e, o in ((b - a, a), (c - b, b), (a - c, c))], 0
        )
        hit = inside & (facing < 0) & (t < nearest)
        nearest[hit], slow[hit] = t[hit], AMBIENT + (1 - AMBIENT) * max(0.0, float(normal @ light))
    slow = slow.reshape(size, 2, size, 2).mean((1, 3))
    assert (
        np.mean(np.abs(image - slow) > 1e-5) < 0.02 and slow.max() > 0.5
    )  # samples on edges may fall either way


def test_a_turned_thing_gives_the_turned_image_and_surfaces_are_closed() -> None:
    rotation = random_rotations(1, torch.Generator().manual_seed(1))[0].numpy()
    for name in SHAPES:
        vertices, faces = shape(name)
        assert np.linalg.norm(vertices, axis=1).max() == pytest.approx(1) and faces.max() < len(vertices)
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        assert (np.cross(a, b) * c).sum() > 0  # counter-clockwise seen from outside
        image = render(vertices, faces, rotation, 16, distance=4.0)
        assert np.array_equal(np.rot90(image), render(vertices, faces, QUARTER @ rotation, 16, distance=4.0))
    far = render(*box((0, 0, 0), (0.5, 0.5, 0.5)), np.eye(3), 16)
    assert far[8, 8] == 1 and far[0].max() == 0


def test_views_depend_on_what_is_asked_for_alone() -> None:
    views = [ShadedViews(8, 12, seed=1) for _ in range(2)]
    assert np.array_equal(views[0][3], views[1][3]) and np.array_equal(
        views[0].rotation(3), views[1].rotation(3)
    )
    others = [
        ShadedViews(8, 12, seed=2),
        ShadedViews(8, 12, seed=1, split="test"),
        ShadedViews(8, 12, distance=None, seed=1),
    ]
    assert not any(np.array_equal(views[0][3], other[3]) for other in others)
    assert views[0].symmetric == ("cone", "cube", "cylinder") and views[0][0].dtype == np.float32
    plain = ShadedViews(2, 12, ["mug"], noise=0)
    expected = render(*shape("mug"), plain.rotation(1), 12, distance=4.0)
    assert np.abs(plain[1][0] - expected).max() < 0.5 / 255 + 1e-6
    for wrong, message in (
        ({"objects": ["mgu"]}, r"objects names 'mgu' \(did you mean 'mug'\?\)"),
        ({"distance": 0.5}, "distance is 0.5"),
        ({"symmetric": ["bus"]}, "symmetric names 'bus'"),
        ({"objects": ["mug", "mug"]}, "expected different names"),
    ):
        with pytest.raises(ValueError, match=message):
            ShadedViews(2, 12, **wrong)


def test_views_of_a_mesh_of_one_s_own(tmp_path: Path) -> None:
    vertices, faces = shape("chair")
    rows = [*(" ".join(map(str, v)) for v in 3 * vertices + 1), *(f"3 {a} {b} {c}" for a, b, c in faces)]
    (tmp_path / "seat.off").write_text("\n".join(["OFF", f"{len(vertices)} {len(faces)} 0", *rows]))
    own = ShadedViews(1, 12, [str(tmp_path / "seat.off")], noise=0)
    assert own.class_names == ("seat",) and own.symmetric == ()
    assert np.abs(own[0] - ShadedViews(1, 12, ["chair"], noise=0)[0]).mean() < 0.02


def test_training_turns_move_image_and_rotation_together() -> None:
    data = ShadedViewsData(train=4, val=2, test=2, pixels=12, noise=0.0, turns="c4")
    items = data.items("train")
    plain = ShadedViews(4, 12, noise=0)
    seen = set()
    for epoch in range(6):
        item = items[epoch, 1]
        relative = item["rotation"].double().numpy() @ plain.rotation(1).T
        quarters = round(math.atan2(relative[1, 0], relative[0, 0]) / (math.pi / 2)) % 4
        assert np.abs(relative - axis_angle((0, 0, 1), quarters * math.pi / 2).numpy()).max() < 1e-6
        image = np.rot90(plain[1], quarters, (1, 2))
        assert np.abs(item["image"].numpy() - (image - data.mean[0]) / data.std[0]).max() < 1e-5
        seen.add(quarters)
    assert len(seen) > 1 and data.class_names[3] == "mug" and data.size == [12, 12]
    assert np.array_equal(
        data.items("val")[1]["rotation"].numpy(), ShadedViews(2, 12, split="val").rotation(1).astype("f4")
    )


# ---- files


def write_folder(root: Path, kind: str, count: int = 20) -> np.ndarray:
    rotations = random_rotations(count, torch.Generator().manual_seed(0))
    (root / "photos").mkdir(parents=True)
    names = [f"photos/{k}.png" for k in range(count)]
    for k, name in enumerate(names):
        Image.fromarray(np.full((6, 8, 3), 10 * k % 255, np.uint8)).save(root / name)
    classes = ["cup" if k % 2 else "ball" for k in range(count)]
    if kind == "npz":
        np.savez(root / "rotations.npz", names=names, rotations=rotations.numpy(), classes=classes)
    else:
        from spheregeo.groups import to_quaternion

        values = 2 * to_quaternion(rotations) if kind == "quaternion" else rotations.flatten(1)
        head = (
            "qw,qx,qy,qz"
            if kind == "quaternion"
            else ",".join(f"r{i}{j}" for i in range(3) for j in range(3))
        )
        lines = [f"name,{head},class"]
        lines += [
            f"{n},{','.join(map(str, v))},{c}"
            for n, v, c in zip(names, values.tolist(), classes, strict=True)
        ]
        (root / "rotations.csv").write_text("\n".join(lines) + "\n")
    return rotations.numpy()


@pytest.mark.parametrize("kind", ["matrix", "quaternion", "npz"])
def test_a_folder_of_images_with_rotations(tmp_path: Path, kind: str) -> None:
    rotations = write_folder(tmp_path, kind)
    data = PoseFolderData(str(tmp_path), resize=[4, 4], symmetric=["ball"])
    train, val, test = (data.dataset(split) for split in ("train", "val", "test"))
    assert [len(part) for part in (train, val, test)] == [16, 2, 2]
    assert np.abs(val.rotation(1) - rotations[18]).max() < 1e-12 and val.name(1) == "photos/18.png"
    assert (
        train.class_names == ("ball", "cup") and train.symmetric == ("ball",) and train[3].shape == (3, 4, 4)
    )
    flipped = PoseFolder(tmp_path, "val", camera="opencv")
    assert np.abs(flipped.rotation(1) - np.diag([1, -1, -1]) @ rotations[18]).max() < 1e-12
    found = read_all(data)
    assert not found.faults and found.counts == {"train": 16, "val": 2, "test": 2}
    for split, row in (("train", 5), ("val", 6), ("test", 7)):
        (tmp_path / f"{split}.txt").write_text(f"photos/{row}.png\n")
    assert np.abs(PoseFolder(tmp_path, "test").rotation(0) - rotations[7]).max() < 1e-12


def test_faults_of_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no rotations\.csv and no rotations\.npz"):
        PoseFolder(tmp_path)
    write_folder(tmp_path, "matrix")
    table = tmp_path / "rotations.csv"
    text = table.read_text()
    lines = text.splitlines()
    cells = lines[3].split(",")
    for changed, message in (
        ("name,a,b\nx,1,2\n", r"expected a path, then r00 \.\.\. r22 or qw, qx, qy, qz"),
        (
            text.replace(lines[3], ",".join([cells[0], "9", *cells[2:]])),
            r"photos/2\.png: rotation is not orthonormal",
        ),
        (text.replace("photos/3.png", "photos/2.png"), "it names 'photos/2.png' twice"),
        (text.replace("photos/3.png", "../3.png"), "expected paths below the folder"),
    ):
        table.write_text(changed)
        with pytest.raises(ValueError, match=message):
            PoseFolder(tmp_path)
    table.write_text(text)
    (tmp_path / "photos" / "4.png").write_bytes(b"\x89PNG no more")
    assert "4.png" in read_all(PoseFolderData(str(tmp_path))).faults[0][1]
    with pytest.raises(ValueError, match="camera is 'left'"):
        PoseFolderData(str(tmp_path), camera="left")  # type: ignore[arg-type]


def write_arrays(path: Path, count: int, key: str = "cat_ids") -> np.ndarray:
    rotations = random_rotations(count, torch.Generator().manual_seed(1)).float().numpy()
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    np.savez(path, imgs=images, rots=rotations, **{key: np.arange(count) % 3})
    return rotations


def test_modelnet10_so3_and_files_of_its_layout(tmp_path: Path) -> None:
    train, test = (
        write_arrays(tmp_path / "modelnet10_train.npz", 20),
        write_arrays(tmp_path / "modelnet10_test.npz", 5),
    )
    write_arrays(tmp_path / "modelnet10_limited_train.npz", 4)  # beside them in that layout
    data = PoseArraysData(str(tmp_path), camera="opengl", resize=[4, 4])
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [18, 2, 5]
    assert data.class_names[:2] == ("bathtub", "bed") and data.dataset("test")[0].shape == (1, 4, 4)
    assert np.abs(data.dataset("test").rotation(2) - test[2]).max() < 1e-6
    assert np.abs(data.dataset("val").rotation(1) - train[18]).max() < 1e-6
    one = PoseArrays(tmp_path / "modelnet10_train.npz", "test")
    assert len(one) == 2 and np.abs(one.rotation(0) - np.diag([1, -1, -1]) @ train[9]).max() < 1e-6
    for content, message in (
        ({"imgs": np.zeros((2, 4, 4))}, "expected imgs and rots"),
        ({"imgs": np.zeros((2, 4), np.uint8), "rots": np.zeros((2, 3, 3))}, "imgs has shape"),
        (
            {"imgs": np.zeros((2, 4, 4), np.uint8), "rots": np.zeros((2, 3, 3))},
            "rotation 0: rotation is not orthonormal",
        ),
        ({"imgs": np.zeros((2, 4, 4), np.uint8), "rots": np.zeros((3, 3, 3))}, "2 images, 3 rotations"),
    ):
        np.savez(tmp_path / "wrong.npz", **content)
        with pytest.raises(ValueError, match=message):
            PoseArrays(tmp_path / "wrong.npz")


def annotation(path: Path, azimuth: float, **changes: object) -> None:
    view = {"azimuth": azimuth, "elevation": 20.0, "theta": 5.0, "distance": 3.0, **changes}
    thing = {
        "class": "car", "bbox": np.array([2.0, 1.0, 12.0, 9.0]), "viewpoint": view, "occluded": 0, "truncated": 0,
        "difficult": int(bool(changes.get("hard"))),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"record": {"objects": thing}})


def test_the_layout_of_pascal3d(tmp_path: Path) -> None:
    (tmp_path / "Image_sets").mkdir()
    main = tmp_path / "PASCAL" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    main.mkdir(parents=True)
    names = [f"n{k}" for k in range(12)]
    (tmp_path / "Image_sets" / "car_imagenet_train.txt").write_text("\n".join(names))
    (main / "car_val.txt").write_text("p1  1\np2 -1\n")
    for folder, stems, suffix in (("car_imagenet", names, ".JPEG"), ("car_pascal", ["p1"], ".jpg")):
        (tmp_path / "Images" / folder).mkdir(parents=True)
        for k, stem in enumerate(stems):
            Image.fromarray(np.full((10, 14, 3), 100, np.uint8)).save(
                tmp_path / "Images" / folder / f"{stem}{suffix}"
            )
            more = {"hard": 1} if k == 3 else {"distance": 0.0} if k == 4 else {}
            annotation(tmp_path / "Annotations" / folder / f"{stem}.mat", 30.0 * k, **more)
    data = Pascal3DData(str(tmp_path), resize=[6, 6])
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [
        9,
        1,
        1,
    ]  # one hard, one without viewpoint
    test = data.dataset("test")
    assert test[0].shape == (3, 6, 6) and test.class_names[test.labels[0]] == "car"
    assert np.abs(data.dataset("train").rotation(2) - viewpoint_rotation(60, 20, 5)).max() < 1e-12
    torn = tmp_path / "Annotations" / "car_imagenet" / "n2.mat"
    torn.write_bytes(torn.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"n2\.mat cannot be read as an annotation of PASCAL3D\+"):
        Pascal3D(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder Annotations"):
        Pascal3D(tmp_path / "Images")


def test_viewpoints_are_rotations_and_boxes_squares() -> None:
    """The camera stands on the view axis, and what is up in the thing is up in the image."""
    for a, e, t in ((0, 0, 0), (90, 0, 0), (250, 35, -20)):
        camera = np.array([math.cos(math.radians(e)) * math.sin(math.radians(a)),
                           -math.cos(math.radians(e)) * math.cos(math.radians(a)), math.sin(math.radians(e))])  # fmt: skip
        rotation = viewpoint_rotation(a, e, t)
        assert np.abs(rotation @ camera - [0, 0, 1]).max() < 1e-12
        up = rotation @ [0, 0, 1]
        turned = [-math.sin(math.radians(t)), math.cos(math.radians(t))]
        assert np.abs(up[:2] / math.cos(math.radians(e)) - turned).max() < 1e-12
    square = cut_square(np.ones((3, 5, 9)), np.array([6.0, 0, 10, 2]), 0.0)
    assert (
        square.shape == (3, 4, 4)
        and square[0].tolist()[0] == [0, 0, 0, 0]
        and square[0, 1].tolist() == [1, 1, 1, 0]
    )


@pytest.mark.realdata
def test_ten_real_photographs(real_data: Path) -> None:
    data = PoseArraysData(str(real_data / "mini_pascal3d" / "mini_pascal.npz"), resize=[48, 48], batch_size=4)
    parts = [data.dataset(split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [8, 1, 1] and data.num_classes == 12
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 3, 48, 48) and batch["rotation"].shape == (4, 3, 3)
    stored = np.load(real_data / "mini_pascal3d" / "mini_pascal.npz")["rots"][0]
    ours = parts[0].rotation(0)
    assert np.abs(np.diag([1, -1, -1]) @ ours - stored).max() < 1e-6
    # photographs are taken upright: what is up in the thing points up in the image
    assert all(part.rotation(k)[1, 2] > 0.5 for part in parts for k in range(len(part)))
