"""Files of points: every format gives what was written, faulty ones are named."""

from __future__ import annotations

import os
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
    with pytest.raises(
        ValueError, match=r"a\.pcd cannot be read .* asks for 930 bytes; 620 follow; is it complete"
    ):
        read_cloud(path)
    write_pcd(path, "binary", points=10)
    with pytest.raises(ValueError, match=r"a\.pcd cannot be read .* asks for 310 bytes; 620 follow"):
        read_cloud(path)
    for said in (10, 30):
        write_pcd(path, "ascii", points=said)
        with pytest.raises(ValueError, match=rf"a\.pcd cannot be read .* says {said} points .* 20 lines"):
            read_cloud(path)
    write_pcd(path, "ascii")
    path.write_text(path.read_text().replace("HEIGHT 1", "HEIGHT 2"))
    with pytest.raises(ValueError, match="says 20 points but 20 columns of 2 rows"):
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


def packed(content: bytes) -> bytes:
    """LZF: what came within 8 KiB before is named by distance and length, other bytes stand as they are."""
    found, plain, at = bytearray(), bytearray(), 0

    def flush() -> None:
        for k in range(0, len(plain), 32):
            piece = plain[k : k + 32]
            found.extend([len(piece) - 1, *piece])
        plain.clear()

    while at < len(content):
        back = content.rfind(content[at : at + 3], max(0, at - 8000), at + 2) if at else -1
        if back < 0 or back >= at or at + 3 > len(content):
            plain.append(content[at])
            at += 1
            continue
        length = 3
        while length < 200 and at + length < len(content) and content[back + length] == content[at + length]:
            length += 1
        flush()
        far, code = at - back - 1, length - 2
        found.extend([(min(code, 7) << 5) | far >> 8, *([code - 7] if code >= 7 else []), far & 255])
        at += length
    flush()
    return bytes(found)


def test_compressed_pcd(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    points = np.concatenate([POINTS, np.zeros((300, 3), np.float32), POINTS[::-1]])
    head = (
        f"VERSION 0.7\nFIELDS x y z label\nSIZE 4 4 4 2\nTYPE F F F U\nWIDTH {len(points)}\nHEIGHT 1\n"
        f"POINTS {len(points)}\nDATA binary_compressed\n"
    ).encode()
    content = points.T.astype("<f4").tobytes() + np.arange(len(points)).astype("<u2").tobytes()
    body = packed(content)
    assert len(body) < len(content) - 2000
    sizes = struct.pack("<II", len(body), len(content))
    path.write_bytes(head + sizes + body)
    assert np.array_equal(read_cloud(path).points, points)
    for bad, message in {
        sizes + body[:-9]: "announced, .* follow; is it complete",
        struct.pack("<II", len(body), len(content) + 2) + body: "packed ones that make 4762 are announced",
        struct.pack("<II", len(body) - 9, len(content)) + body: "compressed table is damaged",
        sizes + b"\x3f" + body[1:]: "damaged",
    }.items():
        path.write_bytes(head + bad)
        with pytest.raises(ValueError, match=rf"a\.pcd cannot be read .*{message}"):
            read_cloud(path)


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
        (np.eye(3) * 1e39, r"a.xyz has coordinates up to 1e\+39; expected at most 3.4"),
        (np.eye(3) * np.nan, "a.xyz has coordinates up to nan"),
    ],
)
def test_too_few_places(points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_spread(points, "a.xyz", 3 if len(points) == 4 else 2)
    check_spread(np.eye(3) + 1e6, "a.xyz", 3)


WORDS = ("1.5 -2 0.25", "0 1e-1 2", "-3 4. .5")
VALUES = [[1.5, -2, 0.25], [0, 0.1, 2], [-3, 4, 0.5]]


def of_kind(kind: str) -> tuple[str, str]:
    """A cloud of three points in text: the file's head and its rows."""
    heads = {
        "a.xyz": "", "a.txt": "", "a.obj": "", "a.off": "OFF\n3 0 0\n",
        "a.ply": "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty double y\nproperty float z\nend_header\n",
        "a.pcd": "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 3\nHEIGHT 1\nPOINTS 3\nDATA ascii\n",
    }  # fmt: skip
    return heads[kind], "".join(("v " if kind == "a.obj" else "") + row + "\n" for row in WORDS)


@pytest.mark.parametrize("name", ["a.xyz", "a.txt", "a.obj", "a.off", "a.ply", "a.pcd"])
def test_the_same_text_reads_the_same(tmp_path: Path, name: str) -> None:
    head, rows = of_kind(name)
    plain = head + rows
    comment = {"a.ply": plain.replace("element", "comment x 1,5\nelement")}
    others = {
        "plain": plain.encode(), "mark": b"\xef\xbb\xbf" + plain.encode(), "crlf": plain.replace("\n", "\r\n").encode(),
        "cr": plain.replace("\n", "\r").encode(), "tabs": (head + rows.replace(" ", "\t")).encode(),
        "blanks": plain.replace("\n", " \t \n").encode(), "indented": (head + rows.replace(" ", "   ")).encode(),
        "no last line end": plain.rstrip().encode(), "blank lines": (head + rows.replace("\n", "\n\n")).encode(),
        "comment": comment.get(name, plain.replace("OFF\n", "OFF # 1\n") + "# 1,5 caf\u00e9\n").encode("latin-1"),
        "wide": plain.encode("utf-16") if name not in ("a.ply", "a.pcd") else plain.encode(),
    }  # fmt: skip
    for kind, content in others.items():
        (tmp_path / name).write_bytes(content)
        assert read_cloud(tmp_path / name).points.tolist() == VALUES, kind


@pytest.mark.parametrize("suffix", [".xyz", ".txt"])
def test_separators_and_decimal_commas(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for text in (
        "1.5,2.5,3.5\n", "1.5, 2.5, 3.5\n", "1.5 ,2.5 ,3.5,\n", "1.5;2.5;3.5\n", "1.5\t;2.5; 3.5\n",
        "x,y,z\n1.5,2.5,3.5\n", "//X Y Z\n1.5 2.5 3.5\n", "1\n1.5 2.5 3.5\n", "1.5, 2.5,3.5 # a, b c\n",
    ):  # fmt: skip
        path.write_text(text * (1 if "x" in text.lower() or text[:2] == "1\n" else 2))
        assert read_cloud(path).points[0].tolist() == [1.5, 2.5, 3.5], text
    for text in ("1,5 2,5 3,5\n", "1,5\t2,5\t3,5\n", "1,5;2,5;3,5\n", "1,5, 2,5, 3,5\n", "0,1 2 3\n"):
        path.write_text(text * 2)
        with pytest.raises(
            ValueError, match=rf"a\{suffix} is no table of numbers: commas stand within numbers"
        ):
            read_cloud(path)
    for text, message in {
        "4\n1 2 3\n4 5 6\n": "says 4 points in its first line but holds 2; is it complete",
        "1 2 3\n4 5 6\n7 8": "row 0 has 3 of them, row 2 has 2; is it complete",
        "1 2 3\n4 5_0 6\n": "'5_0' is no number",
        "a b c\n1 2 3\n": "it begins with 'a b c'; expected x y z",
        "1 2 3 4\n": r"has 4 numbers a line; .* or name the columns .*with columns='x y z nx ny nz' \(--data\.columns\)",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_cloud(path)


def test_six_columns_are_looked_at(tmp_path: Path) -> None:
    """Normals have length 1, or 0 where there is none; colours lie in 0 to 1 or 0 to 255; else the reader asks."""
    path = tmp_path / "a.xyz"

    def table(*columns: np.ndarray) -> Path:
        np.savetxt(path, np.concatenate(columns, 1), fmt="%.2f")
        return path

    holes = NORMALS * (np.arange(20) != 4)[:, None]
    normals = read_cloud(table(POINTS, holes)).normals
    assert normals is not None and np.allclose(normals, holes, atol=0.02)
    for colours in (RNG.integers(0, 256, (20, 3)), RNG.random((20, 3))):
        cloud = read_cloud(table(POINTS, colours))
        assert cloud.normals is None and np.allclose(cloud.points, POINTS, atol=0.006)
    table(POINTS, 3 * NORMALS)
    with pytest.raises(
        ValueError, match=r"neither normals of unit length nor colours; name the columns .*data\.columns"
    ):
        read_cloud(path)
    normals = read_cloud(path, columns="x y z nx ny nz").normals
    assert normals is not None and np.allclose(normals, NORMALS, atol=0.01)
    assert read_cloud(path, columns="x y z _ _ _").normals is None
    assert np.allclose(read_cloud(path, columns="_ _ _ z y x").points, 3 * NORMALS[:, ::-1], atol=0.006)
    with pytest.raises(ValueError, match="has 6 numbers a line but its columns are 'x y z'"):
        read_cloud(path, columns="x y z")
    table(POINTS, 3 * NORMALS).rename(tmp_path / "a.xyzn")
    assert read_cloud(tmp_path / "a.xyzn").normals is not None


@pytest.mark.parametrize("name", ["a.xyz", "a.pcd", "a.ply"])
def test_scans_with_holes(tmp_path: Path, name: str) -> None:
    """Organised scans have a row for every pixel, NaN where nothing was seen."""
    head, rows = of_kind(name)
    (tmp_path / name).write_text(head + rows.replace("0 1e-1 2", "nan nan nan"))
    with pytest.raises(
        ValueError, match=r"1 points that are NaN .* number 1; remove them, or leave them out: drop_nan=True"
    ):
        read_cloud(tmp_path / name)
    cloud = read_cloud(tmp_path / name, drop_nan=True)
    assert cloud.points.tolist() == VALUES[::2] and cloud.dropped == 1
    (tmp_path / name).write_text(head + "nan nan nan\n" * 3)
    with pytest.raises(ValueError, match="holds no point that is finite"):
        read_cloud(tmp_path / name, drop_nan=True)


def test_clouds_of_huge_coordinates(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1e200 0 0\n0 1e200 0\n0 0 1e200\n")
    with pytest.raises(ValueError, match=r"a\.xyz has coordinates up to 1e\+200; expected at most 3\.4"):
        read_cloud(tmp_path / "a.xyz")


def test_faces_of_a_mesh_name_its_vertices(tmp_path: Path) -> None:
    head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    for corner in (-1, 3, 10**12):
        (tmp_path / "a.ply").write_text(
            head
            + f"element face 1\nproperty list uchar int vertex_index\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 {corner}\n"
        )
        with pytest.raises(
            ValueError, match=rf"a\.ply cannot be read .*face 0 names vertex {corner}, .* 3 vertices"
        ):
            read_cloud(tmp_path / "a.ply")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").mkdir()
    with pytest.raises(FileNotFoundError, match=r"a\.xyz is a folder; expected a file of points"):
        read_cloud(tmp_path / "a.xyz")
    (tmp_path / "b.xyz").symlink_to(tmp_path / "b.xyz")
    os.mkfifo(tmp_path / "c.xyz")
    for name in ("b.xyz", "c.xyz"):
        with pytest.raises(FileNotFoundError, match=f"{name} does not exist; expected a file of points"):
            read_cloud(tmp_path / name)
