"""Triangle meshes as grids."""

from spheregeo.mesh.check import MeshReport, check
from spheregeo.mesh.triangle_mesh import TriangleMesh

__all__ = ["MeshReport", "TriangleMesh", "check"]
