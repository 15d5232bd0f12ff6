"""Compliance suites for layers, grids, kernels and models, so that extensions inherit this library's tests.

Every layer of the library passes :func:`check_layer`, every grid :func:`check_grid`, every kernel :func:`check_kernel` and every
registered model :func:`check_model`; :func:`small_grids` and :func:`small_kernels` list small instances of all that there are.
Authors of new ones, here or elsewhere, call the same functions in their tests; they need no test framework and raise one
:class:`ComplianceError` that lists the failed checks with figures.
"""

from __future__ import annotations

from spheregeo.testing.examples import small_grids, small_kernels
from spheregeo.testing.grids import check_grid
from spheregeo.testing.kernels import check_kernel
from spheregeo.testing.layers import check_layer
from spheregeo.testing.linear_maps import check_linear_layer, equivariant_maps, matrix_of
from spheregeo.testing.models import check_model
from spheregeo.testing.report import ComplianceError

__all__ = [
    "ComplianceError",
    "check_grid",
    "check_kernel",
    "check_layer",
    "check_linear_layer",
    "check_model",
    "equivariant_maps",
    "matrix_of",
    "small_grids",
    "small_kernels",
]
