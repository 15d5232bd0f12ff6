"""Mesh files as meshes that datasets may use: welded where the format needs it, mended if asked, in the scale-free frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spheregeo.data.meshes.dataset import scaled_mesh
from spheregeo.files import reading
from spheregeo.mesh import TriangleMesh, check, load_arrays, repair, weld

MESH_SUFFIXES = (".off", ".ply", ".obj", ".stl")


def read_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (F, 3) of a file; those of an STL file, which lists three vertices a face, are joined.

    Raises: FileNotFoundError, ValueError as :func:`spheregeo.mesh.load_arrays`.
    """
    vertices, faces = load_arrays(path)
    if Path(path).suffix.lower() == ".stl":
        vertices, faces, _ = weld(vertices, faces)
    return vertices, faces


def sound_mesh(path: str | Path, mend: bool = True) -> TriangleMesh:
    """The mesh in a file, centred and of area 1.

    Args:
        mend: repair faults, which may drop and double vertices; else they are errors.

    Raises: FileNotFoundError; ValueError that names the file and its faults.
    """
    vertices, faces = read_mesh(path)
    with reading(path, "a sound mesh"):
        if mend and not check(vertices, faces).ok:
            mesh, _ = repair(vertices, faces)
            vertices, faces = mesh.points.numpy(), mesh.faces.numpy()
        return scaled_mesh(vertices, faces)
