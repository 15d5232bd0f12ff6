"""Reading and writing meshes, and the real ones."""

from __future__ import annotations

import importlib.util
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.grids import Icosahedral
from spheregeo.mesh import TriangleMesh, load_arrays, load_mesh, repair, save_mesh, weld
from spheregeo.mesh.io.polygons import triangulate
from spheregeo.sampling import surface_neighbors

GRID = Icosahedral(1)


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".obj", 1e-17), (".off", 1e-17), (".OBJ", 1e-17), (".ply", 2e-7), (".glb", 2e-7), (".gltf", 2e-7)],
)
def test_a_saved_mesh_reads_back(tmp_path: Path, suffix: str, tolerance: float) -> None:
    mesh = TriangleMesh(GRID.points * torch.tensor([3.0, 2.0, 1.0]), GRID.faces)
    path = tmp_path / f"ellipsoid{suffix}"
    save_mesh(mesh, path)
    again = load_mesh(str(path))
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "one file, whole"
    assert torch.equal(again.faces, mesh.faces) and (again.points - mesh.points).abs().max() <= tolerance
    assert load_mesh(path, normals="area", frames="random", seed=2) == TriangleMesh(
        again.points, again.faces, normals="area", frames="random", seed=2
    )


def test_stl_lists_three_vertices_a_face(tmp_path: Path) -> None:
    save_mesh(TriangleMesh(GRID.points, GRID.faces), tmp_path / "a.stl")
    loose = load_mesh(tmp_path / "a.stl")
    assert loose.num_points == 240 and loose.num_components == 80
    assert TriangleMesh(*weld(*load_arrays(tmp_path / "a.stl"))[:2]).euler_characteristic == 2


OBJ = """
mtllib missing.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 7 7 7
vt 0 0
vt 1 0
vt 1 1
vt 0 1
vt 0.5 0.5
usemtl a
f 3/3 4/4 1/5
usemtl b
f 1/1 2/2 3/3
"""


def test_textures_split_no_vertex_and_nothing_is_reordered(tmp_path: Path) -> None:
    path = tmp_path / "square.obj"
    path.write_text(OBJ)
    vertices, faces = load_arrays(path)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [7, 7, 7]]
    assert faces.tolist() == [[2, 3, 0], [0, 1, 2]]
    with pytest.raises(
        ValueError, match=r"square\.obj: .*1 vertices belong to no face, the first vertex 4.*repair=True"
    ):
        load_mesh(path)
    assert load_mesh(path, repair=True).num_points == 4


def test_obj_counts_backwards_and_may_have_crlf_and_colours(tmp_path: Path) -> None:
    text = "v 0 0 0 1 0 0\r\nv 1 0 0 1 0 0\r\nv 1 1 0 0 1 0\r\nvn 0 0 1\r\nf -3//1 -2//1 -1//1\r\n"
    (tmp_path / "a.obj").write_bytes(text.encode())
    vertices, faces = load_arrays(tmp_path / "a.obj")
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]] and faces.tolist() == [[0, 1, 2]]


def test_polygons_are_split(tmp_path: Path) -> None:
    (tmp_path / "quad.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    mesh = load_mesh(tmp_path / "quad.obj")
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 3, 0]]


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no mesh file at .*absent\.obj"):
        load_mesh(tmp_path / "absent.obj")
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\n")
    with pytest.raises(ValueError, match=r"points\.obj"):
        load_mesh(tmp_path / "points.obj")
    for name in ("text.abc", "model.3mf", "model.dae"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(
            ValueError, match=rf"{name} cannot be read as a mesh: it ends in .*expected one of \.off, \.ply"
        ):
            load_mesh(tmp_path / name)
    (tmp_path / "folder.off").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no mesh file at .*folder\.off \(a folder\)"):
        load_mesh(tmp_path / "folder.off")
    (tmp_path / "link.off").symlink_to("absent.off")
    with pytest.raises(FileNotFoundError, match=r"no mesh file at .*link\.off \(a link to nothing\)"):
        load_mesh(tmp_path / "link.off")
    (tmp_path / "broken.ply").write_text("ply\nformat ascii 1.0\n")
    with pytest.raises(ValueError, match=r"broken\.ply cannot be read as a mesh"):
        load_mesh(tmp_path / "broken.ply")
    with pytest.raises(ValueError, match=r"path ends in '\.abc'; expected a mesh format"):
        save_mesh(TriangleMesh(GRID.points, GRID.faces), tmp_path / "a.abc")
    with pytest.raises(ValueError, match="reader is 'meshio'; expected one of"):
        load_mesh(tmp_path / "text.abc", reader="meshio")


POINTS = [[0, 0, 0], [1.5, 0, 0], [0, 1.25, 0], [0, 0, -0.5]]
FACES = [[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]]
ROWS = "".join(f"{x:g} {y:g} {z:g}\n" for x, y, z in POINTS)
CORNERS = "".join(f"3 {a} {b} {c}\n" for a, b, c in FACES)
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    f"element face 4\nproperty list uchar int vertex_indices\nend_header\n{ROWS}{CORNERS}"
)
TEXTS = {
    "a.off": f"OFF\n4 4 0\n{ROWS}{CORNERS}",
    "a.obj": "".join(f"v {row}\n" for row in ROWS.split("\n")[:4]) + "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in FACES),
    "a.ply": PLY,
    "a.stl": "solid a b\n" + "".join(
        "facet normal 0 0 0\nouter loop\n" + "".join("vertex {} {} {}\n".format(*POINTS[k]) for k in face)
        + "endloop\nendfacet\n" for face in FACES
    ) + "endsolid a b\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_the_same_text_reads_the_same(tmp_path: Path, name: str) -> None:
    text = TEXTS[name]
    comment = {"a.ply": text.replace("element", "comment element face 9\nelement", 1), "a.stl": text.upper()}
    others = {
        "plain": text.encode(), "mark": b"\xef\xbb\xbf" + text.encode(), "crlf": text.replace("\n", "\r\n").encode(),
        "cr": text.replace("\n", "\r").encode(), "blanks": text.replace("\n", "  \t\n").encode(),
        "no last line end": text.rstrip().encode(), "blank lines": text.replace("\n3 ", "\n\n3 ").encode() + b"\n\n",
        "tabs": text.encode() if name == "a.ply" else text.replace(" ", "\t").encode(),
        "comments": comment.get(name, text.replace("\n", " # caf\u00e9 1 \\\n") + "# end \\\n#\n").encode("latin-1"),
        "wide": text.encode("utf-16") if name != "a.ply" else text.encode(),
    }  # fmt: skip
    for kind, content in others.items():
        (tmp_path / name).write_bytes(content)
        vertices, faces = load_arrays(tmp_path / name)
        assert vertices[faces].tolist() == np.array(POINTS)[np.array(FACES)].tolist(), kind


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("a.off", "4 4 0", "5 4 0", "says 5 vertices and 4 faces, 9 lines; 8 follow"),
        ("a.off", "4 4 0", "5 3 0", "its vertices have 3, 4 numbers a line"),
        ("a.off", "4 4 0", "3 5 0", "face 0 has 0 corners"),
        ("a.off", "4 4 0", "4 3 0", "8 follow"),
        ("a.off", "4 4 0", "4 1000000000000 0", "1000000000004 lines; 8 follow"),
        ("a.off", "4 4 0", "4 -4 0", "has '-4' as the number of faces"),
        ("a.off", "3 1 3 2", "3 1 3 4", "face 3 names vertex 4, counted from 0, but there are 4 vertices"),
        ("a.off", "3 1 3 2", "3 1 3 -1", "face 3 names vertex -1"),
        ("a.off", "3 1 3 2", "4 1 3 2", "face 3 says 4 corners; 3 numbers follow"),
        ("a.off", "3 1 3 2", "2 1 3", "face 3 has 2 corners; expected 3 at least"),
        ("a.off", "0 1.25 0", "0 1,25 0", "'1,25' is no number; write decimal points"),
        ("a.ply", "face 4", "face 3", "says 4 vertex and 3 face rows; 8 lines follow"),
        ("a.ply", "face 4", "face 5", "8 lines follow"),
        ("a.ply", "vertex 4", "vertex 1000000000000", "8 lines follow"),
        ("a.ply", "vertex 4", "vertex -4", "has '-4' as the number of rows of vertex"),
        ("a.ply", "vertex 4\n", "vertex 5\n", "8 lines follow"),
        ("a.ply", "3 1 3 2", "3 1 3", "row 3 of face has not the numbers"),
        ("a.ply", "3 1 3 2", "3 1 3 9", "face 3 names vertex 9"),
        ("a.ply", "uchar int", "float int", "a list of float length"),
        ("a.obj", "f 2 4 3", "f 2 4 5", "face 3 names vertex 4"),
        ("a.obj", "f 2 4 3", "f 2 4 0", "line 8 names vertex 0"),
        ("a.obj", "f 2 4 3", "f 2 4 -5", "line 8 names vertex -5; .* -1 to -4"),
        ("a.obj", "f 2 4 3", "f 2", "face 3 has 1 corners"),
        ("a.obj", "v 0 1.25 0", "v 0 1.25", "line 3 has 2 coordinates"),
        ("a.obj", "v 0 1.25 0", "v 0 1,25 0", "'1,25' is no number; write decimal points"),
        ("a.stl", "endsolid a b", "", "no endsolid: the file is cut"),
        ("a.stl", "vertex 1.5 0 0\n", "", "belongs in a facet|is cut"),
    ],
)  # fmt: skip
def test_files_that_do_not_hold_what_they_state(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    assert TEXTS[name].count(old)
    (tmp_path / name).write_text(TEXTS[name].replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a mesh: .*({message})"):
        load_arrays(tmp_path / name)


@pytest.mark.parametrize("name", [*TEXTS, "b.ply", "b.stl", "b.glb"])
def test_cut_files(tmp_path: Path, name: str) -> None:
    """OBJ states no counts: of its cuts those in a line are seen, or where a face has lost its vertices."""
    path = tmp_path / name
    if name in TEXTS:
        path.write_text(TEXTS[name])
    else:
        save_mesh(TriangleMesh(torch.tensor(POINTS, dtype=torch.float64), torch.tensor(FACES)), path)
    content = path.read_bytes().rstrip(b"\n") if name in TEXTS else path.read_bytes()
    for length in range(0, len(content) - 4 * (name == "a.stl"), 7 if name == "b.glb" else 1):
        path.write_bytes(content[:length])
        if name == "a.obj" and (
            content[length : length + 1] in (b"\n", b"f") or content[:length].endswith((b"\n", b"f"))
        ):
            continue
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_arrays(path)
    path.write_bytes(content + (b"\n3 0 1 2" if name in ("a.off", "a.ply") else b"\nxyz"))
    if name != "a.obj":
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_arrays(path)


def test_negative_indices_count_from_their_line(tmp_path: Path) -> None:
    block = TEXTS["a.obj"][: TEXTS["a.obj"].index("f ")]
    faces = "".join(f"f {a - 4} {b - 4} {c - 4}\n" for a, b, c in FACES)
    (tmp_path / "a.obj").write_text(
        f"o one\n{block}{faces}g side\nusemtl m\ns off\no two\n{block}{faces}l 1 2\n"
    )
    vertices, found = load_arrays(tmp_path / "a.obj")
    assert len(vertices) == 8 and found.tolist() == [*FACES, *(np.array(FACES) + 4).tolist()]


def test_obj_lines_may_go_on(tmp_path: Path) -> None:
    text = (
        TEXTS["a.obj"].replace("v 1.5 0 0", "v 1.5 \\\n0 \\\n 0").replace("f 2 4 3", "f\t2//1 \\\n4/1/1 3/2")
    )
    (tmp_path / "a.obj").write_text("# C:\\\nmtllib C:\\textures\\\n" + text + "vn 0 0 1\n")
    vertices, faces = load_arrays(tmp_path / "a.obj")
    assert vertices.tolist() == POINTS and faces.tolist() == FACES


def area(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def polygon(kind: str) -> tuple[np.ndarray, float]:
    """Corners in the plane z = 0, counter-clockwise, and the area."""
    if kind == "comb":  # a spine with five teeth
        teeth = [p for k in range(5) for p in ((4 * k, 1), (4 * k, 3), (4 * k + 1, 3), (4 * k + 1, 1))]
        plane = np.array([*teeth, (18, 1), (18, 0), (0, 0)], float)[::-1]
    elif kind == "star":
        angle = np.arange(14) * np.pi / 7
        plane = np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(np.arange(14) % 2, 0.3, 1.0)[:, None]
    elif kind == "spiral":
        angle = np.linspace(0, 5 * np.pi, 60)
        outer, inner = (
            np.stack([np.cos(angle), np.sin(angle)], 1) * (angle + s)[:, None] for s in (4.0, 2.0)
        )
        plane = np.concatenate([outer, inner[::-1]])
    elif kind == "on a line":  # a square with corners in the middle of its sides
        plane = np.array([(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)], float)
    elif kind == "keyhole":  # a square with a hole, joined by an edge that is run along twice
        plane = np.array(
            [(0, 0), (6, 0), (6, 6), (0, 6), (0, 0), (2, 2), (2, 4), (4, 4), (4, 2), (2, 2)], float
        )
    else:
        plane = np.array([(0, 0), (2, 0), (0.5, 0.5), (0, 2)], float)  # an arrow
    x, y = plane.T
    signed = float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)
    return np.concatenate([plane, np.zeros((len(plane), 1))], 1), signed


@pytest.mark.parametrize("kind", ["arrow", "comb", "star", "spiral", "on a line", "keyhole"])
@pytest.mark.parametrize("suffix", [".obj", ".off", ".ply"])
def test_polygons_keep_their_area(tmp_path: Path, kind: str, suffix: str) -> None:
    plane, wanted = polygon(kind)
    assert wanted > 0
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    path = tmp_path / f"a{suffix}"
    for first in range(0, len(plane), 1 + len(plane) // 9):
        points = np.roll(plane, first, 0) @ turn.T
        n = len(points)
        rows = [" ".join(f"{v:.17g}" for v in p) for p in points]
        loop = " ".join(map(str, range(n)))
        head = "ply\nformat ascii 1.0\nelement vertex {}\n" + "".join(
            f"property double {axis}\n" for axis in "xyz"
        )
        path.write_text({
            ".obj": "".join(f"v {row}\n" for row in rows) + "f " + " ".join(str(k + 1) for k in range(n)),
            ".off": f"OFF\n{n} 1 0\n" + "\n".join(rows) + f"\n{n} {loop}\n",
            ".ply": head.format(n) + "element face 1\nproperty list uint int vertex_index\nend_header\n"
            + "\n".join(rows) + f"\n{n} {loop}\n",
        }[suffix])  # fmt: skip
        vertices, faces = load_arrays(path)
        assert len(faces) == n - 2 and area(vertices, faces) == pytest.approx(wanted, rel=1e-12)
        normal = np.cross(
            vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
        )
        assert (normal @ turn[:, 2] * np.linalg.det(turn) > 0).all(), "no triangle is turned over or empty"
        if kind not in ("on a line", "keyhole"):
            bent = vertices + 1e-3 * np.random.default_rng(first).normal(size=vertices.shape)
            assert area(bent, triangulate(bent, np.arange(n), np.array([n]))) == pytest.approx(
                wanted, rel=0.02
            )


def test_convex_polygons_are_fans_in_their_order() -> None:
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(6)], 1)
    flat, sizes = np.array([0, 1, 2, 3, 4, 5, 0, 2, 4, 0, 1, 3, 4]), np.array([6, 3, 4])
    faces = triangulate(ring, flat, sizes)
    fan = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]
    assert faces.tolist() == [*fan, [0, 2, 4], [0, 1, 3], [3, 4, 0]]
    with pytest.raises(ValueError, match="a polygon has 10001 corners; expected 10000 at most"):
        zigzag = np.zeros((10001, 3))
        zigzag[:, 0], zigzag[:, 1] = np.arange(10001), np.arange(10001) % 2
        zigzag[-1, 1] = -5
        triangulate(zigzag, np.arange(10001), np.array([10001]))


@pytest.mark.parametrize("order", ["little", "big"])
def test_mixed_polygons_in_binary_ply(tmp_path: Path, order: str) -> None:
    """A box of four quadrangles and four triangles, with colours of corners and a list that no one reads."""
    sign = {"little": "<", "big": ">"}[order]
    points = [(x, y, z) for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)]
    polygons = [
        (0, 1, 3, 2),
        (4, 6, 7, 5),
        (0, 4, 5, 1),
        (2, 3, 7, 6),
        (0, 2, 6),
        (0, 6, 4),
        (1, 5, 7),
        (1, 7, 3),
    ]
    head = (
        f"ply\nformat binary_{order}_endian 1.0\ncomment mixed\nelement vertex 8\nproperty double x\nproperty float y\n"
        "property float z\nproperty uchar red\nelement face 8\nproperty list uchar int vertex_indices\n"
        "property list short float weights\nproperty ushort part\nelement edge 1\nproperty int a\nend_header\n"
    )
    body = b"".join(struct.pack(f"{sign}dffB", *p, 7) for p in points)
    for k, face in enumerate(polygons):
        body += struct.pack(f"{sign}B{len(face)}i", len(face), *face)
        body += struct.pack(f"{sign}h{k % 3}fH", k % 3, *[0.5] * (k % 3), 3)
    body += struct.pack(f"{sign}i", 1)
    path = tmp_path / "a.ply"
    path.write_bytes(head.encode() + body)
    mesh = load_mesh(path)
    assert mesh.num_faces == 12 and mesh.area == pytest.approx(6) and mesh.euler_characteristic == 2
    path.write_bytes(head.replace("\n", "\r\n").encode() + body)
    assert load_mesh(path) == mesh
    for bad, message in {
        body[:-1]: "edge, at least 4 bytes; 3 follow", body + b"\x07": r"asks for \d+ bytes", body[:200]: "of face",
    }.items():  # fmt: skip
        path.write_bytes(head.encode() + bad)
        with pytest.raises(ValueError, match=message):
            load_mesh(path)
    path.write_bytes(head.replace("face 8", "face 1000000000000").encode() + body)
    with pytest.raises(ValueError, match="1000000000000 rows of face, at least 5000000000000 bytes"):
        load_mesh(path)


def test_open3d_is_an_option(tmp_path: Path) -> None:
    mesh = TriangleMesh(GRID.points, GRID.faces)
    save_mesh(mesh, tmp_path / "a.off")
    if importlib.util.find_spec("open3d") is None:
        with pytest.raises(ImportError, match=r"pip install 'spheregeo\[open3d\]'"):
            load_mesh(tmp_path / "a.off", reader="open3d")
    else:
        again = load_mesh(tmp_path / "a.off", reader="open3d")
        assert torch.equal(again.faces, mesh.faces) and (again.points - mesh.points).abs().max() < 1e-6


REAL = {
    # vertices, faces, Euler characteristic, components, border vertices
    "cheburashka": (6669, 13334, 2, 1, 0),
    "cow": (2903, 5804, 1, 1, 0),  # two fans meet at one vertex
    "fandisk": (6475, 12946, 2, 1, 0),
    "homer": (6002, 12000, 2, 1, 0),
    "rocker-arm": (10044, 20088, 0, 1, 0),
    "spot": (2930, 5856, 2, 1, 0),
    "stanford-bunny": (35947, 69451, -3, 1, 223),
    "suzanne": (507, 968, None, None, None),
    "teapot": (3644, 6320, -34, 4, 989),
}
FAULTS = {
    "stanford-bunny": "1113 vertices belong to no face, the first vertex 8",
    "suzanne": "1 faces lie on the same vertices as an earlier one, the first face 270",
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_meshes_load_or_say_why_not(name: str, real_data: Path) -> None:
    path = real_data / "meshes" / f"{name}.obj"
    listed = [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")]
    vertices, faces = load_arrays(path)
    assert vertices.shape == (REAL[name][0], 3) and len(faces) == REAL[name][1]
    assert np.array_equal(vertices, np.array(listed, dtype=float)), "the file's vertices, in the file's order"
    if name in FAULTS:
        with pytest.raises(ValueError, match=FAULTS[name]):
            load_mesh(path)
        mesh, report = repair(vertices, faces)
        assert load_mesh(path, repair=True) == mesh
        assert np.array_equal(mesh.points.numpy(), vertices[report.vertex_index.numpy()])
    else:
        mesh = load_mesh(path)
    if REAL[name][2] is not None:
        found = (mesh.euler_characteristic, mesh.num_components, int(mesh.border.sum()))
        assert found == REAL[name][2:]
    assert (mesh.normals.norm(dim=1) - 1).abs().max() < 1e-14 and mesh.areas.min() > 0
    assert (mesh.frames @ mesh.frames.mT - torch.eye(2)).abs().max() < 1e-14
    ring = surface_neighbors(mesh, rings=1)
    assert len(ring.indices) == mesh.num_points + 2 * len(mesh.edges)
    near = surface_neighbors(mesh, radius=2 * mesh.spacing)
    assert torch.equal(mesh.components[near.rows], mesh.components[near.indices])
    for values in (near.distance, near.angle, near.transport):
        assert values.isfinite().all()
    assert 10 < len(near.indices) / mesh.num_points < 40
