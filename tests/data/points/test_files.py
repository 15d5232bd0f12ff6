"""Files of points: every format gives what was written, faulty ones are named."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from spheregeo.data import read_cloud
from spheregeo.data.points.dataset import check_spread
from spheregeo.data.points.files import CLOUD_SUFFIXES, sample_surface

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(20, 3)).astype(np.float32)
NORMALS = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)


def rows(normals: bool, apart: str = " ") -> str:
    table = np.concatenate([POINTS, NORMALS], 1) if normals else POINTS
    return "".join(apart.join(f"{v:.9g}" for v in row) + "\n" for row in table)


def write_ply(path: Path, normals: bool, binary: bool) -> None:
    names = ("x", "y", "z", "nx", "ny", "nz") if normals else ("x", "y", "z")
    kind = "binary_little_endian" if binary else "ascii"
    head = f"ply\nformat {kind} 1.0\nelement vertex {len(POINTS)}\n"
    head += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    table = np.concatenate([POINTS, NORMALS], 1) if normals else POINTS
    path.write_bytes(head.encode() + (table.astype("<f4").tobytes() if binary else rows(normals).encode()))


def write_pcd(path: Path, kind: str, points: int | None = None) -> None:
    """x y z, a colour of three bytes, then normals: a table with columns of several sizes."""
    count = len(POINTS) if points is None else points
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z rgb normal_x normal_y normal_z\nSIZE 4 4 8 1 4 4 4\n"
        f"TYPE F F F U F F F\nCOUNT 1 1 1 3 1 1 1\nWIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {count}\nDATA {kind}\n"
    )
    lines = [(*p, 7, 8, 9, *n) for p, n in zip(POINTS.tolist(), NORMALS.tolist(), strict=True)]
    if kind == "ascii":
        body = "".join(" ".join(f"{v:.9g}" for v in line) + "\n" for line in lines).encode()
    else:
        body = b"".join(struct.pack("<ffdBBBfff", *line) for line in lines)
    path.write_bytes(head.encode() + body)


@pytest.mark.parametrize("normals", [False, True])
@pytest.mark.parametrize("name", ["a.ply", "b.ply", "a.xyz", "a.txt", "a.xyzn"])
def test_clouds_come_back(tmp_path: Path, name: str, normals: bool) -> None:
    path = tmp_path / name
    if path.suffix == ".ply":
        write_ply(path, normals, binary=path.stem == "b")
    else:
        comma = "," if path.suffix == ".txt" else " "
        path.write_text("# x y z\n\n" + rows(normals, comma))
    cloud = read_cloud(path)
    assert np.allclose(cloud.points, POINTS, atol=1e-6) and cloud.points.dtype == np.float64
    if normals:
        assert cloud.normals is not None and np.allclose(cloud.normals, NORMALS, atol=1e-6)
    else:
        assert cloud.normals is None


@pytest.mark.parametrize("kind", ["ascii", "binary"])
def test_pcd_columns(tmp_path: Path, kind: str) -> None:
    write_pcd(tmp_path / "a.pcd", kind)
    cloud = read_cloud(tmp_path / "a.pcd")
    assert np.allclose(cloud.points, POINTS, atol=1e-6)
    assert cloud.normals is not None and np.allclose(cloud.normals, NORMALS, atol=1e-6)


def test_faulty_pcd(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    write_pcd(path, "binary", points=30)
    with pytest.raises(ValueError, match=r"a\.pcd is no sound PCD file .*is it complete"):
        read_cloud(path)
    write_pcd(path, "ascii", points=30)
    with pytest.raises(ValueError, match=r"a\.pcd is no sound PCD file"):
        read_cloud(path)
    write_pcd(path, "zipped")
    with pytest.raises(ValueError, match="DATA zipped; expected ascii, binary"):
        read_cloud(path)
    path.write_text("VERSION 0.7\n")
    with pytest.raises(ValueError, match="no DATA line"):
        read_cloud(path)
    path.write_text("FIELDS x y\nSIZE 4 4\nTYPE F F\nPOINTS 1\nDATA ascii\n1 2\n")
    with pytest.raises(ValueError, match="has columns x, y; expected x, y and z"):
        read_cloud(path)


def test_compressed_pcd_is_left_to_open3d(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    if importlib.util.find_spec("open3d") is None:
        write_pcd(path, "binary_compressed")
        with pytest.raises(ValueError, match="which open3d reads: pip install"):
            read_cloud(path)
        return
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(POINTS.astype(np.float64)))
    open3d.io.write_point_cloud(str(path), cloud, compressed=True)
    assert np.allclose(read_cloud(path).points, POINTS, atol=1e-5)


@pytest.mark.parametrize("suffix", [".off", ".ply", ".obj", ".stl"])
def test_points_of_meshes_lie_on_them_evenly(tmp_path: Path, suffix: str) -> None:
    """A box of 1 x 2 x 3 has 2/22, 3/22 and 6/22 of its area on its faces."""
    box = trimesh.creation.box((1.0, 2.0, 3.0))
    box.export(tmp_path / f"box{suffix}")
    cloud = read_cloud(tmp_path / f"box{suffix}", 4000)
    half = np.array([0.5, 1.0, 1.5])
    assert cloud.points.shape == (4000, 3)
    on = np.isclose(np.abs(cloud.points), half, rtol=0, atol=1e-6)
    assert on.any(1).all()
    assert np.allclose(on.mean(0), [12 / 22, 6 / 22, 4 / 22], atol=0.03)
    assert cloud.normals is not None
    axis = on.argmax(1)
    sign = np.sign(cloud.points[np.arange(4000), axis])
    assert np.allclose(cloud.normals[np.arange(4000), axis], sign, atol=1e-6)  # outwards
    again = read_cloud(tmp_path / f"box{suffix}", 4000)
    assert np.array_equal(cloud.points, again.points)
    other = read_cloud(tmp_path / f"box{suffix}", 4000, seed=1)
    assert not np.array_equal(cloud.points, other.points)


def test_header_and_counts_on_one_line(tmp_path: Path) -> None:
    """As in some files of ModelNet."""
    path = tmp_path / "a.off"
    path.write_text("OFF3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    cloud = read_cloud(path, 50)
    assert len(cloud.points) == 50 and float(cloud.points.sum(1).max()) <= 1 + 1e-12
    path.write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n")
    assert np.array_equal(read_cloud(path, 50).points, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])


def test_faulty_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; expected a file of points"):
        read_cloud(tmp_path / "none.ply")
    path = tmp_path / "a.las"
    path.write_text("x")
    with pytest.raises(ValueError, match=r"a\.las ends in '\.las'; expected one of \.off"):
        read_cloud(path)
    for text, message in {
        "": "holds no point",
        "# only words\n": "holds no point",
        "1 2\n3 4\n": "has 2 numbers a line; expected 3",
        "1 2 3\n4 5\n": "is no table of numbers",
        "1 2 x\n": "is no table of numbers",
        "1 2 3\nnan 0 0\n": "1 points that are NaN or infinite, the first is number 1",
    }.items():
        path = tmp_path / "a.xyz"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_cloud(path)
    for suffix in (".ply", ".off", ".stl"):
        path = tmp_path / f"torn{suffix}"
        path.write_bytes(b"\x00\x01 no mesh")
        with pytest.raises(ValueError, match=f"torn{suffix} "):
            read_cloud(path)
    with pytest.raises(ValueError, match=r"a line has a surface of area 0\.0"):
        sample_surface(np.eye(3)[[0, 0, 0]], np.array([[0, 1, 2]]), 5, 0, "a line")
    assert len(CLOUD_SUFFIXES) == len(set(CLOUD_SUFFIXES))


@pytest.mark.realdata
def test_clouds_of_the_nine_meshes(real_data: Path) -> None:
    paths = sorted((real_data / "meshes").glob("*.obj"))
    assert len(paths) == 9
    for path in paths:
        cloud = read_cloud(path, 500)
        assert cloud.points.shape == (500, 3) and cloud.normals is not None
        mesh = trimesh.load(path, force="mesh", process=False)
        low, high = mesh.bounds
        size = float(np.linalg.norm(high - low))
        assert (cloud.points >= low - 1e-6 * size).all() and (cloud.points <= high + 1e-6 * size).all()
        assert np.linalg.norm(cloud.points.max(0) - cloud.points.min(0)) > 0.9 * size


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 3)), "points at 0 places; expected at least 2"),
        (np.ones((1, 3)), "a.xyz holds 1 points, all at one place"),
        (np.full((80, 3), 0.1), "a.xyz holds 80 points, all at one place"),
        (np.eye(3)[[0, 1, 0, 1]], "a.xyz holds points at 2 places; expected at least 3"),
        (np.eye(3) * 1e39, r"a.xyz has coordinates up to 1e\+39; expected finite ones"),
        (np.eye(3) * np.nan, "a.xyz has coordinates up to nan"),
    ],
)
def test_too_few_places(points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_spread(points, "a.xyz", 3 if len(points) == 4 else 2)
    check_spread(np.eye(3) + 1e6, "a.xyz", 3)
