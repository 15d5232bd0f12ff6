"""Networks of voxels."""
