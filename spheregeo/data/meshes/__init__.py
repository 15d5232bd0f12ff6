"""Triangle meshes: FAUST, folders, SHREC, generated creatures and primitives."""
