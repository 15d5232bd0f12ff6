"""Quadrature rules, spherical harmonics, and what rotations do to them: the harmonic analysis of grids, kernels and irreps."""

from __future__ import annotations

from spheregeo.harmonics.bases import from_z_polar, to_ir_mul, to_mul_ir, to_z_polar, z_polar_matrix
from spheregeo.harmonics.clebsch_gordan import clebsch_gordan, clebsch_gordan_entries, rotation_generators
from spheregeo.harmonics.irrep_harmonics import component_harmonics
from spheregeo.harmonics.needlet_windows import framelet_windows, needlet_profile, needlet_windows
from spheregeo.harmonics.quadrature import clenshaw_curtis, fejer1, fejer2, gauss_legendre
from spheregeo.harmonics.spherical_harmonics import real_harmonics
from spheregeo.harmonics.wigner import (
    edge_quaternions,
    packed_wigner,
    unpack_wigner,
    wigner_D,
    wigner_to_y,
)
from spheregeo.harmonics.wigner_d import wigner_d, wigner_d_order

__all__ = [
    "clebsch_gordan",
    "clebsch_gordan_entries",
    "clenshaw_curtis",
    "component_harmonics",
    "edge_quaternions",
    "fejer1",
    "fejer2",
    "framelet_windows",
    "from_z_polar",
    "gauss_legendre",
    "needlet_profile",
    "needlet_windows",
    "packed_wigner",
    "real_harmonics",
    "rotation_generators",
    "to_ir_mul",
    "to_mul_ir",
    "to_z_polar",
    "unpack_wigner",
    "wigner_D",
    "wigner_d",
    "wigner_d_order",
    "wigner_to_y",
    "z_polar_matrix",
]
