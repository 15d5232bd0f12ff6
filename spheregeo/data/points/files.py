"""Files of points: clouds in PLY, XYZ and PCD, and meshes (OFF, PLY, OBJ, STL), of whose surface points are drawn.

A PLY, OFF or OBJ file with faces is a mesh, one without is a cloud.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.files import read_stored
from spheregeo.data.points.dataset import Cloud, check_cloud
from spheregeo.data.points.pcd import read_pcd
from spheregeo.data.points.table import read_table
from spheregeo.files import reading
from spheregeo.mesh.io.files import read_polygons
from spheregeo.mesh.io.ply import points_of, read_ply
from spheregeo.mesh.io.polygons import triangulate

__all__ = ["read_cloud"]

TEXT_SUFFIXES = (".xyz", ".xyzn", ".txt")
MESH_SUFFIXES = (".off", ".ply", ".obj", ".stl")
CLOUD_SUFFIXES = (*MESH_SUFFIXES, *TEXT_SUFFIXES, ".pcd")
PART_SUFFIXES = (".ply", *TEXT_SUFFIXES, ".pcd", ".npz")
PLACES = ("points", "positions", "xyz")
PARTS = (
    "part",
    "parts",
    "label",
    "labels",
    "seg",
    "segment",
    "class",
    "scalar_part",
    "scalar_label",
    "scalar_class",
)
NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
Columns = dict[str, np.ndarray]


def read_cloud(
    path: str | Path,
    num_points: int = 2048,
    seed: int = 0,
    *,
    columns: str = "",
    drop_nan: bool = False,
    parts: bool = False,
) -> Cloud:
    """The points of a file as it stands, or points drawn evenly from a mesh's surface, with normals where they are known.

    Args:
        path: .ply, .off, .obj, .stl, .pcd, .xyz, .xyzn or .txt; the last three hold three or six numbers a line, the last
            three of six being normals where they have unit length, colours (which are left out) in 0 to 1 or 0 to 255.
        num_points: points to draw where the file is a mesh; these have the normals of their faces.
        seed: of that draw, which depends on it and on the file's name.
        columns: names of the columns of text files, such as "x y z nx ny nz", "_" for those to leave out.
        drop_nan: leave out points that are NaN or infinite, which organised scans have; their number is ``dropped`` of the cloud.

        parts: read the part of each point from a column called part or label, the last of four or seven columns of a text file
            without names; .npz files with points, perhaps normals, and part or label are read, too.

    Shape: (P, 3) float64.
    Raises: FileNotFoundError; ValueError that names the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {kind}; expected a file of points or a mesh")
    suffix = path.suffix.lower()
    known = PART_SUFFIXES if parts else CLOUD_SUFFIXES
    if suffix not in known:
        raise ValueError(
            f"{path} ends in {path.suffix!r}; expected one of {', '.join(known)}: convert it to PLY, for example"
        )
    if parts:
        with reading(path, "points with parts"):
            return _with_parts(path, suffix, columns, drop_nan)
    with reading(path, "points or as a mesh"):
        if suffix in TEXT_SUFFIXES:
            return _of_columns(_text_columns(path, columns), path, drop_nan)
        if suffix == ".pcd":
            return _of_columns(read_pcd(path), path, drop_nan)
        if suffix == ".ply":
            named, corners, sizes = read_ply(path)
            if not len(sizes):
                return _of_columns(named, path, drop_nan)
            vertices = points_of(named)
        else:
            vertices, corners, sizes = read_polygons(path)
            if not len(sizes):
                return check_cloud(vertices, None, str(path), drop_nan)
        if not np.isfinite(vertices).all():
            raise ValueError(f"{path} has vertices that are NaN or infinite; remove them")
        faces = triangulate(vertices, corners, sizes)
        return sample_surface(vertices, faces, num_points, [seed, zlib.crc32(path.stem.encode())], str(path))


def _with_parts(path: Path, suffix: str, columns: str, drop_nan: bool) -> Cloud:
    """The points of a file, each with its part. Raises: ValueError for a file without parts."""
    if suffix in TEXT_SUFFIXES:
        named = _text_columns(path, columns, last="part")
    elif suffix == ".pcd":
        named = read_pcd(path)
    elif suffix == ".npz":
        named = _stored_columns(path)
    else:
        named = read_ply(path)[0]
    found = next((name for name in PARTS if name in named), None)
    if found is None:
        raise ValueError(f"{path} has columns {', '.join(named)}; expected one called part or label")
    return _of_columns(named, path, drop_nan, named[found])


def _stored_columns(path: Path) -> Columns:
    """Columns of an archive with points (P, 3), and perhaps normals (P, 3) and others (P,)."""
    stored = read_stored(path, "an archive of a cloud")
    place = None if not isinstance(stored, dict) else next((n for n in PLACES if n in stored), None)
    if place is None or not isinstance(stored, dict):
        raise ValueError(f"{path} holds no array called points; expected points (P, 3) and part (P,)")
    named = {name: array.reshape(-1) for name, array in stored.items() if name in PARTS}
    for name, columns in ((place, ("x", "y", "z")), ("normals", NORMALS[0])):
        if name in stored:
            if stored[name].ndim != 2 or stored[name].shape[1] != 3:
                raise ValueError(f"{path}: {name} has shape {stored[name].shape}; expected (P, 3)")
            named |= dict(zip(columns, stored[name].T, strict=True))
    return named


def _text_columns(path: Path, columns: str, last: str = "") -> Columns:
    try:
        return read_table(path, columns, normals=path.suffix.lower() == ".xyzn", last=last)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def sample_surface(vertices: np.ndarray, faces: np.ndarray, num_points: int, seed: Any, name: str) -> Cloud:
    """Points drawn evenly from a surface, each face as often as its area says, with the normals of their faces.

    Raises: ValueError for a surface without area.
    """
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    with np.errstate(invalid="ignore"):
        area = float(mesh.area)
    if not (np.isfinite(area) and area > 0):
        raise ValueError(f"{name} has a surface of area {area}; expected a mesh with finite, positive area")
    points, face = trimesh.sample.sample_surface(mesh, num_points, seed=np.random.default_rng(seed))
    corner = np.asarray(vertices, np.float64)[np.asarray(faces)[np.asarray(face)]]  # (P, 3, 3)
    normals = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return check_cloud(np.asarray(points, np.float64), normals, name)


def _normals(columns: Columns) -> np.ndarray | None:
    for names in NORMALS:
        if all(name in columns for name in names):
            return np.stack([columns[name] for name in names], 1).astype(np.float64)
    return None


def _of_columns(columns: Columns, path: Path, drop_nan: bool, parts: np.ndarray | None = None) -> Cloud:
    if any(name not in columns for name in "xyz"):
        raise ValueError(f"{path} has columns {', '.join(columns)}; expected x, y and z among them")
    points = np.stack([columns[name] for name in "xyz"], 1).astype(np.float64)
    return check_cloud(points, _normals(columns), str(path), drop_nan, parts)
