"""Volumes: cubes of voxels with one class each."""
