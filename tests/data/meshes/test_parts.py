"""Meshes with labelled vertices, faces or edges: generated creatures, folders, human bodies, mended and decimated meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.data import (
    CreatureParts,
    CreaturePartsData,
    HumanParts,
    HumanPartsData,
    MeshParts,
    MeshPartsData,
)
from spheregeo.data.meshes.dataset import simplified
from spheregeo.data.meshes.parts import carried, edges_in_order, majority, read_numbers

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0], [1, 1, 1]])
FACES = np.array(
    [[0, 2, 1], [0, 1, 3], [1, 2, 4], [2, 0, 3], [1, 4, 3], [2, 3, 4]]
)  # 5 vertices, 6 faces, 9 edges


def write(path: Path, labels: str = "", suffix: str = ".txt", folder: Path | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["OFF", f"5 {len(FACES)} 0", *(" ".join(map(str, v)) for v in VERTICES)]
    path.write_text("\n".join([*lines, *(f"3 {a} {b} {c}" for a, b, c in FACES)]) + "\n")
    if labels:
        place = (path.parent if folder is None else folder) / f"{path.stem}{suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join(labels.split()) + "\n")
    return path


def test_creatures_have_all_parts() -> None:
    """Each limb is one connected patch, and vertices and faces agree where all corners do."""
    for index in range(2):
        items = [CreatureParts(2, (400, 500), elements=e)[index] for e in ("vertices", "faces")]
        mesh = items[0]["mesh"]
        part, of_faces = items[0]["part"], items[1]["part"]
        assert sorted(set(part.tolist())) == list(range(7)) and len(of_faces) == mesh.num_faces
        corners = part[mesh.faces]
        alike = (corners == corners[:, :1]).all(1)
        assert bool((of_faces[alike] == corners[alike, 0]).all()) and float(alike.double().mean()) > 0.7
        body = float(mesh.areas[part == 0].sum())
        assert 0.2 < body < 0.7, body
    with pytest.raises(ValueError, match="elements is 'edges'"):
        CreatureParts(1, elements="edges")


def test_module_and_batches() -> None:
    data = CreaturePartsData(2, 1, 1, vertices=(120, 150), batch_size=2, copies=1, label="faces", simplify=80)
    batch = next(iter(data.train_dataloader()))
    assert len(batch["part"]) == sum(mesh.num_faces for mesh in batch["mesh"]) and data.elements == "faces"
    assert data.num_classes == 7 and data.ignore_index == 255 and len(data.items("train")) == 4
    assert all(mesh.num_points < 100 for mesh in batch["mesh"])


def test_a_decimated_mesh_keeps_its_parts() -> None:
    for elements in ("vertices", "faces"):
        item = CreatureParts(1, (400, 500), elements=elements)[0]
        few = simplified(item, 200)
        mesh = few["mesh"]
        assert len(few["part"]) == (mesh.num_points if elements == "vertices" else mesh.num_faces) < 450
        areas = [m.areas if elements == "vertices" else m.face_areas for m in (item["mesh"], mesh)]
        shares = [
            torch.zeros(7, dtype=torch.float64).index_add(0, i["part"], a) / a.sum()
            for i, a in zip((item, few), areas, strict=True)
        ]
        assert (shares[0] - shares[1]).abs().max() < 0.08


def test_labels_of_vertices_faces_and_edges(tmp_path: Path) -> None:
    """The length says what is labelled; edges are counted as the faces name them first, and the majority decides."""
    sides = edges_in_order(FACES)
    assert sides[0].tolist() == [0, 1, 2] and sides[1].tolist() == [2, 3, 4] and int(sides.max()) == 8
    assert majority(np.array([[1, 2, 2], [1, 1, 2], [1, 2, 1], [1, 2, 3]])).tolist() == [2, 1, 1, 1]
    for split, labels in (("train", "0 1 2 1 0"), ("val", "0 0 0 0 0"), ("test", "2 2 2 2 2")):
        write(tmp_path / "v" / split / "a.off", labels)
    data = MeshParts(tmp_path / "v")
    assert data.elements == "vertices" and data[0]["part"].tolist() == [0, 1, 2, 1, 0]
    assert data.class_names == ("part 0", "part 1", "part 2")
    edges = np.zeros(9, int)
    edges[sides[2]] = 3
    for split in ("train", "test"):
        write(
            tmp_path / "e" / split / "a.off", " ".join(map(str, 1 + edges)), ".eseg", tmp_path / "e" / "seg"
        )
    item = MeshParts(tmp_path / "e")[0]
    assert item["part"].tolist() == [0, 0, 3, 0, 0, 0]  # classes count from the smallest number
    assert MeshParts(tmp_path / "e", first=0)[0]["part"].tolist() == [1, 1, 4, 1, 1, 1]


def test_classes_unknown_places_and_files_of_arrays(tmp_path: Path) -> None:
    for k in range(10):
        write(tmp_path / f"m{k}.off")
        np.savez(tmp_path / f"m{k}.npz", labels=np.array([0, 1, -1, 255, 1, k % 2]))
    (tmp_path / "classes.txt").write_text("front\nback\nnever seen\n")
    data = MeshPartsData(str(tmp_path))
    assert data.class_names == ("front", "back", "never seen") and data.elements == "faces"
    assert [len(data.dataset(s)) for s in ("train", "val", "test")] == [8, 1, 1]
    assert data.dataset("test")[0]["part"].tolist() == [0, 1, 255, 255, 1, 1]
    (tmp_path / "classes.txt").write_text("front\n")
    with pytest.raises(ValueError, match="names 1 classes but labels run from 0 to 1"):
        MeshParts(tmp_path).class_names  # noqa: B018


def test_lists_name_the_splits(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.off", "0 1 0 1 0")
    for split, name in (("train", "c"), ("val", "a"), ("test", "b")):
        (tmp_path / f"{split}.txt").write_text(f"{name}.off\n")
    assert [MeshParts(tmp_path, s).name(0) for s in ("train", "val", "test")] == ["c.off", "a.off", "b.off"]


def test_mended_meshes_keep_their_labels(tmp_path: Path) -> None:
    """A doubled face goes, and the labels of the others stay with them; with repair off the mesh is refused."""
    labels = np.arange(6)
    new = FACES[[3, 1, 5]]
    assert carried(labels, "faces", (VERTICES, FACES), (VERTICES, new)).tolist() == [3, 1, 5]
    path = write(tmp_path / "train" / "a.off")
    text = path.read_text().replace("5 6 0", "5 7 0") + "3 0 2 1\n"
    path.write_text(text)
    (tmp_path / "train" / "a.txt").write_text("\n".join("0123450"))
    write(tmp_path / "test" / "b.off", "0 0 0 0 0 0")
    item = MeshParts(tmp_path)[0]
    faces = {
        tuple(sorted(f)): p for f, p in zip(item["mesh"].faces.tolist(), item["part"].tolist(), strict=True)
    }
    assert faces[(1, 2, 4)] == 2 and len(faces) == 6
    with pytest.raises(ValueError, match=r"a\.off"):
        MeshParts(tmp_path, repair=False)[0]


def test_human_bodies(tmp_path: Path) -> None:
    """As published, where a source's meshes share a file of labels; and as MeshCNN has them, with labels of edges."""
    root, six = tmp_path / "sig17", "1 2 3 4 5 8"
    segs = root / "segs"
    write(root / "meshes/train/adobe/ballerina.off", six, folder=segs / "train/adobe")
    for k in range(9):
        write(
            root / f"meshes/train/faust/tr_reg_{k:03d}.off", six if not k else "", folder=segs / "train/faust"
        )
    (segs / "train/faust/tr_reg_000.txt").rename(segs / "train/faust/faust_corrected.txt")
    write(
        root / "meshes/train/MIT_animation/meshes_crane/meshes/mesh_0001.off", six, folder=segs / "train/mit"
    )
    (segs / "train/mit/mesh_0001.txt").rename(segs / "train/mit/mit_crane_corrected.txt")
    for name in ("1", "12_fix_orientation"):
        write(root / f"meshes/test/shrec/{name}.off", six, folder=segs / "test/shrec")
        (segs / f"test/shrec/{name}.txt").rename(segs / f"test/shrec/shrec_{name.split('_')[0]}_full.txt")
    data = HumanPartsData(str(root))
    assert [len(data.dataset(s)) for s in ("train", "val", "test")] == [10, 1, 2]
    assert data.num_classes == 8 and data.elements == "faces" and data.class_names[0] == "part 1"
    assert data.dataset("train")[0]["part"].tolist() == [0, 1, 2, 3, 4, 7]
    (segs / "test/shrec/shrec_1_full.txt").unlink()
    with pytest.raises(FileNotFoundError, match="has no labels; expected one of"):
        HumanParts(root, "test")
    simple = tmp_path / "meshcnn"
    for split in ("train", "test"):
        write(simple / split / f"{split}.off", "1 2 3 4 5 6 7 8 8", ".eseg", simple / "seg")
    assert HumanParts(simple)[0]["part"].shape == (6,) and len(HumanParts(simple).class_names) == 8
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="has no train meshes"):
        HumanParts(tmp_path / "none")


def test_bad_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a.off", "0 1")
    write(tmp_path / "test" / "b.off", "0 1 0 1 0")
    with pytest.raises(ValueError, match=r"a\.txt.*2 labels for a mesh of 5 vertices, 6 faces and 9 edges"):
        MeshParts(tmp_path)[0]
    (tmp_path / "train" / "a.txt").write_text("0\n1.5\n")
    with pytest.raises(ValueError, match=r"a\.txt.*not whole"):
        read_numbers(tmp_path / "train" / "a.txt")
    (tmp_path / "train" / "a.seg").write_text("0\n")
    with pytest.raises(ValueError, match="keep one of them"):
        MeshParts(tmp_path)
    (tmp_path / "train" / "a.seg").unlink()
    (tmp_path / "train" / "a.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.off has no labels"):
        MeshParts(tmp_path)
    with pytest.raises(ValueError, match="elements is 'edges'"):
        MeshParts(tmp_path, elements="edges")
    np.savez(tmp_path / "x.npz", a=np.zeros(2), b=np.zeros(2))
    with pytest.raises(ValueError, match=r"x\.npz.*expected one array"):
        read_numbers(tmp_path / "x.npz")
