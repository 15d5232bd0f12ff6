"""Between bases and layouts of features on irreps: the polar axis y of e3nn, the polar axis z of escnn and of grids.

Seen from Q: (x, y, z) ↦ (y, z, x) the z-polar harmonics are the y-polar ones, so one rotation matrix per degree, A^l = D^l(Q),
turns the components of either into the other's: Y_z = A Y_y, and D_z(R) = A D_y(R) Aᵀ.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spheregeo.harmonics.wigner import wigner_D

if TYPE_CHECKING:
    from e3nn.o3 import Irreps


def to_z_polar(x: Tensor, irreps: Irreps | str) -> Tensor:
    """Components in e3nn's basis (l = 1 is x, y, z) -> in the z-polar basis (l = 1 is y, z, x), of every copy of every irrep.

    The z-polar basis is that of :func:`~spheregeo.harmonics.real_harmonics` and of escnn, for whose irrep (k, l) of O(3)
    p = (−1)^k. With ``Irreps.spherical_harmonics(lmax)`` it takes ``component_harmonics(..., normalization="integral")`` to
    ``real_harmonics``.

    Shape: (..., irreps.dim), layout mul_ir, in and out. Round trip to 1e-15 in float64.
    Raises: ValueError if the last axis is not irreps.dim.
    """
    return _polar(x, irreps, back=False)


def from_z_polar(x: Tensor, irreps: Irreps | str) -> Tensor:
    """The inverse of :func:`to_z_polar`. Shape: (..., irreps.dim) in and out."""
    return _polar(x, irreps, back=True)


def z_polar_matrix(degree: int) -> Tensor:
    """A^l, from components in e3nn's basis to z-polar ones. Shape: (2l + 1, 2l + 1) float64, orthogonal."""
    return _matrix(degree).clone()


def to_ir_mul(x: Tensor, irreps: Irreps | str) -> Tensor:
    """Layout mul_ir (a copy's components side by side, as in e3nn) -> ir_mul (copies side by side), block by block.

    Shape: (..., irreps.dim) in and out. Raises: ValueError if the last axis is not irreps.dim.
    """
    terms, parts = _parts(x, irreps)
    moved = [
        part.unflatten(-1, (mul, dim)).transpose(-1, -2).flatten(-2)
        for (mul, dim, _), part in zip(terms, parts, strict=True)
    ]
    return torch.cat(moved, -1) if moved else x.clone()


def to_mul_ir(x: Tensor, irreps: Irreps | str) -> Tensor:
    """The inverse of :func:`to_ir_mul`. Shape: (..., irreps.dim) in and out."""
    terms, parts = _parts(x, irreps)
    moved = [
        part.unflatten(-1, (dim, mul)).transpose(-1, -2).flatten(-2)
        for (mul, dim, _), part in zip(terms, parts, strict=True)
    ]
    return torch.cat(moved, -1) if moved else x.clone()


@cache
def _matrix(degree: int) -> Tensor:
    cycle = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.float64, device="cpu")
    return wigner_D(degree, cycle)


def _parts(x: Tensor, irreps: Irreps | str) -> tuple[list[tuple[int, int, int]], tuple[Tensor, ...]]:
    """(mul, 2l + 1, l) of each block that is not empty, and its components."""
    from e3nn.o3 import Irreps

    irreps = Irreps(irreps)
    if x.ndim < 1 or x.shape[-1] != irreps.dim:
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected (..., {irreps.dim}), the components of {irreps}"
        )
    terms = [(mul, ir.dim, ir.l) for mul, ir in irreps if mul]
    return terms, x.split([mul * dim for mul, dim, _ in terms], -1)


def _polar(x: Tensor, irreps: Irreps | str, back: bool) -> Tensor:
    terms, parts = _parts(x, irreps)
    moved = []
    for (mul, dim, degree), part in zip(terms, parts, strict=True):
        matrix = _matrix(degree).to(x)
        copies = part.unflatten(-1, (mul, dim))
        moved.append((copies @ (matrix if back else matrix.T)).flatten(-2))
    return torch.cat(moved, -1) if moved else x.clone()
