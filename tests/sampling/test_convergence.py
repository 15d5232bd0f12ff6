"""Errors of linear interpolation: degree-8 harmonics and the function z, second order from every kind of grid."""

from __future__ import annotations

import itertools
import math

import pytest
from torch import Tensor

from spheregeo.grids import Equiangular, Fibonacci, GaussLegendre, Grid, HEALPix, Icosahedral
from spheregeo.harmonics import real_harmonics
from spheregeo.sampling import interpolation_map

FAMILIES = {
    "HEALPix": lambda k: HEALPix(16 * 2**k),
    "nested": lambda k: HEALPix(16 * 2**k, order="nested"),
    "Equiangular": lambda k: Equiangular(40 * 2**k, 80 * 2**k),
    "poles": lambda k: Equiangular(40 * 2**k + 1, 80 * 2**k, poles=True),
    "GaussLegendre": lambda k: GaussLegendre(40 * 2**k, 80 * 2**k),
    "Icosahedral": lambda k: Icosahedral(3 + k),
    "Fibonacci": lambda k: Fibonacci(3000 * 4**k),
}
TARGET = Equiangular(128, 256)
LEVELS = 3


def errors(source: Grid, wanted: Tensor) -> tuple[float, float]:
    """Largest and area-weighted rms error over all 17 harmonics of degree 8, orthonormal."""
    values = real_harmonics(source.points, 8)[:, 64:].T.contiguous()
    error = interpolation_map(source, TARGET)(values) - wanted
    return float(error.abs().max()), float(((error**2) @ TARGET.areas).mean().div(4 * math.pi).sqrt())


@pytest.mark.parametrize("family", FAMILIES)
def test_degree_8_harmonics_are_second_order(family: str) -> None:
    wanted = real_harmonics(TARGET.points, 8)[:, 64:].T.contiguous()
    table = [errors(FAMILIES[family](k), wanted) for k in range(LEVELS)]
    print(f"\n{'source':>40}  max error  rms error  shrinks by (max, rms)")
    for k, (largest, rms) in enumerate(table):
        ratio = f"{table[k - 1][0] / largest:.2f} {table[k - 1][1] / rms:.2f}" if k else ""
        print(f"{FAMILIES[family](k)!s:>40}  {largest:.2e}   {rms:.2e}   {ratio}")
    for coarse, fine in itertools.pairwise(table):
        assert coarse[0] / fine[0] >= 3.5 and coarse[1] / fine[1] >= 3.5
    if family == "HEALPix":  # nside 64; the figure quoted in the documentation
        assert table[2][0] < 3.2e-3 and table[2][1] < 5.6e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_z_is_reproduced_to_second_order(family: str) -> None:
    """A linear function's error is the sagitta: at most h²/8 for a cell of diagonal h; here h is sqrt(2) spacings or so."""
    for k in range(2):
        source = FAMILIES[family](k)
        error = interpolation_map(source, TARGET)(source.points[:, 2].contiguous()) - TARGET.points[:, 2]
        assert error.abs().max() < 0.3 * source.spacing**2
