"""Reading and writing meshes, and the real ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from spheregeo.grids import Icosahedral
from spheregeo.mesh import TriangleMesh, load_arrays, load_mesh, repair, save_mesh, weld
from spheregeo.sampling import surface_neighbors

GRID = Icosahedral(1)


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".obj", 1e-17), (".off", 1e-17), (".OBJ", 1e-17), (".ply", 2e-7), (".glb", 2e-7)],
)
def test_a_saved_mesh_reads_back(tmp_path: Path, suffix: str, tolerance: float) -> None:
    mesh = TriangleMesh(GRID.points * torch.tensor([3.0, 2.0, 1.0]), GRID.faces)
    path = tmp_path / f"ellipsoid{suffix}"
    save_mesh(mesh, path)
    again = load_mesh(str(path))
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
    (tmp_path / "text.abc").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.abc cannot be read as a mesh"):
        load_mesh(tmp_path / "text.abc")
    (tmp_path / "broken.ply").write_text("ply\nformat ascii 1.0\n")
    with pytest.raises(ValueError, match=r"broken\.ply cannot be read as a mesh"):
        load_mesh(tmp_path / "broken.ply")
    with pytest.raises(ValueError, match=r"path ends in '\.abc'; expected a mesh format"):
        save_mesh(TriangleMesh(GRID.points, GRID.faces), tmp_path / "a.abc")
    with pytest.raises(ValueError, match="reader is 'meshio'; expected one of"):
        load_mesh(tmp_path / "text.abc", reader="meshio")


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
