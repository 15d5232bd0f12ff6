"""Folders of labelled meshes and SHREC'11: classes, splits, repair, broken files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from spheregeo.data import MeshFolder, PointFolder, Shrec11
from spheregeo.data.files import read_class_names
from spheregeo.data.meshes.faust import FaustSet
from spheregeo.data.meshes.folder import read_classes

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def write(path: Path, scale: float = 1.0, faces: np.ndarray = FACES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["OFF", f"4 {len(faces)} 0", *(" ".join(map(str, v)) for v in scale * VERTICES)]
    path.write_text("\n".join([*lines, *(f"3 {a} {b} {c}" for a, b, c in faces)]) + "\n")


def folder(root: Path, count: int = 10) -> Path:
    for name in ("cat", "dog"):
        for k in range(count):
            write(root / name / f"m{k:02d}.off", 1 + k)
    return root


def names(data: MeshFolder | Shrec11) -> list[str]:
    return [data.name(k) for k in range(len(data))]


def test_a_class_is_a_folder_and_names_decide_the_split(tmp_path: Path) -> None:
    data = MeshFolder(folder(tmp_path))
    assert data.class_names == ("cat", "dog") and len(data) == 16
    assert names(MeshFolder(tmp_path, "val")) == ["cat/m08.off", "dog/m08.off"]
    assert names(MeshFolder(tmp_path, "test")) == ["cat/m09.off", "dog/m09.off"]
    item = data[15]
    assert item["label"] == 1 and item["mesh"].area == pytest.approx(1)
    assert np.allclose(data[0]["mesh"].points, item["mesh"].points)  # scale-free


def test_lists_and_folders_decide_where_there_are_any(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "train.txt").write_text("cat/m00.off\n\ndog/m09.off\n")
    with pytest.raises(FileNotFoundError, match=r"not val\.txt, test\.txt"):
        MeshFolder(tmp_path)
    for name in ("val", "test"):
        (tmp_path / f"{name}.txt").write_text("dog/m01.off\n")
    assert names(MeshFolder(tmp_path)) == ["cat/m00.off", "dog/m09.off"]
    (tmp_path / "test.txt").write_text("cow/m01.off\n")
    with pytest.raises(FileNotFoundError, match=r"names 'cow/m01\.off'"):
        MeshFolder(tmp_path, "test")


def test_sub_folders_of_a_class(tmp_path: Path) -> None:
    for part, count in (("train", 9), ("test", 2)):
        for k in range(count):
            write(tmp_path / "cat" / part / f"{k}.off")
    assert [len(MeshFolder(tmp_path, split)) for split in ("train", "val", "test")] == [8, 1, 2]
    write(tmp_path / "cat" / "val" / "a.off")
    assert [len(MeshFolder(tmp_path, split)) for split in ("train", "val", "test")] == [9, 1, 2]


def test_formats_and_faults(tmp_path: Path) -> None:
    import trimesh

    shell = trimesh.Trimesh(VERTICES, FACES, process=False)
    for suffix in ("off", "ply", "obj", "stl"):
        (tmp_path / "a").mkdir(exist_ok=True)
        shell.export(tmp_path / "a" / f"{suffix}.{suffix}")
    write(tmp_path / "b" / "flipped.off", faces=np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 2, 3]]))
    data = MeshFolder(tmp_path)
    assert len(data) == 5
    assert all(
        data[k]["mesh"].num_points == 4 and data[k]["mesh"].euler_characteristic == 2 for k in range(5)
    )
    with pytest.raises(ValueError, match=r"flipped\.off.*opposite orientation"):
        MeshFolder(tmp_path, repair=False)[4]
    (tmp_path / "b" / "torn.off").write_text("OFF\n4 4 0\n0 0")
    with pytest.raises(ValueError, match="torn"):
        MeshFolder(tmp_path)[5]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        MeshFolder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no sub-folder with"):
        MeshFolder(tmp_path)
    folder(tmp_path, 3)
    with pytest.raises(ValueError, match=r"the test split .* is empty"):
        MeshFolder(tmp_path, "test")


def shrec(root: Path) -> Path:
    """Two classes of twenty meshes, numbered crosswise."""
    lines = ["PSB 1", "2 40", ""]
    for label, name in enumerate(("lamp", "ant")):
        lines += ["", f"{name} 0 20", *(str(2 * k + label) for k in range(20))]
    (root / "categories.txt").write_text("\n".join(lines))
    for k in range(40):
        write(root / "raw" / f"T{k}.off")
    return root


def test_shrec11_by_its_list(tmp_path: Path) -> None:
    shrec(tmp_path)
    assert [len(v) for v in read_classes(tmp_path / "categories.txt").values()] == [20, 20]
    parts = {split: Shrec11(tmp_path, 16, split=split) for split in ("train", "val", "test")}
    assert [len(p) for p in parts.values()] == [28, 4, 8] and parts["train"].class_names == ("ant", "lamp")
    everything = [name for part in parts.values() for name in names(part)]
    assert len(set(everything)) == 40
    labels = {parts["train"].name(k): parts["train"][k]["label"] for k in range(28)}
    assert all(label == (int(name.split("T")[1].split(".")[0]) % 2 == 0) for name, label in labels.items())
    assert names(Shrec11(tmp_path, 16, fold=1)) != names(parts["train"])
    assert [len(Shrec11(tmp_path, 10, held_out=0, split=s)) for s in ("train", "val", "test")] == [20, 20, 20]


def test_shrec11_splits_on_disk_and_class_folders(tmp_path: Path) -> None:
    shrec(tmp_path)
    (tmp_path / "splits" / "10").mkdir(parents=True)
    for name, numbers in (("train", range(20)), ("test", range(20, 40))):
        text = "\n".join(f"T{n}.off" for n in numbers)
        (tmp_path / "splits" / "10" / f"{name}.txt").write_text(text)
    data = Shrec11(tmp_path, 10, held_out=0, split="test")
    assert sorted(int(n.split("T")[1][:-4]) for n in names(data)) == list(range(20, 40))
    (tmp_path / "splits" / "10" / "test.txt").write_text("T3.off")
    with pytest.raises(ValueError, match="lists T3 for training and for the test"):
        Shrec11(tmp_path, 10)
    other = tmp_path / "simplified"
    for name in ("ant", "lamp"):
        for k in range(20):
            write(other / name / ("train" if k < 16 else "test") / f"T{k}.off")
    assert [len(Shrec11(other, 16, split=s)) for s in ("train", "val", "test")] == [28, 4, 8]


def test_shrec11_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither categories\.txt"):
        Shrec11(tmp_path)
    shrec(tmp_path)
    with pytest.raises(ValueError, match="size is 12; expected one of 16, 10"):
        Shrec11(tmp_path, 12)
    with pytest.raises(ValueError, match="held_out is 16"):
        Shrec11(tmp_path, 16, held_out=16)
    (tmp_path / "raw" / "T7.off").unlink()
    with pytest.raises(FileNotFoundError, match=r"names mesh 7 .* class ant"):
        Shrec11(tmp_path)
    (tmp_path / "categories.txt").write_text("PSB 1\n1 3\nant 0 3\n1 2")
    with pytest.raises(ValueError, match=r"its head says 3|Princeton"):
        Shrec11(tmp_path)
    (tmp_path / "categories.txt").write_text("names\n")
    with pytest.raises(ValueError, match="does not begin with PSB"):
        Shrec11(tmp_path)


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """Folders, pipes, links to nothing and to themselves with a mesh's name."""
    folder(tmp_path, 3)
    (tmp_path / "cat" / "m90.off").mkdir()
    os.mkfifo(tmp_path / "cat" / "m91.off")
    (tmp_path / "cat" / "m92.off").symlink_to("absent.off")
    (tmp_path / "cat" / "m93.off").symlink_to("m93.off")
    (tmp_path / "dog" / "all").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    for data in (MeshFolder(tmp_path), PointFolder(tmp_path)):
        assert data.class_names == ("cat", "dog") and [data.name(k)[-7:] for k in range(3)] == [
            "m00.off",
            "m01.off",
            "m02.off",
        ]
    (tmp_path / "train.txt").write_text("cat/m92.off\n")
    for name in ("val", "test"):
        (tmp_path / f"{name}.txt").write_text("cat/m00.off\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt names 'cat/m92\.off'"):
        MeshFolder(tmp_path)


def test_shrec11_names_what_is_there_twice(tmp_path: Path) -> None:
    shrec(tmp_path)
    write(tmp_path / "more" / "T7.off")
    with pytest.raises(ValueError, match=r"T7\.off and .*T7\.off are both number 7; keep one"):
        Shrec11(tmp_path)
    (tmp_path / "more" / "T7.off").unlink()
    (tmp_path / "raw" / "T8.ply").mkdir()
    (tmp_path / "a.cla").write_text("PSB 1")
    assert len(Shrec11(tmp_path)) == 28
    (tmp_path / "more" / "categories.txt").write_text("PSB 1")
    with pytest.raises(ValueError, match=r"categories\.txt is a list of classes and .*categories\.txt, too"):
        Shrec11(tmp_path)
    for k in range(20):
        write(tmp_path / "folders" / "ant" / f"T{k}.off")
    write(tmp_path / "folders" / "ant" / "test" / "T3.obj")
    with pytest.raises(ValueError, match=r"T3\.off is there twice, with another suffix or in another folder"):
        Shrec11(tmp_path / "folders")


def test_files_that_differ_in_their_suffix_alone(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    write(tmp_path / "dog" / "m01.obj")
    with pytest.warns(
        UserWarning, match=r"dog.m01\.obj and m01\.off differ in their suffix alone: each is a sample"
    ):
        assert len(MeshFolder(tmp_path)) == 7
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.txt").write_text("dog/m01.off\n")
    assert len(MeshFolder(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["mark", "crlf", "tabs", "blank lines"])
def test_lists_in_any_text(tmp_path: Path, kind: str) -> None:
    """Class names, split lists, classes of the Princeton benchmark, lists of vertices."""

    def of_kind(path: Path, text: str) -> None:
        text = {
            "crlf": text.replace("\n", "\r\n"),
            "tabs": text.replace("\n", "\t\n"),
            "blank lines": text.replace("\n", "\n\n"),
        }.get(kind, text)
        path.write_bytes((b"\xef\xbb\xbf" if kind == "mark" else b"") + text.encode())

    folder(tmp_path, 3)
    for name in ("train", "val", "test"):
        of_kind(tmp_path / f"{name}.txt", "cat/m00.off\ndog/m02.off\n")
    assert names(MeshFolder(tmp_path)) == ["cat/m00.off", "dog/m02.off"]
    of_kind(tmp_path / "a.cla", "PSB 1\n2 3\n\nant 0 2\n1\n2\nlamp 0 1\n0\n")
    assert read_classes(tmp_path / "a.cla") == {"ant": [1, 2], "lamp": [0]}
    of_kind(tmp_path / "classes.txt", "floor\ndining table\n")
    assert read_class_names(tmp_path / "classes.txt") == ("floor", "dining table")
    write(tmp_path / "faust" / "tr_reg_000.off")
    of_kind(tmp_path / "faust" / "tr_reg_000.vts", "3\n1\n")
    points = FaustSet(tmp_path / "faust").corresponding(0)
    assert points is not None and points.tolist() == [2, 0]
