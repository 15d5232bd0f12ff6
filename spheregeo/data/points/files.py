"""Files of points: clouds in PLY, XYZ and PCD, and meshes (OFF, PLY, OBJ, STL), of whose surface points are drawn.

A PLY or OFF file with faces is a mesh, one without is a cloud. PLY and the mesh formats are read by trimesh. PCD is a header
of named columns and a table, which is read here; its compressed kind is left to open3d.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from spheregeo.data.points.dataset import Cloud, check_cloud
from spheregeo.files import reading

__all__ = ["read_cloud"]

TEXT_SUFFIXES = (".xyz", ".xyzn", ".txt")
MESH_SUFFIXES = (".off", ".ply", ".obj", ".stl")
CLOUD_SUFFIXES = (*MESH_SUFFIXES, *TEXT_SUFFIXES, ".pcd")
NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
Columns = dict[str, np.ndarray]


def read_cloud(path: str | Path, num_points: int = 2048, seed: int = 0) -> Cloud:
    """The points of a file as it stands, or points drawn evenly from a mesh's surface, with normals where they are known.

    Args:
        path: .ply, .off, .obj, .stl, .pcd, .xyz, .xyzn or .txt; the last three hold three or six numbers a line.
        num_points: points to draw where the file is a mesh; these have the normals of their faces.
        seed: of that draw, which depends on it and on the file's name.

    Shape: (P, 3) float64.
    Raises: FileNotFoundError; ValueError that names the file and what is wrong with it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file of points or a mesh")
    suffix = path.suffix.lower()
    if suffix not in CLOUD_SUFFIXES:
        raise ValueError(
            f"{path} ends in {path.suffix!r}; expected one of {', '.join(CLOUD_SUFFIXES)}: convert it to PLY, for example"
        )
    with reading(path, "points or as a mesh"):
        if suffix in TEXT_SUFFIXES:
            return _read_text(path)
        if suffix == ".pcd":
            return _of_columns(_read_pcd(path), path)
        return _read_by_trimesh(path, num_points, seed)


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


def _read_by_trimesh(path: Path, num_points: int, seed: int) -> Cloud:
    import trimesh

    with reading(path, "points or as a mesh"):
        loaded: Any = trimesh.load(path, process=False)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_geometry()
        vertices = np.asarray(loaded.vertices, np.float64)
        faces = np.asarray(getattr(loaded, "faces", ()))
    if len(faces):
        if not np.isfinite(vertices).all():
            raise ValueError(f"{path} has vertices that are NaN or infinite; remove them")
        return sample_surface(vertices, faces, num_points, [seed, zlib.crc32(path.stem.encode())], str(path))
    stored = getattr(loaded, "metadata", {}).get("_ply_raw", {}).get("vertex", {}).get("data", {})
    columns = {name: np.asarray(stored[name]).reshape(-1) for name in getattr(stored, "keys", tuple)()}
    if isinstance(stored, np.ndarray) and stored.dtype.names:  # how binary files arrive
        columns = {name: stored[name].reshape(-1) for name in stored.dtype.names}
    return check_cloud(vertices, _normals(columns), str(path))


def _normals(columns: Columns) -> np.ndarray | None:
    for names in NORMALS:
        if all(name in columns for name in names):
            return np.stack([columns[name] for name in names], 1).astype(np.float64)
    return None


def _of_columns(columns: Columns, path: Path) -> Cloud:
    if any(name not in columns for name in "xyz"):
        raise ValueError(f"{path} has columns {', '.join(columns)}; expected x, y and z among them")
    points = np.stack([columns[name] for name in "xyz"], 1).astype(np.float64)
    return check_cloud(points, _normals(columns), str(path))


def _read_text(path: Path) -> Cloud:
    """Three or six numbers a line, apart by blanks or commas; lines from # on are skipped."""
    try:
        lines = [
            line.split("#")[0].replace(",", " ").split()
            for line in path.read_text(encoding="utf-8").splitlines()
        ]
        table = np.array([line for line in lines if line], np.float64)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no table of numbers ({error}); expected x y z, or x y z nx ny nz, on every line"
        ) from error
    if not table.size:
        raise ValueError(f"{path} holds no point; expected at least one line of x y z")
    if table.shape[1] not in (3, 6):
        raise ValueError(
            f"{path} has {table.shape[1]} numbers a line; expected 3 (x y z) or 6 (with normals)"
        )
    return check_cloud(table[:, :3], table[:, 3:] if table.shape[1] == 6 else None, str(path))


def _read_pcd(path: Path) -> Columns:
    """The named columns of a PCD file, version 0.7 (Rusu & Cousins 2011); those with several numbers a row are left out."""
    content = path.read_bytes()
    head: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in head:
        end = content.find(b"\n", at)
        if end < 0:
            raise ValueError(f"{path} has no DATA line; expected the header of a PCD file")
        words = content[at:end].decode("ascii", errors="replace").split("#")[0].split()
        at = end + 1
        if words:
            head[words[0].upper()] = words[1:]
    try:
        names, rows, kind = head["FIELDS"], int(head["POINTS"][0]), head["DATA"][0].lower()
        counts = [int(c) for c in head.get("COUNT", ["1"] * len(names))]
        letters = {"F": "f", "I": "i", "U": "u"}
        types = [f"<{letters[t]}{int(s)}" for t, s in zip(head["TYPE"], head["SIZE"], strict=True)]
        fields = [(f"f{k}", t, (c,)) for k, (t, c) in enumerate(zip(types, counts, strict=True))]
        single = {name: k for k, (name, c) in enumerate(zip(names, counts, strict=True)) if c == 1}
        if kind == "ascii":
            table = np.array(
                [line.split() for line in content[at:].decode("ascii").splitlines() if line.strip()]
            )
            starts = np.concatenate([[0], np.cumsum(counts)])
            table = table.reshape(rows, int(starts[-1]))
            return {name: table[:, starts[k]].astype(np.float64) for name, k in single.items()}
        if kind == "binary":
            packed = np.frombuffer(content, np.dtype(fields), rows, at)
            return {name: packed[f"f{k}"][:, 0].astype(np.float64) for name, k in single.items()}
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path} is no sound PCD file ({error}); is it complete?") from error
    if kind == "binary_compressed":
        return _by_open3d(path)
    raise ValueError(f"{path} has DATA {kind}; expected ascii, binary or binary_compressed")


def _by_open3d(path: Path) -> Columns:
    try:
        import open3d
    except ImportError as error:
        raise ValueError(
            f"{path} is a compressed PCD file, which open3d reads: pip install 'spheregeo[open3d]', or save it as "
            "ascii or binary"
        ) from error
    cloud = open3d.io.read_point_cloud(str(path))
    columns = dict(zip("xyz", np.asarray(cloud.points).T, strict=True))
    if cloud.has_normals():
        columns.update(zip(NORMALS[0], np.asarray(cloud.normals).T, strict=True))
    return columns
