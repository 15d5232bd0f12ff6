"""Rotation groups: single rotations, and the finite subgroups of SO(3)."""

from __future__ import annotations

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
from spheregeo.groups.rotations import axis_angle, from_quaternion, random_rotations

__all__ = [
    "axis_angle",
    "closure",
    "cyclic",
    "dihedral",
    "from_quaternion",
    "icosahedral",
    "icosahedral_generators",
    "multiplication_table",
    "octahedral",
    "random_rotations",
    "tetrahedral",
]
