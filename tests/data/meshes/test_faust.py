"""FAUST in its three layouts: people, poses, correspondences; broken files are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spheregeo.data import Faust
from spheregeo.data.meshes.faust import FaustSet
from spheregeo.data.meshes.shapes import primitives
from spheregeo.data.meshes.triangulate import triangulate
from spheregeo.mesh import TriangleMesh, save_mesh


def small(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vertices, faces, _ = triangulate("sphere", primitives(rng)["box"].surface, 60, rng)
    return vertices, faces


def archive(folder: Path, people: int = 2, **changes: Any) -> Path:
    """An archive of small meshes; point i of mesh k lies on vertex (3 i + k) mod 40."""
    meshes = [small(k) for k in range(10 * people)]
    corr = [(3 * np.arange(50) + k) % 40 + 1 for k in range(len(meshes))]
    content = {
        "verts": np.concatenate([v for v, _ in meshes]).astype(np.float32),
        "faces": np.concatenate([f for _, f in meshes]).astype(np.uint16),
        "nv": np.array([len(v) for v, _ in meshes]),
        "nf": np.array([len(f) for _, f in meshes]),
        "corr": np.concatenate(corr).astype(np.uint16),
        "nc": np.full(len(meshes), 50),
        **changes,
    }
    np.savez(folder / "faust.npz", **{k: v for k, v in content.items() if v is not None})
    return folder


def test_people_poses_and_points(tmp_path: Path) -> None:
    source = FaustSet(archive(tmp_path))
    train, test = Faust(source, [0]), Faust(source, [1])
    assert len(train) == len(test) == 10 and test.name(3) == "tr_reg_013"
    item = test[3]
    assert item["label"] == 3 and item["index"] == 3
    vertices, faces = small(13)
    assert item["mesh"].num_points == len(vertices) and item["mesh"].num_faces == len(faces)
    # vertex (3 i + 13) mod 40 is point i; where several points share a vertex, the first counts
    target = item["target"].numpy()
    assert (target[40:] == -1).all() and target[13] == 0 and target[16] == 1
    assert sorted(target[:40]) == list(range(40))
    template = train.template
    assert template is not None and template.num_points == 50
    assert template.points.tolist() == ((3 * np.arange(50)) % 40).tolist()
    assert template.mesh == train[0]["mesh"]


def test_an_archive_without_correspondences(tmp_path: Path) -> None:
    data = Faust(archive(tmp_path, 1, corr=None, nc=None), [0])
    assert "target" not in data[3]


def test_remeshed_files_with_points(tmp_path: Path) -> None:
    for k in (0, 1, 12):
        save_mesh(TriangleMesh(*small(k)), tmp_path / f"tr_reg_{k:03d}.off")
        (tmp_path / f"tr_reg_{k:03d}.vts").write_text("\n".join(str(1 + (i + k) % 30) for i in range(30)))
    data = Faust(tmp_path, [0, 1])
    assert [data.name(k) for k in range(3)] == ["tr_reg_000", "tr_reg_001", "tr_reg_012"]
    assert data[2]["label"] == 2 and data[2]["target"][12] == 0
    assert data.template is not None and data.template.num_points == 30


def test_registrations_correspond_one_to_one(tmp_path: Path) -> None:
    vertices, faces = small(0)
    for k in range(2):
        save_mesh(TriangleMesh(vertices * (1 + k), faces), tmp_path / f"tr_reg_{k:03d}.ply")
    data = Faust(tmp_path, [0])
    assert data[1]["target"].tolist() == list(range(len(vertices)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verts": None}, "expected verts, faces, nv, nf"),
        ({"nv": np.full(20, 3)}, "rows of verts but nv adds up to 60"),
    ],
    ids=["missing", "counts"],
)
def test_broken_archives_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faust(archive(tmp_path, **changes), [0])


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"0 \.npz files and no tr_reg_NNN mesh"):
        Faust(tmp_path, [0])
    with pytest.raises(ValueError, match=r"subjects is \[0, 7\].*people \[0, 1\]"):
        Faust(archive(tmp_path), [0, 7])
    bad = archive(tmp_path, 1, corr=np.full(500, 61, np.uint16))
    with pytest.raises(ValueError, match="tr_reg_000 has 50 corresponding points with vertices 60"):
        Faust(bad, [0])[0]


@pytest.mark.realdata
def test_real_people(real_data: Path) -> None:
    data = Faust(real_data / "faust", range(7))
    assert len(data) == 70
    for index in (0, 32, 52):  # the last two have sheets back to back
        item = data[index]
        mesh, target = item["mesh"], item["target"]
        assert mesh.area == pytest.approx(1) and mesh.euler_characteristic == 2
        assert bool((mesh.normals.norm(dim=1) - 1).abs().max() < 1e-9)
        assert 3000 < int((target >= 0).sum()) < 4000 and int(target.max()) < 5000
    template = data.template
    assert template is not None
    # points of one person in two poses lie on the same limbs: neighbours stay neighbours
    mesh, target = data[1]["mesh"], data[1]["target"]
    start, stop = mesh.edges.unbind(1)
    known = (target[start] >= 0) & (target[stop] >= 0)
    place = template.mesh.points[template.points]
    gap = (place[target[start[known]]] - place[target[stop[known]]]).norm(dim=1)
    assert float(gap.quantile(0.99)) < 4 * mesh.spacing


def test_two_files_of_one_number(tmp_path: Path) -> None:
    save_mesh(TriangleMesh(*small(0)), tmp_path / "tr_reg_000.off")
    save_mesh(TriangleMesh(*small(0)), tmp_path / "tr_reg_000.ply")
    with pytest.raises(
        ValueError, match=r"tr_reg_000\.ply and .*tr_reg_000\.off are both number 0; keep one"
    ):
        Faust(tmp_path, [0])
    (tmp_path / "tr_reg_000.off").unlink()
    (tmp_path / "tr_reg_001.ply").mkdir()
    (tmp_path / "tr_reg_002.ply").symlink_to(tmp_path / "absent.ply")
    assert len(Faust(tmp_path, [0])) == 1


def test_an_archive_without_meshes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"faust\.npz holds no mesh"):
        Faust(archive(tmp_path, 1, nv=np.zeros(0, int)), [0])
