"""Groups: rotations, motions of the plane, finite groups of both; and field types of SO(2), O(2), C_n and D_n."""

from __future__ import annotations

from spheregeo.groups.abstract import FiniteGroup
from spheregeo.groups.fields import FieldType, Term, check_field, reflection_mask
from spheregeo.groups.finite import (
    closure,
    cyclic,
    dihedral,
    icosahedral,
    icosahedral_generators,
    multiplication_table,
    octahedral,
    tetrahedral,
)
from spheregeo.groups.irreps import (
    convolution_matrix,
    fourier_singular_values,
    group_fourier,
    inverse_group_fourier,
    irreps,
    schatten_norm,
)
from spheregeo.groups.kernel_space import kernel_space, kernel_space_dimension
from spheregeo.groups.lie import (
    se2_exp,
    se2_half_angle,
    se2_inverse,
    se2_log,
    se2_matrix,
    se2_product,
    so3_exp,
    so3_log,
    wrap_angle,
)
from spheregeo.groups.planar import PlanarGroup, PlanarType
from spheregeo.groups.plane_fields import PlaneSymmetry
from spheregeo.groups.regular import RegularType, fourier_rows, restrict
from spheregeo.groups.rotations import (
    axis_angle,
    euler_angles,
    euler_matrix,
    from_quaternion,
    random_rotations,
    rotation_angle,
    rotation_from_6d,
    rotation_matrix,
    to_quaternion,
)

__all__ = [
    "FieldType",
    "FiniteGroup",
    "PlanarGroup",
    "PlanarType",
    "PlaneSymmetry",
    "RegularType",
    "Term",
    "axis_angle",
    "check_field",
    "closure",
    "convolution_matrix",
    "cyclic",
    "dihedral",
    "euler_angles",
    "euler_matrix",
    "fourier_rows",
    "fourier_singular_values",
    "from_quaternion",
    "group_fourier",
    "icosahedral",
    "icosahedral_generators",
    "inverse_group_fourier",
    "irreps",
    "kernel_space",
    "kernel_space_dimension",
    "multiplication_table",
    "octahedral",
    "random_rotations",
    "reflection_mask",
    "restrict",
    "rotation_angle",
    "rotation_from_6d",
    "rotation_matrix",
    "schatten_norm",
    "se2_exp",
    "se2_half_angle",
    "se2_inverse",
    "se2_log",
    "se2_matrix",
    "se2_product",
    "so3_exp",
    "so3_log",
    "tetrahedral",
    "to_quaternion",
    "wrap_angle",
]
