"""Files of meshes: one reader a format, each of which compares what a file says of itself with what it holds."""

from spheregeo.mesh.io.files import READERS, load_arrays, load_mesh, save_mesh

__all__ = ["READERS", "load_arrays", "load_mesh", "save_mesh"]
