"""Grids: where samples sit, how much area each stands for, and which way its axes point."""

from __future__ import annotations

from spheregeo.grids.base import Grid, LatitudeRings, Symmetry, frames_of
from spheregeo.grids.cache import clear_cache, set_cache_limit
from spheregeo.grids.convert import (
    earth_field,
    faces_to_healpix,
    from_torch_harmonics,
    grid_to_panorama,
    healpix_to_faces,
    nested_to_ring,
    panorama_grid,
    panorama_to_grid,
    ring_to_nested,
    roll_columns,
    to_torch_harmonics,
    torch_harmonics_weights,
)
from spheregeo.grids.fibonacci import Fibonacci
from spheregeo.grids.healpix import HEALPix
from spheregeo.grids.icosahedral import Icosahedral
from spheregeo.grids.latlon import Equiangular, GaussLegendre, LatLon
from spheregeo.grids.parse import parse_grid
from spheregeo.grids.plane import Plane
from spheregeo.grids.scattered import Scattered

Rings = LatitudeRings  # the former name

__all__ = [
    "Equiangular",
    "Fibonacci",
    "GaussLegendre",
    "Grid",
    "HEALPix",
    "Icosahedral",
    "LatLon",
    "LatitudeRings",
    "Plane",
    "Scattered",
    "Symmetry",
    "clear_cache",
    "earth_field",
    "faces_to_healpix",
    "frames_of",
    "from_torch_harmonics",
    "grid_to_panorama",
    "healpix_to_faces",
    "nested_to_ring",
    "panorama_grid",
    "panorama_to_grid",
    "parse_grid",
    "ring_to_nested",
    "roll_columns",
    "set_cache_limit",
    "to_torch_harmonics",
    "torch_harmonics_weights",
]
