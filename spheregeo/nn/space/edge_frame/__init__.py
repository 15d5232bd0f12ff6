"""Products of features with spherical harmonics, worked out in the frames of edges."""
