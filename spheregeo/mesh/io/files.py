"""Mesh files by readers of the house (OFF, OBJ, PLY, STL) and trimesh (glTF), or by open3d where it is installed and asked for.

Files hold what a mesh is (positions, faces) and more; only vertices and faces are read, in the file's order, polygons split
into triangles of the same area. No vertex is merged, and none is split for textures. STL files list three vertices a face, so
theirs are triangles that nothing connects: ``weld(*load_arrays(path))`` joins them. A file that holds more or less than it
states is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.files import atomic_path, reading
from spheregeo.mesh.io.obj import read_obj
from spheregeo.mesh.io.off import read_off
from spheregeo.mesh.io.ply import points_of, read_ply
from spheregeo.mesh.io.polygons import check_polygons, triangulate
from spheregeo.mesh.io.stl import read_stl
from spheregeo.mesh.repair import repair as mend
from spheregeo.mesh.triangle_mesh import TriangleMesh

READERS = ("trimesh", "open3d")
Polygons = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # vertices, corners end to end, number of corners of each polygon


def load_arrays(path: str | Path, *, reader: str = "trimesh") -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 of a file, as they stand there.

    Args:
        path: an .obj, .ply, .stl, .off, .glb or .gltf file. Parts of a scene come one after another.
        reader: "trimesh", for our own readers and trimesh, or "open3d".

    Raises: FileNotFoundError; ImportError without open3d; ValueError that names the file for an unknown reader or format, a
        file without faces, one that is cut, or holds more or less than it states.
    """
    path = Path(path)
    if reader not in READERS:
        raise ValueError(f"reader is {reader!r}; expected one of {READERS}")
    with reading(path, "a mesh"):
        points, corners, sizes = read_polygons(path) if reader == "trimesh" else _by_open3d(path)
        if not len(sizes):
            raise ValueError(f"{path} holds {len(points)} points and no faces; expected a mesh")
        return points, triangulate(points, corners, sizes)


def read_polygons(path: Path) -> Polygons:
    """Vertices and polygons of a file, as they stand there; some files have vertices alone.

    Shape: (V, 3) float64; the polygons' corners end to end (C,) int64, and the number of corners of each (P,) int64.
    Raises: FileNotFoundError, ValueError as :func:`load_arrays`.
    """
    read = FORMATS[check_mesh_file(path)]
    with reading(path, "a mesh"):
        points, corners, sizes = read(path)
        check_polygons(corners, sizes, len(points))
        return points, corners, sizes


def check_mesh_file(path: Path) -> str:
    """The format of a file by its suffix. Raises: FileNotFoundError for what is no file, ValueError for other suffixes."""
    if not path.is_file():
        kind = " (a folder)" if path.is_dir() else " (a link to nothing)" if path.is_symlink() else ""
        raise FileNotFoundError(f"no mesh file at {path}{kind}")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"{path} cannot be read as a mesh: it ends in {path.suffix!r}; expected one of {', '.join(FORMATS)}"
        )
    return suffix


def load_mesh(
    path: str | Path, *, repair: bool = False, reader: str = "trimesh", **options: Any
) -> TriangleMesh:
    """The mesh in a file.

    Args:
        path: see :func:`load_arrays`.
        repair: mend faults (:func:`spheregeo.mesh.repair`) where there are any. That drops vertices of no face and
            so may renumber; call ``repair(*load_arrays(path))`` for the map from new to old vertices.
        reader: "trimesh" or "open3d".
        options: of :class:`TriangleMesh`.

    Raises: as :func:`load_arrays`, and ValueError for faults of the mesh, which the message lists.
    """
    vertices, faces = load_arrays(path, reader=reader)
    try:
        return mend(vertices, faces, **options)[0] if repair else TriangleMesh(vertices, faces, **options)
    except ValueError as error:
        hint = "" if repair else "; or load it with repair=True"
        raise ValueError(f"{path}: {error}{hint}") from error


def save_mesh(mesh: TriangleMesh, path: str | Path) -> None:
    """Write vertices and faces to a file, which is whole or absent; its suffix says the format.

    OBJ and OFF keep 17 decimals, PLY, STL and GLB float32.
    Raises: ValueError for a format that trimesh does not write.
    """
    import trimesh

    path = Path(path)
    digits: Any = {"digits": 17} if path.suffix.lower() in (".obj", ".off") else {}
    try:
        shell = trimesh.Trimesh(mesh.points.numpy(), mesh.faces.numpy(), process=False)
        with atomic_path(path) as temporary:
            if (
                path.suffix.lower() == ".gltf"
            ):  # in one file: those of several meshes would have the same names
                written = trimesh.exchange.gltf.export_gltf(trimesh.Scene(shell), embed_buffers=True)
                temporary.write_bytes(written["model.gltf"])
            else:
                shell.export(temporary, **digits)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"path ends in {path.suffix!r}; expected a mesh format such as .obj, .off, .ply or .stl"
        ) from error


def _read_ply(path: Path) -> Polygons:
    columns, corners, sizes = read_ply(path)
    return points_of(columns), corners, sizes


def _read_gltf(path: Path) -> Polygons:
    import trimesh

    if path.suffix.lower() == ".glb":
        with open(path, "rb") as file:
            head = file.read(12)
        if int.from_bytes(head[8:12], "little") != path.stat().st_size:
            raise ValueError("its header states another length than the file has; is it complete?")
    loaded = trimesh.load(path, process=False)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_geometry()
    return _triangles(getattr(loaded, "vertices", ()), getattr(loaded, "faces", ()))


def _by_open3d(path: Path) -> Polygons:
    check_mesh_file(path)
    try:
        import open3d
    except ImportError as error:
        raise ImportError("reader='open3d' needs open3d: pip install 'spheregeo[open3d]'") from error
    loaded = open3d.io.read_triangle_mesh(str(path))
    return _triangles(loaded.vertices, loaded.triangles)


def _triangles(vertices: Any, faces: Any) -> Polygons:
    corners = np.array(faces, dtype=np.int64).reshape(-1)
    points = np.array(vertices, dtype=np.float64).reshape(-1, 3)
    return points, corners, np.full(len(corners) // 3, 3)


FORMATS: dict[str, Callable[[Path], Polygons]] = {
    ".off": read_off,
    ".ply": _read_ply,
    ".obj": read_obj,
    ".stl": read_stl,
    ".glb": _read_gltf,
    ".gltf": _read_gltf,
}
