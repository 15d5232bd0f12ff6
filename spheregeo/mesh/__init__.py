"""Triangle meshes as grids: their shape and topology, checks and repair, files and batches."""

from spheregeo.mesh.batch import MeshBatch, concatenate
from spheregeo.mesh.check import MeshReport, check
from spheregeo.mesh.io import load_arrays, load_mesh, save_mesh
from spheregeo.mesh.repair import RepairReport, repair, weld
from spheregeo.mesh.triangle_mesh import TriangleMesh

__all__ = [
    "MeshBatch",
    "MeshReport",
    "RepairReport",
    "TriangleMesh",
    "check",
    "concatenate",
    "load_arrays",
    "load_mesh",
    "repair",
    "save_mesh",
    "weld",
]
