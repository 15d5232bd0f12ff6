"""Mesh files as arrays and as sound meshes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from spheregeo.mesh import TriangleMesh

MESH_SUFFIXES = (".off", ".ply", ".obj", ".stl")


def read_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    raise NotImplementedError


def sound_mesh(
    path: str | Path, *, repair: bool = True, transform: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
) -> TriangleMesh:
    raise NotImplementedError
