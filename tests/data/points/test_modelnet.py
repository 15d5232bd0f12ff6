"""ModelNet and ScanObjectNN: every layout from made-up files, splits, the axis against gravity, faults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from spheregeo.data import read_modelnet, read_scanobjectnn
from spheregeo.data.points.arrays import split_rows, upward_axis
from spheregeo.data.points.modelnet import SCAN_CLASSES

h5py = pytest.importorskip("h5py")
CLASSES = ("chair", "table")


def things(n: int, up: int = 2, points: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n clouds, chairs and tables in turn; tables have most of their points on top. In [-1, 1]³ about."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    p = rng.uniform(-0.5, 0.5, size=(n, points, 3))
    p[label == 1, : 3 * points // 4, 2] = 0.5
    return np.roll(p, up - 2, axis=2).astype(np.float32), label


def write_npz(root: Path, **sizes: int) -> None:
    for k, (split, n) in enumerate(sizes.items()):
        p, label = things(n, seed=k)
        np.savez(
            root / f"mini_{split}.npz",
            points_int16=(p * 32767).round().astype(np.int16),
            label=label.astype(np.uint8),
            classes=np.array(CLASSES),
            name=np.array([f"{CLASSES[c]}_{i}" for i, c in enumerate(label)]),
        )


def write_hdf5(root: Path, up: int = 1, normals: bool = True, **replaced: Any) -> None:
    (root / "shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    for split, parts in (("train", (12, 8)), ("test", (6,))):
        for k, n in enumerate(parts):
            p, label = things(n, up, seed=k)
            with h5py.File(root / f"ply_data_{split}{k}.h5", "w") as file:
                file[replaced.get("data", "data")] = p
                file["label"] = label[:, None].astype(np.uint8)
                if normals:
                    file["normal"] = p / np.linalg.norm(p, axis=2, keepdims=True)


def write_off(root: Path) -> None:
    for k, name in enumerate(CLASSES):
        for split, n in (("train", 4), ("test", 2)):
            folder = root / name / split
            folder.mkdir(parents=True)
            for i in range(n):
                top = trimesh.creation.box((1.0, 1.0 + 0.1 * i, 0.1 if k else 1.0))
                top.apply_translation((0, 0, 0.5 if k else 0))
                leg = trimesh.creation.box((0.1, 0.1, 1.0))
                (top + leg if k else top).export(folder / f"{name}_{i:04d}.off")


def test_npz_without_validation_holds_some_training_clouds_back(tmp_path: Path) -> None:
    write_npz(tmp_path, train=40, val=8)
    parts = read_modelnet(tmp_path, held_out=10)
    assert [len(parts[s]) for s in ("train", "val", "test")] == [36, 4, 8]
    names = {s: {p.name(k) for k in range(len(p))} for s, p in parts.items()}
    assert not names["train"] & names["val"]
    assert sorted(parts["val"].labels) == [0, 0, 1, 1]
    raw = np.load(tmp_path / "mini_val.npz")["points_int16"]
    assert np.allclose(parts["test"][3].points, raw[3] / 32767)
    everything = read_modelnet(tmp_path, held_out=0)
    assert len(everything["train"]) == 40 == len(everything["val"])
    write_npz(tmp_path, test=6)
    parts = read_modelnet(tmp_path)
    assert [len(parts[s]) for s in ("train", "val", "test")] == [40, 8, 6]


def test_hdf5_joins_its_files(tmp_path: Path) -> None:
    write_hdf5(tmp_path)
    parts = read_modelnet(tmp_path, held_out=5)
    assert [len(parts[s]) for s in ("train", "val", "test")] == [16, 4, 6]
    assert parts["train"].class_names == CLASSES and parts["train"].up == 1
    cloud = parts["test"][0]
    assert cloud.normals is not None and np.allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-6)
    write_hdf5(tmp_path, normals=False)
    assert read_modelnet(tmp_path)["test"][0].normals is None


def test_off_is_drawn_once_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "ModelNet"
    write_off(root)
    parts = read_modelnet(root, held_out=2, num_points=50)
    assert [len(parts[s]) for s in ("train", "val", "test")] == [4, 4, 4]
    caches = sorted((root / ".spheregeo").iterdir())
    assert len(caches) == 2 and all(c.name.startswith("points-v1-n50-s0-") for c in caches)
    cloud = parts["train"][0]
    assert cloud.points.shape == (50, 3) and cloud.normals is not None
    stamp = caches[0].stat().st_mtime_ns
    again = read_modelnet(root, held_out=2, num_points=50)
    assert np.array_equal(again["train"][0].points, cloud.points)
    assert caches[0].stat().st_mtime_ns == stamp
    caches[0].write_bytes(b"torn")
    caches[1].write_bytes(caches[1].read_bytes()[:200])
    assert np.array_equal(read_modelnet(root, held_out=2, num_points=50)["train"][0].points, cloud.points)
    read_modelnet(root, num_points=50, cache=tmp_path / "elsewhere")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2
    new = root / "chair" / "test" / "chair_0009.off"
    new.write_bytes((root / "chair" / "test" / "chair_0000.off").read_bytes())
    assert len(read_modelnet(root, num_points=50)["test"]) == 5


def test_points_drawn_from_a_mesh_do_not_outlive_it(tmp_path: Path) -> None:
    """Another mesh under the name of the former, of its length and its time."""
    root = tmp_path / "ModelNet"
    write_off(root)
    before = read_modelnet(root, num_points=50)["test"][0].points
    path = root / "chair" / "test" / "chair_0000.off"
    head, *rows = path.read_text().split("\n")
    times = path.stat()
    path.write_text("\n".join([head, *(row.replace("0.5", "0.4") for row in rows)]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size and path.stat().st_mtime_ns == times.st_mtime_ns
    after = read_modelnet(root, num_points=50)["test"][0].points
    assert not np.array_equal(before, after)
    assert np.array_equal(after, read_modelnet(root, num_points=50, cache=tmp_path / "new")["test"][0].points)


def test_text_lists(tmp_path: Path) -> None:
    for name, n in (("chair", 3), ("night_stand", 3)):
        (tmp_path / name).mkdir()
        for i in range(n):
            p = np.random.default_rng(i).normal(size=(30, 6))
            np.savetxt(tmp_path / name / f"{name}_{i:04d}.txt", p, delimiter=",")
    (tmp_path / "modelnet10_train.txt").write_text(
        "chair_0000\nchair_0001\nnight_stand_0000\nnight_stand_0001\n"
    )
    (tmp_path / "modelnet10_test.txt").write_text("chair_0002\nnight_stand_0002\n")
    parts = read_modelnet(tmp_path, num_points=20, held_out=2)
    assert parts["test"].class_names == ("chair", "night_stand") and list(parts["test"].labels) == [0, 1]
    assert parts["test"].up == 1 and parts["test"][0].normals is not None
    (tmp_path / "modelnet10_test.txt").write_text("chair_0007\n")
    with pytest.raises(FileNotFoundError, match="names chair_0007 but"):
        read_modelnet(tmp_path, num_points=20)
    with pytest.raises(ValueError, match="holds 30 points; expected at least 31"):
        (tmp_path / "modelnet10_test.txt").write_text("chair_0002\n")
        read_modelnet(tmp_path, num_points=31)


def test_tables_say_which_axis_points_upwards(tmp_path: Path) -> None:
    for up in range(3):
        p, label = things(20, up)
        assert upward_axis(p[label == 1])[0] == up and upward_axis(p[label == 1])[1] > 0.4
    write_npz(tmp_path, train=20, val=8)
    assert read_modelnet(tmp_path)["train"].up == 2
    with pytest.raises(ValueError, match=r"up is 'y' but the tables of .* stand along z; give --data\.up z"):
        read_modelnet(tmp_path, up="y")
    assert read_modelnet(tmp_path, up="unknown")["train"].up is None
    with pytest.raises(ValueError, match="up is 'w'; expected one of 'auto', 'x', 'y', 'z', 'unknown'"):
        read_modelnet(tmp_path, up="w")
    (tmp_path / "hdf5").mkdir()
    write_hdf5(tmp_path / "hdf5", up=2)
    with pytest.raises(ValueError, match=r"up is 'y' but the tables .* stand along z"):
        read_modelnet(tmp_path / "hdf5")


def test_faults_of_modelnet(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder; expected one with ModelNet"):
        read_modelnet(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"holds neither \*_train\.npz"):
        read_modelnet(tmp_path)
    with pytest.raises(ValueError, match="layout is 'zip'; expected 'auto' or one of 'npz'"):
        read_modelnet(tmp_path, layout="zip")
    write_hdf5(tmp_path, data="points")
    with pytest.raises(ValueError, match="holds label, normal, points; expected data, label"):
        read_modelnet(tmp_path)
    (tmp_path / "ply_data_train0.h5").write_bytes(b"no hdf5")
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        read_modelnet(tmp_path)
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "a_train.npz", points=np.zeros(3))
    with pytest.raises(ValueError, match="holds points; expected points_int16, label and classes"):
        read_modelnet(tmp_path / "npz")
    write_npz(tmp_path / "npz", train=4)
    with pytest.raises(ValueError, match=r"2 files \*train\.npz; expected one"):
        read_modelnet(tmp_path / "npz")
    (tmp_path / "npz" / "a_train.npz").unlink()
    with pytest.raises(FileNotFoundError, match="the data have train; expected a training part and one for"):
        read_modelnet(tmp_path / "npz")
    with pytest.raises(ValueError, match="held_out is 1; expected 0, or N > 1"):
        split_rows([0, 1], 1)


def test_nan_in_an_archive_is_named(tmp_path: Path) -> None:
    write_hdf5(tmp_path)
    with h5py.File(tmp_path / "ply_data_test0.h5", "r+") as file:
        file["data"][2, 5, 1] = np.nan
    with pytest.raises(ValueError, match="cloud 2 has points that are NaN"):
        read_modelnet(tmp_path)
    write_hdf5(tmp_path)
    with h5py.File(tmp_path / "ply_data_test0.h5", "r+") as file:
        file["label"][1] = 9
    with pytest.raises(ValueError, match="labels run from 0 to 9 but there are 2 classes"):
        read_modelnet(tmp_path)


def write_scans(root: Path, variant: str, mask: bool = True) -> None:
    rng = np.random.default_rng(0)
    for word, n in (("training", 30), ("test", 15)):
        with h5py.File(root / f"{word}_{variant}.h5", "w") as file:
            file["data"] = rng.normal(size=(n, 40, 3)).astype(np.float32)
            file["label"] = np.arange(n) % 15
            if mask:
                of_thing = np.where(rng.random((n, 40)) < 0.5, -1, 3)
                of_thing[0] = -1
                file["mask"] = of_thing


def test_scanobjectnn(tmp_path: Path) -> None:
    write_scans(tmp_path, "objectdataset_augmentedrot_scale75")
    parts = read_scanobjectnn(tmp_path, held_out=2)
    assert [len(parts[s]) for s in ("train", "val", "test")] == [15, 15, 15]
    assert parts["test"].class_names == SCAN_CLASSES and parts["test"].up == 1
    assert len(parts["test"][1].points) == 40
    things_alone = read_scanobjectnn(tmp_path, held_out=2, background=False)
    with h5py.File(tmp_path / "test_objectdataset_augmentedrot_scale75.h5") as file:
        kept = file["data"][1][file["mask"][1] >= 0]
    assert np.array_equal(things_alone["test"][1].points, kept) and 5 < len(kept) < 35
    assert len(things_alone["test"][0].points) == 40  # where nothing is the thing's, all is kept
    with pytest.raises(ValueError, match="variant is 'easy'; expected one of 'objectdataset'"):
        read_scanobjectnn(tmp_path, variant="easy")
    with pytest.raises(FileNotFoundError, match=r"training_objectdataset\.h5 does not exist"):
        read_scanobjectnn(tmp_path, variant="objectdataset")
    write_scans(tmp_path, "objectdataset", mask=False)
    assert len(read_scanobjectnn(tmp_path, variant="objectdataset")["test"]) == 15
    with pytest.raises(ValueError, match="has no mask, so the background is not known"):
        read_scanobjectnn(tmp_path, variant="objectdataset", background=False)


@pytest.mark.realdata
def test_modelnet10(real_data: Path) -> None:
    parts = read_modelnet(real_data / "modelnet10")
    assert len(parts["train"]) + len(parts["val"]) == 3595 and len(parts["test"]) == 396
    assert parts["test"].class_names[:3] == ("bathtub", "bed", "chair")
    assert 340 < len(parts["val"]) < 370
    tables = parts["train"].class_names.index("table")
    rows = np.flatnonzero(np.asarray(parts["train"].labels) == tables)[:40]
    axis, lean = upward_axis(parts["train"][int(k)].points for k in rows)
    assert axis == 2 and lean > 0.5
    with pytest.raises(ValueError, match=r"stand along z; give --data\.up z"):
        read_modelnet(real_data / "modelnet10", up="y")
