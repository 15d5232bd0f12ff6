"""Triangle meshes as grids: shape, topology, checks and repair, files, batches, hierarchy, transport, geodesics, Laplacians."""

from spheregeo.mesh.batch import MeshBatch, concatenate
from spheregeo.mesh.check import MeshReport, check
from spheregeo.mesh.connection import connection_laplacian
from spheregeo.mesh.decimation import Decimation, decimate
from spheregeo.mesh.geodesics import LogMap, geodesic_log_map
from spheregeo.mesh.heat import HeatMethod
from spheregeo.mesh.io import load_arrays, load_mesh, save_mesh
from spheregeo.mesh.laplacian import Laplacian, cotangent_laplacian, robust_laplacian
from spheregeo.mesh.repair import RepairReport, repair, weld
from spheregeo.mesh.transport import IntrinsicRings, holonomy, intrinsic_rings
from spheregeo.mesh.triangle_mesh import TriangleMesh

__all__ = [
    "Decimation",
    "HeatMethod",
    "IntrinsicRings",
    "Laplacian",
    "LogMap",
    "MeshBatch",
    "MeshReport",
    "RepairReport",
    "TriangleMesh",
    "check",
    "concatenate",
    "connection_laplacian",
    "cotangent_laplacian",
    "decimate",
    "geodesic_log_map",
    "holonomy",
    "intrinsic_rings",
    "load_arrays",
    "load_mesh",
    "repair",
    "robust_laplacian",
    "save_mesh",
    "weld",
]
