"""Mesh files by trimesh, or by open3d where it is installed and asked for.

Files hold what a mesh is (positions, faces) and more; only vertices and faces are read, in the file's order, polygons split
into triangles. No vertex is merged, and none is split for textures. STL files list three vertices a face, so theirs are
triangles that nothing connects: ``weld(*load_arrays(path))`` joins them.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.files import reading
from spheregeo.mesh.repair import repair as mend
from spheregeo.mesh.triangle_mesh import TriangleMesh

READERS = ("trimesh", "open3d")


def load_arrays(path: str | Path, *, reader: str = "trimesh") -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 of a file, as they stand there.

    Args:
        path: OBJ, PLY, STL, OFF, GLB and what else the reader knows. Parts of a scene come one after another.
        reader: "trimesh" or "open3d".

    Raises: FileNotFoundError; ValueError for an unknown reader or format, or a file without faces; ImportError without open3d.
    """
    path = Path(path)
    if reader not in READERS:
        raise ValueError(f"reader is {reader!r}; expected one of {READERS}")
    if not path.is_file():
        raise FileNotFoundError(f"no mesh file at {path}")
    with reading(path, "a mesh"):
        vertices, faces = (_by_trimesh if reader == "trimesh" else _by_open3d)(path)
        if not len(faces):
            raise ValueError(f"{path} holds {len(vertices)} points and no faces; expected a mesh")
        return np.array(vertices, dtype=np.float64), np.array(faces, dtype=np.int64)


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
    """Write vertices and faces to a file; its suffix says the format.

    OBJ and OFF keep 17 decimals, PLY, STL and GLB float32.
    Raises: ValueError for a format that trimesh does not write.
    """
    import trimesh

    path = Path(path)
    digits: Any = {"digits": 17} if path.suffix.lower() in (".obj", ".off") else {}
    try:
        trimesh.Trimesh(mesh.points.numpy(), mesh.faces.numpy(), process=False).export(path, **digits)
    except ValueError as error:
        raise ValueError(
            f"path ends in {path.suffix!r}; expected a mesh format such as .obj, .off, .ply or .stl"
        ) from error


def _by_trimesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    if path.suffix.lower() == ".obj":
        loaded = trimesh.load(_bare_obj(path), file_type="obj", process=False, maintain_order=True)
    else:
        loaded = trimesh.load(path, process=False)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_geometry()
    return np.asarray(getattr(loaded, "vertices", ())), np.asarray(getattr(loaded, "faces", ()))


def _bare_obj(path: Path) -> io.StringIO:
    """Positions and faces alone: materials would reorder faces, and textures split and drop vertices."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split(maxsplit=1)
        if words and words[0] == "v":
            lines.append(line)
        elif words and words[0] == "f":
            lines.append(re.sub(r"/\S*", "", line))
    return io.StringIO("\n".join(lines) + "\n")


def _by_open3d(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        import open3d
    except ImportError as error:
        raise ImportError("reader='open3d' needs open3d: pip install 'spheregeo[open3d]'") from error
    loaded = open3d.io.read_triangle_mesh(str(path))
    return np.asarray(loaded.vertices), np.asarray(loaded.triangles)
